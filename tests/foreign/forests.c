/* SPDX-License-Identifier: Apache-2.0 */
/* Random forests of links, looked up by the library and by a process that is chrooted there. */
#include "foreign.h"

#include <sys/wait.h>

#define LOOKUPS 48

static const char *const names[] = {"a", "b", "c", "d", "e", "l", "m", "n"};

struct answer {
	int error;
	dev_t dev;
	ino_t ino;
};

struct question {
	char path[256];
	bool nofollow;
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

static void plant(int fd, int depth)
{
	char target[128];

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		int dice = rand() % 8;

		if (dice < 2) {
			assert_int_equal(mknodat(fd, names[i], S_IFREG | 0644, 0), 0);
		} else if (dice < 5) {
			random_path(target, rand() % 2);
			assert_int_equal(symlinkat(target, fd, names[i]), 0);
		} else if (dice < 7 && depth < 3) {
			int sub;

			assert_int_equal(mkdirat(fd, names[i], 0755), 0);
			sub = openat(fd, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			plant(sub, depth + 1);
			close(sub);
		}
	}
}

static void answer_chrooted(const char *dir, const struct question *questions, int out)
{
	struct answer answers[LOOKUPS] = {0};

	if (chroot(dir) < 0 || chdir("/") < 0)
		_exit(1);
	for (int i = 0; i < LOOKUPS; i++) {
		struct stat st = {0};

		if (fstatat(AT_FDCWD, questions[i].path, &st, questions[i].nofollow ? AT_SYMLINK_NOFOLLOW : 0) < 0)
			answers[i].error = -errno;
		answers[i].dev = st.st_dev;
		answers[i].ino = st.st_ino;
	}
	_exit(write(out, answers, sizeof(answers)) == sizeof(answers) ? 0 : 1);
}

static void ask_kernel(const char *dir, const struct question *questions, struct answer *answers)
{
	int pipefd[2], status;
	pid_t pid;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		answer_chrooted(dir, questions, pipefd[1]);
	close(pipefd[1]);
	assert_int_equal(k3sup__read_full(pipefd[0], answers, LOOKUPS * sizeof(*answers)), LOOKUPS * sizeof(*answers));
	close(pipefd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* How many of them we see otherwise. */
static unsigned compare(look_fn look, const struct question *questions, const struct answer *answers, unsigned *found)
{
	struct k3sup__root root;
	unsigned differences = 0;

	assert_int_equal(k3sup__root_open(NULL, PLACE, &root), 0);
	opens_watch(PLACE);
	for (int i = 0; i < LOOKUPS; i++) {
		const struct question *q = &questions[i];
		struct k3sup__place place = K3SUP__PLACE_NONE;
		int r = look(&root, q->path, q->nofollow ? K3SUP__NOFOLLOW : 0, &place);

		if (r == 0 && place.fd < 0)
			r = -ENOENT;
		if (r != answers[i].error || (r == 0 && (place.st.st_dev != answers[i].dev || place.st.st_ino != answers[i].ino))) {
			if (differences++ == 0 && look == look_ours)
				printf("%s%s: we say %d inode %ju (%s), the kernel says %d inode %ju\n", q->path,
					q->nofollow ? " itself" : "", r, (uintmax_t)place.st.st_ino, place.path ? place.path : "",
					answers[i].error, (uintmax_t)answers[i].ino);
		}
		*found += r == 0;
		k3sup__place_clear(&place);
	}
	opens_watch(NULL);
	k3sup__root_close(&root);
	return differences;
}

int forests(unsigned count, unsigned seed, look_fn look, unsigned long *ret_differences)
{
	unsigned found = 0;

	*ret_differences = opens = opens_outside = 0;
	srand(seed);
	for (unsigned i = 0; i < count; i++) {
		struct question questions[LOOKUPS];
		struct answer answers[LOOKUPS];
		int fd;

		assert_int_equal(mkdir(PLACE, 0755), 0);
		fd = open(PLACE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		plant(fd, 0);
		close(fd);
		for (int j = 0; j < LOOKUPS; j++) {
			random_path(questions[j].path, true);
			questions[j].nofollow = rand() % 2;
		}
		ask_kernel(PLACE, questions, answers);
		*ret_differences += compare(look, questions, answers, &found);
		nftw(PLACE, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	}
	/* The forests are of use only if much is found and much is not. */
	return found > count * LOOKUPS / 8 && found < count * LOOKUPS * 7 / 8 ? 0 : -1;
}
