/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

static void a_fresh_server_is_well(void **state)
{
	struct tree *t = *state;

	assert_problems(t, "");
	look(t);
	/* 18 pairs with two certificates each, five authorities, two copies */
	assert_int_equal(k3sup__json_len(t->audit.certificates), 19 * 2 + 5 + 2);
	assert_int_equal(t->audit.counts[0], k3sup__json_len(t->audit.certificates));
	assert_int_equal(k3sup__json_len(t->audit.unknown), 0);
	assert_false(t->audit.needs_action);
	unlook(t);
}

/* k3s: EXPIRED after its end, WARNING if that is less than the window away, NOT YET VALID before its beginning. */
static void statuses_change_at_the_second(void **state)
{
	static const struct {
		int64_t from, until;
		const char *status, *problem;
	} cases[] = {
		{NOW - 10, NOW + DAYS(120), "OK", ""},
		{NOW - 10, NOW + DAYS(120) - 1, "WARNING", "server/tls/client-admin.crt expiring start"},
		{NOW - 10, NOW, "WARNING", "server/tls/client-admin.crt expiring start"},
		{NOW - 10, NOW - 1, "EXPIRED", "server/tls/client-admin.crt expired start"},
		{NOW, NOW + DAYS(364), "OK", ""},
		{NOW + 1, NOW + DAYS(364), "NOT YET VALID", "server/tls/client-admin.crt not-yet-valid act"},
	};
	struct tree *t = *state;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		put_leaf(t, pair_of("server/tls/client-admin"), cases[i].from, cases[i].until, NULL, NULL);
		assert_problems(t, cases[i].problem);
		look(t);
		for (size_t k = 0; k < k3sup__json_len(t->audit.certificates); k++) {
			const k3sup__json *row = k3sup__json_element(t->audit.certificates, k);

			if (!k3sup__streq(k3sup__json_text(row, "path"), "server/tls/client-admin.crt") ||
				k3sup__json_number(row, "position", -1) != 0)
				continue;
			assert_string_equal(k3sup__json_text(row, "status"), cases[i].status);
			assert_int_equal(k3sup__json_number(row, "residual_seconds", 0), cases[i].until - NOW);
		}
		unlook(t);
	}
}

/* What a start does not even open: the files are there. */
static void empty_and_damaged_files_need_a_person(void **state)
{
	struct tree *t = *state;

	put_text(t, "server/tls/client-scheduler.crt", 0644, "");
	put_text(t, "agent/client-kubelet.key", 0600, "");
	put_text(t, "server/tls/client-controller.crt", 0644, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
	assert_problems(t, "server/tls/client-controller.crt damaged act, agent/client-kubelet.key empty act, server/tls/client-scheduler.crt empty act");
}

static void half_a_pair_is_made_whole_by_a_start(void **state)
{
	struct tree *t = *state;

	remove_file(t, "server/tls/client-admin.crt");
	remove_file(t, "server/tls/etcd/client.key");
	/* Servers of 2025 keep these keys for old agents. */
	remove_file(t, "server/tls/client-kube-proxy.crt");
	remove_file(t, "server/tls/client-k3s-controller.crt");
	assert_problems(t, "server/tls/client-admin.crt missing start, server/tls/etcd/client.key missing start");
}

/* k3s ends with "error loading key" then. */
static void a_damaged_key_without_its_certificate_is_worse(void **state)
{
	struct tree *t = *state;

	remove_file(t, "server/tls/client-admin.crt");
	put_text(t, "server/tls/client-admin.key", 0600, "");
	assert_problems(t, "server/tls/client-admin.key empty act, server/tls/client-admin.crt missing act");
}

static void nobody_becomes_an_administrator(void **state)
{
	struct tree *t = *state;
	struct k3sup__pair master = *pair_of("server/tls/client-scheduler");

	master.organisation = "system:masters";
	put_leaf(t, &master, NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t, "server/tls/client-scheduler.crt name start");
}

static void an_absent_pair_is_none_of_our_business(void **state)
{
	struct tree *t = *state;

	remove_file(t, "server/tls/client-supervisor.crt");
	remove_file(t, "server/tls/client-supervisor.key");
	assert_problems(t, "");
}

static void a_key_has_to_fit(void **state)
{
	struct tree *t = *state;
	EVP_PKEY *other = new_key();

	put_key(t, "agent/serving-kubelet.key", other);
	EVP_PKEY_free(other);
	assert_problems(t, "agent/serving-kubelet.key key-mismatch act");
}

/* The first of several counts, as for k3s. */
static void more_keys_in_a_file_are_fine(void **state)
{
	struct tree *t = *state;
	_free_ char *path = k3sup__fmt("%s/server/tls/client-admin.key", t->s->path);
	EVP_PKEY *other = new_key();
	FILE *f = fopen(path, "ae");

	assert_non_null(f);
	assert_int_equal(PEM_write_PrivateKey(f, other, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
	EVP_PKEY_free(other);
	assert_problems(t, "");
}

static void names_have_to_be_what_k3s_wants(void **state)
{
	struct tree *t = *state;
	struct k3sup__pair no_organisation = *pair_of("server/tls/client-admin");
	struct k3sup__pair no_usage = *pair_of("server/tls/serving-kube-apiserver");

	no_organisation.organisation = "system:nobody";
	put_leaf(t, &no_organisation, NOW - 10, NOW + DAYS(364), NULL, NULL);
	put_leaf(t, pair_of("agent/client-kubelet"), NOW - 10, NOW + DAYS(364), "system:node:", NULL);
	put_leaf(t, pair_of("server/tls/client-scheduler"), NOW - 10, NOW + DAYS(364), "somebody", NULL);
	put_leaf(t, pair_of("agent/serving-kubelet"), NOW - 10, NOW + DAYS(364), NULL, "DNS:localhost,IP:127.0.0.2");
	no_usage.usages = K3SUP__USE_CLIENT;
	put_leaf(t, &no_usage, NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t,
		"server/tls/client-admin.crt name start, server/tls/serving-kube-apiserver.crt usage act, agent/client-kubelet.crt name "
		"start, "
		"agent/serving-kubelet.crt san start, server/tls/client-scheduler.crt name start");
}

/* After a change of authorities k3s sees another key id and renews; a signature that is wrong it does not look at. */
static void leafs_are_signed_by_the_authority_in_use(void **state)
{
	struct tree *t = *state;
	struct issuer old = t->cas[K3SUP__CA_REQUEST_HEADER], liar;

	t->cas[K3SUP__CA_REQUEST_HEADER] = (struct issuer){0};
	put_ca(t, K3SUP__CA_REQUEST_HEADER, NOW + DAYS(3650));
	assert_problems(t, "server/tls/client-auth-proxy.crt other-ca start");

	/* Names the authority in use, but was signed with the old one's key. */
	liar = (struct issuer){.cert = t->cas[K3SUP__CA_REQUEST_HEADER].cert, .key = old.key};
	old.key = t->cas[K3SUP__CA_REQUEST_HEADER].key;
	t->cas[K3SUP__CA_REQUEST_HEADER] = liar;
	put_leaf(t, pair_of("server/tls/client-auth-proxy"), NOW - 10, NOW + DAYS(364), NULL, NULL);
	assert_problems(t, "server/tls/client-auth-proxy.crt chain act");
	X509_free(old.cert);
	EVP_PKEY_free(old.key);
}

static void modes_and_owners(void **state)
{
	struct tree *t = *state;
	_free_ char *key = k3sup__fmt("%s/agent/client-kubelet.key", t->s->path), *crt = k3sup__fmt("%s/server/tls/client-admin.crt", t->s->path);

	assert_int_equal(chmod(crt, 0600), 0); /* servers that joined have it so */
	assert_problems(t, "");
	assert_int_equal(chmod(key, 0640), 0);
	assert_int_equal(chmod(crt, 0664), 0);
	assert_problems(t, "server/tls/client-admin.crt mode act, agent/client-kubelet.key mode act");
	if (geteuid() != 0)
		return; /* nobody else can give files away */
	assert_int_equal(chmod(key, 0600), 0);
	assert_int_equal(chmod(crt, 0644), 0);
	assert_int_equal(chown(crt, 1234, 0), 0);
	assert_problems(t, "server/tls/client-admin.crt owner act");
}

static void only_the_chosen_services_are_looked_at(void **state)
{
	static const char *const admin[] = {"admin", NULL};
	struct tree *t = *state;

	put_text(t, "server/tls/client-scheduler.crt", 0644, "");
	look(t);
	k3sup__audit_close(&t->audit);
	t->audit = (struct k3sup__audit){
		.op = t->s->op, .root = &t->root, .data_dir = "", .server = true, .services = admin, .now = NOW, .window = DAYS(120)};
	assert_int_equal(k3sup__audit_open(&t->audit), 0);
	assert_int_equal(k3sup__audit_pairs(&t->audit), 0);
	assert_int_equal(k3sup__json_len(t->audit.problems), 0);
	assert_int_equal(k3sup__json_len(t->audit.certificates), 2);
	unlook(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(a_fresh_server_is_well),
		tree_test(statuses_change_at_the_second),
		tree_test(empty_and_damaged_files_need_a_person),
		tree_test(nobody_becomes_an_administrator),
		tree_test(half_a_pair_is_made_whole_by_a_start),
		tree_test(a_damaged_key_without_its_certificate_is_worse),
		tree_test(an_absent_pair_is_none_of_our_business),
		tree_test(a_key_has_to_fit),
		tree_test(more_keys_in_a_file_are_fine),
		tree_test(names_have_to_be_what_k3s_wants),
		tree_test(leafs_are_signed_by_the_authority_in_use),
		tree_test(modes_and_owners),
		tree_test(only_the_chosen_services_are_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
