/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"
#include "../node/elfmake.h"

#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "node/floor.h"
#include "swap/preflight.h"

#define DIR "/usr/local/bin"
#define K3S DIR "/k3s"
#define HASH "0123456789012345678901234567890123456789012345678901234567890123"

struct question {
	const char *target, *version, *installed, *role, *data_dir, *second_dir;
	uint64_t size;
	uint32_t allow;
	bool inner;
	int64_t images; /* bytes of an image that is to be staged, too */
};

static void make_dirs(struct scratch *s, const char *path)
{
	_free_ char *dir = strdup(path + 1);

	assert_non_null(dir);
	for (char *slash = dir; slash; *slash = '/') {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		(void)mkdirat(s->fd, dir, 0755);
		if (!slash)
			break;
	}
}

static void put_target(struct scratch *s)
{
	make_dirs(s, DIR);
	put_file(s->fd, K3S + 1, "k3s", 0755);
}

/* The answer to a question; what it defaults to is admitted. */
static int ask(struct scratch *s, const struct question *q, bool settle)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	struct k3sup__payload payload = {.fd = -1, .build = {.size = q->size ? q->size : 1000, .wrapper = !q->inner, .inner = q->inner}};
	struct k3sup__build installed = {.wrapper = true};
	struct k3sup__place place = K3SUP__PLACE_NONE;
	struct k3sup__plan plan = {.payload = &payload,
		.target = &place,
		.installed = &installed,
		.data_dir = q->data_dir ? q->data_dir : "/var/lib/rancher/k3s",
		.second_dir = q->second_dir,
		.role = q->role,
		.allow = q->allow};
	struct k3sup__image image = {0};
	struct k3sup__images images = {.list = &image, .count = 1, .path = (char[]){"/var/lib/rancher/k3s/agent/images"}, .todo = q->images};
	k3sup_node *node = NULL;
	size_t before = count_entries(s->fd);
	int r;

	plan.images = q->images > 0 ? &images : NULL;

	(void)strcpy(payload.build.asset_hash, q->inner ? "" : HASH);
	(void)strcpy(installed.asset_hash, HASH);
	installed.asset_hash[0] = 'a';
	(void)strcpy(payload.build.version, q->version ? q->version : "v1.30.5+k3s1");
	(void)strcpy(payload.build.arch, k3sup__build_runs_here("amd64") ? "amd64" : "arm64");
	(void)strcpy(installed.version, q->installed ? q->installed : "v1.30.4+k3s1");
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	assert_int_equal(k3sup__root_find(s->op, &node->root, q->target ? q->target : K3S, 0, &place), 0);
	k3sup__op_forgive(s->op);
	r = k3sup__admit(s->op, node, &plan);
	if (settle)
		assert_int_equal(k3sup__settle(s->op, node, &plan, place.path), 0);
	else
		assert_int_equal(count_entries(s->fd), before);
	k3sup__place_clear(&place);
	k3sup_node_unref(node);
	return r;
}

static const char *decision(struct scratch *s, const char *name)
{
	k3sup__json *list = k3sup__json_member(k3sup__op_facts(s->op), "checks");

	for (size_t i = 0; i < k3sup__json_len(list); i++)
		if (k3sup__streq(k3sup__json_text(k3sup__json_element(list, i), "name"), name))
			return k3sup__json_text(k3sup__json_element(list, i), "decision");
	return "none";
}

static void a_good_place_passes_all(void **state)
{
	static const char *const names[] = {"k3s", "arch", "downgrade", "pre-release", "packaging", "skip-minor", "agent-before-server",
		"floor", "build-date", "store", "read-only", "noexec", "immutable", "file-mount", "hard-links", "package", "label", "space",
		"inodes", "data-dir-space"};
	struct scratch *s = *state;

	put_target(s);
	assert_int_equal(ask(s, &(struct question){.role = "server"}, false), 0);
	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (!k3sup__streq(decision(s, names[i]), "pass"))
			fail_msg("%s: %s", names[i], decision(s, names[i]));
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "checks")), ELEMENTSOF(names));
}

/* The program of an installed or a new build, as it is unpacked, says a date. */
static void unpack(struct scratch *s, const char *data_dir, char first, const char *built)
{
	_free_ char *mod = k3sup__fmt(
		"path\tgithub.com/k3s-io/k3s/cmd/server\nbuild\t-ldflags=\"-X k8s.io/component-base/version.buildDate=%s\"\n", built);
	_free_ char *dir = k3sup__fmt("%s/data/%c%s/bin", data_dir, first, HASH + 1), *path = k3sup__fmt("%s/k3s", dir);
	struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = mod, .no_archive = true};
	_free_ unsigned char *elf = NULL;
	_close_ int fd = -1;
	size_t len = 0;

	elf = elf_make(&spec, &len);
	make_dirs(s, dir);
	fd = openat(s->fd, path + 1, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	assert_int_equal(write(fd, elf, len), len);
}

static void the_date_is_in_what_is_unpacked(void **state)
{
	static const struct {
		const char *where, *installed, *payload;
		int code;
	} table[] = {
		{"/srv/other", "2023-05-26T21:50:22Z", "2022-12-09T21:15:18Z", 0},
		{"/srv/k3s", "2023-05-26T21:50:22Z", "torn", 0},
		{"/srv/k3s", "2023-05-26T21:50:22Z", "2022-12-09T21:15:18Z", K3SUP_E_POLICY_BUILD_DATE},
		{"/var/lib/rancher/k3s", "2023-05-26T21:50:22Z", "2023-06-09T21:15:18Z", 0},
		{"/var/lib/rancher/k3s", "2023-05-26T21:50:22Z", "2022-12-09T21:15:18Z", K3SUP_E_POLICY_BUILD_DATE},
	};
	struct scratch *s = *state;

	put_target(s);
	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct question q = {.data_dir = k3sup__startswith(table[i].where, "/srv") ? "/srv/k3s" : NULL};

		unpack(s, table[i].where, 'a', table[i].installed);
		unpack(s, table[i].where, '0', table[i].payload);
		assert_int_equal(ask(s, &q, false), table[i].code);
		assert_string_equal(decision(s, "build-date"), table[i].code ? "refuse" : "pass");
		q.allow = K3SUP_SWAP_ALLOW_DOWNGRADE;
		assert_int_equal(ask(s, &q, false), 0);
	}
}

static void policies_come_first(void **state)
{
	struct scratch *s = *state;

	put_target(s);
	assert_int_equal(linkat(s->fd, K3S + 1, s->fd, "other", 0), 0);
	assert_int_equal(ask(s, &(struct question){.version = "v1.30.3+k3s1"}, false), K3SUP_E_POLICY_DOWNGRADE);
	assert_string_equal(decision(s, "hard-links"), "refuse"); /* all are listed */
	assert_int_equal(ask(s, &(struct question){.version = "v1.30.3+k3s1", .allow = K3SUP_SWAP_ALLOW_DOWNGRADE}, false), K3SUP_E_TARGET_LINKED);
	assert_int_equal(ask(s, &(struct question){.version = "v1.33.3+k3s1"}, false), K3SUP_E_POLICY_SKIP_MINOR);
	assert_int_equal(ask(s, &(struct question){.version = "v1.33.3+k3s1", .allow = K3SUP_SWAP_ALLOW_SKIP_MINOR}, false), K3SUP_E_TARGET_LINKED);
}

static void stores_of_the_system_are_left_alone(void **state)
{
	static const char *const stores[] = {
		"/nix/store/abc-k3s/bin", "/gnu/store/abc/bin", "/ostree/deploy", "/sysroot/ostree/deploy", "/k3os/system"};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(stores); i++) {
		_free_ char *path = k3sup__fmt("%s/k3s", stores[i]);

		make_dirs(s, stores[i]);
		put_file(s->fd, path + 1, "k3s", 0755);
		assert_int_equal(ask(s, &(struct question){.target = path}, false), K3SUP_E_TARGET_MANAGED);
		assert_sentence(s, stores[i]);
	}
	make_dirs(s, "/nix/storehouse");
	put_file(s->fd, "nix/storehouse/k3s", "k3s", 0755);
	assert_int_equal(ask(s, &(struct question){.target = "/nix/storehouse/k3s"}, false), 0);
}

static void other_names_count_but_for_our_own(void **state)
{
	struct scratch *s = *state;

	put_target(s);
	assert_int_equal(linkat(s->fd, K3S + 1, s->fd, K3S ".k3sup-backup" + 1, 0), 0);
	assert_int_equal(linkat(s->fd, K3S + 1, s->fd, DIR "/.k3s.k3sup-tmp-01234567" + 1, 0), 0);
	assert_int_equal(ask(s, &(struct question){0}, false), 0);
	assert_int_equal(linkat(s->fd, K3S + 1, s->fd, DIR "/kubectl" + 1, 0), 0);
	assert_int_equal(ask(s, &(struct question){0}, false), K3SUP_E_TARGET_LINKED);
	assert_sentence(s, "1 other hard link");
}

static void a_packages_file_needs_permission(void **state)
{
	struct scratch *s = *state;

	put_target(s);
	make_dirs(s, "/var/lib/dpkg/info");
	put_file(s->fd, "var/lib/dpkg/info/k3s.list", K3S "\n", 0644);
	assert_int_equal(ask(s, &(struct question){0}, false), K3SUP_E_TARGET_PACKAGE_OWNED);
	assert_sentence(s, "the dpkg package k3s");
	assert_int_equal(ask(s, &(struct question){.allow = K3SUP_SWAP_ALLOW_PACKAGE_OWNED}, false), 0);
	assert_string_equal(decision(s, "package"), "allowed");
}

static void room_is_counted_for_file_and_data_dir(void **state)
{
	struct scratch *s = *state;
	struct question huge = {.size = (uint64_t)1 << 60};

	put_target(s);
	assert_int_equal(ask(s, &huge, false), -ENOSPC);
	assert_sentence(s, "bytes free");
	assert_string_equal(decision(s, "data-dir-space"), "refuse");
	/* What is unpacked already needs no room, and an image's k3s unpacks nothing. */
	make_dirs(s, "/var/lib/rancher/k3s/data/" HASH "/bin");
	assert_int_equal(ask(s, &huge, false), -ENOSPC);
	assert_string_equal(decision(s, "data-dir-space"), "refuse"); /* a torn one has to be unpacked anew */
	put_file(s->fd, "var/lib/rancher/k3s/data/" HASH "/bin/k3s", "k3s", 0755);
	put_file(s->fd, "var/lib/rancher/k3s/data/" HASH "/bin/.sha256sums", HASH "  k3s\n", 0644);
	put_file(s->fd, "var/lib/rancher/k3s/data/" HASH "/bin/.links", "kubectl k3s\n", 0644);
	assert_int_equal(symlinkat("k3s", s->fd, "var/lib/rancher/k3s/data/" HASH "/bin/kubectl"), 0);
	assert_int_equal(ask(s, &huge, false), -ENOSPC);
	assert_string_equal(decision(s, "data-dir-space"), "pass");
	huge.inner = true;
	assert_int_equal(ask(s, &huge, false), -ENOSPC);
	assert_string_equal(decision(s, "data-dir-space"), "pass");
}

static void the_floor_holds_and_is_recorded_where_we_swapped(void **state)
{
	struct scratch *s = *state;

	put_target(s);
	/* Installed by others: no floor. */
	assert_int_equal(ask(s, &(struct question){0}, true), 0);
	assert_int_equal(stat_at(s->fd, "var").st_nlink, 0);
	put_file(s->fd, K3S ".k3sup-backup" + 1, "old", 0755);
	assert_int_equal(ask(s, &(struct question){0}, true), 0);
	assert_content(s->fd, "var/lib/k3sup/floor", "v1.30.5+k3s1\n");
	/* A torn file says nothing; the floor does. */
	assert_int_equal(ask(s, &(struct question){.installed = "", .version = "v1.30.4+k3s9"}, false), K3SUP_E_POLICY_FLOOR);
	assert_int_equal(ask(s, &(struct question){.installed = "", .version = "v1.30.5+k3s1"}, false), 0);
	assert_int_equal(ask(s, &(struct question){.version = "v1.30.4+k3s9", .allow = K3SUP_SWAP_ALLOW_DOWNGRADE}, true), 0);
	assert_content(s->fd, "var/lib/k3sup/floor", "v1.30.4+k3s9\n");
	put_file(s->fd, "var/lib/k3sup/floor", "garbage", 0600);
	assert_int_equal(ask(s, &(struct question){0}, false), K3SUP_E_STATE_DIR);
	assert_int_equal(ask(s, &(struct question){.allow = K3SUP_SWAP_ALLOW_DOWNGRADE}, false), 0);
}

/* ---- mounts: in a mount namespace of the test's own ---- */

static void need_mounts(void)
{
	need_root();
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		print_message("needs mounts\n");
		skip();
	}
}

static void assert_refused_on(struct scratch *s, unsigned long flags, const char *data, const struct question *q, int code)
{
	_free_ char *dir = k3sup__fmt("%s" DIR, s->path), *path = k3sup__fmt("%s" K3S, s->path);

	make_dirs(s, DIR);
	assert_int_equal(mount("test", dir, "tmpfs", 0, data), 0);
	put_file(AT_FDCWD, path, "k3s", 0755); /* the scratch descriptor is of the mounts before */
	assert_int_equal(mount("test", dir, NULL, MS_REMOUNT | flags, data), 0);
	assert_int_equal(ask(s, q, false), code);
	k3sup__op_forgive(s->op);
	assert_int_equal(umount(dir), 0);
}

static void mounts_are_judged_by_their_flags(void **state)
{
	struct scratch *s = *state;
	struct question q = {.size = 1 << 20};

	need_mounts();
	assert_refused_on(s, 0, "size=8m", &q, 0);
	assert_refused_on(s, MS_RDONLY, "size=8m", &q, K3SUP_E_TARGET_READONLY);
	assert_refused_on(s, MS_NOEXEC, "size=8m", &q, K3SUP_E_TARGET_NOEXEC);
	assert_refused_on(s, 0, "size=1m", &q, -ENOSPC);
	assert_refused_on(s, 0, "size=8m,nr_inodes=3", &q, -ENOSPC);
}

static void the_data_dir_has_a_file_system_of_its_own(void **state)
{
	struct scratch *s = *state;
	_free_ char *dir = k3sup__fmt("%s/var/lib", s->path);
	struct question q = {.size = 1 << 20};

	need_mounts();
	put_target(s);
	make_dirs(s, "/var/lib");
	assert_int_equal(mount("test", dir, "tmpfs", 0, "size=3m"), 0);
	assert_int_equal(ask(s, &q, false), K3SUP_E_DATA_DIR_SPACE);
	assert_sentence(s, "/var/lib/rancher/k3s");
	assert_int_equal(mount("test", dir, NULL, MS_REMOUNT, "size=8m,nr_inodes=100"), 0);
	assert_int_equal(ask(s, &q, false), K3SUP_E_DATA_DIR_SPACE);
	assert_sentence(s, "inodes");
	assert_int_equal(umount(dir), 0);
	assert_int_equal(mount("test", dir, "tmpfs", 0, "size=8m"), 0);
	assert_int_equal(ask(s, &q, false), 0);
	assert_int_equal(umount(dir), 0);
}

static void two_data_dirs_are_counted_per_file_system(void **state)
{
	struct scratch *s = *state;
	_free_ char *dir = k3sup__fmt("%s/srv", s->path), *second = k3sup__fmt("%s/srv/b", s->path);
	struct question q = {.size = 1 << 20, .data_dir = "/srv/a/k3s", .second_dir = "/srv/b/k3s"};

	need_mounts();
	put_target(s);
	make_dirs(s, "/srv");
	/* Room for one, but not for both; and with a file system of its own for the second one. */
	assert_int_equal(mount("test", dir, "tmpfs", 0, "size=6m"), 0);
	assert_int_equal(ask(s, &q, false), K3SUP_E_DATA_DIR_SPACE);
	assert_sentence(s, "/srv/b/k3s");
	assert_string_equal(decision(s, "data-dir-space"), "pass");
	assert_string_equal(decision(s, "second-data-dir-space"), "refuse");
	assert_int_equal(mkdir(second, 0755), 0);
	assert_int_equal(mount("test", second, "tmpfs", 0, "size=6m"), 0);
	assert_int_equal(ask(s, &q, false), 0);
	assert_string_equal(decision(s, "second-data-dir-space"), "pass");
	assert_int_equal(mount("test", second, NULL, MS_REMOUNT, "size=3m"), 0);
	assert_int_equal(ask(s, &q, false), K3SUP_E_DATA_DIR_SPACE);
	/* What is unpacked into the default one is found from there. */
	q.data_dir = NULL;
	assert_int_equal(ask(s, &q, false), 0);
	assert_int_equal(umount(second), 0);
	assert_int_equal(umount(dir), 0);
}

/* Each would fit alone. */
static void images_are_counted_with_what_shares_their_file_system(void **state)
{
	struct scratch *s = *state;
	_free_ char *dir = k3sup__fmt("%s/var/lib", s->path);
	struct question q = {.size = 1 << 20, .images = 3 << 20};

	need_mounts();
	put_target(s);
	make_dirs(s, "/var/lib");
	assert_int_equal(mount("test", dir, "tmpfs", 0, "size=6m"), 0);
	assert_int_equal(ask(s, &(struct question){.size = 1 << 20}, false), 0);
	assert_string_equal(decision(s, "images-space"), "none");
	assert_int_equal(ask(s, &(struct question){.inner = true, .images = 3 << 20}, false), 0);
	assert_string_equal(decision(s, "images-space"), "pass");
	assert_int_equal(ask(s, &q, false), K3SUP_E_DATA_DIR_SPACE);
	assert_string_equal(decision(s, "images-space"), "pass");
	q.images = 7 << 20;
	assert_int_equal(ask(s, &q, false), -ENOSPC);
	assert_sentence(s, "agent/images");
	assert_int_equal(umount(dir), 0);
	/* the k3s file, too, if it is there */
	assert_int_equal(mount("test", s->path, "tmpfs", 0, "size=5m,mode=0755"), 0);
	{
		_free_ char *bin = k3sup__fmt("%s" DIR, s->path), *k3s = k3sup__fmt("%s" K3S, s->path), *command = k3sup__fmt("mkdir -p %s", bin);

		assert_int_equal(system(command), 0); /* NOLINT */
		put_file(AT_FDCWD, k3s, "k3s", 0755);
		q = (struct question){.size = 3 << 20, .inner = true, .images = 3 << 20};
		assert_int_equal(ask(s, &q, false), -ENOSPC);
		assert_string_equal(decision(s, "space"), "pass");
		assert_string_equal(decision(s, "images-space"), "refuse");
	}
	assert_int_equal(umount(s->path), 0);
}

static void a_file_that_is_a_mount_is_told_apart(void **state)
{
	struct scratch *s = *state;
	_free_ char *path = k3sup__fmt("%s" K3S, s->path);

	need_mounts();
	put_target(s);
	assert_int_equal(mount(path, path, NULL, MS_BIND, NULL), 0);
	assert_int_equal(ask(s, &(struct question){0}, false), K3SUP_E_TARGET_MOUNTED);
	assert_int_equal(umount(path), 0);
	assert_int_equal(ask(s, &(struct question){0}, false), 0);
}

static void set_flags(struct scratch *s, const char *path, int flags)
{
	int fd = openat(s->fd, path, O_RDONLY | O_CLOEXEC), old = 0;

	assert_true(fd >= 0);
	if (ioctl(fd, FS_IOC_GETFLAGS, &old) < 0 ||
		(old = (old & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) | flags, ioctl(fd, FS_IOC_SETFLAGS, &old)) < 0) {
		close(fd);
		print_message("needs a file system with chattr\n");
		skip();
	}
	close(fd);
}

static void immutable_files_and_directories_are_seen(void **state)
{
	static const char *const paths[] = {K3S + 1, DIR + 1};
	struct scratch *s = *state;

	need_root();
	put_target(s);
	for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
		int immutable, append;

		set_flags(s, paths[i], FS_IMMUTABLE_FL);
		immutable = ask(s, &(struct question){0}, false);
		set_flags(s, paths[i], FS_APPEND_FL);
		append = ask(s, &(struct question){0}, false);
		set_flags(s, paths[i], 0);
		assert_int_equal(immutable, K3SUP_E_TARGET_IMMUTABLE);
		assert_int_equal(append, K3SUP_E_TARGET_IMMUTABLE);
	}
	assert_int_equal(ask(s, &(struct question){0}, false), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(a_good_place_passes_all),
		scratch_test(policies_come_first),
		scratch_test(the_date_is_in_what_is_unpacked),
		scratch_test(stores_of_the_system_are_left_alone),
		scratch_test(other_names_count_but_for_our_own),
		scratch_test(a_packages_file_needs_permission),
		scratch_test(room_is_counted_for_file_and_data_dir),
		scratch_test(the_floor_holds_and_is_recorded_where_we_swapped),
		scratch_test(immutable_files_and_directories_are_seen),
		scratch_test(mounts_are_judged_by_their_flags),
		scratch_test(the_data_dir_has_a_file_system_of_its_own),
		scratch_test(two_data_dirs_are_counted_per_file_system),
		scratch_test(images_are_counted_with_what_shares_their_file_system),
		scratch_test(a_file_that_is_a_mount_is_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
