/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <k3sup/error.h>

#include "node/version.h"

static int compare(const char *a, const char *b)
{
	int32_t order = 99;

	if (k3sup_version_compare(a, b, &order) != 0)
		fail_msg("%s or %s is no version", a, b);
	return order;
}

static void assert_older(const char *a, const char *b)
{
	if (compare(a, b) != -1 || compare(b, a) != 1)
		fail_msg("%s is not older than %s: %d, %d", a, b, compare(a, b), compare(b, a));
}

static void assert_same(const char *a, const char *b)
{
	if (compare(a, b) != 0 || compare(b, a) != 0)
		fail_msg("%s is not the same as %s", a, b);
}

static void assert_no_version(const char *text)
{
	int32_t order = 99;

	if (k3sup_version_compare(text, "v1.30.4+k3s1", &order) != K3SUP_E_PARSE || k3sup_version_compare("v1.30.4+k3s1", text, &order) != K3SUP_E_PARSE)
		fail_msg("\"%s\" was taken for a version", text);
	assert_int_equal(order, 99);
}

static void each_part_counts_as_a_number(void **state)
{
	(void)state;
	assert_older("v1.9.0+k3s1", "v1.10.0+k3s1");
	assert_older("v1.30.4+k3s1", "v1.30.10+k3s1");
	assert_older("v1.99.99+k3s9", "v2.0.0+k3s1");
	assert_older("v1.30.4+k3s2", "v1.30.4+k3s10");
	assert_older("v1.30.4+k3s1", "v1.30.4+k3s2");
	assert_older("v1.30.4-rc2+k3s1", "v1.30.4-rc10+k3s1");
}

static void a_pre_release_comes_before_its_release(void **state)
{
	(void)state;
	assert_older("v1.30.4-alpha9+k3s9", "v1.30.4-beta1+k3s1");
	assert_older("v1.30.4-beta9+k3s9", "v1.30.4-rc1+k3s1");
	assert_older("v1.30.4-rc9+k3s9", "v1.30.4+k3s1");
	assert_older("v1.30.3+k3s9", "v1.30.4-alpha1+k3s1");
}

static void an_untagged_build_comes_before_the_numbered_ones(void **state)
{
	(void)state;
	assert_older("v1.24.4+k3s-7d66e419-dirty", "v1.24.4+k3s1");
	assert_older("v1.24.4+k3s-ffffffff", "v1.24.4+k3s1");
	assert_older("v1.24.3+k3s9", "v1.24.4+k3s-00000000");
	assert_older("v1.24.4+k3s-7d66e419", "v1.24.4+k3s-7d66e419-dirty");
	assert_older("v1.24.4+k3s-7d66e419-dirty", "v1.24.4+k3s-7d66e41a");
	assert_older("v1.24.4", "v1.24.4+k3s-00000000");
}

static void other_spellings_name_the_same_version(void **state)
{
	(void)state;
	assert_same("v1.30.4+k3s1", "1.30.4+k3s1");
	assert_same("v1.30.4-k3s1", "v1.30.4+k3s1");
	assert_same("v1.30.4-rc1-k3s1", "v1.30.4-rc1+k3s1");
	assert_same("v1.30.4-k3s-7d66e419", "v1.30.4+k3s-7d66e419");
	assert_same("v1.14.6-k3s.1", "v1.14.6+k3s1");
	assert_same("v1.17.0+k3s.1", "v1.17.0+k3s1");
	assert_same("v1.30.0-rc.2", "v1.30.0-rc2");
	assert_older("v0.9.1", "v1.0.0");
}

static void what_is_no_version_is_refused(void **state)
{
	static const char *const bad[] = {"", "v", "latest", "v1", "v1.30", "v1.30.", "v1.30.4.5", "vv1.30.4+k3s1", "V1.30.4+k3s1",
		" v1.30.4+k3s1", "v1.30.4+k3s1 ", "v1.30.4+k3s1\n", "v1.30.4+", "v1.30.4-", "v1.30.4+k3s", "v1.30.4+k3s-", "v1.30.4+k3s-xyzxyzxy",
		"v1.30.4+k3s-abc", "v1.30.4+k3s1-rc1", "v1.30.4+k3s1+k3s2", "v1.30.4-k3s1-k3s2", "v1.30.4-rc+k3s1", "v1.30.4-gamma1+k3s1",
		"v1.30.4+rke2r1", "v1.-1.4+k3s1", "v1.030.4+k3s1", "v1.30.4+k3s01", "v1.30.4999999999+k3s1", "v4294967297.30.4+k3s1",
		"v1.30.4+k3s18446744073709551617", "v1.24.4+k3s-0123456789012345678901234567890123456789012345678901234567890123"};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_no_version(bad[i]);
}

static void a_missing_argument_is_refused(void **state)
{
	int32_t order = 7;

	(void)state;
	assert_int_equal(k3sup_version_compare(NULL, "v1.30.4+k3s1", &order), -EINVAL);
	assert_int_equal(k3sup_version_compare("v1.30.4+k3s1", NULL, &order), -EINVAL);
	assert_int_equal(k3sup_version_compare("v1.30.4+k3s1", "v1.30.4+k3s1", NULL), -EINVAL);
	assert_int_equal(order, 7);
}

static void no_byte_behind_the_given_length_is_read(void **state)
{
	const char text[] = {'v', '1', '.', '3', '0', '.', '4', '+', 'k', '3', 's', '1', '2'};
	struct k3sup__version v;

	(void)state;
	assert_int_equal(k3sup__version_parse(text, sizeof(text) - 1, &v), 0);
	assert_int_equal(v.number, 1);
	assert_int_equal(k3sup__version_parse(text, sizeof(text), &v), 0);
	assert_int_equal(v.number, 12);
}

/* All that the grammar makes of a few values for each part. */
struct set {
	char (*text)[64];
	size_t count;
};

static struct set generate(void)
{
	static const char *const cores[] = {"v0.9.1", "v1.29.9", "v1.30.4", "v1.30.10", "v2.0.0"};
	static const char *const pres[] = {"", "-alpha1", "-beta1", "-rc1", "-rc2", "-rc10"};
	static const char *const builds[] = {
		"", "+k3s1", "+k3s2", "+k3s10", "+k3s-00000000", "+k3s-7d66e419", "+k3s-7d66e419-dirty", "+k3s-ffffffff"};
	struct set set = {.text = calloc(ELEMENTSOF(cores) * ELEMENTSOF(pres) * ELEMENTSOF(builds), sizeof(*set.text))};

	assert_non_null(set.text);
	for (size_t c = 0; c < ELEMENTSOF(cores); c++)
		for (size_t p = 0; p < ELEMENTSOF(pres); p++)
			for (size_t b = 0; b < ELEMENTSOF(builds); b++)
				(void)snprintf(set.text[set.count++], sizeof(*set.text), "%s%s%s", cores[c], pres[p], builds[b]);
	return set;
}

/* Antisymmetric and transitive over every triple of 240 versions, and no two of them equal. */
static void the_order_is_strict_and_total(void **state)
{
	struct set set = generate();
	struct k3sup__version *v = calloc(set.count, sizeof(*v));
	signed char *order = calloc(set.count * set.count, 1);
	size_t n = set.count;

	(void)state;
	assert_non_null(v);
	assert_non_null(order);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(k3sup__version_parse(set.text[i], strlen(set.text[i]), &v[i]), 0);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++) {
			order[i * n + j] = (signed char)k3sup__version_order(&v[i], &v[j]);
			if ((order[i * n + j] == 0) != (i == j))
				fail_msg("%s and %s: %d", set.text[i], set.text[j], order[i * n + j]);
		}
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < n; j++) {
			if (order[i * n + j] != -order[j * n + i])
				fail_msg("%s and %s are ordered both ways", set.text[i], set.text[j]);
			for (size_t k = 0; k < n && order[i * n + j] < 0; k++)
				if (order[j * n + k] < 0 && order[i * n + k] >= 0)
					fail_msg("%s < %s < %s is a circle", set.text[i], set.text[j], set.text[k]);
		}
	free(order);
	free(v);
	free(set.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_part_counts_as_a_number),
		cmocka_unit_test(a_pre_release_comes_before_its_release),
		cmocka_unit_test(an_untagged_build_comes_before_the_numbered_ones),
		cmocka_unit_test(other_spellings_name_the_same_version),
		cmocka_unit_test(what_is_no_version_is_refused),
		cmocka_unit_test(a_missing_argument_is_refused),
		cmocka_unit_test(no_byte_behind_the_given_length_is_read),
		cmocka_unit_test(the_order_is_strict_and_total),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
