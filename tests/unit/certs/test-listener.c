/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <openssl/evp.h>

#define LISTENER "server/tls/dynamic-cert.json"

/* What fn writes as PEM, in base64; to be freed. */
static char *base64_of(BIO *bio)
{
	char *pem = NULL, *text;
	long len = BIO_get_mem_data(bio, &pem);

	text = calloc(1, (size_t)len * 2 + 8);
	assert_non_null(text);
	assert_true(EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)pem, (int)len) > 0);
	BIO_free(bio);
	return text;
}

static void put_listener(struct tree *t, const struct issuer *issuer, int64_t until, EVP_PKEY *shown_key)
{
	struct template leaf = {
		.cn = "k3s", .organisation = "k3s", .usages = K3SUP__USE_SERVER, .from = NOW - DAYS(1), .until = until, .sans = "DNS:localhost"};
	EVP_PKEY *key = new_key();
	X509 *cert = new_cert(&leaf, key, issuer);
	BIO *crt_pem = BIO_new(BIO_s_mem()), *key_pem = BIO_new(BIO_s_mem());
	_free_ char *crt64 = NULL, *key64 = NULL, *json = NULL;

	assert_int_equal(PEM_write_bio_X509(crt_pem, cert), 1);
	assert_int_equal(PEM_write_bio_PrivateKey(key_pem, shown_key != NULL ? shown_key : key, NULL, NULL, 0, NULL, NULL), 1);
	crt64 = base64_of(crt_pem);
	key64 = base64_of(key_pem);
	json = k3sup__fmt("{\"kind\":\"Secret\",\"metadata\":{},\"data\":{\"tls.crt\":\"%s\",\"tls.key\":\"%s\"}}\n", crt64, key64);
	put_text(t, LISTENER, 0600, json);
	X509_free(cert);
	EVP_PKEY_free(key);
}

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
