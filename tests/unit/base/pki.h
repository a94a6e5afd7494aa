/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Authorities and what they sign, made on the spot, and the server's half of TLS over a socket.
 */
#ifndef K3SUP_TESTS_UNIT_BASE_PKI_H
#define K3SUP_TESTS_UNIT_BASE_PKI_H

#include "scratch.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct identity {
	X509 *cert;
	EVP_PKEY *key;
	char *cert_pem, *key_pem;
};

static inline char *pem_of(void (*write)(BIO *to, const struct identity *of), const struct identity *of)
{
	BIO *to = BIO_new(BIO_s_mem());
	char *at, *text;
	long len;

	assert_non_null(to);
	write(to, of);
	len = BIO_get_mem_data(to, &at);
	text = strndup(at, (size_t)len);
	assert_non_null(text);
	BIO_free(to);
	return text;
}

static inline void write_cert(BIO *to, const struct identity *of)
{
	assert_int_equal(PEM_write_bio_X509(to, of->cert), 1);
}

static inline void write_key(BIO *to, const struct identity *of)
{
	assert_int_equal(PEM_write_bio_PrivateKey(to, of->key, NULL, NULL, 0, NULL, NULL), 1);
}

static inline void extend(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *one = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(one);
	assert_int_equal(X509_add_ext(cert, one, -1), 1);
	X509_EXTENSION_free(one);
}

/* by: NULL for an authority that signs itself. days: until it ends, negative if it has ended. */
static inline struct identity identity_new(const char *name, const struct identity *by, long days, const char *usage)
{
	struct identity id = {.cert = X509_new(), .key = EVP_EC_gen("P-256")};
	X509_NAME *subject;

	assert_true(id.cert && id.key);
	assert_int_equal(X509_set_version(id.cert, 2), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), by ? 7 : 1);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), -7200 - (days < 0 ? 86400L * 30 : 0));
	X509_gmtime_adj(X509_getm_notAfter(id.cert), 86400L * days);
	X509_set_pubkey(id.cert, id.key);
	subject = X509_get_subject_name(id.cert);
	assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0), 1);
	X509_set_issuer_name(id.cert, by ? X509_get_subject_name(by->cert) : subject);
	if (usage)
		extend(id.cert, NID_ext_key_usage, usage);
	else
		extend(id.cert, NID_basic_constraints, "critical,CA:TRUE");
	assert_true(X509_sign(id.cert, by ? by->key : id.key, EVP_sha256()) > 0);
	id.cert_pem = pem_of(write_cert, &id);
	id.key_pem = pem_of(write_key, &id);
	return id;
}

static inline void identity_free(struct identity *id)
{
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
	free(id->cert_pem);
	free(id->key_pem);
}

/* The server's half; fd blocks. NULL if they did not come to terms. client: who may ask, NULL for anybody; known tells whether it was one of these. */
static inline SSL *serve_tls(SSL_CTX **ctx, int fd, const struct identity *server, const struct identity *client_ca, bool *known)
{
	SSL *ssl;

	*ctx = SSL_CTX_new(TLS_server_method());
	assert_non_null(*ctx);
	assert_int_equal(SSL_CTX_use_certificate(*ctx, server->cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(*ctx, server->key), 1);
	if (client_ca) {
		assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(*ctx), client_ca->cert), 1);
		SSL_CTX_set_verify(*ctx, SSL_VERIFY_PEER, NULL);
	}
	ssl = SSL_new(*ctx);
	assert_non_null(ssl);
	assert_int_equal(SSL_set_fd(ssl, fd), 1);
	if (SSL_accept(ssl) == 1) {
		X509 *peer = SSL_get1_peer_certificate(ssl);

		*known = peer != NULL;
		X509_free(peer);
		return ssl;
	}
	SSL_free(ssl);
	SSL_CTX_free(*ctx);
	*ctx = NULL;
	return NULL;
}

#endif
