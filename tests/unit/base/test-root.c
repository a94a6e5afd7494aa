/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <linux/limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "base/root.h"

static struct k3sup__root open_root(struct scratch *s)
{
	struct k3sup__root root;

	assert_int_equal(k3sup__root_open(s->op, s->path, &root), 0);
	return root;
}

/* Looks a path up in the scratch directory; the inode that was found, 0 if there is none, or the error. */
static int64_t look(struct scratch *s, const char *path, unsigned flags)
{
	struct k3sup__root root = open_root(s);
	struct k3sup__place place = K3SUP__PLACE_NONE;
	int64_t r = k3sup__root_find(s->op, &root, path, flags, &place);

	if (r == 0 && place.fd >= 0)
		r = (int64_t)place.st.st_ino;
	k3sup__place_clear(&place);
	k3sup__root_close(&root);
	return r;
}

static int64_t inode(struct scratch *s, const char *name)
{
	return (int64_t)stat_at(s->fd, name).st_ino;
}

static void a_root_must_be_a_directory(void **state)
{
	struct scratch *s = *state;
	struct k3sup__root root = {.fd = -1};
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/none", s->path);
	assert_int_equal(k3sup__root_open(s->op, path, &root), K3SUP_E_ROOT);
	assert_sentence(s, "none");
	put_file(s->fd, "none", "", 0644);
	assert_int_equal(k3sup__root_open(s->op, path, &root), K3SUP_E_ROOT);
	assert_int_equal(k3sup__root_open(s->op, s->path, &root), 0);
	assert_int_equal(root.ino, inode(s, "."));
	assert_string_equal(root.path, s->path);
	k3sup__root_close(&root);
}

static void paths_that_are_not_absolute_are_refused(void **state)
{
	struct scratch *s = *state;
	char *path = calloc(1, PATH_MAX + 1);

	put_file(s->fd, "a", "", 0644);
	assert_int_equal(look(s, "", 0), -EINVAL);
	assert_int_equal(look(s, "a", 0), -EINVAL);
	assert_int_equal(look(s, "./a", 0), -EINVAL);
	memset(path, 'x', 257);
	path[0] = '/';
	assert_int_equal(look(s, path, 0), -ENAMETOOLONG);
	path[256] = '\0';
	assert_int_equal(look(s, path, 0), 0);
	memset(path, '/', PATH_MAX);
	assert_int_equal(look(s, path, 0), -ENAMETOOLONG);
	path[PATH_MAX - 1] = '\0';
	assert_int_equal(look(s, path, 0), inode(s, "."));
	free(path);
}

static void a_place_names_the_object_free_of_links(void **state)
{
	struct scratch *s = *state;
	struct k3sup__root root = open_root(s);
	struct k3sup__place place;

	mkdirat(s->fd, "opt", 0755);
	mkdirat(s->fd, "bin", 0755);
	put_file(s->fd, "opt/k3s", "", 0755);
	symlinkat("/opt/k3s", s->fd, "bin/k3s");
	symlinkat("../opt/./none", s->fd, "bin/dangling");

	assert_int_equal(k3sup__root_find(s->op, &root, "//bin/./k3s", 0, &place), 0);
	assert_string_equal(place.path, "/opt/k3s");
	assert_string_equal(place.name, "k3s");
	assert_ptr_equal(place.name, strrchr(place.path, '/') + 1);
	assert_int_equal(place.links, 1);
	assert_int_equal(place.st.st_ino, inode(s, "opt/k3s"));
	assert_int_equal(stat_at(place.dirfd, "k3s").st_ino, inode(s, "opt/k3s"));
	k3sup__place_clear(&place);

	assert_int_equal(k3sup__root_find(s->op, &root, "/bin/k3s", K3SUP__NOFOLLOW, &place), 0);
	assert_string_equal(place.path, "/bin/k3s");
	assert_true(S_ISLNK(place.st.st_mode));
	assert_int_equal(k3sup__place_open(&place, O_RDONLY), -ELOOP);
	k3sup__place_clear(&place);

	assert_int_equal(k3sup__root_find(s->op, &root, "/bin/dangling", 0, &place), 0);
	assert_string_equal(place.path, "/opt/none");
	assert_int_equal(place.fd, -1);
	assert_int_equal(place.links, 1);
	assert_int_equal(k3sup__place_open(&place, O_RDONLY), -ENOENT);
	k3sup__place_clear(&place);

	assert_int_equal(k3sup__root_find(s->op, &root, "/opt/../opt/.", 0, &place), 0);
	assert_string_equal(place.path, "/opt");
	assert_string_equal(place.name, "opt");
	assert_int_equal(stat_at(place.dirfd, "opt").st_ino, inode(s, "opt"));
	k3sup__place_clear(&place);

	assert_int_equal(k3sup__root_find(s->op, &root, "/opt/../../..", 0, &place), 0);
	assert_string_equal(place.path, "/");
	assert_string_equal(place.name, ".");
	assert_int_equal(place.st.st_ino, root.ino);
	k3sup__place_clear(&place);
	k3sup__place_clear(&place);
	k3sup__root_close(&root);
}

static void a_slash_at_the_end_asks_for_a_directory(void **state)
{
	struct scratch *s = *state;

	mkdirat(s->fd, "dir", 0755);
	put_file(s->fd, "file", "", 0644);
	symlinkat("dir", s->fd, "to-dir");
	symlinkat("file/", s->fd, "to-file");
	assert_int_equal(look(s, "/dir/", 0), inode(s, "dir"));
	assert_int_equal(look(s, "/to-dir/", K3SUP__NOFOLLOW), inode(s, "dir"));
	assert_int_equal(look(s, "/to-dir", K3SUP__NOFOLLOW), inode(s, "to-dir"));
	assert_int_equal(look(s, "/file/", 0), -ENOTDIR);
	assert_int_equal(look(s, "/file/..", 0), -ENOTDIR);
	assert_int_equal(look(s, "/to-file", 0), -ENOTDIR);
	assert_int_equal(look(s, "/none", 0), 0);
	assert_int_equal(look(s, "/none/", 0), -ENOENT);
	assert_int_equal(look(s, "/none/file", 0), -ENOENT);
	k3sup__op_forgive(s->op);
	assert_int_equal(look(s, "/none/file", 0), -ENOENT);
	assert_null(s->op->message);
}

static void forty_links_are_followed_and_no_more(void **state)
{
	struct scratch *s = *state;
	char name[16], to[16];

	put_file(s->fd, "l0", "", 0644);
	for (int i = 1; i <= 41; i++) {
		(void)snprintf(name, sizeof(name), "l%d", i);
		(void)snprintf(to, sizeof(to), "/l%d", i - 1);
		symlinkat(to, s->fd, name);
	}
	symlinkat("loop", s->fd, "loop");
	assert_int_equal(look(s, "/l40", 0), inode(s, "l0"));
	assert_int_equal(look(s, "/l41", 0), -ELOOP);
	k3sup__op_forgive(s->op);
	assert_int_equal(look(s, "/loop", 0), -ELOOP);
	assert_sentence(s, "/loop");
	assert_int_equal(look(s, "/loop", K3SUP__NOFOLLOW), inode(s, "loop"));
}

static void links_of_procfs_are_never_followed(void **state)
{
	struct scratch *s = *state;
	struct k3sup__root root;
	struct k3sup__place place;

	assert_int_equal(k3sup__root_open(s->op, "/", &root), 0);
	assert_int_equal(k3sup__root_find(s->op, &root, "/proc/self/exe", 0, &place), K3SUP_E_ESCAPE);
	assert_sentence(s, "/proc/self");
	assert_int_equal(k3sup__root_find(s->op, &root, "/proc/1/root/etc", 0, &place), K3SUP_E_ESCAPE);
	assert_sentence(s, "/proc/1/root");
	assert_int_equal(k3sup__root_find(s->op, &root, "/proc/self", K3SUP__NOFOLLOW, &place), 0);
	k3sup__place_clear(&place);
	assert_int_equal(k3sup__root_find(s->op, &root, "/proc/1/stat", 0, &place), 0);
	k3sup__place_clear(&place);
	k3sup__root_close(&root);
}

static void missing_directories_are_made_whatever_the_umask(void **state)
{
	struct scratch *s = *state;
	mode_t mask = umask(0277);

	mkdirat(s->fd, "var", 0700);
	fchmodat(s->fd, "var", 0711, 0);
	symlinkat("/var/lib/deep", s->fd, "link");
	assert_int_equal(look(s, "/link/x/y", 0), -ENOENT);
	assert_int_equal(look(s, "/link/x/y", K3SUP__MAKE_DIRS | K3SUP__TRUSTED), 0);
	umask(mask);
	assert_int_equal(stat_at(s->fd, "var").st_mode, S_IFDIR | 0711);
	assert_int_equal(stat_at(s->fd, "var/lib").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_at(s->fd, "var/lib/deep/x").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_at(s->fd, "var/lib/deep/x/y").st_nlink, 0);
	put_file(s->fd, "file", "", 0644);
	assert_int_equal(look(s, "/file/x/y", K3SUP__MAKE_DIRS), -ENOTDIR);
}

static void who_else_can_write_makes_a_component_untrusted(void **state)
{
	struct scratch *s = *state;

	mkdirat(s->fd, "a", 0755);
	mkdirat(s->fd, "a/b", 0755);
	put_file(s->fd, "a/b/k3s", "", 0755);
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED), inode(s, "a/b/k3s"));
	fchmodat(s->fd, "a/b", 0775, 0);
	assert_int_equal(look(s, "/a/b/k3s", 0), inode(s, "a/b/k3s"));
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_string_equal(k3sup__json_text(s->op->evidence, "path"), "/a/b");
	assert_string_equal(k3sup__json_text(s->op->evidence, "mode"), "0775");
	assert_sentence(s, "/a/b (mode 0775");
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED | K3SUP__ALLOW_GROUP), inode(s, "a/b/k3s"));
	fchmodat(s->fd, "a/b", 0757, 0);
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED | K3SUP__ALLOW_GROUP), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "everybody");
	fchmodat(s->fd, "a/b", 0755, 0);
	fchmodat(s->fd, "a/b/k3s", 0757, 0);
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "/a/b/k3s");
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED | K3SUP__PARENTS_ONLY), inode(s, "a/b/k3s"));
	fchmodat(s->fd, ".", 0777, 0); /* the root is as it was given */
	fchmodat(s->fd, "a/b/k3s", 0755, 0);
	assert_int_equal(look(s, "/a/b/k3s", K3SUP__TRUSTED), inode(s, "a/b/k3s"));
	assert_int_equal(look(s, "/", K3SUP__TRUSTED), inode(s, "."));
}

static void what_another_user_owns_is_untrusted(void **state)
{
	struct scratch *s = *state;

	need_root();
	mkdirat(s->fd, "a", 0755);
	put_file(s->fd, "a/k3s", "", 0755);
	symlinkat("a", s->fd, "link");
	fchownat(s->fd, "link", 65534, 65534, AT_SYMLINK_NOFOLLOW);
	assert_int_equal(look(s, "/link/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "/link belongs to uid 65534");
	assert_int_equal(look(s, "/a/k3s", K3SUP__TRUSTED), inode(s, "a/k3s"));
	fchownat(s->fd, "a", 65534, 0, 0);
	assert_int_equal(look(s, "/a/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_int_equal(k3sup__json_number(s->op->evidence, "uid", -1), 65534);
	assert_sentence(s, "/a belongs to uid 65534");
}

static void in_a_sticky_directory_the_entry_counts(void **state)
{
	struct scratch *s = *state;

	need_root();
	mkdirat(s->fd, "tmp", 0755);
	fchmodat(s->fd, "tmp", 01777, 0);
	mkdirat(s->fd, "tmp/ours", 0755);
	put_file(s->fd, "tmp/ours/k3s", "", 0755);
	mkdirat(s->fd, "tmp/theirs", 0755);
	fchownat(s->fd, "tmp/theirs", 65534, 0, 0);
	put_file(s->fd, "tmp/theirs/k3s", "", 0755);
	assert_int_equal(look(s, "/tmp/ours/k3s", K3SUP__TRUSTED), inode(s, "tmp/ours/k3s"));
	assert_int_equal(look(s, "/tmp/theirs/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "/tmp/theirs");
	/* nothing there yet: anybody could be faster */
	assert_int_equal(look(s, "/tmp/new", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_int_equal(look(s, "/tmp/new", K3SUP__TRUSTED | K3SUP__PARENTS_ONLY), 0);
	/* the directory as the object itself */
	k3sup__op_forgive(s->op);
	assert_int_equal(look(s, "/tmp", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "/tmp (mode 1777");
	assert_int_equal(look(s, "/tmp/ours/..", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	fchownat(s->fd, "tmp", 65534, 0, 0); /* its owner can rename everything in it */
	assert_int_equal(look(s, "/tmp/ours/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
	fchownat(s->fd, "tmp", 0, 0, 0);
	fchmodat(s->fd, "tmp", 0777, 0);
	assert_int_equal(look(s, "/tmp/ours/k3s", K3SUP__TRUSTED), K3SUP_E_UNTRUSTED);
}

static void a_place_opens_only_what_was_found(void **state)
{
	struct scratch *s = *state;
	struct k3sup__root root = open_root(s);
	struct k3sup__place place;
	int fd;

	put_file(s->fd, "k3s", "old", 0755);
	put_file(s->fd, "other", "other", 0755);
	assert_int_equal(k3sup__root_find(s->op, &root, "/k3s", 0, &place), 0);
	fd = k3sup__place_open(&place, O_RDONLY);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(k3sup__place_open(&place, O_RDONLY | O_DIRECTORY), -ENOTDIR);
	assert_int_equal(k3sup__place_open(&place, O_RDWR | O_TRUNC), -EINVAL);
	assert_content(s->fd, "k3s", "old");

	renameat(s->fd, "other", s->fd, "k3s");
	assert_int_equal(k3sup__place_open(&place, O_RDONLY), -ESTALE);
	unlinkat(s->fd, "k3s", 0);
	assert_int_equal(k3sup__place_open(&place, O_RDONLY), -ESTALE);
	symlinkat("/etc/passwd", s->fd, "k3s");
	assert_int_equal(k3sup__place_open(&place, O_RDONLY), -ESTALE);
	unlinkat(s->fd, "k3s", 0);
	mkfifoat(s->fd, "k3s", 0600);
	assert_int_equal(k3sup__place_open(&place, O_RDONLY), -ESTALE); /* and does not wait for a writer */
	k3sup__place_clear(&place);
	k3sup__root_close(&root);
}

/* ---- random forests of links, compared with what the kernel says to a process that is chrooted there ---- */

#define FORESTS 60
#define LOOKUPS 64
static const char *const names[] = {"a", "b", "c", "d", "e", "l", "m", "n"};

struct answer {
	int error;
	dev_t dev;
	ino_t ino;
};

static void random_path(char *path, bool absolute)
{
	int parts = 1 + rand() % 6;

	strcpy(path, absolute ? "/" : "");
	for (int i = 0; i < parts; i++) {
		int dice = rand() % 10;

		strcat(path, dice < 2 ? ".." : dice == 2 ? "." : names[(size_t)rand() % ELEMENTSOF(names)]);
		if (i < parts - 1 || rand() % 6 == 0)
			strcat(path, rand() % 8 ? "/" : "//");
	}
}

static void plant_forest(int fd, int depth)
{
	char target[128];

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		int dice = rand() % 8, sub;

		if (dice < 2) {
			put_file(fd, names[i], "", 0644);
		} else if (dice < 5) {
			random_path(target, rand() % 2);
			assert_int_equal(symlinkat(target, fd, names[i]), 0);
		} else if (dice < 7 && depth < 3) {
			assert_int_equal(mkdirat(fd, names[i], 0755), 0);
			sub = openat(fd, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			plant_forest(sub, depth + 1);
			close(sub);
		}
	}
}

/* What the kernel answers; the child leaves with what it wrote. */
static void ask_kernel(const char *dir, char paths[][256], const bool *nofollow, struct answer *answers)
{
	int pipefd[2], status;
	pid_t pid;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (chroot(dir) < 0 || chdir("/") < 0)
			_exit(1);
		for (int i = 0; i < LOOKUPS; i++) {
			struct stat st = {0};
			struct answer answer = {0};

			if (fstatat(AT_FDCWD, paths[i], &st, nofollow[i] ? AT_SYMLINK_NOFOLLOW : 0) < 0)
				answer.error = -errno;
			answer.dev = st.st_dev;
			answer.ino = st.st_ino;
			if (write(pipefd[1], &answer, sizeof(answer)) != sizeof(answer))
				_exit(1);
		}
		_exit(0);
	}
	close(pipefd[1]);
	assert_int_equal(k3sup__read_full(pipefd[0], answers, LOOKUPS * sizeof(*answers)), LOOKUPS * sizeof(*answers));
	close(pipefd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static unsigned compare_with_kernel(struct scratch *s, const char *dir)
{
	static char paths[LOOKUPS][256];
	struct answer answers[LOOKUPS];
	bool nofollow[LOOKUPS];
	struct k3sup__root root;
	unsigned found = 0;

	for (int i = 0; i < LOOKUPS; i++) {
		random_path(paths[i], true);
		nofollow[i] = rand() % 2;
	}
	ask_kernel(dir, paths, nofollow, answers);
	assert_int_equal(k3sup__root_open(NULL, dir, &root), 0);
	for (int i = 0; i < LOOKUPS; i++) {
		struct k3sup__place place = K3SUP__PLACE_NONE;
		int r = k3sup__root_find(NULL, &root, paths[i], nofollow[i] ? K3SUP__NOFOLLOW : 0, &place);

		if (r == 0 && place.fd < 0)
			r = -ENOENT;
		if (r != answers[i].error || (r == 0 && (place.st.st_dev != answers[i].dev || place.st.st_ino != answers[i].ino)))
			fail_msg("%s%s in %s: we say %d inode %ju (%s), the kernel says %d inode %ju", paths[i],
				nofollow[i] ? " itself" : "", s->path, r, (uintmax_t)place.st.st_ino, place.path ? place.path : "",
				answers[i].error, (uintmax_t)answers[i].ino);
		/* The path that is reported leads to the same object without any link. */
		if (r == 0) {
			char *full = k3sup__fmt("%s%s", dir, place.path);

			assert_int_equal(stat_at(AT_FDCWD, full).st_ino, answers[i].ino);
			free(full);
			found++;
		}
		k3sup__place_clear(&place);
	}
	k3sup__root_close(&root);
	return found;
}

static void random_forests_look_as_they_do_to_a_chrooted_process(void **state)
{
	struct scratch *s = *state;
	unsigned found = 0;

	if (under_valgrind())
		skip();
	need_root();
	srand(20240607);
	for (int i = 0; i < FORESTS; i++) {
		char dir[128], name[32];
		int fd;

		(void)snprintf(name, sizeof(name), "f%d", i);
		(void)snprintf(dir, sizeof(dir), "%s/%s", s->path, name);
		assert_int_equal(mkdirat(s->fd, name, 0755), 0);
		fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		plant_forest(fd, 0);
		close(fd);
		found += compare_with_kernel(s, dir);
	}
	/* The forests are of use only if much is found and much is not. */
	assert_in_range(found, FORESTS * LOOKUPS / 8, FORESTS * LOOKUPS * 7 / 8);
}

/* ---- a racer moves things while they are looked up ---- */

struct race {
	int fd;
	atomic_bool stop;
	atomic_uint swaps;
};

static void *racer(void *arg)
{
	struct race *race = arg;

	while (!race->stop) {
		/* a directory becomes a link that leads out by ".." and by an absolute path, and back */
		(void)renameat2(race->fd, "root/d", race->fd, "root/up", RENAME_EXCHANGE);
		(void)renameat2(race->fd, "root/d", race->fd, "root/abs", RENAME_EXCHANGE);
		/* a directory is moved out of the root and back */
		(void)renameat(race->fd, "root/m/sub", race->fd, "outside/sub");
		(void)renameat(race->fd, "outside/sub", race->fd, "root/m/sub");
		race->swaps++;
	}
	return NULL;
}

static void nothing_outside_is_reached_while_directories_are_swapped(void **state)
{
	static const char *const paths[] = {
		"/d/canary", "/up/canary", "/abs/canary", "/m/sub/../canary", "/m/sub/deep/../../canary", "/m/sub/../../canary"};
	struct scratch *s = *state;
	struct race race = {.fd = s->fd};
	struct k3sup__root root;
	unsigned found = 0, lost = 0;
	char path[128];
	pthread_t thread;
	ino_t canary;

	if (under_valgrind())
		skip();
	for (const char *const *d = (const char *const[]){"root", "outside", "root/d", "root/m", "root/m/sub", "root/m/sub/deep", NULL}; *d; d++)
		assert_int_equal(mkdirat(s->fd, *d, 0755), 0);
	put_file(s->fd, "outside/canary", "", 0644);
	put_file(s->fd, "root/d/canary", "", 0644);
	put_file(s->fd, "root/m/canary", "", 0644);
	symlinkat("../../../outside", s->fd, "root/up");
	(void)snprintf(path, sizeof(path), "%s/outside", s->path);
	symlinkat(path, s->fd, "root/abs");
	canary = stat_at(s->fd, "outside/canary").st_ino;
	(void)snprintf(path, sizeof(path), "%s/root", s->path);
	assert_int_equal(k3sup__root_open(NULL, path, &root), 0);

	assert_int_equal(pthread_create(&thread, NULL, racer, &race), 0);
	for (unsigned i = 0; i < 60000 || (i < 10000000 && (!found || !lost || race.swaps < 1000)); i++) {
		struct k3sup__place place = K3SUP__PLACE_NONE;
		int r = k3sup__root_find(NULL, &root, paths[i % ELEMENTSOF(paths)], 0, &place);

		if (r == 0 && place.fd >= 0) {
			assert_int_not_equal(place.st.st_ino, canary);
			found++;
		} else {
			assert_true(r == 0 || r == -ENOENT);
			lost++;
		}
		k3sup__place_clear(&place);
	}
	race.stop = true;
	pthread_join(thread, NULL);
	assert_true(found > 0 && lost > 0 && race.swaps >= 1000);
	k3sup__root_close(&root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(a_root_must_be_a_directory),
		scratch_test(paths_that_are_not_absolute_are_refused),
		scratch_test(a_place_names_the_object_free_of_links),
		scratch_test(a_slash_at_the_end_asks_for_a_directory),
		scratch_test(forty_links_are_followed_and_no_more),
		scratch_test(links_of_procfs_are_never_followed),
		scratch_test(missing_directories_are_made_whatever_the_umask),
		scratch_test(who_else_can_write_makes_a_component_untrusted),
		scratch_test(what_another_user_owns_is_untrusted),
		scratch_test(in_a_sticky_directory_the_entry_counts),
		scratch_test(a_place_opens_only_what_was_found),
		scratch_test(random_forests_look_as_they_do_to_a_chrooted_process),
		scratch_test(nothing_outside_is_reached_while_directories_are_swapped),
	};

	return cmocka_run_group_tests_name("root", tests, NULL, NULL);
}
