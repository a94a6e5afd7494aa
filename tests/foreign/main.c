/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   foreign forests COUNT SEED | racer ROUNDS | renamer ROUNDS
 *
 * Exit status: 0 passed, 1 not, 77 cannot run here.
 */
#include "foreign.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* A root directory of our own: a tmpfs with canaries under the names that forests have, and /proc. */
static void enter(void)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "l", "m", "n"};
	char dir[] = "/tmp/k3sup-foreign-XXXXXX", path[64];
	int status;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	pid = fork();
	assert_true(pid >= 0);
	if (pid > 0) {
		(void)waitpid(pid, &status, 0);
		(void)rmdir(dir);
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("needs root and a mount namespace\n");
		exit(77);
	}
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "mode=0755"), 0);
	assert_int_equal(chdir(dir), 0);
	for (const char *const *d = (const char *const[]){"proc", "host", "dev", "tmp", NULL}; *d; d++)
		assert_int_equal(mkdir(*d, 0755), 0);
	assert_int_equal(mount("/proc", "proc", NULL, MS_BIND | MS_REC, NULL), 0);
	assert_int_equal(mount("/dev", "dev", NULL, MS_BIND | MS_REC, NULL), 0);
	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		for (int j = 0; j < 2; j++) {
			(void)snprintf(path, sizeof(path), "%s%s", j ? "host/" : "", names[i]);
			if (i % 2)
				assert_int_equal(mkdir(path, 0755), 0);
			else
				assert_int_equal(mknod(path, S_IFREG | 0644, 0), 0);
		}
	assert_int_equal(chroot("."), 0);
	assert_int_equal(chdir("/"), 0);
}

static int compare_forests(unsigned count, unsigned seed)
{
	unsigned long differences, naive;
	int r = forests(count, seed, look_ours, &differences), control;

	printf("forests: %u from seed %u: %lu differences, %lu opens, %lu outside\n", count, seed, differences, opens, opens_outside);
	if (r < 0 || differences || opens_outside || !opens)
		return 1;
	control = forests(100, seed, look_naive, &naive);
	printf("forests: the naive way, 100 of them: %lu differences, %lu opens outside\n", naive, opens_outside);
	return control < 0 || naive == 0 || opens_outside == 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	if (count == 0) {
		fprintf(stderr, "foreign forests COUNT SEED | racer ROUNDS | renamer ROUNDS\n");
		return 2;
	}
	enter();
	if (strcmp(argv[1], "forests") == 0)
		return compare_forests((unsigned)count, argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1);
	return strcmp(argv[1], "racer") == 0 ? racer((unsigned)count) : renamer((unsigned)count);
}
