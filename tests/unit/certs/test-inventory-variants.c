/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file sets of all eras and kinds of nodes, and the shapes that authorities can have. Of each: nothing is wrong and nothing is unknown; openssl(1) says of every certificate what we
 * say; and after a retire all leafs are gone and all else is byte for byte what it was.
 */
#include <stdint.h>

static int64_t test_now; /* of the machine: authorities have to be of before it */
#define NOW test_now

#include "tree.h"

#include "base/strv.h"
#include "certs/live.h"

#define COUNT_ALL 40 /* paths of leafs and keys since May 2025: `k3s certificate rotate` lists as many */

/* ---- the variants ---- */

static void remove_pair(struct tree *t, const char *pair)
{
	_free_ char *crt = k3sup__fmt("%s/%s.crt", t->s->path, pair), *key = k3sup__fmt("%s/%s.key", t->s->path, pair);

	(void)unlink(crt);
	assert_int_equal(unlink(key), 0);
}

static void nothing(struct tree *t)
{
	(void)t;
}

static void before_may_2025(struct tree *t)
{
	remove_pair(t, "server/tls/kube-scheduler/kube-scheduler");
	remove_pair(t, "server/tls/kube-controller-manager/kube-controller-manager");
}

static void before_april_2024(struct tree *t)
{
	before_may_2025(t);
	remove_pair(t, "server/tls/client-supervisor");
}

static void since_july_2025(struct tree *t)
{
	remove_file(t, "server/tls/client-kube-proxy.crt");
	remove_file(t, "server/tls/client-k3s-controller.crt");
}

static void without_etcd(struct tree *t)
{
	remove_pair(t, "server/tls/etcd/server-client");
}

static void without_agent(struct tree *t)
{
	_free_ char *command = k3sup__fmt("rm -r %s/agent", t->s->path);

	assert_int_equal(system(command), 0); /* NOLINT: of the test's own directory */
}

static void agent_alone(struct tree *t)
{
	_free_ char *command = k3sup__fmt("rm -r %s/server", t->s->path);

	assert_int_equal(system(command), 0); /* NOLINT: of the test's own directory */
}

static void put_bundle(struct tree *t, const char *path, X509 *const *certs, size_t n)
{
	FILE *f = create(t, path, 0644);

	for (size_t i = 0; i < n; i++)
		assert_int_equal(PEM_write_X509(f, certs[i]), 1);
	assert_int_equal(fclose(f), 0);
}

/* New leafs of an authority that is now this one, with its whole bundle behind the leaf. */
static void take_authority(struct tree *t, enum k3sup__ca ca, X509 *cert, EVP_PKEY *key)
{
	X509_free(t->cas[ca].cert);
	EVP_PKEY_free(t->cas[ca].key);
	t->cas[ca] = (struct issuer){.cert = cert, .key = key};
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		if (k3sup__pairs[i].ca == ca)
			put_leaf(t, &k3sup__pairs[i], NOW - DAYS(1), NOW + DAYS(364), NULL, NULL);
}

/* As contrib/util/generate-custom-ca-certs.sh makes them: signing certificate, intermediate, root of RSA. */
static void bundle_of_three(struct tree *t)
{
	struct template names[] = {{.cn = "root", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(7300)},
		{.cn = "intermediate", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(3650)},
		{.cn = "k3s-server-ca", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(3650)}};
	struct issuer root = {.key = EVP_RSA_gen(2048)}, middle = {.key = new_key()}, own = {.key = new_key()};
	X509 *bundle[3];

	root.cert = new_cert(&names[0], root.key, NULL);
	middle.cert = new_cert(&names[1], middle.key, &root);
	own.cert = new_cert(&names[2], own.key, &middle);
	bundle[0] = own.cert;
	bundle[1] = middle.cert;
	bundle[2] = root.cert;
	take_authority(t, K3SUP__CA_SERVER, own.cert, own.key);
	put_bundle(t, "server/tls/server-ca.crt", bundle, 3);
	put_bundle(t, "agent/server-ca.crt", bundle, 3);
	put_certs(t, "server/tls/server-ca.nochain.crt", own.cert, NULL);
	put_key(t, "server/tls/server-ca.key", own.key);
	X509_free(middle.cert);
	X509_free(root.cert);
	EVP_PKEY_free(middle.key);
	EVP_PKEY_free(root.key);
}

/* As contrib/util/rotate-default-ca-certs.sh: new authority, new root, that root signed by the old one, the old one; two keys. */
static void cross_signed(struct tree *t)
{
	struct template name = {.cn = "k3s-client-ca@2", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(7300)};
	struct template root_name = {.cn = "k3s-client-root@2", .ca = true, .from = NOW - DAYS(30), .until = NOW + DAYS(7300)};
	struct issuer root = {.key = new_key()}, own = {.key = new_key()};
	X509 *old = t->cas[K3SUP__CA_CLIENT].cert, *crossed, *bundle[4];
	FILE *f;

	root.cert = new_cert(&root_name, root.key, NULL);
	own.cert = new_cert(&name, own.key, &root);
	crossed = new_cert(&root_name, root.key, &t->cas[K3SUP__CA_CLIENT]);
	bundle[0] = own.cert;
	bundle[1] = root.cert;
	bundle[2] = crossed;
	bundle[3] = old;
	put_bundle(t, "server/tls/client-ca.crt", bundle, 4);
	put_bundle(t, "agent/client-ca.crt", bundle, 4);
	put_certs(t, "server/tls/client-ca.nochain.crt", own.cert, NULL);
	f = create(t, "server/tls/client-ca.key", 0600);
	assert_int_equal(PEM_write_PrivateKey(f, own.key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(PEM_write_PrivateKey(f, root.key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(f), 0);
	take_authority(t, K3SUP__CA_CLIENT, own.cert, own.key); /* old is gone behind this */
	X509_free(crossed);
	X509_free(root.cert);
	EVP_PKEY_free(root.key);
}

static void many_service_keys(struct tree *t)
{
	FILE *f = create(t, "server/tls/service.key", 0600);
	_free_ char *first =
		k3sup__fmt("cd %s/server/tls && openssl rsa -traditional -in service.key -out service.current.key 2>/dev/null", t->s->path);

	for (int i = 0; i < 3; i++) {
		EVP_PKEY *key = EVP_RSA_gen(2048);
		BIO *to = BIO_new_fp(f, BIO_NOCLOSE);

		assert_int_equal(PEM_write_bio_PrivateKey_traditional(to, key, NULL, NULL, 0, NULL, NULL), 1);
		BIO_free(to);
		EVP_PKEY_free(key);
	}
	assert_int_equal(fclose(f), 0);
	assert_int_equal(system(first), 0); /* NOLINT: of the test's own directory */
}

/* RSA, of its own hand, for a hundred years: 64 bits of time where time_t has 32, and UTCTime ends in 2049. */
static void a_hundred_years(struct tree *t)
{
	struct template self = {.cn = "127.0.0.1@1700000000", .from = NOW - DAYS(30), .until = NOW + DAYS(36500), .usages = K3SUP__USE_SERVER};
	EVP_PKEY *key = EVP_RSA_gen(2048);
	X509 *cert = new_cert(&self, key, NULL);

	put_certs(t, "server/tls/temporary-certs/apiserver-loopback-client__.crt", cert, NULL);
	put_key(t, "server/tls/temporary-certs/apiserver-loopback-client__.key", key);
	put_leaf(t, pair_of("server/tls/client-admin"), NOW - DAYS(30), NOW + DAYS(36500), NULL, NULL);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void pkcs8_and_parameters(struct tree *t)
{
	static const char *const names[] = {"server/tls/client-admin.key", "agent/client-kubelet.key"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		_free_ char *command =
			k3sup__fmt(i == 0 ? "cd %s && openssl pkcs8 -topk8 -nocrypt -in %s -out k 2>/dev/null && cat k >%s && rm k"
					  : "cd %s && { openssl ecparam -name prime256v1; cat %s; } >k && cat k >%s && rm k",
				t->s->path, names[i], names[i]);

		assert_int_equal(system(command), 0); /* NOLINT: of the test's own directory */
	}
}

static const struct variant {
	const char *name;
	void (*make)(struct tree *t);
	bool agent;
	size_t leafs; /* paths of leafs and keys that are there */
} variants[] = {
	{"server and agent, since May 2025", nothing, false, COUNT_ALL},
	{"server and agent, since April 2024", before_may_2025, false, 36},
	{"server and agent, before", before_april_2024, false, 34},
	{"server and agent, since July 2025", since_july_2025, false, COUNT_ALL - 2},
	{"no embedded etcd", without_etcd, false, COUNT_ALL - 2},
	{"--disable-agent", without_agent, false, COUNT_ALL - 8},
	{"an agent alone", agent_alone, true, 8},
	{"a bundle of three with an RSA root", bundle_of_three, false, COUNT_ALL},
	{"cross-signed, two keys", cross_signed, false, COUNT_ALL},
	{"several service keys", many_service_keys, false, COUNT_ALL},
	{"a hundred years", a_hundred_years, false, COUNT_ALL},
	{"other encodings of keys", pkcs8_and_parameters, false, COUNT_ALL},
};

/* ---- what openssl says ---- */

/* The first line of what a command prints; to be freed. */
static char *line_of(const char *command)
{
	FILE *f = popen(command, "re"); /* NOLINT */
	char *line = NULL;
	size_t room = 0;

	assert_non_null(f);
	if (getline(&line, &room, f) < 0)
		assert_true((line = strdup("")) != NULL);
	(void)pclose(f);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

/* Name, end, serial and digest of each certificate in a file, and does the first one verify? */
static void compare_row(struct tree *t, const k3sup__json *row, bool agent, int64_t at)
{
	const char *path = k3sup__json_text(row, "path"), *status = k3sup__json_text(row, "status");
	const char *kind = k3sup__json_text(row, "kind");
	_free_ char *command = k3sup__fmt(
		"cd %s && awk '/BEGIN CERT/{n++} n==%d' %s | openssl x509 -noout -sha256 -fingerprint | sed 's/.*=//; s/://g' | tr A-F a-f",
		t->s->path, (int)k3sup__json_number(row, "position", 0) + 1, path);
	_free_ char *digest = line_of(command), *end = NULL, *verdict = NULL, *ca = NULL, *verify = NULL, *ends = NULL;
	const struct k3sup__pair *pair = NULL;

	assert_string_equal(digest, k3sup__json_text(row, "sha256"));
	ends = k3sup__fmt("cd %s && date -u -d \"$(awk '/BEGIN CERT/{n++} n==%d' %s | openssl x509 -noout -enddate | sed 's/.*=//')\" "
			  "+%%Y-%%m-%%dT%%H:%%M:%%SZ",
		t->s->path, (int)k3sup__json_number(row, "position", 0) + 1, path);
	end = line_of(ends);
	assert_string_equal(end, k3sup__json_text(row, "not_after"));
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		if (k3sup__startswith(path, k3sup__pairs[i].path) && path[strlen(k3sup__pairs[i].path)] == '.')
			pair = &k3sup__pairs[i];
	if (!k3sup__streq(kind, "leaf") || k3sup__json_number(row, "position", 0) != 0 || pair == NULL)
		return;
	ca = agent || (pair->flags & K3SUP__PAIR_AGENT) != 0 ? k3sup__fmt("agent/%s", strrchr(k3sup__ca_paths[pair->ca], '/') + 1)
							     : strdup(k3sup__ca_paths[pair->ca]);
	verify = k3sup__fmt("cd %s && openssl verify -partial_chain -no_check_time -CAfile %s.crt %s 2>&1; :", t->s->path, ca, path);
	verdict = line_of(verify);
	assert_non_null(strstr(verdict, ": OK"));
	free(verify);
	free(verdict);
	verify = k3sup__fmt(
		"cd %s && openssl verify -partial_chain -attime %lld -CAfile %s.crt %s 2>&1 | grep -m1 -oE ': OK|expired|not yet valid'",
		t->s->path, (long long)at, ca, path);
	verdict = line_of(verify);
	assert_string_equal(verdict,
		k3sup__streq(status, "EXPIRED")                 ? "expired"
			: k3sup__streq(status, "NOT YET VALID") ? "not yet valid"
								: ": OK");
}

static void open_audit(struct tree *t, bool agent, int64_t at)
{
	assert_int_equal(k3sup__root_open(t->s->op, t->s->path, &t->root), 0);
	t->audit = (struct k3sup__audit){.op = t->s->op, .root = &t->root, .data_dir = "", .server = !agent, .now = at, .window = DAYS(120)};
	assert_int_equal(k3sup__audit_open(&t->audit), 0);
	assert_int_equal(k3sup__audit_authorities(&t->audit), 0);
	assert_int_equal(k3sup__audit_pairs(&t->audit), 0);
	assert_int_equal(k3sup__audit_listener(&t->audit), 0);
	assert_int_equal(k3sup__audit_others(&t->audit), 0);
	assert_int_equal(k3sup__audit_kubeconfigs(&t->audit, NULL), 0);
	assert_int_equal(k3sup__audit_unknown(&t->audit), 0);
}

static size_t count_leafs(struct tree *t)
{
	size_t n = 0;

	for (size_t i = 0; i < k3sup__n_pairs; i++)
		for (int key = 0; key <= 1; key++) {
			_free_ char *path = k3sup__fmt("%s.%s", k3sup__pairs[i].path, key ? "key" : "crt");

			n += faccessat(t->s->fd, path, F_OK, 0) == 0;
		}
	return n;
}

static void assert_agrees(struct tree *t, const struct variant *v)
{
	size_t step;

	assert_int_equal(count_leafs(t), v->leafs);
	open_audit(t, v->agent, NOW);
	if (k3sup__json_len(t->audit.problems) > 0 || k3sup__json_len(t->audit.unknown) > 0)
		fail_msg("%s: %s %s", v->name, k3sup__json_dump(t->audit.problems), k3sup__json_dump(t->audit.unknown));
	assert_int_equal(t->audit.counts[0], k3sup__json_len(t->audit.certificates));
	/* openssl(1) takes its time: a part of each variant, all of those whose authorities are bundles, the whole of everything in a full run. */
	step = v->make == bundle_of_three || v->make == cross_signed ? 2 : 9;
	if (getenv("K3SUP_TEST_FULL") != NULL)
		step = 1;
	for (size_t i = (size_t)(v - variants) % step; i < k3sup__json_len(t->audit.certificates); i += step)
		compare_row(t, k3sup__json_element(t->audit.certificates, i), v->agent, NOW);
	unlook(t);
}

/* ---- what a retire may touch ---- */

static bool is_leaf(const char *path)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		if (k3sup__startswith(path, k3sup__pairs[i].path) && path[strlen(k3sup__pairs[i].path)] == '.')
			return true;
	return false;
}

/* "digest  ./path" of each file below server/ and agent/, sorted; leafs: these, or all the others. */
static char *files_of(struct tree *t, bool leafs)
{
	_free_ char *command = k3sup__fmt("cd %s && find ./server ./agent -type f -exec sha256sum {} + 2>/dev/null | sort -k2", t->s->path);
	FILE *f = popen(command, "re"); /* NOLINT */
	char *all = strdup(""), *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, f) > 0) {
		const char *path = strchr(line, '.') + 2;
		char *more;

		if (is_leaf(path) != leafs || k3sup__startswith(path, "server/tls/dynamic-cert-regenerate"))
			continue;
		more = k3sup__fmt("%s%s", all, line);
		free(all);
		all = more;
	}
	free(line);
	(void)pclose(f);
	return all;
}

/* k3s-certificates: what has to hold between a retire and the next start. */
static void assert_retires(struct tree *t, const struct variant *v)
{
	struct k3sup_node node = {.trust_flags = K3SUP__TRUSTED};
	struct k3sup__certs_where where = {.data_dir = strdup(""), .source = "option", .server = !v->agent};
	struct k3sup__live live = {.op = t->s->op, .node = &node, .where = &where};
	_free_ char *others = files_of(t, false), *left = NULL, *after = NULL, *name = NULL;
	struct k3sup__strv names = {0};
	struct stat st;
	bool made;
	int backups;

	assert_int_equal(k3sup__root_open(t->s->op, t->s->path, &node.root), 0);
	assert_int_equal(k3sup__tls_backups_open(t->s->op, &node.root, "/var/lib/k3sup", true, K3SUP__TRUSTED, &backups), 0);
	assert_int_equal(k3sup__live_read(&live), 0);
	assert_int_equal(live.files.count, v->leafs);
	assert_int_equal(k3sup__live_keep(&live, backups, &name, &made), 0);
	assert_int_equal(k3sup__live_set_trigger(&live, true), !v->agent);
	assert_int_equal(k3sup__live_remove(&live, NULL), (int)v->leafs);
	left = files_of(t, true);
	after = files_of(t, false);
	assert_string_equal(left, "");
	assert_string_equal(after, others);
	assert_int_equal(k3sup__tls_backups_list(t->s->op, backups, &names), 0);
	assert_int_equal(names.count, 1);
	if (!v->agent) {
		assert_int_equal(fstatat(t->s->fd, "server/tls/dynamic-cert-regenerate", &st, 0), 0);
		assert_true(st.st_size == 0 && st.st_mode == (S_IFREG | 0600));
	}
	k3sup__strv_clear(&names);
	(void)k3sup__close(backups);
	k3sup__live_clear(&live);
	k3sup__root_close(&node.root);
	k3sup__certs_where_clear(&where);
}

static void every_variant(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(variants); i++) {
		struct tree *t;
		void *made = NULL;

		assert_int_equal(tree_setup(&made), 0);
		t = made;
		put_key(t, "server/tls/service.key", t->cas[K3SUP__CA_SERVER].key);
		put_text(t, "server/cred/passwd", 0600, "secret\n");
		variants[i].make(t);
		assert_agrees(t, &variants[i]);
		assert_retires(t, &variants[i]);
		assert_int_equal(tree_teardown(&made), 0);
	}
}

/* The same tree at other times: what we call expired, or not yet valid, openssl calls so. */
static void every_date(void **state)
{
	static const struct {
		int64_t days;
		const char *status;
	} dates[] = {{0, "OK"}, {364 - 121, "OK"}, {364 - 119, "WARNING"}, {364 - 89, "WARNING"}, {365, "EXPIRED"}, {-2, "NOT YET VALID"}};
	struct tree *t = *state;

	for (size_t i = 0; i < ELEMENTSOF(dates); i++) {
		int64_t at = NOW + DAYS(dates[i].days);

		open_audit(t, false, at);
		for (size_t k = 0; k < k3sup__json_len(t->audit.certificates); k++) {
			const k3sup__json *row = k3sup__json_element(t->audit.certificates, k);

			if (!k3sup__streq(k3sup__json_text(row, "kind"), "leaf") || k3sup__json_number(row, "position", 0) != 0)
				continue;
			assert_string_equal(k3sup__json_text(row, "status"), dates[i].status);
			if (k % 16 == 0)
				compare_row(t, row, false, at);
		}
		unlook(t);
	}
}

static bool has_problem(struct tree *t, const char *path, const char *problem)
{
	for (size_t i = 0; i < k3sup__json_len(t->audit.problems); i++) {
		const k3sup__json *one = k3sup__json_element(t->audit.problems, i);

		if (k3sup__streq(k3sup__json_text(one, "path"), path) && k3sup__streq(k3sup__json_text(one, "problem"), problem))
			return true;
	}
	return false;
}

static void assert_refuses(struct tree *t, const char *command, const char *path)
{
	_free_ char *whole = k3sup__fmt("cd %s/%s && %s", t->s->path, path, command), *said = line_of(whole);

	if (strstr(said, "yes") == NULL)
		fail_msg("openssl is content: %s: %s", command, said);
}

/* What we call wrong, openssl refuses, too. */
static void what_is_wrong_is_wrong_for_both(void **state)
{
	struct tree *t = *state;
	struct issuer *admin = &t->cas[K3SUP__CA_CLIENT], *proxy = &t->cas[K3SUP__CA_REQUEST_HEADER], right = *admin;
	EVP_PKEY *stranger = new_key();

	/* By another authority; in the name of the right one with a stranger's key; a key that belongs to nothing. */
	*admin = *proxy;
	put_leaf(t, pair_of("server/tls/client-scheduler"), NOW - DAYS(1), NOW + DAYS(364), NULL, NULL);
	*admin = (struct issuer){.cert = right.cert, .key = stranger};
	put_leaf(t, pair_of("server/tls/client-admin"), NOW - DAYS(1), NOW + DAYS(364), NULL, NULL);
	*admin = right;
	put_key(t, "server/tls/client-controller.key", stranger);
	EVP_PKEY_free(stranger);
	open_audit(t, false, NOW);
	assert_true(has_problem(t, "server/tls/client-scheduler.crt", "other-ca"));
	assert_refuses(t, "openssl verify -partial_chain -CAfile client-ca.crt client-scheduler.crt >/dev/null 2>&1 || echo yes", "server/tls");
	assert_true(has_problem(t, "server/tls/client-admin.crt", "chain"));
	assert_refuses(t, "openssl verify -partial_chain -CAfile client-ca.crt client-admin.crt >/dev/null 2>&1 || echo yes", "server/tls");
	assert_true(has_problem(t, "server/tls/client-controller.key", "key-mismatch"));
	assert_refuses(t, "a=$(openssl x509 -noout -pubkey -in client-controller.crt) b=$(openssl pkey -pubout -in client-controller.key); [ \"$a\" = \"$b\" ] || echo yes",
		"server/tls");
	unlook(t);
}

/* Names of another distribution in k3s's directories: told, and left where they are. */
static void names_of_rke2_are_unknown(void **state)
{
	struct tree *t = *state;

	put_certs(t, "server/tls/client-rke2-controller.crt", t->cas[K3SUP__CA_CLIENT].cert, NULL);
	put_text(t, "agent/mine.pem", 0600, "x");
	open_audit(t, false, NOW);
	assert_int_equal(k3sup__json_len(t->audit.unknown), 2);
	assert_int_equal(k3sup__json_len(t->audit.problems), 0);
	unlook(t);
	assert_retires(t, &variants[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_variant),
		tree_test(every_date),
		tree_test(what_is_wrong_is_wrong_for_both),
		tree_test(names_of_rke2_are_unknown),
	};

	test_now = (int64_t)time(NULL);
	/* openssl(1) under valgrind, hundreds of times, would only wait. */
	if (getenv("K3SUP_TEST_VALGRIND") != NULL || system("openssl version >/dev/null 2>&1") != 0) /* NOLINT */
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
