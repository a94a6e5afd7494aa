/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <openssl/evp.h>

#define ADMIN_YAML "/etc/rancher/k3s/k3s.yaml"

static char *base64_of_file(struct tree *t, const char *path)
{
	_free_ char *pem = NULL;
	char *text;
	size_t len;

	assert_int_equal(k3sup__read_file(t->s->fd, path, 1 << 20, &pem, &len), 0);
	text = calloc(1, len * 2 + 8);
	assert_non_null(text);
	assert_true(EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)pem, (int)len) > 0);
	return text;
}

/* users: how many of them, all the same */
static void put_users(struct tree *t, const char *path, const char *crt64, const char *key64, int users)
{
	_free_ char *text = strdup("apiVersion: v1\nusers:\n");

	for (int i = 0; i < users; i++) {
		char *more = k3sup__fmt(
			"%s- name: user%d\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n", text, i, crt64, key64);

		free(text);
		text = more;
	}
	put_text(t, path, 0600, text);
}

static void put_copy(struct tree *t, const char *path, const char *crt, const char *ca)
{
	_free_ char *key = k3sup__fmt("%.*s.key", (int)(strlen(crt) - strlen(".crt")), crt);
	_free_ char *crt64 = base64_of_file(t, crt), *ca64 = base64_of_file(t, ca), *key64 = base64_of_file(t, key);
	_free_ char *text = k3sup__fmt("apiVersion: v1\nclusters:\n- name: default\n  cluster:\n    certificate-authority-data: %s\n    "
				       "server: https://127.0.0.1:6443\n"
				       "users:\n- name: default\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n",
		ca64, crt64, key64);

	put_text(t, path, 0600, text);
}

static void copies_of_before_a_rotation_are_told(void **state)
{
	struct tree *t = *state;

	put_copy(t, ADMIN_YAML, "server/tls/client-admin.crt", "server/tls/server-ca.crt");
	put_copy(t, "/root/.kube/config", "server/tls/client-admin.crt", "server/tls/server-ca.crt");
	assert_problems(t, "");
	put_leaf(t, pair_of("server/tls/client-admin"), NOW - 10, NOW + DAYS(365), NULL, NULL);
	assert_problems(t, ADMIN_YAML " stale-copy note, /root/.kube/config stale-copy note");
}

static void an_old_copy_ends_at_last(void **state)
{
	struct tree *t = *state;

	put_leaf(t, pair_of("server/tls/client-admin"), NOW - DAYS(364), NOW + DAYS(1), NULL, NULL);
	put_copy(t, "/root/.kube/config", "server/tls/client-admin.crt", "server/tls/server-ca.crt");
	put_copy(t, ADMIN_YAML, "server/tls/client-admin.crt", "server/tls/server-ca.crt");
	put_leaf(t, pair_of("server/tls/client-admin"), NOW - 10, NOW + DAYS(365), NULL, NULL);
	assert_problems(t,
		ADMIN_YAML " expiring start, " ADMIN_YAML " stale-copy note, "
			   "/root/.kube/config expiring act, /root/.kube/config stale-copy note");
}

static void its_authority_is_the_one_in_use(void **state)
{
	struct tree *t = *state;

	put_copy(t, ADMIN_YAML, "server/tls/client-admin.crt", "server/tls/client-ca.crt");
	assert_problems(t, ADMIN_YAML " stale-copy start");
}

/* Its certificates are well, but k3s does not write this file again, and ends. */
static void the_administrators_own_has_to_be_there(void **state)
{
	struct tree *t = *state;

	remove_file(t, "server/cred/admin.kubeconfig");
	assert_problems(t, "server/cred/admin.kubeconfig missing act");
}

/* k3s writes it together with a certificate that it makes: one that is gone, goes with it. */
static void what_a_part_of_k3s_needs_has_to_be_there(void **state)
{
	struct tree *t = *state;

	remove_file(t, "server/cred/scheduler.kubeconfig");
	assert_problems(t, "server/cred/scheduler.kubeconfig missing act");
	remove_file(t, "server/tls/client-scheduler.crt");
	remove_file(t, "server/tls/client-scheduler.key");
	assert_problems(t, "server/tls/client-scheduler.crt missing start");
}

/* Whoever administers several clusters has their certificates in one file, of the same name; how they are is not this node's business. */
static void other_clusters_are_not_this_one(void **state)
{
	struct tree *t = *state;
	struct issuer theirs = {.key = new_key()};
	struct template self = {.cn = "k3s-client-ca", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(7000)};
	struct template admin = {
		.cn = "system:admin", .organisation = "system:masters", .usages = K3SUP__USE_CLIENT, .from = NOW - DAYS(30), .until = NOW - DAYS(1)};
	EVP_PKEY *key = new_key();
	X509 *cert;

	theirs.cert = new_cert(&self, theirs.key, NULL);
	cert = new_cert(&admin, key, &theirs);
	put_certs(t, "their.crt", cert, NULL);
	put_key(t, "their.key", key);
	put_copy(t, "/root/.kube/config", "their.crt", "server/tls/server-ca.crt");
	assert_problems(t, "/root/.kube/config other-ca note");
	put_copy(t, ADMIN_YAML, "their.crt", "server/tls/server-ca.crt");
	assert_problems(t, ADMIN_YAML " other-ca start, /root/.kube/config other-ca note");
	X509_free(theirs.cert);
	EVP_PKEY_free(theirs.key);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/* Or Prometheus would refuse all rows. */
static void rows_of_one_file_differ_in_their_position(void **state)
{
	struct tree *t = *state;
	_free_ char *crt64 = base64_of_file(t, "server/tls/client-admin.crt"), *key64 = base64_of_file(t, "server/tls/client-admin.key");
	int64_t seen = 0;

	put_users(t, "/root/.kube/config", crt64, key64, 3);
	look(t);
	for (size_t i = 0; i < k3sup__json_len(t->audit.certificates); i++) {
		const k3sup__json *row = k3sup__json_element(t->audit.certificates, i);

		if (k3sup__streq(k3sup__json_text(row, "path"), "/root/.kube/config"))
			assert_int_equal(k3sup__json_number(row, "position", -1), seen++);
	}
	assert_true(seen >= 3);
	unlook(t);
}

static void its_key_has_to_fit(void **state)
{
	struct tree *t = *state;
	_free_ char *crt64 = base64_of_file(t, "server/tls/client-admin.crt"), *key64 = base64_of_file(t, "server/tls/client-scheduler.key");

	put_users(t, "/root/.kube/config", crt64, key64, 1);
	assert_problems(t, "/root/.kube/config key-mismatch act");
	put_users(t, "/root/.kube/config", crt64, "AAAA", 1);
	assert_problems(t, "/root/.kube/config damaged act");
}

static void files_it_names_have_to_be_there(void **state)
{
	struct tree *t = *state;

	put_text(t, "server/cred/scheduler.kubeconfig", 0600,
		"clusters:\n- cluster:\n    certificate-authority: /server/tls/server-ca.crt\nusers:\n- user:\n    client-certificate: "
		"/server/tls/client-scheduler.crt\n"
		"    client-key: /server/tls/client-scheduler.key\n");
	assert_problems(t, "");
	remove_file(t, "server/tls/client-scheduler.key");
	assert_problems(t, "server/tls/client-scheduler.key missing start, server/cred/scheduler.kubeconfig reference start");
}

/* The data-dir was moved, or copied: the files are well, and k3s does not write these again. An agent's it does. */
static void what_is_beside_them_has_to_be_named(void **state)
{
	struct tree *t = *state;
	static const char of_server[] = "users:\n- user:\n    client-certificate: /old/server/tls/client-scheduler.crt\n    client-key: "
					"/old/server/tls/client-scheduler.key\n";

	put_text(t, "server/cred/scheduler.kubeconfig", 0600, of_server);
	put_text(t, "agent/kubelet.kubeconfig", 0600, "users:\n- user:\n    client-certificate: /old/agent/client-kubelet.crt\n");
	assert_problems(t, "server/cred/scheduler.kubeconfig reference act, agent/kubelet.kubeconfig reference start");
	put_text(t, "old/server/tls/client-scheduler.crt", 0600, "");
	put_text(t, "old/server/tls/client-scheduler.key", 0600, "");
	assert_problems(t, "server/cred/scheduler.kubeconfig reference act, agent/kubelet.kubeconfig reference start");
}

static void what_others_name_is_their_affair(void **state)
{
	struct tree *t = *state;

	put_text(t, "/root/.kube/config", 0600, "users:\n- user:\n    client-certificate: /somewhere/else.crt\n");
	assert_problems(t, "/root/.kube/config reference note");
}

static void what_is_no_kubeconfig(void **state)
{
	struct tree *t = *state;

	put_text(t, "server/cred/controller.kubeconfig", 0600, "");
	put_text(t, "agent/kubelet.kubeconfig", 0600, "{ unfinished");
	put_text(t, ADMIN_YAML, 0600, "users:\n- user:\n    client-certificate-data: AAAA\n");
	assert_problems(t, "server/cred/controller.kubeconfig empty act, agent/kubelet.kubeconfig damaged act, " ADMIN_YAML " damaged start");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(copies_of_before_a_rotation_are_told),
		tree_test(an_old_copy_ends_at_last),
		tree_test(its_authority_is_the_one_in_use),
		tree_test(the_administrators_own_has_to_be_there),
		tree_test(files_it_names_have_to_be_there),
		tree_test(what_a_part_of_k3s_needs_has_to_be_there),
		tree_test(other_clusters_are_not_this_one),
		tree_test(rows_of_one_file_differ_in_their_position),
		tree_test(its_key_has_to_fit),
		tree_test(what_is_beside_them_has_to_be_named),
		tree_test(what_others_name_is_their_affair),
		tree_test(what_is_no_kubeconfig),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
