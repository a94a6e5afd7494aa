/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retiring and restoring from the inside: what is kept, what is taken away, in which order. The whole verbs are in tests/scenarios/test_certs.py, each system call of them in tests/crash.
 */
#include "tree.h"

#include <dirent.h>

#include "base/strv.h"
#include "certs/live.h"

struct fixture {
	struct tree *t;
	struct k3sup_node node;
	struct k3sup__certs_where where;
	struct k3sup__live live;
	int backups;
};

/* The tree's dates are in the future of every honest clock: authorities that begin now. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char data_dir[] = "";
	void *tree = NULL;

	assert_non_null(f);
	assert_int_equal(tree_setup(&tree), 0);
	f->t = tree;
	for (enum k3sup__ca ca = 0; ca < K3SUP__N_CAS; ca++) {
		struct template self = {
			.cn = "authority", .ca = true, .from = (int64_t)time(NULL) - DAYS(1), .until = (int64_t)time(NULL) + DAYS(3650)};
		_free_ char *crt = k3sup__fmt("%s.crt", k3sup__ca_paths[ca]);

		X509_free(f->t->cas[ca].cert);
		f->t->cas[ca].cert = new_cert(&self, f->t->cas[ca].key, NULL);
		put_certs(f->t, crt, f->t->cas[ca].cert, NULL);
	}
	assert_int_equal(k3sup__root_open(f->t->s->op, f->t->s->path, &f->node.root), 0);
	f->node.trust_flags = K3SUP__TRUSTED;
	f->where = (struct k3sup__certs_where){.data_dir = strdup(data_dir), .source = "option", .server = true};
	f->live = (struct k3sup__live){.op = f->t->s->op, .node = &f->node, .where = &f->where};
	f->backups = -1;
	assert_int_equal(k3sup__tls_backups_open(f->t->s->op, &f->node.root, "/var/lib/k3sup", true, K3SUP__TRUSTED, &f->backups), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *tree = f->t;

	k3sup__live_clear(&f->live);
	(void)k3sup__close(f->backups);
	k3sup__root_close(&f->node.root);
	k3sup__certs_where_clear(&f->where);
	free(f);
	return tree_teardown(&tree);
}

#define live_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int read_again(struct fixture *f)
{
	k3sup__live_clear(&f->live);
	return k3sup__live_read(&f->live);
}

/* Keeps and takes away all there is; the backup's name, to be freed. */
static char *retire(struct fixture *f, bool *ret_made)
{
	char *name = NULL;

	assert_int_equal(read_again(f), 0);
	assert_int_equal(k3sup__live_keep(&f->live, f->backups, &name, ret_made), 0);
	assert_true(k3sup__live_remove(&f->live, NULL) >= 0);
	return name;
}

static size_t count_names(struct fixture *f, const char *prefix)
{
	int fd = openat(f->backups, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	size_t n = 0;

	while ((entry = readdir(dir)) != NULL)
		n += k3sup__startswith(entry->d_name, prefix);
	closedir(dir);
	return n;
}

static void all_leafs_are_kept_and_gone(void **state)
{
	struct fixture *f = *state;
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	struct k3sup__tls_files kept = {.count = 0};
	_free_ char *name = NULL;
	bool made = false;
	struct stat st;

	name = retire(f, &made);
	assert_true(made);
	assert_int_equal(f->live.files.count, 19 * 2 + 2);
	assert_int_equal(k3sup__tls_backup_read(f->t->s->op, f->backups, name, &kept, &manifest), 0);
	assert_int_equal(kept.count, f->live.files.count);
	for (size_t i = 0; i < kept.count; i++) {
		_free_ char *live = k3sup__fmt("%s/%s", f->t->s->path, kept.list[i].path);
		_free_ char *copy = k3sup__fmt("%s/%s", name, kept.list[i].path);

		assert_string_equal(kept.list[i].sha256, f->live.files.list[i].sha256);
		assert_int_equal(kept.list[i].mode, kept.list[i].key ? 0600 : 0644);
		assert_int_equal(access(live, F_OK), -1);
		assert_int_equal(fstatat(f->backups, copy, &st, 0), 0);
		assert_int_equal(st.st_mode, S_IFREG | 0600);
	}
	assert_int_equal(fstatat(f->backups, name, &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	k3sup__tls_files_clear(&kept);
	/* Authorities and what belongs to them are where they were. */
	assert_int_equal(faccessat(f->t->s->fd, "server/tls/server-ca.key", F_OK, 0), 0);
	assert_int_equal(faccessat(f->t->s->fd, "agent/client-ca.crt", F_OK, 0), 0);
}

/* As when a run was cut on its way: what is left is in the backup of that run. */
static void half_a_tree_needs_no_backup_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct k3sup__tls_files some = {.count = 1, .list = {{.path = NULL}}};
	_free_ char *first = NULL, *second = NULL;
	char path[] = "server/tls/client-admin.key";
	bool made = false;

	assert_int_equal(read_again(f), 0);
	assert_int_equal(k3sup__live_keep(&f->live, f->backups, &first, &made), 0);
	some.list[0].path = path;
	assert_int_equal(k3sup__live_remove(&f->live, &some), 1);
	second = retire(f, &made);
	assert_false(made);
	assert_string_equal(first, second);
	assert_int_equal(count_names(f, "tls-"), 1);
	/* And one more before a start: nothing to keep. */
	free(second);
	second = retire(f, &made);
	assert_null(second);
	assert_int_equal(count_names(f, "tls-"), 1);
}

static void two_in_one_second_have_names_of_their_own(void **state)
{
	struct fixture *f = *state;
	_free_ char *a = NULL, *b = NULL;
	k3sup__json *none = k3sup__json_object();

	assert_int_equal(read_again(f), 0);
	assert_int_equal(k3sup__tls_backup_make(f->t->s->op, f->backups, &f->live.files, none, 1800000000, &a), 0);
	assert_int_equal(k3sup__tls_backup_make(f->t->s->op, f->backups, &f->live.files, none, 1800000000, &b), 0);
	assert_string_equal(a, "tls-1800000000");
	assert_string_equal(b, "tls-1800000000-1");
	k3sup__json_unref(none);
}

static void old_ones_go_but_never_the_spared(void **state)
{
	struct fixture *f = *state;
	struct k3sup__strv names = {0};
	k3sup__json *none = k3sup__json_object();
	struct k3sup__strv spare = {0};

	assert_int_equal(k3sup__strv_add_copy(&spare, "tls-1000", 8), 0);
	assert_int_equal(read_again(f), 0);
	for (int64_t i = 1; i <= 5; i++) {
		_free_ char *name = NULL;

		assert_int_equal(k3sup__tls_backup_make(f->t->s->op, f->backups, &f->live.files, none, i * 1000, &name), 0);
	}
	assert_int_equal(mkdirat(f->backups, ".tls-77", 0700), 0); /* of a run that was cut */
	assert_int_equal(mkdirat(f->backups, "mine", 0700), 0);
	assert_int_equal(k3sup__tls_backups_prune(f->t->s->op, f->backups, 3, 0, &spare), 1);
	k3sup__strv_clear(&spare);
	assert_int_equal(k3sup__tls_backups_list(f->t->s->op, f->backups, &names), 0);
	assert_int_equal(names.count, 4);
	assert_string_equal(names.items[0], "tls-5000");
	assert_string_equal(names.items[3], "tls-1000");
	k3sup__strv_clear(&names);
	assert_int_equal(count_names(f, ".tls-"), 0);
	assert_int_equal(count_names(f, "mine"), 1);
	assert_int_equal(k3sup__tls_backups_prune(f->t->s->op, f->backups, 100, 4000, NULL), 2);
	assert_int_equal(count_names(f, "tls-"), 2);
	k3sup__json_unref(none);
}

/* Services one by one, a second time before a start, by count and by age: what no start has made anew stays. Then it may go. */
static void the_last_copy_of_a_key_stays_until_a_start(void **state)
{
	static const char *const services[] = {"admin", "scheduler", "etcd", NULL}, *one[] = {NULL, NULL};
	struct fixture *f = *state;
	int64_t future = (int64_t)time(NULL) + DAYS(400);
	bool made;

	for (size_t i = 0; services[i] != NULL; i++) {
		_free_ char *name = NULL;

		one[0] = services[i];
		f->live.services = one;
		name = retire(f, &made);
		assert_true(made);
		assert_int_equal(k3sup__live_prune(&f->live, f->backups, 1, 0, name), 0);
	}
	f->live.services = NULL;
	assert_int_equal(k3sup__live_prune(&f->live, f->backups, 1, future, NULL), 0);
	assert_int_equal(count_names(f, "tls-"), 3);
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		put_leaf(f->t, &k3sup__pairs[i], NOW, NOW + DAYS(364), NULL, NULL);
	assert_int_equal(k3sup__live_prune(&f->live, f->backups, 1, 0, NULL), 2);
	assert_int_equal(k3sup__live_prune(&f->live, f->backups, 1, future, NULL), 1);
}

static void a_backup_that_was_touched_is_not_believed(void **state)
{
	struct fixture *f = *state;
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	struct k3sup__tls_files kept = {.count = 0};
	_free_ char *name = NULL, *file = NULL;
	bool made;
	int fd;

	name = retire(f, &made);
	file = k3sup__fmt("%s/server/tls/client-admin.crt", name);
	fd = openat(f->backups, file, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 40), 1);
	(void)k3sup__close(fd);
	assert_int_equal(k3sup__tls_backup_read(f->t->s->op, f->backups, name, &kept, &manifest), K3SUP_E_BACKUP);
	assert_int_equal(k3sup__tls_backup_read(f->t->s->op, f->backups, "tls-1", &kept, &manifest), K3SUP_E_BACKUP);
	assert_int_equal(k3sup__tls_backup_read(f->t->s->op, f->backups, "../../etc", &kept, &manifest), K3SUP_E_BACKUP);
}

/* Whoever could change a manifest is root, or the disk has. What it then says must not become a file's place, mode or owner. */
static void a_manifest_that_was_changed_is_not_believed(void **state)
{
	static const char *const changes[][2] = {
		{"\"schema\":1", "\"schema\":2"},
		{"\"mode\":\"0600\"", "\"mode\":\"0x7f\""},
		{"\"mode\":\"0600\"", "\"mode\":\"6777\""},
		{"\"mode\":\"0600\"", "\"mode\":\"\""},
		{"\"uid\":0", "\"uid\":-1"},
		{"\"gid\":0", "\"gid\":4294967295"},
		{"\"uid\":0", "\"uid\":\"0\""},
		{"server/tls/client-admin.key", "server/tls/client-admin.crt"},
		{"server/tls/client-admin.key", "server/tls/client-ca.key"},
		{"server/tls/client-admin.key", "../../../../etc/shadow"},
	};
	struct fixture *f = *state;
	_cleanup_(k3sup__json_unrefp) k3sup__json *manifest = NULL;
	struct k3sup__tls_files kept = {.count = 0};
	_free_ char *name = NULL, *file = NULL, *text = NULL;
	size_t len = 0;
	bool made;

	name = retire(f, &made);
	file = k3sup__fmt("%s/manifest.json", name);
	assert_int_equal(k3sup__read_file(f->backups, file, 1 << 20, &text, &len), 0);
	for (size_t i = 0; i < ELEMENTSOF(changes); i++) {
		const char *at = strstr(text, changes[i][0]);
		_free_ char *changed = k3sup__fmt(
			"%.*s%s%s", at != NULL ? (int)(at - text) : 0, text, changes[i][1], at != NULL ? at + strlen(changes[i][0]) : "");
		int fd = openat(f->backups, file, O_WRONLY | O_TRUNC | O_CLOEXEC);

		assert_non_null(at);
		assert_int_equal(k3sup__write_full(fd, changed, strlen(changed)), 0);
		(void)k3sup__close(fd);
		assert_int_equal(k3sup__tls_backup_read(f->t->s->op, f->backups, name, &kept, &manifest), K3SUP_E_BACKUP);
		assert_int_equal(kept.count, 0);
		k3sup__op_forgive(f->t->s->op);
	}
}

static int asked;

static int still_for_a_while(k3sup_op *op)
{
	return ++asked > 3 ? k3sup__fail(op, K3SUP_E_RUNNING, "somebody has started it") : 0;
}

/* What is told as retired is gone, and nothing else is told. */
static void what_was_taken_away_is_told(void **state)
{
	struct fixture *f = *state;
	_cleanup_(k3sup__json_unrefp) k3sup__json *removed = k3sup__json_array();

	asked = 0;
	assert_int_equal(read_again(f), 0);
	f->live.removed = removed;
	f->live.still = still_for_a_while;
	assert_int_equal(k3sup__live_remove(&f->live, NULL), K3SUP_E_RUNNING);
	assert_int_equal(k3sup__json_len(removed), 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(faccessat(f->t->s->fd, k3sup__json_text(k3sup__json_element(removed, i), "path"), F_OK, 0), -1);
}

static void what_must_not_be_retired(void **state)
{
	struct fixture *f = *state;
	_free_ char *crt = k3sup__fmt("%s/server/tls/client-admin.crt", f->t->s->path);
	struct template later = {.cn = "authority", .ca = true, .from = (int64_t)time(NULL) + DAYS(1), .until = (int64_t)time(NULL) + DAYS(3650)};
	X509 *cert;

	f->where.running = true;
	assert_int_equal(read_again(f), K3SUP_E_RUNNING);
	f->where.running = false;
	k3sup__op_forgive(f->t->s->op);
	remove_file(f->t, "server/tls/client-admin.crt");
	assert_int_equal(symlink("client-scheduler.crt", crt), 0);
	assert_int_equal(read_again(f), K3SUP_E_TARGET_NOT_FILE);
	assert_int_equal(unlink(crt), 0);
	k3sup__op_forgive(f->t->s->op);
	cert = new_cert(&later, f->t->cas[K3SUP__CA_CLIENT].key, NULL);
	put_certs(f->t, "server/tls/client-ca.crt", cert, NULL);
	X509_free(cert);
	assert_int_equal(read_again(f), K3SUP_E_CLOCK);
	k3sup__op_forgive(f->t->s->op);
	remove_file(f->t, "server/tls/client-ca.key");
	assert_int_equal(read_again(f), K3SUP_E_AUTHORITY);
}

/* Between reading and taking away somebody (a k3s that was started) has written a new one. */
static void what_others_have_written_stays(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_again(f), 0);
	put_leaf(f->t, pair_of("server/tls/client-admin"), NOW, NOW + DAYS(364), NULL, NULL);
	assert_int_equal(k3sup__live_remove(&f->live, NULL), K3SUP_E_TARGET_CHANGED);
	assert_int_equal(faccessat(f->t->s->fd, "server/tls/client-admin.key", F_OK, 0), 0);
}

static void what_a_cut_run_has_left_is_removed(void **state)
{
	struct fixture *f = *state;

	put_text(f->t, "server/tls/etcd/.leaf.k3sup-tmp-12345678", 0600, "half a key");
	put_text(f->t, "server/tls/.dynamic-cert-regenerate.k3sup-tmp-12345678", 0600, "");
	put_text(f->t, "agent/.mine.k3sup-tmp-12345678", 0600, "");
	assert_int_equal(k3sup__live_tidy(&f->live), 2);
	assert_int_equal(faccessat(f->t->s->fd, "server/tls/etcd/.leaf.k3sup-tmp-12345678", F_OK, 0), -1);
	assert_int_equal(faccessat(f->t->s->fd, "agent/.mine.k3sup-tmp-12345678", F_OK, 0), 0);
	assert_int_equal(k3sup__live_tidy(&f->live), 0);
}

static void the_trigger_is_set_and_taken_back(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(k3sup__live_set_trigger(&f->live, true), 1);
	assert_int_equal(k3sup__live_set_trigger(&f->live, true), 0);
	assert_int_equal(fstatat(f->t->s->fd, "server/tls/dynamic-cert-regenerate", &st, 0), 0);
	assert_true(st.st_mode == (S_IFREG | 0600) && st.st_size == 0);
	assert_int_equal(k3sup__live_set_trigger(&f->live, false), 1);
	assert_int_equal(k3sup__live_set_trigger(&f->live, false), 0);
	f->where.server = false;
	assert_int_equal(k3sup__live_set_trigger(&f->live, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		live_test(all_leafs_are_kept_and_gone),
		live_test(half_a_tree_needs_no_backup_of_its_own),
		live_test(two_in_one_second_have_names_of_their_own),
		live_test(old_ones_go_but_never_the_spared),
		live_test(the_last_copy_of_a_key_stays_until_a_start),
		live_test(a_backup_that_was_touched_is_not_believed),
		live_test(a_manifest_that_was_changed_is_not_believed),
		live_test(what_was_taken_away_is_told),
		live_test(what_must_not_be_retired),
		live_test(what_others_have_written_stays),
		live_test(what_a_cut_run_has_left_is_removed),
		live_test(the_trigger_is_set_and_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
