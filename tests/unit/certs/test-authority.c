/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

static void authorities_are_told_of_a_year_before_they_end(void **state)
{
	struct tree *t = *state;

	put_ca(t, K3SUP__CA_ETCD_PEER, NOW + DAYS(365));
	put_leaf(t, pair_of("server/tls/etcd/peer-server-client"), NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t, "");
	put_ca(t, K3SUP__CA_ETCD_PEER, NOW + DAYS(365) - 1);
	put_leaf(t, pair_of("server/tls/etcd/peer-server-client"), NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t, "server/tls/etcd/peer-ca.crt expiring act");
	put_ca(t, K3SUP__CA_ETCD_PEER, NOW - 1);
	put_leaf(t, pair_of("server/tls/etcd/peer-server-client"), NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t, "server/tls/etcd/peer-ca.crt expired act");
}

static void what_is_missing_or_does_not_fit(void **state)
{
	struct tree *t = *state;
	EVP_PKEY *other = new_key();

	remove_file(t, "server/tls/server-ca.key");
	remove_file(t, "server/tls/etcd/server-ca.crt");
	put_key(t, "server/tls/client-ca.key", other);
	EVP_PKEY_free(other);
	assert_problems(t, "server/tls/client-ca.key key-mismatch act, server/tls/server-ca.key missing act, server/tls/etcd/server-ca.crt missing act");
}

/* The signing certificate first, its root behind it: both are authorities, and the first one's key is in .key. */
static void a_bundle_has_to_lead_to_its_root(void **state)
{
	struct tree *t = *state;
	struct issuer root = {.key = new_key()}, stranger = {.key = new_key()};
	struct template self = {.cn = "root", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(7000)};
	EVP_PKEY *key = new_key();
	X509 *first;

	root.cert = new_cert(&self, root.key, NULL);
	self.cn = "stranger";
	stranger.cert = new_cert(&self, stranger.key, NULL);
	self.cn = "k3s-etcd-peer-ca";
	first = new_cert(&self, key, &root);
	put_key(t, "server/tls/etcd/peer-ca.key", key);
	put_certs(t, "server/tls/etcd/peer-ca.crt", first, root.cert);
	X509_free(t->cas[K3SUP__CA_ETCD_PEER].cert);
	EVP_PKEY_free(t->cas[K3SUP__CA_ETCD_PEER].key);
	t->cas[K3SUP__CA_ETCD_PEER] = (struct issuer){.cert = first, .key = key};
	put_leaf(t, pair_of("server/tls/etcd/peer-server-client"), NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t, "");
	put_certs(t, "server/tls/etcd/peer-ca.crt", first, stranger.cert);
	assert_problems(t, "server/tls/etcd/peer-ca.crt chain act");
	put_certs(t, "server/tls/etcd/peer-ca.crt", first, NULL);
	assert_problems(t, "server/tls/etcd/peer-ca.crt chain note");
	X509_free(root.cert);
	EVP_PKEY_free(root.key);
	X509_free(stranger.cert);
	EVP_PKEY_free(stranger.key);
}

/* rotate-ca of a default authority: the new one, its root, and the old root that is there for what was issued before. That ends, and nothing is wrong; nor does a rotation mind. */
static void an_old_root_may_end(void **state)
{
	struct tree *t = *state;
	struct issuer root = {.key = new_key()}, old = {.key = new_key()};
	struct template self = {.cn = "new-root", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(7000)};
	EVP_PKEY *key = new_key();
	X509 *first;
	FILE *f;

	root.cert = new_cert(&self, root.key, NULL);
	self.cn = "k3s-etcd-peer-ca";
	first = new_cert(&self, key, &root);
	self = (struct template){.cn = "old-root", .ca = true, .from = NOW - DAYS(3650), .until = NOW - 1};
	old.cert = new_cert(&self, old.key, NULL);
	put_key(t, "server/tls/etcd/peer-ca.key", key);
	X509_free(t->cas[K3SUP__CA_ETCD_PEER].cert);
	EVP_PKEY_free(t->cas[K3SUP__CA_ETCD_PEER].key);
	t->cas[K3SUP__CA_ETCD_PEER] = (struct issuer){.cert = first, .key = key};
	put_leaf(t, pair_of("server/tls/etcd/peer-server-client"), NOW - 10, NOW + DAYS(364), NULL, NULL);
	put_certs(t, "server/tls/etcd/peer-ca.crt", first, root.cert);
	assert_problems(t, "");
	f = create(t, "server/tls/etcd/peer-ca.crt", 0644);
	assert_int_equal(PEM_write_X509(f, first), 1);
	assert_int_equal(PEM_write_X509(f, root.cert), 1);
	assert_int_equal(PEM_write_X509(f, old.cert), 1);
	assert_int_equal(fclose(f), 0);
	assert_problems(t, "server/tls/etcd/peer-ca.crt expired note");
	/* Its own root is another matter. */
	X509_free(root.cert);
	self = (struct template){.cn = "new-root", .ca = true, .from = NOW - DAYS(3650), .until = NOW - 1};
	root.cert = new_cert(&self, root.key, NULL);
	put_certs(t, "server/tls/etcd/peer-ca.crt", first, root.cert);
	assert_problems(t, "server/tls/etcd/peer-ca.crt expired act");
	X509_free(root.cert);
	EVP_PKEY_free(root.key);
	X509_free(old.cert);
	EVP_PKEY_free(old.key);
}

static void an_agents_copy_can_be_stale(void **state)
{
	struct tree *t = *state;

	put_certs(t, "agent/server-ca.crt", t->cas[K3SUP__CA_CLIENT].cert, NULL);
	assert_problems(t, "agent/server-ca.crt stale-copy start, agent/serving-kubelet.crt other-ca start");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(authorities_are_told_of_a_year_before_they_end),
		tree_test(what_is_missing_or_does_not_fit),
		tree_test(a_bundle_has_to_lead_to_its_root),
		tree_test(an_old_root_may_end),
		tree_test(an_agents_copy_can_be_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
