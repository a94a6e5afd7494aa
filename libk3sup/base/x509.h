/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and their private keys: decoded, described, compared. The front of OpenSSL's X.509; x509.c alone includes it.
 *
 * A library context of our own, so that neither openssl.cnf nor providers of the host have a say, but for one thing: as OpenSSL 3 verifies its first signature or decodes its
 * first key in a process, it looks there for engines. Nothing is fetched from anywhere, no trust store is used: who signed whom is all that is asked.
 */
#ifndef K3SUP_BASE_X509_H
#define K3SUP_BASE_X509_H

#include "base/digest.h"
#include "base/json.h"

struct k3sup__pki; /* what decoding needs; one for each operation */

int k3sup__pki_new(struct k3sup__pki **ret) _must_check_;
void k3sup__pki_free(struct k3sup__pki *pki); /* NULL is fine. Certificates and keys have to be gone before */

static inline void k3sup__pki_freep(struct k3sup__pki **pki)
{
	k3sup__pki_free(*pki);
}

#define K3SUP__USE_CERT_SIGN 1u
#define K3SUP__USE_SERVER 2u
#define K3SUP__USE_CLIENT 4u

struct k3sup__cert {
	struct x509_st *x509;
	int64_t not_before, not_after; /* seconds since 1970; 64 bits, since k3s makes certificates of a hundred years */
	unsigned usages;
	bool ca;                        /* may sign others, by its basic constraints and the use of its key */
	bool self_signed;               /* names itself as its issuer and was signed with its own key */
	char sha256[K3SUP__SHA256_HEX]; /* of its DER */
	/*
	 * {cn, subject, issuer_cn, issuer, organisations[], sans[], usages[], serial, ski, aki}: subject and issuer as Go prints them ("CN=a,O=b"), sans as "DNS:a" and "IP:::1",
	 * usages in k3s's words, serial and key ids in hex. cn and issuer_cn are "" where there is none; ski and aki are absent then.
	 */
	k3sup__json *facts;
};

struct k3sup__certs {
	struct k3sup__cert *list;
	size_t count;
};

/*
 * All certificates of a PEM text, as k3s (client-go's ParseCertsPEM) takes them: blocks of other kinds and blocks with headers are skipped, one that cannot be decoded spoils
 * the whole. 0, K3SUP_E_PARSE with a sentence's part in ret_why (static; "it holds no certificate"), -EFBIG (more than 1,000), -ENOMEM.
 */
int k3sup__certs_parse(struct k3sup__pki *pki, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why) _must_check_;
void k3sup__certs_clear(struct k3sup__certs *certs);

struct k3sup__keys {
	struct evp_pkey_st **list;
	size_t count;
};

/* All private keys of a PEM text: SEC1, PKCS#1 and PKCS#8, unencrypted; "EC PARAMETERS" and others are skipped. As above, and K3SUP_E_PARSE for a key that is encrypted. */
int k3sup__keys_parse(struct k3sup__pki *pki, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why) _must_check_;
void k3sup__keys_clear(struct k3sup__keys *keys);

/* Is this the private key of that certificate? */
bool k3sup__key_fits(const struct evp_pkey_st *key, const struct k3sup__cert *cert);
bool k3sup__keys_equal(const struct evp_pkey_st *a, const struct evp_pkey_st *b);
/* Was cert signed with the key of issuer, and does it name that as its issuer? Dates are not looked at. */
bool k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer);
/* Does cert's authority key id name issuer's key? True where one of them has no id: nothing speaks against it. */
bool k3sup__cert_names_issuer(const struct k3sup__cert *cert, const struct k3sup__cert *issuer);

/* Wipes what was secret, then frees it. */
void k3sup__secret_free(char *text, size_t len);

#endif
