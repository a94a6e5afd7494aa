/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

static void what_starts_write_is_compared(void **state)
{
	struct tree *t = *state;
	EVP_PKEY *service = EVP_RSA_gen(2048), *other = EVP_RSA_gen(2048);

	put_certs(t, "server/tls/client-ca.nochain.crt", t->cas[K3SUP__CA_CLIENT].cert, NULL);
	put_certs(t, "server/tls/server-ca.nochain.crt", t->cas[K3SUP__CA_SERVER].cert, NULL);
	put_key(t, "server/tls/service.key", service);
	put_key(t, "server/tls/service.current.key", service);
	assert_problems(t, "");
	put_certs(t, "server/tls/client-ca.nochain.crt", t->cas[K3SUP__CA_SERVER].cert, NULL);
	put_text(t, "server/tls/server-ca.nochain.crt", 0644, "");
	put_key(t, "server/tls/service.current.key", other);
	assert_problems(t,
		"server/tls/client-ca.nochain.crt stale-copy start, server/tls/server-ca.nochain.crt empty start, "
		"server/tls/service.current.key "
		"stale-copy start");
	remove_file(t, "server/tls/client-ca.nochain.crt");
	remove_file(t, "server/tls/server-ca.nochain.crt");
	put_text(t, "server/tls/service.key", 0600, "torn");
	assert_problems(t, "server/tls/service.key damaged act");
	EVP_PKEY_free(service);
	EVP_PKEY_free(other);
}

static void a_hundred_years_are_told(void **state)
{
	struct tree *t = *state;
	struct template self = {.cn = "127.0.0.1@1700000000", .from = NOW - DAYS(1), .until = NOW + DAYS(36500), .usages = K3SUP__USE_SERVER};
	EVP_PKEY *key = EVP_RSA_gen(2048);
	X509 *cert = new_cert(&self, key, NULL);
	bool seen = false;

	put_certs(t, "server/tls/temporary-certs/apiserver-loopback-client__.crt", cert, NULL);
	X509_free(cert);
	EVP_PKEY_free(key);
	assert_problems(t, "");
	look(t);
	for (size_t i = 0; i < k3sup__json_len(t->audit.certificates); i++) {
		const k3sup__json *row = k3sup__json_element(t->audit.certificates, i);

		if (!k3sup__streq(k3sup__json_text(row, "kind"), "loopback"))
			continue;
		seen = true;
		assert_true(k3sup__json_number(row, "residual_seconds", 0) == DAYS(36500));
		assert_string_equal(k3sup__json_text(row, "not_after"), "2126-12-22T08:00:00Z");
	}
	assert_true(seen);
	unlook(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(what_starts_write_is_compared),
		tree_test(a_hundred_years_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
