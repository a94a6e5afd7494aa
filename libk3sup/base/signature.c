/* SPDX-License-Identifier: Apache-2.0 */
#include "base/signature.h"

#include "base/base64.h"

#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>

#define SHA256_LEN 32
#define RSA_LEAST_BITS 2048

struct k3sup__key {
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *provider;
	EVP_PKEY *pkey;
	EVP_MD *sha256;
	const char *kind;
};

static int decode_pem(struct k3sup__key *key, const char *pem, size_t len)
{
	const unsigned char *at = (const unsigned char *)pem;
	OSSL_DECODER_CTX *decoder;
	int ok;

	/* The structure leaves public keys only: a private one must not lie on nodes. */
	decoder = OSSL_DECODER_CTX_new_for_pkey(&key->pkey, "PEM", "SubjectPublicKeyInfo", NULL, EVP_PKEY_PUBLIC_KEY, key->lib, NULL);
	if (decoder == NULL)
		return -ENOMEM;
	ok = OSSL_DECODER_from_data(decoder, &at, &len);
	OSSL_DECODER_CTX_free(decoder);
	return ok == 1 && key->pkey != NULL ? 0 : K3SUP_E_KEY;
}

/* NULL if it can be used, or why not. */
static const char *why_not(struct k3sup__key *key)
{
	char group[32] = "";

	if (EVP_PKEY_is_a(key->pkey, "ED25519")) {
		key->kind = "Ed25519";
		return NULL;
	}
	if (EVP_PKEY_is_a(key->pkey, "EC")) {
		key->kind = "ECDSA";
		if (EVP_PKEY_get_utf8_string_param(key->pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), NULL) == 1 &&
			(k3sup__streq(group, "prime256v1") || k3sup__streq(group, "secp384r1")))
			return NULL;
		return "its curve is neither P-256 nor P-384";
	}
	if (EVP_PKEY_is_a(key->pkey, "RSA")) {
		key->kind = "RSA";
		return EVP_PKEY_get_bits(key->pkey) >= RSA_LEAST_BITS ? NULL : "an RSA key has to have 2048 bits or more";
	}
	return "it is none of Ed25519, ECDSA and RSA";
}

static int set_up(k3sup_op *op, struct k3sup__key *key, const char *pem, size_t len, const char *shown)
{
	const char *why;
	int r;

	key->lib = OSSL_LIB_CTX_new();
	if (key->lib == NULL)
		return -ENOMEM;
	key->provider = OSSL_PROVIDER_load(key->lib, "default");
	key->sha256 = key->provider != NULL ? EVP_MD_fetch(key->lib, "SHA2-256", NULL) : NULL;
	if (key->sha256 == NULL)
		return -ENOMEM;
	r = decode_pem(key, pem, len);
	if (r == K3SUP_E_KEY)
		return k3sup__fail(op, r, "%s is not a public key in PEM (BEGIN PUBLIC KEY)", shown);
	if (r < 0)
		return r;
	why = why_not(key);
	return why == NULL ? 0 : k3sup__fail(op, K3SUP_E_KEY, "the key in %s cannot be used: %s", shown, why);
}

int k3sup__key_parse(k3sup_op *op, const char *pem, size_t len, const char *shown, struct k3sup__key **ret)
{
	struct k3sup__key *key = calloc(1, sizeof(*key));
	int r;

	if (key == NULL)
		return -ENOMEM;
	ERR_set_mark();
	r = set_up(op, key, pem, len, shown);
	ERR_pop_to_mark();
	if (r < 0) {
		k3sup__key_free(key);
		return r;
	}
	*ret = key;
	return 0;
}

void k3sup__key_free(struct k3sup__key *key)
{
	if (key == NULL)
		return;
	ERR_set_mark();
	EVP_PKEY_free(key->pkey);
	EVP_MD_free(key->sha256);
	if (key->provider != NULL)
		(void)OSSL_PROVIDER_unload(key->provider);
	OSSL_LIB_CTX_free(key->lib);
	ERR_pop_to_mark();
	free(key);
}

const char *k3sup__key_kind(const struct k3sup__key *key)
{
	return key->kind;
}

/* ---- verifying ---- */

/* Streaming it is refused by OpenSSL 3.0, so it is for small things: a list, a digest. */
static int verify_ed25519(const struct k3sup__key *key, const void *bytes, size_t len, const unsigned char *signature, size_t signature_len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int r = -ENOMEM;

	if (ctx != NULL && EVP_DigestVerifyInit_ex(ctx, NULL, NULL, key->lib, NULL, key->pkey, NULL) == 1)
		r = EVP_DigestVerify(ctx, signature, signature_len, bytes, len) == 1;
	EVP_MD_CTX_free(ctx);
	return r;
}

/* padding: 0 for ECDSA */
static int verify_hash(const struct k3sup__key *key, int padding, const unsigned char *hash, const unsigned char *signature, size_t signature_len)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(key->lib, key->pkey, NULL);
	int r = -ENOMEM;

	if (ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 && (padding == 0 || EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1) &&
		EVP_PKEY_CTX_set_signature_md(ctx, key->sha256) == 1)
		r = EVP_PKEY_verify(ctx, signature, signature_len, hash, SHA256_LEN) == 1;
	EVP_PKEY_CTX_free(ctx);
	return r;
}

static int verify(const struct k3sup__key *key, const unsigned char *hash, const unsigned char *signature, size_t signature_len)
{
	int r;

	ERR_set_mark();
	if (k3sup__streq(key->kind, "RSA")) {
		r = verify_hash(key, RSA_PKCS1_PADDING, hash, signature, signature_len);
		if (r == 0)
			r = verify_hash(key, RSA_PKCS1_PSS_PADDING, hash, signature, signature_len);
	} else {
		r = verify_hash(key, 0, hash, signature, signature_len);
	}
	ERR_pop_to_mark();
	return r;
}

int k3sup__key_verify_file(
	const struct k3sup__key *key, const char sha256[static K3SUP__SHA256_HEX], const unsigned char *signature, size_t signature_len)
{
	unsigned char hash[SHA256_LEN];

	if (k3sup__streq(key->kind, "Ed25519"))
		return 0;
	k3sup__unhex(sha256, hash, sizeof(hash));
	return verify(key, hash, signature, signature_len);
}

int k3sup__key_verify(const struct k3sup__key *key, const void *bytes, size_t len, const unsigned char *signature, size_t signature_len)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	char hex[K3SUP__SHA256_HEX];
	int r;

	if (k3sup__streq(key->kind, "Ed25519")) {
		ERR_set_mark();
		r = verify_ed25519(key, bytes, len, signature, signature_len);
		ERR_pop_to_mark();
		return r;
	}
	r = k3sup__digest_new(&digest);
	if (r >= 0)
		r = k3sup__digest_update(digest, bytes, len);
	if (r >= 0)
		r = k3sup__digest_finish(digest, hex);
	return r < 0 ? r : k3sup__key_verify_file(key, hex, signature, signature_len);
}

/* ---- signature files ---- */

int k3sup__signature_decode(k3sup_op *op, unsigned char *bytes, size_t len, const char *shown)
{
	if (len == 0)
		return k3sup__fail(op, K3SUP_E_SIGNATURE, "the signature in %s is empty", shown);
	/* No raw signature is made of such letters only: of 64 random bytes one in 2^128. */
	if (k3sup__base64(bytes, len, true) > 0)
		len = (size_t)k3sup__base64(bytes, len, false);
	if (len > K3SUP__SIGNATURE_MAX)
		return k3sup__fail(op, K3SUP_E_SIGNATURE, "%s is too long for a signature", shown);
	return (int)len;
}
