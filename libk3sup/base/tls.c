/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include <k3sup/error.h>

struct k3sup__tls {
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *provider;
	BIO_METHOD *method;
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
	short wants;
	char why[160];
	char *shown; /* PEM, where nothing is believed */
};

/* ---- the socket: as OpenSSL's own, but without SIGPIPE, which would end a host that does not ignore it ---- */

static int after_io(BIO *bio, ssize_t n, int retry)
{
	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
	return (int)n;
}

static int bio_read(BIO *bio, char *buf, int len)
{
	const struct k3sup__tls *tls = BIO_get_data(bio);

	return after_io(bio, recv(tls->fd, buf, (size_t)len, 0), BIO_FLAGS_READ);
}

static int bio_write(BIO *bio, const char *buf, int len)
{
	const struct k3sup__tls *tls = BIO_get_data(bio);

	return after_io(bio, send(tls->fd, buf, (size_t)len, MSG_NOSIGNAL), BIO_FLAGS_WRITE);
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static BIO *open_bio(struct k3sup__tls *tls)
{
	BIO *bio;

	tls->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "k3sup socket");
	if (!tls->method || BIO_meth_set_read(tls->method, bio_read) != 1 || BIO_meth_set_write(tls->method, bio_write) != 1 ||
		BIO_meth_set_ctrl(tls->method, bio_ctrl) != 1)
		return NULL;
	bio = BIO_new(tls->method);
	if (bio) {
		BIO_set_data(bio, tls);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* ---- what is trusted, what is shown ---- */

/* Never asks on the terminal. */
static int no_password(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static X509 *next_certificate(struct k3sup__tls *tls, BIO *from)
{
	X509 *x509 = X509_new_ex(tls->lib, NULL);

	if (x509 && !PEM_read_bio_X509(from, &x509, no_password, NULL)) {
		X509_free(x509);
		return NULL;
	}
	return x509;
}

/* Calls take with each certificate of a text; it takes what it wants a reference of. How many there were, or -1. */
static int each_certificate(struct k3sup__tls *tls, const char *pem, int (*take)(struct k3sup__tls *tls, X509 *x509, int nth))
{
	BIO *from = BIO_new_mem_buf(pem, -1);
	X509 *x509;
	int n = 0;

	while (n >= 0 && from && (x509 = next_certificate(tls, from))) {
		n = take(tls, x509, n) == 1 ? n + 1 : -1;
		X509_free(x509);
	}
	BIO_free(from);
	return n;
}

static int take_authority(struct k3sup__tls *tls, X509 *x509, int nth)
{
	(void)nth;
	return X509_STORE_add_cert(SSL_CTX_get_cert_store(tls->ctx), x509);
}

static int take_own(struct k3sup__tls *tls, X509 *x509, int nth)
{
	return nth == 0 ? SSL_CTX_use_certificate(tls->ctx, x509) : SSL_CTX_add1_chain_cert(tls->ctx, x509) == 1;
}

static char *pem_of(const STACK_OF(X509) * chain)
{
	BIO *to = BIO_new(BIO_s_mem());
	char *at = NULL, *pem = NULL;
	bool whole = to;
	long len;

	for (int i = 0; whole && i < sk_X509_num(chain); i++)
		whole = PEM_write_bio_X509(to, sk_X509_value(chain, i)) == 1;
	len = whole ? BIO_get_mem_data(to, &at) : 0;
	if (len > 0)
		pem = strndup(at, (size_t)len);
	BIO_free(to);
	return pem;
}

/* Stands for the whole of the verification: keeps what is shown while it is there, whatever becomes of the handshake (etcd ends it, since we show nothing). */
static int only_look(X509_STORE_CTX *shown, void *arg)
{
	struct k3sup__tls *tls = arg;

	free(tls->shown);
	tls->shown = pem_of(X509_STORE_CTX_get0_untrusted(shown));
	return 1;
}

static int trust(struct k3sup__tls *tls, const char *ca)
{
	X509_STORE *store;

	if (!ca) {
		SSL_CTX_set_cert_verify_callback(tls->ctx, only_look, tls);
		return 0;
	}
	store = X509_STORE_new();
	if (!store)
		return -ENOMEM;
	/* What is in the node's file is trusted as it is, though it may be an intermediate of the owner's own authority. */
	(void)X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	SSL_CTX_set_cert_store(tls->ctx, store);
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	return each_certificate(tls, ca, take_authority) > 0 ? 0 : K3SUP_E_PARSE;
}

static int show(struct k3sup__tls *tls, const char *cert, const char *key)
{
	BIO *from = BIO_new_mem_buf(key, -1);
	EVP_PKEY *pkey = from ? PEM_read_bio_PrivateKey_ex(from, NULL, no_password, NULL, tls->lib, NULL) : NULL;
	int r = K3SUP_E_PARSE;

	if (pkey && each_certificate(tls, cert, take_own) > 0 && SSL_CTX_use_PrivateKey(tls->ctx, pkey) == 1)
		r = 0;
	EVP_PKEY_free(pkey);
	BIO_free(from);
	return r;
}

/* What a system-wide configuration may have set is set again. */
static int set_protocol(struct k3sup__tls *tls)
{
	if (SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION) != 1 || SSL_CTX_set_max_proto_version(tls->ctx, 0) != 1 ||
		SSL_CTX_set_cipher_list(tls->ctx, "HIGH:!aNULL:!PSK:!SRP") != 1 ||
		SSL_CTX_set_ciphersuites(tls->ctx, TLS_DEFAULT_CIPHERSUITES) != 1 ||
		SSL_CTX_set1_groups_list(tls->ctx, "X25519:P-256:P-384:P-521") != 1)
		return -ENOMEM;
	SSL_CTX_set_security_level(tls->ctx, 1);
	(void)SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
	return 0;
}

static int set_up(struct k3sup__tls *tls, const struct k3sup__tls_terms *terms)
{
	BIO *bio;
	int r;

	tls->lib = OSSL_LIB_CTX_new();
	tls->provider = tls->lib ? OSSL_PROVIDER_load(tls->lib, "default") : NULL;
	tls->ctx = tls->provider ? SSL_CTX_new_ex(tls->lib, NULL, TLS_client_method()) : NULL;
	r = tls->ctx ? set_protocol(tls) : -ENOMEM;
	if (r == 0)
		r = trust(tls, terms->ca);
	if (r == 0 && terms->cert)
		r = show(tls, terms->cert, terms->key);
	if (r < 0)
		return r;
	tls->ssl = SSL_new(tls->ctx);
	bio = tls->ssl ? open_bio(tls) : NULL;
	if (!bio)
		return -ENOMEM;
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_connect_state(tls->ssl);
	return 0;
}

int k3sup__tls_new(int fd, const struct k3sup__tls_terms *terms, struct k3sup__tls **ret)
{
	struct k3sup__tls *tls = calloc(1, sizeof(*tls));
	int r;

	if (!tls)
		return -ENOMEM;
	tls->fd = fd;
	ERR_set_mark();
	r = set_up(tls, terms);
	ERR_pop_to_mark();
	if (r < 0)
		k3sup__tls_free(tls);
	else
		*ret = tls;
	return r;
}

void k3sup__tls_free(struct k3sup__tls *tls)
{
	if (!tls)
		return;
	ERR_set_mark();
	SSL_free(tls->ssl);
	SSL_CTX_free(tls->ctx);
	BIO_meth_free(tls->method);
	if (tls->provider)
		(void)OSSL_PROVIDER_unload(tls->provider);
	OSSL_LIB_CTX_free(tls->lib);
	ERR_pop_to_mark();
	free(tls->shown);
	free(tls);
}

/* ---- talking ---- */

static void explain(struct k3sup__tls *tls)
{
	long verdict = SSL_get_verify_result(tls->ssl);
	unsigned long error = ERR_peek_last_error();
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	if (verdict != X509_V_OK)
		snprintf(tls->why, sizeof(tls->why), "its certificate is not to be trusted: %s", X509_verify_cert_error_string(verdict));
	else
		snprintf(tls->why, sizeof(tls->why), "it does not speak TLS as expected: %s", reason ? reason : "it hung up");
}

static ssize_t outcome(struct k3sup__tls *tls, int r, size_t done)
{
	switch (SSL_get_error(tls->ssl, r)) {
	case SSL_ERROR_NONE:
		return (ssize_t)done;
	case SSL_ERROR_WANT_READ:
		tls->wants = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		tls->wants = POLLOUT;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		explain(tls);
		return -EPROTO;
	}
}

/* libssl looks at the whole error queue of the thread, and empties it by itself at each handshake. */
int k3sup__tls_handshake(struct k3sup__tls *tls)
{
	ssize_t r;

	ERR_clear_error();
	r = outcome(tls, SSL_do_handshake(tls->ssl), 0);
	ERR_clear_error();
	return (int)r;
}

ssize_t k3sup__tls_read(struct k3sup__tls *tls, void *buf, size_t len)
{
	size_t done = 0;
	ssize_t r;
	int ok;

	ERR_clear_error();
	ok = SSL_read_ex(tls->ssl, buf, len, &done);
	r = outcome(tls, ok, done);
	ERR_clear_error();
	return r;
}

ssize_t k3sup__tls_write(struct k3sup__tls *tls, const void *buf, size_t len)
{
	size_t done = 0;
	ssize_t r;
	int ok;

	ERR_clear_error();
	ok = SSL_write_ex(tls->ssl, buf, len, &done);
	r = outcome(tls, ok, done);
	ERR_clear_error();
	return r;
}

int k3sup__tls_shown(const struct k3sup__tls *tls, char **ret_pem)
{
	if (!tls->shown)
		return -ENODATA;
	*ret_pem = strdup(tls->shown);
	return *ret_pem ? 0 : -ENOMEM;
}

short k3sup__tls_wants(const struct k3sup__tls *tls)
{
	return tls->wants;
}

const char *k3sup__tls_why(const struct k3sup__tls *tls)
{
	return tls->why;
}
