/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A prepared directory beside the tree in use. The authorities' dates are around the present, since that is what a server goes by.
 */
#include "tree.h"

#include <time.h>

#include <k3sup/certs.h>

struct prepared {
	struct tree *t;
	struct issuer root; /* signs old and new alike */
	int64_t now;
};

/* In use: a client authority that leads to a root, as `generate-custom-ca-certs.sh` makes it; the others are self-signed. */
static int setup(void **state)
{
	struct prepared *p = calloc(1, sizeof(*p));
	struct template self = {.cn = "root", .ca = true};
	void *tree = NULL;

	assert_non_null(p);
	assert_int_equal(tree_setup(&tree), 0);
	p->t = tree;
	p->now = (int64_t)time(NULL);
	self.from = p->now - DAYS(10);
	self.until = p->now + DAYS(3000);
	p->root.key = new_key();
	p->root.cert = new_cert(&self, p->root.key, NULL);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct prepared *p = *state;
	void *tree = p->t;

	X509_free(p->root.cert);
	EVP_PKEY_free(p->root.key);
	free(p);
	return tree_teardown(&tree);
}

#define prepared_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* An authority at dir/tls/client-ca, signed by issuer, with what leads to the root behind it. */
static void put_authority(struct prepared *p, const char *dir, const char *cn, const struct issuer *issuer, X509 *behind)
{
	_free_ char *crt = k3sup__fmt("%s/tls/client-ca.crt", dir), *key_path = k3sup__fmt("%s/tls/client-ca.key", dir);
	struct template t = {.cn = cn, .ca = true, .from = p->now - DAYS(1), .until = p->now + DAYS(2000)};
	EVP_PKEY *key = new_key();
	X509 *cert = new_cert(&t, key, issuer);

	put_certs(p->t, crt, cert, behind);
	put_key(p->t, key_path, key);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static int check(struct prepared *p, const char *dir, k3sup_op **ret_op)
{
	_free_ char *new = k3sup__fmt("%s/%s", p->t->s->path, dir), *old = k3sup__fmt("%s/server", p->t->s->path);
	struct k3sup_certs_ca_check_opts opts = {.struct_size = sizeof(opts), .dir = new, .server_dir = old};

	assert_int_equal(k3sup_certs_ca_check(p->t->s->ctx, &opts, ret_op), 0);
	return k3sup_op_wait(*ret_op, -1);
}

/* problems: "path problem, ..." */
static void assert_check(struct prepared *p, const char *problems, bool takes)
{
	_free_ char *all = strdup("");
	k3sup_op *op = NULL;
	k3sup_doc *doc;
	int64_t said = -1;

	assert_int_equal(check(p, "new", &op), 0);
	doc = k3sup_op_result(op);
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/problems"); i++) {
		_free_ char *path = k3sup__fmt("/problems/%d/path", (int)i), *problem = k3sup__fmt("/problems/%d/problem", (int)i);
		const char *a = NULL, *b = NULL;
		char *more;

		assert_int_equal(k3sup_doc_str(doc, path, &a), 0);
		assert_int_equal(k3sup_doc_str(doc, problem, &b), 0);
		more = k3sup__fmt("%s%s%s %s", all, i > 0 ? ", " : "", a, b);
		free(all);
		all = more;
	}
	assert_string_equal(all, problems);
	assert_int_equal(k3sup_doc_i64(doc, "/takes", &said), 0);
	assert_int_equal(said, takes);
	(void)k3sup_op_unref(op);
}

static void the_same_root_is_taken(void **state)
{
	struct prepared *p = *state;

	put_authority(p, "server", "old", &p->root, p->root.cert);
	put_authority(p, "new", "new", &p->root, p->root.cert);
	assert_check(p, "", true);
}

/* A server verifies what is on the way to its root, and that now: not how long it lasts, nor what else is in the bundle. Both are said. */
static void one_that_ends_soon_is_taken_until_then(void **state)
{
	struct prepared *p = *state;
	struct template t = {.cn = "new", .ca = true, .from = p->now - DAYS(10), .until = p->now + DAYS(100)};
	EVP_PKEY *key = new_key();
	X509 *cert = new_cert(&t, key, &p->root);

	put_authority(p, "server", "old", &p->root, p->root.cert);
	put_certs(p->t, "new/tls/client-ca.crt", cert, p->root.cert);
	put_key(p->t, "new/tls/client-ca.key", key);
	assert_check(p, "tls/client-ca.crt expiring", true);
	X509_free(cert);
	t.until = p->now - 10;
	cert = new_cert(&t, key, &p->root);
	put_certs(p->t, "new/tls/client-ca.crt", cert, p->root.cert);
	assert_check(p, "tls/client-ca.crt expired", false);
	put_authority(p, "new", "new", &p->root, cert);
	assert_check(p, "tls/client-ca.crt expired", true);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void another_root_is_not(void **state)
{
	struct prepared *p = *state;
	struct template self = {.cn = "root", .ca = true, .from = p->now - DAYS(10), .until = p->now + DAYS(3000)};
	struct issuer other = {.key = new_key()};

	other.cert = new_cert(&self, other.key, NULL); /* of the same name */
	put_authority(p, "server", "old", &p->root, p->root.cert);
	put_authority(p, "new", "new", &other, other.cert);
	assert_check(p, "tls/client-ca.crt chain", false);
	X509_free(other.cert);
	EVP_PKEY_free(other.key);
}

/* A default authority has no root above it: it is one. Its successor is signed by a new root, and that, cross-signed by the present authority, comes along. */
static void a_default_authority_is_followed_by_cross_signing(void **state)
{
	struct prepared *p = *state;
	struct template self = {.cn = "new root", .ca = true, .from = p->now - DAYS(1), .until = p->now + DAYS(3000)};
	struct issuer old = {.key = new_key()}, new_root = {.key = new_key()};
	X509 *crossed;

	self.cn = "k3s-client-ca@1";
	old.cert = new_cert(&self, old.key, NULL);
	put_certs(p->t, "server/tls/client-ca.crt", old.cert, NULL);
	put_key(p->t, "server/tls/client-ca.key", old.key);
	self.cn = "new root";
	new_root.cert = new_cert(&self, new_root.key, NULL);
	put_authority(p, "new", "k3s-client-ca@2", &new_root, new_root.cert);
	assert_check(p, "tls/client-ca.crt chain", false);
	crossed = new_cert(&self, new_root.key, &old);
	put_authority(p, "new", "k3s-client-ca@2", &new_root, crossed);
	assert_check(p, "", true);
	X509_free(crossed);
	X509_free(old.cert);
	EVP_PKEY_free(old.key);
	X509_free(new_root.cert);
	EVP_PKEY_free(new_root.key);
}

static void one_certificate_is_too_few(void **state)
{
	struct prepared *p = *state;

	put_authority(p, "server", "old", &p->root, p->root.cert);
	put_authority(p, "new", "new", &p->root, NULL);
	assert_check(p, "tls/client-ca.crt bundle", false);
}

static void the_key_has_to_be_its_own(void **state)
{
	struct prepared *p = *state;
	EVP_PKEY *other = new_key();

	put_authority(p, "server", "old", &p->root, p->root.cert);
	put_authority(p, "new", "new", &p->root, p->root.cert);
	put_key(p->t, "new/tls/client-ca.key", other);
	assert_check(p, "tls/client-ca.key key-mismatch", false);
	remove_file(p->t, "new/tls/client-ca.key"); /* so the present one would be taken */
	assert_check(p, "tls/client-ca.key key-mismatch", false);
	/* A new key for the present certificate is no better. */
	put_key(p->t, "new/tls/client-ca.key", other);
	remove_file(p->t, "new/tls/client-ca.crt");
	assert_check(p, "tls/client-ca.key key-mismatch", false);
	EVP_PKEY_free(other);
}

static void the_present_signing_key_has_to_stay(void **state)
{
	struct prepared *p = *state;
	EVP_PKEY *old = new_key(), *new = new_key();
	FILE *f;

	put_key(p->t, "server/tls/service.key", old);
	put_key(p->t, "new/tls/service.key", new);
	assert_check(p, "tls/service.key service-key", false);
	f = create(p->t, "new/tls/service.key", 0600);
	assert_int_equal(PEM_write_PrivateKey(f, new, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(PEM_write_PrivateKey(f, old, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
	assert_check(p, "", true);
	EVP_PKEY_free(old);
	EVP_PKEY_free(new);
}

/* k3s takes what is there instead of what is missing or empty. Modes are a person's affair. */
static void nothing_new_is_nothing_wrong(void **state)
{
	struct prepared *p = *state;

	put_text(p->t, "new/tls/client-ca.crt", 0666, "");
	assert_check(p, "tls missing", true); /* a note: whoever has prepared something has put it elsewhere */
	put_text(p->t, "new/tls/etcd/peer-ca.crt", 0666, "nonsense");
	assert_check(p, "tls/etcd/peer-ca.crt damaged", false);
}

static void the_live_directory_and_none_are_refused(void **state)
{
	struct prepared *p = *state;
	_free_ char *link = k3sup__fmt("%s/link", p->t->s->path), *server = k3sup__fmt("%s/server", p->t->s->path);
	k3sup_op *op = NULL;

	assert_int_equal(check(p, "server", &op), K3SUP_E_DATA_DIR);
	(void)k3sup_op_unref(op);
	assert_int_equal(symlink(server, link), 0);
	assert_int_equal(check(p, "link", &op), K3SUP_E_DATA_DIR);
	(void)k3sup_op_unref(op);
	assert_int_equal(check(p, "nowhere", &op), K3SUP_E_DATA_DIR);
	(void)k3sup_op_unref(op);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		prepared_test(the_same_root_is_taken),
		prepared_test(one_that_ends_soon_is_taken_until_then),
		prepared_test(another_root_is_not),
		prepared_test(a_default_authority_is_followed_by_cross_signing),
		prepared_test(one_certificate_is_too_few),
		prepared_test(the_key_has_to_be_its_own),
		prepared_test(the_present_signing_key_has_to_stay),
		prepared_test(nothing_new_is_nothing_wrong),
		prepared_test(the_live_directory_and_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
