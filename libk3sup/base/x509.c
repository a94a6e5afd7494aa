/* SPDX-License-Identifier: Apache-2.0 */
#include "base/x509.h"

#include <openssl/asn1.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>

#include <k3sup/error.h>

#include "base/utc.h"

#define MOST 1000

struct k3sup__pki {
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *provider;
	struct k3sup__digest *digest;
};

int k3sup__pki_new(struct k3sup__pki **ret)
{
	struct k3sup__pki *pki = calloc(1, sizeof(*pki));
	int r = pki == NULL ? -ENOMEM : 0;

	ERR_set_mark();
	if (r == 0 && ((pki->lib = OSSL_LIB_CTX_new()) == NULL || (pki->provider = OSSL_PROVIDER_load(pki->lib, "default")) == NULL))
		r = -ENOMEM;
	ERR_pop_to_mark();
	if (r == 0)
		r = k3sup__digest_new(&pki->digest);
	if (r < 0) {
		k3sup__pki_free(pki);
		return r;
	}
	*ret = pki;
	return 0;
}

void k3sup__pki_free(struct k3sup__pki *pki)
{
	if (pki == NULL)
		return;
	k3sup__digest_free(pki->digest);
	if (pki->provider != NULL)
		(void)OSSL_PROVIDER_unload(pki->provider);
	OSSL_LIB_CTX_free(pki->lib);
	free(pki);
}

/* ---- describing ---- */

static bool seconds_of(const ASN1_TIME *time, int64_t *ret)
{
	struct tm tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
		return false;
	*ret = k3sup__utc_seconds(&tm);
	return true;
}

static k3sup__json *asn1_text(const ASN1_STRING *string)
{
	unsigned char *utf8 = NULL;
	int len = string != NULL ? ASN1_STRING_to_UTF8(&utf8, string) : -1;
	k3sup__json *json = len >= 0 ? k3sup__json_strn((char *)utf8, (size_t)len) : k3sup__json_str("");

	OPENSSL_free(utf8);
	return json;
}

static k3sup__json *names_of(const X509_NAME *name, int nid)
{
	k3sup__json *list = k3sup__json_array();

	for (int i = -1; (i = X509_NAME_get_index_by_NID(name, nid, i)) >= 0;)
		k3sup__json_add(list, asn1_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i))));
	return list;
}

static k3sup__json *common_name(const X509_NAME *name)
{
	int i = X509_NAME_get_index_by_NID(name, NID_commonName, -1);

	return asn1_text(i >= 0 ? X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)) : NULL);
}

static k3sup__json *whole_name(const X509_NAME *name)
{
	BIO *bio = BIO_new(BIO_s_mem());
	k3sup__json *json = NULL;
	char *text = NULL;
	long len;

	if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
		len = BIO_get_mem_data(bio, &text);
		json = k3sup__json_strn(text != NULL ? text : "", len > 0 ? (size_t)len : 0);
	}
	BIO_free(bio);
	return json;
}

static k3sup__json *hex_of(const unsigned char *bytes, int len)
{
	_free_ char *text = malloc((size_t)len * 2 + 1);

	if (text == NULL)
		return NULL;
	k3sup__hex(bytes, (size_t)len, text);
	return k3sup__json_str(text);
}

static k3sup__json *address_of(const ASN1_OCTET_STRING *ip)
{
	char text[INET6_ADDRSTRLEN] = "";
	int len = ASN1_STRING_length(ip);

	if (len != 4 && len != 16)
		return k3sup__json_str("IP:?");
	(void)inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(ip), text, sizeof(text));
	return k3sup__json_fmt("IP:%s", text);
}

static k3sup__json *sans_of(const X509 *x509)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);
	k3sup__json *list = k3sup__json_array();

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			k3sup__json_add(list,
				k3sup__json_fmt("DNS:%.*s", ASN1_STRING_length(name->d.dNSName),
					(const char *)ASN1_STRING_get0_data(name->d.dNSName)));
		else if (name->type == GEN_IPADD)
			k3sup__json_add(list, address_of(name->d.iPAddress));
	}
	GENERAL_NAMES_free(names);
	return list;
}

/* In k3s's words and order (pkg/util/cert.go): others are ignored, none is "Unknown". */
static k3sup__json *usages_of(struct k3sup__cert *cert)
{
	EXTENDED_KEY_USAGE *usage = X509_get_ext_d2i(cert->x509, NID_ext_key_usage, NULL, NULL);
	k3sup__json *list = k3sup__json_array();

	if ((X509_get_extension_flags(cert->x509) & EXFLAG_KUSAGE) != 0 && (X509_get_key_usage(cert->x509) & KU_KEY_CERT_SIGN) != 0) {
		cert->usages |= K3SUP__USE_CERT_SIGN;
		k3sup__json_add(list, k3sup__json_str("CertSign"));
	}
	for (int i = 0; i < sk_ASN1_OBJECT_num(usage); i++) {
		int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(usage, i));

		if (nid != NID_server_auth && nid != NID_client_auth)
			continue;
		cert->usages |= nid == NID_server_auth ? K3SUP__USE_SERVER : K3SUP__USE_CLIENT;
		k3sup__json_add(list, k3sup__json_str(nid == NID_server_auth ? "ServerAuth" : "ClientAuth"));
	}
	if (cert->usages == 0)
		k3sup__json_add(list, k3sup__json_str("Unknown"));
	EXTENDED_KEY_USAGE_free(usage);
	return list;
}

static void describe_ids(k3sup__json *facts, X509 *x509)
{
	const ASN1_OCTET_STRING *ski = X509_get0_subject_key_id(x509), *aki = X509_get0_authority_key_id(x509);
	BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), NULL);
	char *hex = serial != NULL ? BN_bn2hex(serial) : NULL;

	k3sup__json_set(facts, "serial", hex != NULL ? k3sup__json_str(hex) : NULL);
	OPENSSL_free(hex);
	BN_free(serial);
	if (ski != NULL)
		k3sup__json_set(facts, "ski", hex_of(ASN1_STRING_get0_data(ski), ASN1_STRING_length(ski)));
	if (aki != NULL)
		k3sup__json_set(facts, "aki", hex_of(ASN1_STRING_get0_data(aki), ASN1_STRING_length(aki)));
}

static int describe(struct k3sup__pki *pki, struct k3sup__cert *cert, const unsigned char *der, size_t len)
{
	const X509_NAME *subject = X509_get_subject_name(cert->x509), *issuer = X509_get_issuer_name(cert->x509);
	int r = k3sup__digest_update(pki->digest, der, len);

	if (r >= 0)
		r = k3sup__digest_finish(pki->digest, cert->sha256);
	if (r < 0)
		return r;
	cert->facts = k3sup__json_object();
	k3sup__json_set(cert->facts, "cn", common_name(subject));
	k3sup__json_set(cert->facts, "subject", whole_name(subject));
	k3sup__json_set(cert->facts, "issuer_cn", common_name(issuer));
	k3sup__json_set(cert->facts, "issuer", whole_name(issuer));
	k3sup__json_set(cert->facts, "organisations", names_of(subject, NID_organizationName));
	k3sup__json_set(cert->facts, "sans", sans_of(cert->x509));
	k3sup__json_set(cert->facts, "usages", usages_of(cert));
	describe_ids(cert->facts, cert->x509);
	/* Who says nothing about the use of his key may use it for everything. */
	cert->ca = (X509_get_extension_flags(cert->x509) & EXFLAG_CA) != 0 && (X509_get_key_usage(cert->x509) & KU_KEY_CERT_SIGN) != 0;
	/* A signature is costly to verify; only who claims to be his own issuer is asked. */
	cert->self_signed = X509_NAME_cmp(subject, issuer) == 0 && X509_verify(cert->x509, X509_get0_pubkey(cert->x509)) == 1;
	return k3sup__json_broken(cert->facts) ? -ENOMEM : 0;
}

/* ---- decoding ---- */

static int take_cert(struct k3sup__pki *pki, const unsigned char *der, long len, struct k3sup__certs *certs, const char **why)
{
	struct k3sup__cert *list = realloc(certs->list, (certs->count + 1) * sizeof(*list));
	const unsigned char *at = der;
	struct k3sup__cert *cert;

	if (list == NULL)
		return -ENOMEM;
	certs->list = list;
	cert = &list[certs->count];
	*cert = (struct k3sup__cert){.x509 = X509_new_ex(pki->lib, NULL)};
	if (cert->x509 == NULL)
		return -ENOMEM;
	certs->count++; /* from here on clear frees it */
	/* On failure d2i frees the object it was given and forgets it. */
	if (d2i_X509(&cert->x509, &at, len) == NULL || at != der + len || X509_get0_pubkey(cert->x509) == NULL) {
		*why = "one of its certificates cannot be decoded";
		return K3SUP_E_PARSE;
	}
	if (!seconds_of(X509_get0_notBefore(cert->x509), &cert->not_before) || !seconds_of(X509_get0_notAfter(cert->x509), &cert->not_after)) {
		*why = "one of its certificates has no valid dates";
		return K3SUP_E_PARSE;
	}
	return describe(pki, cert, der, (size_t)len);
}

/* Calls take for each PEM block. 0, what take failed with, or K3SUP_E_PARSE for a block that does not end. */
static int each_block(const char *pem, size_t len,
	int (*take)(const char *name, const char *header, const unsigned char *data, long len, void *arg), void *arg, const char **why)
{
	BIO *bio = len <= INT32_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	int r = bio == NULL ? -ENOMEM : 0;

	while (r == 0) {
		char *name = NULL, *header = NULL;
		unsigned char *data = NULL;
		long size = 0;

		if (PEM_read_bio(bio, &name, &header, &data, &size) != 1) {
			if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
				*why = "one of its PEM blocks is damaged";
				r = K3SUP_E_PARSE;
			}
			break;
		}
		r = take(name, header, data, size, arg);
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_clear_free(data, size > 0 ? (size_t)size : 0);
	}
	BIO_free(bio);
	return r;
}

struct taking {
	struct k3sup__pki *pki;
	struct k3sup__certs *certs;
	struct k3sup__keys *keys;
	const char *why;
};

static int take_cert_block(const char *name, const char *header, const unsigned char *data, long len, void *arg)
{
	struct taking *t = arg;

	if (!k3sup__streq(name, "CERTIFICATE") || header[0] != '\0')
		return 0;
	return t->certs->count == MOST ? -EFBIG : take_cert(t->pki, data, len, t->certs, &t->why);
}

int k3sup__certs_parse(struct k3sup__pki *pki, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why)
{
	struct taking t = {.pki = pki, .certs = ret};
	int r;

	*ret = (struct k3sup__certs){0};
	ERR_set_mark();
	r = each_block(pem, len, take_cert_block, &t, &t.why);
	ERR_pop_to_mark();
	if (r == 0 && ret->count == 0) {
		t.why = len == 0 ? "it is empty" : "it holds no certificate";
		r = K3SUP_E_PARSE;
	}
	*ret_why = t.why;
	if (r < 0)
		k3sup__certs_clear(ret);
	return r;
}

void k3sup__certs_clear(struct k3sup__certs *certs)
{
	for (size_t i = 0; i < certs->count; i++) {
		X509_free(certs->list[i].x509);
		k3sup__json_unref(certs->list[i].facts);
	}
	free(certs->list);
	*certs = (struct k3sup__certs){0};
}

/* PEM's name tells the form; decoders that try all of them are slower and would take what k3s does not. */
static EVP_PKEY *decode_key(struct k3sup__pki *pki, const char *name, const unsigned char *data, long len)
{
	if (k3sup__streq(name, "EC PRIVATE KEY"))
		return d2i_PrivateKey_ex(EVP_PKEY_EC, NULL, &data, len, pki->lib, NULL);
	if (k3sup__streq(name, "RSA PRIVATE KEY"))
		return d2i_PrivateKey_ex(EVP_PKEY_RSA, NULL, &data, len, pki->lib, NULL);
	return d2i_AutoPrivateKey_ex(NULL, &data, len, pki->lib, NULL);
}

static int take_key_block(const char *name, const char *header, const unsigned char *data, long len, void *arg)
{
	struct taking *t = arg;
	struct k3sup__keys *keys = t->keys;
	EVP_PKEY **list, *key;

	if (!k3sup__endswith(name, "PRIVATE KEY"))
		return 0;
	if (header[0] != '\0' || k3sup__streq(name, "ENCRYPTED PRIVATE KEY")) {
		t->why = "one of its keys is encrypted";
		return K3SUP_E_PARSE;
	}
	if (keys->count == MOST)
		return -EFBIG;
	list = realloc(keys->list, (keys->count + 1) * sizeof(EVP_PKEY *));
	if (list == NULL)
		return -ENOMEM;
	keys->list = list;
	key = decode_key(t->pki, name, data, len);
	if (key == NULL) {
		t->why = "one of its keys cannot be decoded";
		return K3SUP_E_PARSE;
	}
	keys->list[keys->count++] = key;
	return 0;
}

int k3sup__keys_parse(struct k3sup__pki *pki, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why)
{
	struct taking t = {.pki = pki, .keys = ret};
	int r;

	*ret = (struct k3sup__keys){0};
	ERR_set_mark();
	r = each_block(pem, len, take_key_block, &t, &t.why);
	ERR_pop_to_mark();
	if (r == 0 && ret->count == 0) {
		t.why = len == 0 ? "it is empty" : "it holds no private key";
		r = K3SUP_E_PARSE;
	}
	*ret_why = t.why;
	if (r < 0)
		k3sup__keys_clear(ret);
	return r;
}

void k3sup__keys_clear(struct k3sup__keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		EVP_PKEY_free(keys->list[i]);
	free(keys->list);
	*keys = (struct k3sup__keys){0};
}

/* ---- comparing ---- */

bool k3sup__keys_equal(const EVP_PKEY *a, const EVP_PKEY *b)
{
	bool equal;

	ERR_set_mark();
	equal = EVP_PKEY_eq(a, b) == 1;
	ERR_pop_to_mark();
	return equal;
}

bool k3sup__key_fits(const EVP_PKEY *key, const struct k3sup__cert *cert)
{
	return k3sup__keys_equal(X509_get0_pubkey(cert->x509), key);
}

bool k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer)
{
	bool signed_by;

	if (X509_NAME_cmp(X509_get_issuer_name(cert->x509), X509_get_subject_name(issuer->x509)) != 0)
		return false;
	ERR_set_mark();
	signed_by = X509_verify(cert->x509, X509_get0_pubkey(issuer->x509)) == 1;
	ERR_pop_to_mark();
	return signed_by;
}

bool k3sup__cert_names_issuer(const struct k3sup__cert *cert, const struct k3sup__cert *issuer)
{
	const char *aki = k3sup__json_text(cert->facts, "aki"), *ski = k3sup__json_text(issuer->facts, "ski");

	return aki == NULL || ski == NULL || k3sup__streq(aki, ski);
}

void k3sup__secret_free(char *text, size_t len)
{
	if (text != NULL)
		OPENSSL_cleanse(text, len);
	free(text);
}
