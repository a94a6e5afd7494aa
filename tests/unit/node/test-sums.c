/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/sums.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
#define B_LOWER "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define IMAGES A "  k3s-airgap-images-amd64.tar.zst\n"

static void each_architecture_has_its_artifact(void **state)
{
	(void)state;
	assert_string_equal(k3sup__artifact("amd64"), "k3s");
	assert_string_equal(k3sup__artifact("arm64"), "k3s-arm64");
	assert_string_equal(k3sup__artifact("arm"), "k3s-armhf");
	assert_string_equal(k3sup__artifact("s390x"), "k3s-s390x");
	assert_string_equal(k3sup__artifact("riscv64"), "k3s-riscv64");
	assert_null(k3sup__artifact("386"));
	assert_null(k3sup__artifact(""));
}

static void the_one_entry_is_found(void **state)
{
	static const struct {
		const char *text, *artifact, *digest;
	} lists[] = {
		{IMAGES A "  k3s\n", "k3s", A},
		{IMAGES B " *k3s\n", "k3s", B_LOWER},
		{A "  k3s", "k3s", A},
		{A "  k3s-arm64\n" B "  k3s\n", "k3s-arm64", A},
		{A "  k3s-arm64\n" B "  k3s\n", "k3s", B_LOWER},
		{IMAGES B "  k3s-airgap-images-amd64.tar\n" B "  k3s\n", "k3s-airgap-images-amd64.tar.zst", A},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
		char digest[K3SUP__SHA256_HEX];

		assert_int_equal(k3sup__sums_find(NULL, lists[i].text, strlen(lists[i].text), "list", lists[i].artifact, digest), 0);
		assert_string_equal(digest, lists[i].digest);
	}
}

static void every_other_list_is_refused_with_its_own_sentence(void **state)
{
	static const struct {
		const char *text, *sentence;
	} lists[] = {
		{"", "is empty"},
		{" \n\n", "is empty"},
		{IMAGES, "does not name k3s"},
		{A "  k3s.bak\n", "does not name k3s"},
		{A "  ./k3s\n", "does not name k3s"},
		{A "  k3s \n", "does not name k3s"},
		{A "  k3s-arm64\n" IMAGES, "is for another architecture: it names k3s-arm64, but not k3s"},
		{A "  k3s\n" B "  k3s\n", "names k3s twice, with different digests"},
		{A "  k3s\n" A "  k3s\n", "names k3s twice"},
		{A "  k3s\r\n", "CRLF"},
		{"<!DOCTYPE html>\n<html>Not Found</html>\n", "is a web page"},
		{"\n <html>", "is a web page"},
		{"\x7f"
		 "ELF",
			"is no text"},
		{"Not Found", "line 1 of list is not a digest and a name"},
		{A "  k3s\nNot Found\n", "line 2 of list"},
		{A "  k3s\n\n", "line 2 of list"},
		{A " k3s\n", "line 1 of list"},
		{A "   \n", "does not name k3s"},
		{"a  k3s\n", "line 1 of list"},
		{"g" A "  k3s\n", "line 1 of list"},
		{"\\" A "  k3s\n", "line 1 of list"},
	};
	char digest[K3SUP__SHA256_HEX];

	for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
		assert_int_equal(k3sup__sums_find(((struct scratch *)*state)->op, lists[i].text, strlen(lists[i].text), "list", "k3s", digest),
			K3SUP_E_SUMS);
		assert_sentence(*state, lists[i].sentence);
	}
}

/* A list of another architecture is one that names another k3s; images are there or not. */
static void other_artifacts_are_just_missing(void **state)
{
	char digest[K3SUP__SHA256_HEX];

	assert_int_equal(k3sup__sums_find(((struct scratch *)*state)->op, A "  k3s\n" IMAGES, strlen(A "  k3s\n" IMAGES), "list",
				 "k3s-airgap-images-amd64.tar", digest),
		K3SUP_E_SUMS);
	assert_sentence(*state, "list does not name k3s-airgap-images-amd64.tar");
}

static void nul_bytes_and_endless_lists_are_refused(void **state)
{
	size_t len = K3SUP__SUMS_MAX + 1;
	_free_ char *text = malloc(len);
	char digest[K3SUP__SHA256_HEX];

	assert_non_null(text);
	memset(text, 'a', len);
	assert_int_equal(k3sup__sums_find(((struct scratch *)*state)->op, text, len, "list", "k3s", digest), K3SUP_E_SUMS);
	assert_sentence(*state, "longer than 1 MiB");
	assert_int_equal(k3sup__sums_find(((struct scratch *)*state)->op, A "  k3s\0\n", 64 + 7, "list", "k3s", digest), K3SUP_E_SUMS);
	assert_sentence(*state, "is no text");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_architecture_has_its_artifact),
		cmocka_unit_test(the_one_entry_is_found),
		scratch_test(every_other_list_is_refused_with_its_own_sentence),
		scratch_test(other_artifacts_are_just_missing),
		scratch_test(nul_bytes_and_endless_lists_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
