/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and keys are made by openssl(1), so that what is decoded is what others make.
 */
#include "scratch.h"

#include <openssl/err.h>

#include "base/x509.h"

struct made {
	struct scratch *s;
	struct k3sup__pki *pki;
};

static void sh(struct scratch *s, const char *commands)
{
	_free_ char *all = k3sup__fmt("cd %s && { %s; } >log 2>&1", s->path, commands);

	if (system(all) != 0) /* NOLINT: openssl(1) is the point */
		fail_msg("%s", commands);
}

/* An authority and a leaf below it, of elliptic curves; a self-signed one of RSA for a hundred years. */
static int setup(void **state)
{
	struct made *m = calloc(1, sizeof(*m));
	void *scratch = NULL;

	assert_non_null(m);
	assert_int_equal(scratch_setup(&scratch), 0);
	m->s = scratch;
	sh(m->s,
		"openssl ecparam -name prime256v1 -genkey -noout -out ca.key && openssl ecparam -name prime256v1 -genkey -out leaf.key &&"
		"openssl req -new -x509 -key ca.key -days 3650 -set_serial 0 -subj /CN=k3s-client-ca@1 -out ca.crt -addext "
		"keyUsage=critical,keyCertSign &&"
		"openssl req -new -key leaf.key -subj /O=system:masters/CN=system:admin -out leaf.csr &&"
		"printf "
		"'extendedKeyUsage=serverAuth,clientAuth,codeSigning\\nsubjectAltName=DNS:a.b,IP:10.0.0.1,IP:::1,email:x@"
		"y\\nauthorityKeyIdentifier=keyid\\n"
		"keyUsage=digitalSignature\\n' >ext && openssl x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -set_serial 0x1234abcd "
		"-days 365 -extfile ext -out leaf.crt &&"
		"openssl req -new -x509 -newkey rsa:2048 -nodes -keyout rsa.key -days 36500 -subj '/CN=\u00e9 \"x\"' -utf8 -out rsa.crt &&"
		"openssl rsa -in rsa.key -traditional -out rsa1.key && openssl pkcs8 -topk8 -nocrypt -in ca.key -out ca8.key &&"
		"openssl pkcs8 -topk8 -passout pass:x -in ca.key -out locked.key && cat leaf.crt ca.crt >bundle.crt");
	assert_int_equal(k3sup__pki_new(&m->pki), 0);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct made *m = *state;
	void *scratch = m->s;

	k3sup__pki_free(m->pki);
	free(m);
	assert_int_equal(ERR_peek_error(), 0); /* the host's error queue is not ours */
	return scratch_teardown(&scratch);
}

static char *text_of(struct made *m, const char *name, size_t *ret_len)
{
	char *text = NULL;

	assert_int_equal(k3sup__read_file(m->s->fd, name, 1 << 20, &text, ret_len), 0);
	return text;
}

static int certs(struct made *m, const char *name, struct k3sup__certs *ret, const char **why)
{
	size_t len;
	_free_ char *text = text_of(m, name, &len);

	return k3sup__certs_parse(m->pki, text, len, ret, why);
}

static int keys(struct made *m, const char *name, struct k3sup__keys *ret, const char **why)
{
	size_t len;
	_free_ char *text = text_of(m, name, &len);

	return k3sup__keys_parse(m->pki, text, len, ret, why);
}

static void assert_list(const struct k3sup__cert *cert, const char *key, const char *wanted)
{
	_free_ char *text = k3sup__json_dump(k3sup__json_member(cert->facts, key));

	assert_string_equal(text, wanted);
}

static void a_bundle_is_described(void **state)
{
	struct made *m = *state;
	struct k3sup__certs bundle;
	const char *why = NULL;
	const struct k3sup__cert *leaf, *ca;

	assert_int_equal(certs(m, "bundle.crt", &bundle, &why), 0);
	assert_int_equal(bundle.count, 2);
	leaf = &bundle.list[0];
	ca = &bundle.list[1];
	assert_string_equal(k3sup__json_text(leaf->facts, "cn"), "system:admin");
	assert_string_equal(k3sup__json_text(leaf->facts, "subject"), "CN=system:admin,O=system:masters");
	assert_string_equal(k3sup__json_text(leaf->facts, "issuer_cn"), "k3s-client-ca@1");
	assert_string_equal(k3sup__json_text(leaf->facts, "serial"), "1234ABCD");
	assert_list(leaf, "organisations", "[\"system:masters\"]");
	assert_list(leaf, "usages", "[\"ServerAuth\",\"ClientAuth\"]");
	assert_list(leaf, "sans", "[\"DNS:a.b\",\"IP:10.0.0.1\",\"IP:::1\"]");
	assert_list(ca, "usages", "[\"CertSign\"]");
	assert_list(ca, "sans", "[]");
	assert_string_equal(k3sup__json_text(leaf->facts, "aki"), k3sup__json_text(ca->facts, "ski"));
	assert_int_equal(leaf->not_after - leaf->not_before, 365 * 86400);
	assert_true(ca->self_signed && ca->ca && !leaf->self_signed && !leaf->ca);
	assert_true(k3sup__cert_signed_by(leaf, ca) && k3sup__cert_names_issuer(leaf, ca));
	assert_false(k3sup__cert_signed_by(ca, leaf));
	k3sup__certs_clear(&bundle);
}

/* k3s's loopback certificate: its end does not fit into 32 bits. */
static void a_hundred_years_and_names_of_all_letters(void **state)
{
	struct made *m = *state;
	struct k3sup__certs rsa;
	const char *why = NULL;

	assert_int_equal(certs(m, "rsa.crt", &rsa, &why), 0);
	assert_int_equal(rsa.list[0].not_after - rsa.list[0].not_before, (int64_t)36500 * 86400);
	assert_list(&rsa.list[0], "usages", "[\"Unknown\"]");
	k3sup__certs_clear(&rsa);
}

/* What openssl(1) prints of it, byte for byte. */
static void fingerprints_are_those_of_openssl(void **state)
{
	struct made *m = *state;
	struct k3sup__certs ca;
	const char *why = NULL;
	_free_ char *said = NULL;

	sh(m->s, "openssl x509 -in ca.crt -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f | tr -d '\\n' >print");
	assert_int_equal(k3sup__read_file(m->s->fd, "print", 100, &said, NULL), 0);
	assert_int_equal(certs(m, "ca.crt", &ca, &why), 0);
	assert_string_equal(ca.list[0].sha256, said);
	k3sup__certs_clear(&ca);
}

static void every_form_of_key_is_taken(void **state)
{
	static const char *const files[] = {"ca.key", "ca8.key", "leaf.key", "rsa.key", "rsa1.key"};
	static const char *const fits[] = {"ca.crt", "ca.crt", "leaf.crt", "rsa.crt", "rsa.crt"};
	struct made *m = *state;
	const char *why = NULL;

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		struct k3sup__keys list;

		assert_int_equal(keys(m, files[i], &list, &why), 0);
		assert_int_equal(list.count, 1);
		for (size_t k = 0; k < ELEMENTSOF(fits); k++) {
			struct k3sup__certs one;

			assert_int_equal(certs(m, fits[k], &one, &why), 0);
			assert_int_equal(k3sup__key_fits(list.list[0], &one.list[0]), k3sup__streq(fits[k], fits[i]));
			k3sup__certs_clear(&one);
		}
		k3sup__keys_clear(&list);
	}
}

static void an_encrypted_key_is_no_key(void **state)
{
	struct made *m = *state;
	struct k3sup__keys list;
	const char *why = NULL;

	assert_int_equal(keys(m, "locked.key", &list, &why), K3SUP_E_PARSE);
	assert_string_equal(why, "one of its keys is encrypted");
	assert_int_equal(keys(m, "ca.crt", &list, &why), K3SUP_E_PARSE);
	assert_string_equal(why, "it holds no private key");
}

/* Torn anywhere, a file is damaged or holds fewer certificates: never a certificate that was not in it. */
static void torn_anywhere(void **state)
{
	struct made *m = *state;
	size_t len;
	_free_ char *text = text_of(m, "bundle.crt", &len);
	struct k3sup__certs whole, torn;
	const char *why = NULL;

	assert_int_equal(k3sup__certs_parse(m->pki, text, len, &whole, &why), 0);
	for (size_t cut = 0; cut + 1 < len; cut++) {
		int r = k3sup__certs_parse(m->pki, text, cut, &torn, &why);

		if (r == K3SUP_E_PARSE) {
			assert_non_null(why);
			continue;
		}
		assert_int_equal(r, 0);
		for (size_t i = 0; i < torn.count; i++)
			assert_string_equal(torn.list[i].sha256, whole.list[i].sha256);
		k3sup__certs_clear(&torn);
	}
	k3sup__certs_clear(&whole);
}

static void one_bad_block_spoils_the_file(void **state)
{
	struct made *m = *state;
	struct k3sup__certs list;
	const char *why = NULL;

	sh(m->s,
		"{ cat ca.crt; echo '-----BEGIN CERTIFICATE-----'; echo AAAA; echo '-----END CERTIFICATE-----'; } >bad.crt;"
		"{ cat leaf.key; cat ca.crt; } >mixed.crt; : >empty");
	assert_int_equal(certs(m, "bad.crt", &list, &why), K3SUP_E_PARSE);
	assert_string_equal(why, "one of its certificates cannot be decoded");
	assert_int_equal(certs(m, "mixed.crt", &list, &why), 0);
	assert_int_equal(list.count, 1);
	k3sup__certs_clear(&list);
	assert_int_equal(certs(m, "empty", &list, &why), K3SUP_E_PARSE);
	assert_string_equal(why, "it is empty");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bundle_is_described),
		cmocka_unit_test(a_hundred_years_and_names_of_all_letters),
		cmocka_unit_test(fingerprints_are_those_of_openssl),
		cmocka_unit_test(every_form_of_key_is_taken),
		cmocka_unit_test(an_encrypted_key_is_no_key),
		cmocka_unit_test(torn_anywhere),
		cmocka_unit_test(one_bad_block_spoils_the_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
