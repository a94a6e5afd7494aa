/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A k3s data-dir's certificates, made with libcrypto from the inventory's own tables: all pairs of a server and of an agent with what each has to have in it. Tests spoil one
 * thing and look at what is said.
 */
#ifndef K3SUP_TESTS_UNIT_CERTS_TREE_H
#define K3SUP_TESTS_UNIT_CERTS_TREE_H

#include "../base/scratch.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/utc.h"
#include "certs/audit.h"

#ifndef NOW
#define NOW 1800000000 /* 2027-01-15 */
#endif
#define DAYS(n) ((n) * (int64_t)K3SUP__DAY)
#define NODE_NAME "node-1"
#define LISTENER "server/tls/dynamic-cert.json"

struct issuer {
	X509 *cert;
	EVP_PKEY *key;
};

struct tree {
	struct scratch *s;
	struct k3sup__root root;
	struct issuer cas[K3SUP__N_CAS];
	struct k3sup__audit audit;
};

static inline EVP_PKEY *new_key(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");

	assert_non_null(key);
	return key;
}

static inline void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(cert, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

/* As text: on 32-bit machines libcrypto's time_t need not be ours. */
static inline void set_time(ASN1_TIME *time, int64_t seconds)
{
	char text[sizeof("YYYYMMDDhhmmssZ")];
	struct tm tm;

	k3sup__utc_fields(seconds, &tm);
	assert_true(strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &tm) > 0);
	assert_int_equal(ASN1_TIME_set_string_X509(time, text), 1);
}

struct template
{
	const char *cn, *organisation, *sans; /* sans as OpenSSL writes them: "DNS:a,IP:127.0.0.1" */
	unsigned usages;
	int64_t from, until;
	bool ca;
};

/* As dynamiclistener makes them: an authority has serial 0 and no authority key id, a leaf no subject key id. issuer NULL: self-signed. */
static inline X509 *new_cert(const struct template *t, EVP_PKEY *key, const struct issuer *issuer)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_NAME_new();
	unsigned usages = t->usages & (K3SUP__USE_CLIENT | K3SUP__USE_SERVER);

	assert_int_equal(X509_set_version(cert, 2), 1);
	assert_int_equal(ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), t->ca ? 0 : 0x1234567890abcdef), 1);
	set_time(X509_getm_notBefore(cert), t->from);
	set_time(X509_getm_notAfter(cert), t->until);
	if (t->organisation != NULL)
		assert_int_equal(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8, (const unsigned char *)t->organisation, -1, -1, 0), 1);
	if (t->cn != NULL)
		assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)t->cn, -1, -1, 0), 1);
	assert_int_equal(X509_set_subject_name(cert, name), 1);
	assert_int_equal(X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer->cert) : name), 1);
	X509_NAME_free(name);
	assert_int_equal(X509_set_pubkey(cert, key), 1);
	extend(cert, NULL, NID_key_usage,
		t->ca ? "critical,digitalSignature,keyEncipherment,keyCertSign" : "critical,digitalSignature,keyEncipherment");
	if (t->ca) {
		extend(cert, NULL, NID_basic_constraints, "critical,CA:TRUE");
		extend(cert, NULL, NID_subject_key_identifier, "hash");
	}
	if (usages != 0)
		extend(cert, NULL, NID_ext_key_usage,
			usages == K3SUP__USE_CLIENT           ? "clientAuth"
				: usages == K3SUP__USE_SERVER ? "serverAuth"
							      : "serverAuth,clientAuth");
	if (issuer != NULL)
		extend(cert, issuer->cert, NID_authority_key_identifier, "keyid:always");
	if (t->sans != NULL)
		extend(cert, NULL, NID_subject_alt_name, t->sans);
	assert_true(X509_sign(cert, issuer != NULL ? issuer->key : key, EVP_sha256()) > 0);
	return cert;
}

/* ---- files ---- */

static inline FILE *create(struct tree *t, const char *path, mode_t mode)
{
	_free_ char *whole = k3sup__fmt("%s/%s", t->s->path, path);
	FILE *f;

	for (char *slash = strchr(whole + strlen(t->s->path) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(whole, 0755);
		*slash = '/';
	}
	(void)unlink(whole);
	f = fopen(whole, "we");
	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), mode), 0);
	return f;
}

static inline void put_text(struct tree *t, const char *path, mode_t mode, const char *text)
{
	FILE *f = create(t, path, mode);

	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static inline void put_certs(struct tree *t, const char *path, X509 *first, X509 *second)
{
	FILE *f = create(t, path, 0644);

	assert_int_equal(PEM_write_X509(f, first), 1);
	if (second != NULL)
		assert_int_equal(PEM_write_X509(f, second), 1);
	assert_int_equal(fclose(f), 0);
}

/* SEC1, as k3s writes it */
static inline void put_key(struct tree *t, const char *path, EVP_PKEY *key)
{
	FILE *f = create(t, path, 0600);

	assert_int_equal(PEM_write_PrivateKey_ex(f, key, NULL, NULL, 0, NULL, NULL, NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
}

static inline void remove_file(struct tree *t, const char *path)
{
	_free_ char *whole = k3sup__fmt("%s/%s", t->s->path, path);

	assert_int_equal(unlink(whole), 0);
}

/* The leaf that a pair wants, with dates; names may be overridden. */
static inline void put_leaf(struct tree *t, const struct k3sup__pair *pair, int64_t from, int64_t until, const char *cn, const char *sans)
{
	_free_ char *crt = k3sup__fmt("%s.crt", pair->path), *key_path = k3sup__fmt("%s.key", pair->path);
	_free_ char *with_node = k3sup__fmt("%s" NODE_NAME, pair->cn != NULL ? pair->cn : "");
	struct template leaf = {.cn = cn, .organisation = pair->organisation, .usages = pair->usages, .from = from, .until = until, .sans = sans};
	const struct issuer *issuer = &t->cas[pair->ca];
	EVP_PKEY *key = new_key();
	X509 *cert;
	char joined[256] = "";

	if (cn == NULL)
		leaf.cn = pair->flags & K3SUP__PAIR_NODE_NAME ? with_node : pair->cn != NULL ? pair->cn : "anything";
	for (const char *const *san = pair->sans; sans == NULL && san != NULL && *san != NULL; san++)
		(void)snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s", joined[0] != '\0' ? "," : "", *san);
	if (joined[0] != '\0')
		leaf.sans = joined;
	put_key(t, key_path, key);
	if ((pair->flags & K3SUP__PAIR_KEY_ONLY) == 0) {
		cert = new_cert(&leaf, key, issuer);
		put_certs(t, crt, cert, issuer->cert);
		X509_free(cert);
	}
	EVP_PKEY_free(key);
}

static inline void put_leafs(struct tree *t)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		put_leaf(t, &k3sup__pairs[i], NOW - DAYS(1), NOW + DAYS(364), NULL, NULL);
}

static inline void put_ca(struct tree *t, enum k3sup__ca ca, int64_t until)
{
	_free_ char *crt = k3sup__fmt("%s.crt", k3sup__ca_paths[ca]), *key = k3sup__fmt("%s.key", k3sup__ca_paths[ca]);
	_free_ char *name = k3sup__fmt("k3s-ca-%d@1700000000", (int)ca);
	struct template self = {.cn = name, .ca = true, .from = NOW - DAYS(30), .until = until};

	X509_free(t->cas[ca].cert);
	EVP_PKEY_free(t->cas[ca].key);
	t->cas[ca].key = new_key();
	t->cas[ca].cert = new_cert(&self, t->cas[ca].key, NULL);
	put_certs(t, crt, t->cas[ca].cert, NULL);
	put_key(t, key, t->cas[ca].key);
}

static inline const struct k3sup__pair *pair_of(const char *path)
{
	size_t i = 0;

	while (i + 1 < k3sup__n_pairs && !k3sup__streq(k3sup__pairs[i].path, path))
		i++;
	assert_string_equal(k3sup__pairs[i].path, path);
	return &k3sup__pairs[i];
}

/* What was written as PEM, in base64; to be freed. */
static inline char *base64_of(BIO *bio)
{
	char *pem = NULL, *text;
	long len = BIO_get_mem_data(bio, &pem);

	text = calloc(1, (size_t)len * 2 + 8);
	assert_non_null(text);
	assert_true(EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)pem, (int)len) > 0);
	BIO_free(bio);
	return text;
}

/* As dynamiclistener keeps it: a Secret. shown_key: NULL, or one that is not its own. */
static inline void put_listener(struct tree *t, const struct issuer *issuer, int64_t until, EVP_PKEY *shown_key)
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

static inline void put_copies(struct tree *t)
{
	put_certs(t, "agent/client-ca.crt", t->cas[K3SUP__CA_CLIENT].cert, NULL);
	put_certs(t, "agent/server-ca.crt", t->cas[K3SUP__CA_SERVER].cert, NULL);
}

/* A server that is an agent, too, newly started. */
static inline int tree_setup(void **state)
{
	static const char *const own[] = {"server/cred/admin.kubeconfig", "server/cred/api-server.kubeconfig",
		"server/cred/cloud-controller.kubeconfig", "server/cred/controller.kubeconfig", "server/cred/scheduler.kubeconfig",
		"server/cred/supervisor.kubeconfig"};
	struct tree *t = calloc(1, sizeof(*t));
	void *scratch = NULL;

	assert_non_null(t);
	assert_int_equal(scratch_setup(&scratch), 0);
	t->s = scratch;
	for (enum k3sup__ca ca = 0; ca < K3SUP__N_CAS; ca++)
		put_ca(t, ca, NOW + DAYS(3650));
	put_copies(t);
	put_leafs(t);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		put_text(t, own[i], 0600, "users: []\n");
	*state = t;
	return 0;
}

static inline int tree_teardown(void **state)
{
	struct tree *t = *state;
	void *scratch = t->s;

	for (enum k3sup__ca ca = 0; ca < K3SUP__N_CAS; ca++) {
		X509_free(t->cas[ca].cert);
		EVP_PKEY_free(t->cas[ca].key);
	}
	free(t);
	return scratch_teardown(&scratch);
}

#define tree_test(f) cmocka_unit_test_setup_teardown(f, tree_setup, tree_teardown)

/* ---- looking ---- */

/* What is said of the tree; owned by the audit until unlook(). */
static inline void look(struct tree *t)
{
	assert_int_equal(k3sup__root_open(t->s->op, t->s->path, &t->root), 0);
	t->audit = (struct k3sup__audit){.op = t->s->op, .root = &t->root, .data_dir = "", .server = true, .now = NOW, .window = DAYS(120)};
	assert_int_equal(k3sup__audit_open(&t->audit), 0);
	assert_int_equal(k3sup__audit_authorities(&t->audit), 0);
	assert_int_equal(k3sup__audit_pairs(&t->audit), 0);
	assert_int_equal(k3sup__audit_listener(&t->audit), 0);
	assert_int_equal(k3sup__audit_others(&t->audit), 0);
	assert_int_equal(k3sup__audit_kubeconfigs(&t->audit, NULL), 0);
	assert_int_equal(k3sup__audit_unknown(&t->audit), 0);
}

static inline void unlook(struct tree *t)
{
	k3sup__audit_close(&t->audit);
	k3sup__root_close(&t->root);
}

/* "path problem remedy, ..." of all problems, sorted as they were found; to be freed. */
static inline char *problems(struct tree *t)
{
	char *all = strdup("");

	look(t);
	for (size_t i = 0; i < k3sup__json_len(t->audit.problems); i++) {
		const k3sup__json *one = k3sup__json_element(t->audit.problems, i);
		char *more = k3sup__fmt("%s%s%s %s %s", all, i > 0 ? ", " : "", k3sup__json_text(one, "path"),
			k3sup__json_text(one, "problem"), k3sup__json_text(one, "remedy"));

		assert_true(strlen(k3sup__json_text(one, "text")) > 0);
		free(all);
		all = more;
	}
	unlook(t);
	return all;
}

#define assert_problems(t, wanted) \
	do { \
		char *found_ = problems(t); \
		assert_string_equal(found_, wanted); \
		free(found_); \
	} while (0)

#endif
