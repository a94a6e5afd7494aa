/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and signatures are made by openssl(1), so that what is verified is what others make.
 */
#include "scratch.h"

#include <openssl/err.h>

#include "base/signature.h"

static void sh(struct scratch *s, const char *commands)
{
	_free_ char *all = k3sup__fmt("cd %s && { %s; } >log 2>&1", s->path, commands);

	if (system(all) != 0) /* NOLINT: openssl(1) is the point */
		fail_msg("%s", commands);
}

static char *read_all(struct scratch *s, const char *name, size_t *ret_len)
{
	char *bytes = NULL;

	assert_int_equal(k3sup__read_file(s->fd, name, 1 << 20, &bytes, ret_len), 0);
	return bytes;
}

static int parse(struct scratch *s, const char *name, struct k3sup__key **ret)
{
	size_t len;
	_free_ char *pem = read_all(s, name, &len);

	return k3sup__key_parse(s->op, pem, len, name, ret);
}

/* Is the file "sig" a signature of the file "data", as a whole and by the digest of it? Two bits; -1 if they disagree with a changed signature. */
static int verified(struct scratch *s, const struct k3sup__key *key)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	size_t len, n;
	_free_ char *data = read_all(s, "data", &len), *sig = read_all(s, "sig", &n);
	unsigned char *raw = (unsigned char *)sig;
	char hex[K3SUP__SHA256_HEX];
	int r;

	r = k3sup__signature_decode(s->op, raw, n, "sig");
	assert_true(r > 0);
	n = (size_t)r;
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_update(digest, data, len), 0);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
	r = k3sup__key_verify(key, data, len, raw, n) | k3sup__key_verify_file(key, hex, raw, n) << 1;
	/* Whatever is changed, or is missing, spoils it. */
	raw[n / 2] ^= 1;
	assert_int_equal(k3sup__key_verify(key, data, len, raw, n), 0);
	raw[n / 2] ^= 1;
	assert_int_equal(k3sup__key_verify(key, data, len, raw, n - 1), 0);
	assert_int_equal(k3sup__key_verify(key, data, len, raw, 0), 0);
	data[0] ^= 1;
	assert_int_equal(k3sup__key_verify(key, data, len, raw, n), 0);
	assert_int_equal(k3sup__key_verify(key, data, len - 1, raw, n), 0);
	return r;
}

static const struct {
	const char *make, *sign, *kind;
	int verified;
} kinds[] = {
	{"openssl genpkey -algorithm ed25519 -out k", "openssl pkeyutl -sign -inkey k -rawin -in data -out sig", "Ed25519", 1},
	{"openssl ecparam -genkey -noout -name prime256v1 -out k", "openssl dgst -sha256 -sign k -out sig data", "ECDSA", 3},
	{"openssl ecparam -genkey -noout -name secp384r1 -out k", "openssl dgst -sha256 -sign k -out sig data", "ECDSA", 3},
	{"openssl genrsa -out k 2048", "openssl dgst -sha256 -sign k -out sig data", "RSA", 3},
	{"openssl genrsa -out k 2048", "openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sign k -out sig data", "RSA", 3},
	{"openssl genrsa -out k 3072", "openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sign k -out sig data",
		"RSA", 3},
};

static void signatures_of_openssl_are_verified(void **state)
{
	struct scratch *s = *state;

	put_file(s->fd, "data", "thirty-two bytes, or some more of them", 0600);
	for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
		_cleanup_(k3sup__key_freep) struct k3sup__key *key = NULL, *other = NULL;

		sh(s, kinds[i].make);
		sh(s, "openssl pkey -in k -pubout -out pub");
		sh(s, kinds[i].sign);
		assert_int_equal(parse(s, "pub", &key), 0);
		assert_string_equal(k3sup__key_kind(key), kinds[i].kind);
		assert_int_equal(verified(s, key), kinds[i].verified);
		sh(s, "openssl base64 -in sig -out sig64 && mv sig64 sig");
		assert_int_equal(verified(s, key), kinds[i].verified);
		sh(s, kinds[i].make);
		sh(s, "openssl pkey -in k -pubout -out pub");
		assert_int_equal(parse(s, "pub", &other), 0);
		{
			size_t len, n;
			_free_ char *data = read_all(s, "data", &len), *sig = read_all(s, "sig", &n);
			int r = k3sup__signature_decode(s->op, (unsigned char *)sig, n, "sig");

			assert_true(r > 0);
			assert_int_equal(k3sup__key_verify(other, data, len, (unsigned char *)sig, (size_t)r), 0);
		}
	}
}

static void other_keys_are_refused(void **state)
{
	static const struct {
		const char *make, *sentence;
	} keys[] = {
		{"openssl genrsa 1024 | openssl pkey -pubout -out pub", "2048 bits"},
		{"openssl ecparam -genkey -noout -name secp521r1 | openssl pkey -pubout -out pub", "curve"},
		{"openssl ecparam -genkey -noout -name secp256k1 | openssl pkey -pubout -out pub", "curve"},
		{"openssl genpkey -algorithm x25519 | openssl pkey -pubout -out pub", "none of"},
		{"openssl genpkey -algorithm ed25519 -out pub", "BEGIN PUBLIC KEY"},
		{"openssl genrsa -out pub 2048", "BEGIN PUBLIC KEY"},
		{"openssl genpkey -algorithm ed25519 | openssl pkey -pubout -outform DER -out pub", "BEGIN PUBLIC KEY"},
		{"openssl req -x509 -newkey ed25519 -nodes -keyout k -subj /CN=x -out pub", "BEGIN PUBLIC KEY"},
		{"openssl genpkey -algorithm ed25519 | openssl pkey -pubout | head -c 60 >pub", "BEGIN PUBLIC KEY"},
		{": >pub", "BEGIN PUBLIC KEY"},
		{"echo '<html>' >pub", "BEGIN PUBLIC KEY"},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		struct k3sup__key *key = NULL;

		sh(s, keys[i].make);
		assert_int_equal(parse(s, "pub", &key), K3SUP_E_KEY);
		assert_null(key);
		assert_sentence(s, keys[i].sentence);
	}
}

static void signature_files_are_raw_or_base64(void **state)
{
	static const struct {
		const char *text, *raw;
	} files[] = {
		{"YWJj", "abc"},
		{"YWI=", "ab"},
		{"YQ==\n", "a"},
		{" Y\r\nW\tJj\n\n", "abc"},
		/* no base64, so they are what they are */
		{"YWJ", "YWJ"},
		{"YQ=", "YQ="},
		{"Y===", "Y==="},
		{"YQ==YQ==", "YQ==YQ=="},
		{"\x01\x02", "\x01\x02"},
		{"=", "="},
	};
	struct scratch *s = *state;
	_free_ unsigned char *big = calloc(1, K3SUP__SIGNATURE_MAX + 1);

	for (size_t i = 0; i < ELEMENTSOF(files); i++) {
		char *text = strdup(files[i].text);
		int r = k3sup__signature_decode(s->op, (unsigned char *)text, strlen(text), "sig");

		assert_int_equal(r, strlen(files[i].raw));
		assert_memory_equal(text, files[i].raw, strlen(files[i].raw));
		free(text);
	}
	assert_int_equal(k3sup__signature_decode(s->op, big, 0, "sig"), K3SUP_E_SIGNATURE);
	assert_sentence(s, "is empty");
	assert_int_equal(k3sup__signature_decode(s->op, big, K3SUP__SIGNATURE_MAX + 1, "sig"), K3SUP_E_SIGNATURE);
	assert_sentence(s, "too long");
}

static void the_hosts_error_queue_stays_as_it_was(void **state)
{
	struct scratch *s = *state;
	unsigned long mine = ERR_PACK(ERR_LIB_USER, 0, 42);
	_cleanup_(k3sup__key_freep) struct k3sup__key *key = NULL;
	struct k3sup__key *none = NULL;

	put_file(s->fd, "data", "data", 0600);
	put_file(s->fd, "junk", "-----BEGIN PUBLIC KEY-----\njunk\n-----END PUBLIC KEY-----\n", 0600);
	sh(s, "openssl genrsa -out k 2048 && openssl pkey -in k -pubout -out pub && openssl dgst -sha256 -sign k -out sig data");
	ERR_clear_error();
	ERR_raise(ERR_LIB_USER, 42);
	assert_int_equal(parse(s, "pub", &key), 0);
	assert_int_equal(verified(s, key), 3);
	assert_int_equal(parse(s, "junk", &none), K3SUP_E_KEY);
	assert_int_equal(ERR_get_error(), mine);
	assert_int_equal(ERR_get_error(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(signatures_of_openssl_are_verified),
		scratch_test(other_keys_are_refused),
		scratch_test(signature_files_are_raw_or_base64),
		scratch_test(the_hosts_error_queue_stays_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
