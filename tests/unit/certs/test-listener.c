/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

static void a_good_one_is_a_row_of_its_own(void **state)
{
	struct tree *t = *state;
	const k3sup__json *row = NULL;

	put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW + DAYS(364), NULL);
	assert_problems(t, "");
	look(t);
	for (size_t i = 0; i < k3sup__json_len(t->audit.certificates); i++)
		if (k3sup__streq(k3sup__json_text(k3sup__json_element(t->audit.certificates, i), "kind"), "listener"))
			row = k3sup__json_element(t->audit.certificates, i);
	assert_string_equal(k3sup__json_text(row, "path"), LISTENER);
	assert_string_equal(k3sup__json_text(row, "subject"), "CN=k3s,O=k3s");
	unlook(t);
}

static void what_can_be_wrong_with_it(void **state)
{
	struct tree *t = *state;
	EVP_PKEY *other = new_key();

	put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW - 1, NULL);
	assert_problems(t, LISTENER " expired start");
	put_listener(t, &t->cas[K3SUP__CA_CLIENT], NOW + DAYS(364), NULL);
	assert_problems(t, LISTENER " other-ca start");
	put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW + DAYS(364), other);
	assert_problems(t, LISTENER " key-mismatch act");
	put_text(t, LISTENER, 0600, "{\"data\":{\"tls.crt\":\"");
	assert_problems(t, LISTENER " damaged act");
	put_text(t, LISTENER, 0600, "");
	assert_problems(t, LISTENER " damaged act");
	put_text(t, LISTENER, 0600, "{}");
	assert_problems(t, LISTENER " damaged act");
	put_text(t, LISTENER, 0600, "{\"data\":{\"tls.crt\":\"AAAA\",\"tls.key\":\"AAAA\"}}");
	assert_problems(t, LISTENER " damaged act");
	EVP_PKEY_free(other);
}

static void a_trigger_waits_for_a_start(void **state)
{
	struct tree *t = *state;

	put_text(t, "server/tls/dynamic-cert-regenerate", 0600, "");
	assert_problems(t, "server/tls/dynamic-cert-regenerate pending start");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(a_good_one_is_a_row_of_its_own),
		tree_test(what_can_be_wrong_with_it),
		tree_test(a_trigger_waits_for_a_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
