/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files for agent/images: what is asked for, what is found, what is put in place, kept, taken back. In a scratch root; nothing here looks at processes.
 */
#include "../base/scratch.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#include <k3sup/node.h>

#include "node/checks.h"
#include "swap/images.h"
#include "swap/preflight.h"

#define DATA "/var/lib/rancher/k3s"
#define AGENT "var/lib/rancher/k3s/agent"
#define DIR AGENT "/images"
#define WORK AGENT "/.k3sup-images"
#define A "k3s-airgap-images.tar.zst"
#define B "more.tar.gz"
#define SHA_NEW "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437" /* of "new" */

static k3sup_node *open_node(struct scratch *s)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	return node;
}

static void make_dirs(struct scratch *s, const char *path)
{
	_free_ char *dir = strdup(path);

	for (char *slash = dir; slash; *slash = '/') {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		(void)mkdirat(s->fd, dir, 0755);
		if (!slash)
			break;
	}
}

/* What a run is told, and what it does. */
struct run {
	const char *a, *b;  /* names below src; b may be NULL */
	const char *sha256; /* of a */
	const char *sums;   /* below src */
	bool only_look;
};

static const char *action_of(struct scratch *s, size_t i)
{
	return k3sup__json_text(k3sup__json_element(k3sup__json_member(k3sup__op_facts(s->op), "images"), i), "action");
}

static int run_on(struct scratch *s, k3sup_node *node, const struct run *run, struct k3sup__images *ret)
{
	_free_ char *a = k3sup__fmt("%s/src/%s", s->path, run->a), *b = run->b ? k3sup__fmt("%s/src/%s", s->path, run->b) : NULL;
	_free_ char *sums = run->sums ? k3sup__fmt("%s/src/%s", s->path, run->sums) : NULL;
	const char *files[] = {a, b, NULL};
	struct k3sup__given_terms terms = {.sha256 = run->sha256, .sums = sums};
	int r = k3sup__images_take(files, &terms, ret);

	k3sup__op_forgive(s->op);
	if (r >= 0)
		r = k3sup__images_look(s->op, node, ret, DATA);
	if (r >= 0 && !run->only_look)
		r = k3sup__images_stage(s->op, node, DATA, ret);
	k3sup__images_report(s->op, ret);
	return r;
}

/* 1 if something changed, 0, or the error. */
static int stage(struct scratch *s, const struct run *run)
{
	struct k3sup__images images;
	k3sup_node *node = open_node(s);
	int r = run_on(s, node, run, &images);

	if (r >= 0)
		r = k3sup__images_changed(&images);
	k3sup__images_clear(&images);
	k3sup_node_unref(node);
	return r;
}

static int commit(struct scratch *s)
{
	k3sup_node *node = open_node(s);
	int r = k3sup__images_commit(s->op, node, DATA);

	k3sup_node_unref(node);
	return r;
}

static int restore(struct scratch *s)
{
	k3sup_node *node = open_node(s);
	int r;

	k3sup__json_del(k3sup__op_facts(s->op), "images");
	r = k3sup__images_restore(s->op, node, DATA, NULL);

	k3sup_node_unref(node);
	return r;
}

static bool is_there(struct scratch *s, const char *path)
{
	return faccessat(s->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static size_t entries(struct scratch *s, const char *path)
{
	_close_ int fd = openat(s->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 ? count_entries(fd) : 0;
}

static int setup(void **state)
{
	struct scratch *s;
	int r = scratch_setup(state);

	s = *state;
	make_dirs(s, DIR);
	make_dirs(s, "src");
	put_file(s->fd, "src/" A, "new", 0644);
	put_file(s->fd, "src/" B, "more", 0644);
	return r;
}

/* ---- options ---- */

static void what_is_asked_for_is_checked(void **state)
{
	static const char *const none[] = {NULL}, *const one[] = {"/x/" A, NULL}, *const relative[] = {A, NULL},
				 *const twice[] = {"/x/" A, "/y/" A, NULL}, *const two[] = {"/x/" A, "/x/" B, NULL}, *const dir[] = {"/x/", NULL},
				 *const dot[] = {"/x/.cache.json", NULL}, *const up[] = {"/x/..", NULL}, *const empty[] = {"", NULL};
	char name[256];
	const char *const longest[] = {name, NULL};
	const struct {
		const char *const *files;
		struct k3sup__given_terms terms;
		int code;
	} all[] = {
		{NULL, {0}, 0},
		{none, {0}, 0},
		{one, {.sha256 = SHA_NEW}, 0},
		{relative, {0}, 0},
		{two, {.sums = "/list"}, 0},
		{two, {.sums = "/list", .signature = "/s", .key = "/k"}, 0},
		{one, {.signature = "/s", .key = "/k"}, 0},
		{two, {.sha256 = SHA_NEW}, -EINVAL},
		{two, {.signature = "/s", .key = "/k"}, -EINVAL},
		{one, {.signature = "/s"}, -EINVAL},
		{one, {.sha256 = "abc"}, -EINVAL},
		{twice, {0}, -EINVAL},
		{dir, {0}, -EINVAL},
		{dot, {0}, -EINVAL},
		{up, {0}, -EINVAL},
		{empty, {0}, -EINVAL},
		{longest, {0}, -ENAMETOOLONG},
	};

	(void)state;
	memset(name, 'x', sizeof(name));
	name[255] = '\0';
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		struct k3sup__images images;
		int r = k3sup__images_take(all[i].files, &all[i].terms, &images);

		if (r != all[i].code)
			fail_msg("%zu: %d", i, r);
		k3sup__images_clear(&images);
	}
}

/* ---- putting in place ---- */

static void new_files_are_put_in_place(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(stage(s, &(struct run){.a = A, .b = B}), 1);
	assert_content(s->fd, DIR "/" A, "new");
	assert_content(s->fd, DIR "/" B, "more");
	assert_string_equal(action_of(s, 0), "create");
	assert_int_equal(stat_at(s->fd, DIR "/" A).st_mode, S_IFREG | 0644);
	assert_int_equal(entries(s, DIR), 2);
	assert_false(is_there(s, WORK));
	assert_int_equal(stage(s, &(struct run){.a = A, .b = B}), 0);
	assert_string_equal(action_of(s, 1), "none");
	assert_int_equal(commit(s), 0);
	assert_int_equal(restore(s), 0);
	assert_int_equal(entries(s, DIR), 2);
}

static void directories_are_made_as_k3s_has_them(void **state)
{
	struct scratch *s = *state;
	mode_t mask = umask(0777);

	assert_int_equal(unlinkat(s->fd, DIR, AT_REMOVEDIR), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	umask(mask);
	assert_int_equal(stat_at(s->fd, DIR).st_mode, S_IFDIR | 0755);
	assert_content(s->fd, DIR "/" A, "new");
	assert_int_equal(unlinkat(s->fd, DIR "/" A, 0), 0);
	assert_int_equal(unlinkat(s->fd, DIR, AT_REMOVEDIR), 0);
	for (const char *const *name = (const char *const[]){AGENT, "var/lib/rancher/k3s", "var/lib/rancher", NULL}; *name; name++)
		assert_int_equal(unlinkat(s->fd, *name, AT_REMOVEDIR), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	assert_int_equal(stat_at(s->fd, DIR).st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_at(s->fd, AGENT).st_mode, S_IFDIR | 0700);
	assert_int_equal(stat_at(s->fd, "var/lib/rancher/k3s").st_mode, S_IFDIR | 0755);
}

static void an_old_version_is_kept_until_commit(void **state)
{
	struct scratch *s = *state;
	char path[128];

	put_file(s->fd, DIR "/" A, "old", 0600);
	put_file(s->fd, DIR "/other.tar", "other", 0644);
	(void)snprintf(path, sizeof(path), "%s/" DIR "/" A, s->path);
	assert_int_equal(setxattr(path, "user.k", "v", 1, 0), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	assert_string_equal(action_of(s, 0), "replace");
	assert_content(s->fd, DIR "/" A, "new");
	assert_int_equal(stat_at(s->fd, DIR "/" A).st_mode, S_IFREG | 0600);
	assert_int_equal(getxattr(path, "user.k", NULL, 0), 1);
	assert_content(s->fd, WORK "/" A ".k3sup-backup", "old");
	assert_int_equal(stat_at(s->fd, WORK).st_mode, S_IFDIR | 0700);
	assert_int_equal(entries(s, DIR), 2);

	/* A second staging before the commit keeps the first version. */
	put_file(s->fd, "src/" A, "newer", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	assert_content(s->fd, DIR "/" A, "newer");
	assert_content(s->fd, WORK "/" A ".k3sup-backup", "old");
	assert_int_equal(entries(s, WORK), 1);
	assert_int_equal(commit(s), 1);
	assert_false(is_there(s, WORK));
	assert_content(s->fd, DIR "/" A, "newer");
	assert_content(s->fd, DIR "/other.tar", "other");
	assert_int_equal(entries(s, DIR), 2);
	assert_int_equal(commit(s), 0);
}

static void what_was_kept_is_put_back_with_the_present_time(void **state)
{
	const struct timespec long_ago[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct scratch *s = *state;
	ino_t old;

	put_file(s->fd, DIR "/" A, "old", 0600);
	assert_int_equal(utimensat(s->fd, DIR "/" A, long_ago, 0), 0);
	old = stat_at(s->fd, DIR "/" A).st_ino;
	assert_int_equal(stage(s, &(struct run){.a = A, .b = B}), 1);
	assert_int_equal(stat_at(s->fd, WORK "/" A ".k3sup-backup").st_ino, old);
	assert_int_equal(restore(s), 1);
	assert_string_equal(action_of(s, 0), "restore");
	assert_content(s->fd, DIR "/" A, "old");
	assert_int_equal(stat_at(s->fd, DIR "/" A).st_ino, old);
	assert_true(stat_at(s->fd, DIR "/" A).st_mtim.tv_sec > 1000);
	assert_content(s->fd, DIR "/" B, "more"); /* no file is removed */
	assert_false(is_there(s, WORK));
	assert_int_equal(restore(s), 0);

	/* Cut between the link and the rename: one file under both names. */
	assert_int_equal(mkdirat(s->fd, WORK, 0700), 0);
	assert_int_equal(linkat(s->fd, DIR "/" A, s->fd, WORK "/" A ".k3sup-backup", 0), 0);
	assert_int_equal(restore(s), 1);
	assert_int_equal(stat_at(s->fd, DIR "/" A).st_nlink, 1);
	assert_false(is_there(s, WORK));
}

static void what_cut_runs_left_goes(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(mkdirat(s->fd, WORK, 0700), 0);
	put_file(s->fd, WORK "/.x.tar.k3sup-tmp-01234567", "torn", 0600);
	put_file(s->fd, WORK "/.y.tar.k3sup-tmp-0123456", "not ours", 0600);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	assert_int_equal(entries(s, WORK), 1);
	put_file(s->fd, WORK "/.x.tar.k3sup-tmp-01234567", "torn", 0600);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1); /* only that was left to do */
	assert_int_equal(stage(s, &(struct run){.a = A}), 0);
	assert_int_equal(unlinkat(s->fd, WORK "/.y.tar.k3sup-tmp-0123456", 0), 0);
	put_file(s->fd, WORK "/.x.tar.k3sup-tmp-01234567", "torn", 0600);
	assert_int_equal(commit(s), 1);
	assert_false(is_there(s, WORK));
}

/* ---- what is verified ---- */

static void only_the_bytes_that_were_demanded_get_in(void **state)
{
	struct scratch *s = *state;

	put_file(s->fd, DIR "/" A, "old", 0644);
	put_file(s->fd, "src/list", SHA_NEW "  k3s\n" SHA_NEW "  " A "\n", 0644);
	put_file(s->fd, "src/" A, "tor", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A, .sha256 = SHA_NEW}), K3SUP_E_DIGEST_MISMATCH);
	assert_sentence(s, A);
	assert_int_equal(stage(s, &(struct run){.a = A, .sums = "list"}), K3SUP_E_DIGEST_MISMATCH);
	/* the second one is not in the list: the first one is not put in place either */
	put_file(s->fd, "src/" A, "new", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A, .b = B, .sums = "list"}), K3SUP_E_SUMS);
	assert_sentence(s, "does not name " B);
	assert_content(s->fd, DIR "/" A, "old");
	assert_int_equal(entries(s, DIR), 1);
	assert_false(is_there(s, WORK));
	put_file(s->fd, "src/list", SHA_NEW "  " A "\n" SHA_NEW "  " B "\n", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A, .b = B, .sums = "list"}), K3SUP_E_DIGEST_MISMATCH);
	assert_sentence(s, B);
	assert_content(s->fd, DIR "/" A, "old");
	assert_int_equal(entries(s, DIR), 1);
	assert_false(is_there(s, WORK));
	assert_int_equal(stage(s, &(struct run){.a = A, .sums = "list"}), 1);
	assert_int_equal(stage(s, &(struct run){.a = A, .sums = "list"}), 0);
	/* the same bytes are there already, and neither is what it should be */
	put_file(s->fd, "src/" A, "bad", 0644);
	put_file(s->fd, DIR "/" A, "bad", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A, .sums = "list"}), K3SUP_E_DIGEST_MISMATCH);
}

static void a_file_that_others_can_write_has_to_be_bound(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(fchmodat(s->fd, "src/" A, 0666, 0), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), K3SUP_E_UNTRUSTED);
	assert_int_equal(stage(s, &(struct run){.a = A, .sha256 = SHA_NEW}), 1);
	assert_content(s->fd, DIR "/" A, "new");
}

static void those_who_only_ask_are_told_the_same(void **state)
{
	struct run run = {.a = A, .sha256 = SHA_NEW, .only_look = true};
	struct k3sup__images images;
	struct scratch *s = *state;
	k3sup_node *node = open_node(s);

	assert_int_equal(run_on(s, node, &run, &images), 0);
	assert_int_equal(k3sup__images_missing(&images), 1);
	assert_int_equal(images.todo, 3);
	assert_int_equal(k3sup__images_prove(s->op, &images), 0);
	assert_false(k3sup__images_changed(&images));
	k3sup__images_clear(&images);
	put_file(s->fd, "src/" A, "tor", 0644);
	assert_int_equal(run_on(s, node, &run, &images), 0);
	assert_int_equal(k3sup__images_prove(s->op, &images), K3SUP_E_DIGEST_MISMATCH);
	k3sup__images_clear(&images);
	assert_int_equal(entries(s, DIR), 0);
	k3sup_node_unref(node);
}

/* ---- what is refused ---- */

static void what_is_no_file_is_refused(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(mkdirat(s->fd, "src/dir.tar", 0755), 0);
	put_file(s->fd, "src/empty.tar", "", 0644);
	assert_int_equal(stage(s, &(struct run){.a = "dir.tar"}), K3SUP_E_PAYLOAD_NOT_FILE);
	assert_int_equal(stage(s, &(struct run){.a = "empty.tar"}), K3SUP_E_PAYLOAD_EMPTY);
	assert_int_equal(stage(s, &(struct run){.a = "none.tar"}), K3SUP_E_PAYLOAD_MISSING);
	assert_int_equal(symlinkat("/nowhere", s->fd, DIR "/" A), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), K3SUP_E_TARGET_NOT_FILE);
	assert_int_equal(unlinkat(s->fd, DIR "/" A, 0), 0);
	assert_int_equal(mkdirat(s->fd, DIR "/" A, 0755), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), K3SUP_E_TARGET_NOT_FILE);
	assert_int_equal(unlinkat(s->fd, DIR "/" A, AT_REMOVEDIR), 0);
	assert_int_equal(mkdirat(s->fd, WORK, 0755), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "root's alone");
	assert_int_equal(commit(s), K3SUP_E_UNTRUSTED);
	assert_int_equal(unlinkat(s->fd, WORK, AT_REMOVEDIR), 0);
	assert_int_equal(fchmodat(s->fd, DIR, 0777, 0), 0);
	assert_int_equal(stage(s, &(struct run){.a = A}), K3SUP_E_UNTRUSTED);
	assert_int_equal(commit(s), 0); /* nothing of ours is there: nobody has to care */
	assert_int_equal(unlinkat(s->fd, DIR, AT_REMOVEDIR), 0);
	put_file(s->fd, DIR, "file", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A}), -ENOTDIR);
	assert_int_equal(unlinkat(s->fd, DIR, 0), 0);
	assert_int_equal(symlinkat("/srv/images", s->fd, DIR), 0);
	make_dirs(s, "srv");
	assert_int_equal(stage(s, &(struct run){.a = A}), K3SUP_E_TARGET_DANGLING);
	assert_int_equal(commit(s), 0);
	/* the link leads somewhere: what is ours lies beside that */
	make_dirs(s, "srv/images");
	put_file(s->fd, "srv/images/" A, "old", 0644);
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	assert_content(s->fd, "srv/.k3sup-images/" A ".k3sup-backup", "old");
	assert_int_equal(commit(s), 1);
	assert_int_equal(entries(s, "srv"), 1);
}

static const char *warning(struct scratch *s, size_t i)
{
	const char *text = k3sup__json_as_str(k3sup__json_element(k3sup__json_member(k3sup__op_facts(s->op), "warnings"), i));

	return text ? text : "";
}

static void odd_names_are_warned_of(void **state)
{
	struct scratch *s = *state;
	const char *foreign = k3sup__build_runs_here("s390x") ? "k3s-airgap-images-arm64.tar" : "k3s-airgap-images-s390x.tar";
	_free_ char *path = k3sup__fmt("src/%s", foreign);

	put_file(s->fd, "src/k3s.img", "x", 0644);
	put_file(s->fd, path, "x", 0644);
	assert_int_equal(stage(s, &(struct run){.a = "k3s.img", .b = foreign}), 1);
	assert_non_null(strstr(warning(s, 0), "k3s.img"));
	assert_non_null(strstr(warning(s, 1), "another architecture"));
	put_file(s->fd, DIR "/.cache.json", "", 0644);
	put_file(s->fd, path, "y", 0644);
	assert_int_equal(stage(s, &(struct run){.a = foreign}), 1);
	assert_non_null(strstr(warning(s, 2), ".cache.json"));
}

/* ---- room ---- */

static int room(struct scratch *s, const struct run *run)
{
	_cleanup_(k3sup__checks_clear) struct k3sup__checks checks;
	struct k3sup__images images;
	k3sup_node *node = open_node(s);
	int r = run_on(s, node, run, &images);

	k3sup__checks_begin(&checks);
	if (r >= 0) {
		k3sup__room_check_images(node, &images, &checks);
		r = k3sup__checks_judge(s->op, &checks);
	}
	k3sup__images_clear(&images);
	k3sup_node_unref(node);
	return r;
}

static void full_file_systems_are_noticed_before(void **state)
{
	struct run run = {.a = A, .only_look = true};
	struct scratch *s = *state;
	_free_ char *dir = k3sup__fmt("%s/" AGENT, s->path);

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	assert_int_equal(room(s, &run), 0);
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0755"), 0);
	assert_int_equal(room(s, &run), -ENOSPC);
	assert_sentence(s, "bytes free");
	assert_int_equal(mount("tmpfs", dir, "tmpfs", MS_REMOUNT, "size=1m,nr_inodes=3"), 0);
	assert_int_equal(room(s, &run), -ENOSPC);
	assert_sentence(s, "inodes");
	assert_int_equal(mount("tmpfs", dir, "tmpfs", MS_REMOUNT | MS_RDONLY, "nr_inodes=100"), 0);
	assert_int_equal(room(s, &run), -EROFS);
	assert_int_equal(umount(dir), 0);
}

/* agent/images is a volume: nothing can be renamed into it from elsewhere. */
static void a_mount_of_its_own_has_the_work_directory_inside(void **state)
{
	struct scratch *s = *state;
	_free_ char *dir = k3sup__fmt("%s/" DIR, s->path), *volume = k3sup__fmt("%s/volume", s->path);

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	make_dirs(s, "volume");
	put_file(s->fd, "volume/" A, "old", 0644);
	assert_int_equal(mount(volume, dir, NULL, MS_BIND, NULL), 0); /* of the same device, and a rename would fail all the same */
	assert_int_equal(stage(s, &(struct run){.a = A}), 1);
	assert_content(s->fd, "volume/.k3sup-images/" A ".k3sup-backup", "old");
	assert_content(s->fd, "volume/" A, "new");
	assert_int_equal(commit(s), 1);
	assert_int_equal(entries(s, "volume"), 1);
	assert_int_equal(umount(dir), 0);
}

/* ---- failures ---- */

static void a_run_that_fails_takes_back_what_it_did(void **state)
{
	struct k3sup__images images;
	struct scratch *s = *state;
	k3sup_node *node = open_node(s);

	put_file(s->fd, DIR "/" A, "old", 0644);
	assert_int_equal(run_on(s, node, &(struct run){.a = A, .b = B}, &images), 0);
	assert_true(k3sup__images_changed(&images));
	k3sup__images_undo(s->op, &images);
	assert_false(k3sup__images_changed(&images));
	k3sup__images_clear(&images);
	assert_content(s->fd, DIR "/" A, "old");
	assert_int_equal(entries(s, DIR), 1);
	assert_false(is_there(s, WORK));
	/* a directory that it made goes, too */
	assert_int_equal(unlinkat(s->fd, DIR "/" A, 0), 0);
	assert_int_equal(unlinkat(s->fd, DIR, AT_REMOVEDIR), 0);
	assert_int_equal(run_on(s, node, &(struct run){.a = A}, &images), 0);
	k3sup__images_undo(s->op, &images);
	k3sup__images_clear(&images);
	assert_false(is_there(s, DIR));
	k3sup_node_unref(node);
}

#define images_test(f) cmocka_unit_test_setup_teardown(f, setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		images_test(what_is_asked_for_is_checked),
		images_test(new_files_are_put_in_place),
		images_test(directories_are_made_as_k3s_has_them),
		images_test(an_old_version_is_kept_until_commit),
		images_test(what_was_kept_is_put_back_with_the_present_time),
		images_test(what_cut_runs_left_goes),
		images_test(only_the_bytes_that_were_demanded_get_in),
		images_test(a_file_that_others_can_write_has_to_be_bound),
		images_test(those_who_only_ask_are_told_the_same),
		images_test(what_is_no_file_is_refused),
		images_test(odd_names_are_warned_of),
		images_test(full_file_systems_are_noticed_before),
		images_test(a_mount_of_its_own_has_the_work_directory_inside),
		images_test(a_run_that_fails_takes_back_what_it_did),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
