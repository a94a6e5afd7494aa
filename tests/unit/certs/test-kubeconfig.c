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

static void put_copy(struct tree *t, const char *path, const char *crt, const char *ca)
{
	_free_ char *crt64 = base64_of_file(t, crt), *ca64 = base64_of_file(t, ca);
	_free_ char *text = k3sup__fmt("apiVersion: v1\nclusters:\n- name: default\n  cluster:\n    certificate-authority-data: %s\n    "
				       "server: https://127.0.0.1:6443\n"
				       "users:\n- name: default\n  user:\n    client-certificate-data: %s\n    client-key-data: unused\n",
		ca64, crt64);

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
		tree_test(what_is_no_kubeconfig),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
