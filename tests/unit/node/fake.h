/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that look like k3s from outside: a small static program, copied to where a k3s would be and started under the names and titles of one.
 */
#ifndef K3SUP_TESTS_UNIT_NODE_FAKE_H
#define K3SUP_TESTS_UNIT_NODE_FAKE_H

#include "../base/scratch.h"

#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../frame.h"
#include "base/digest.h"
#include "sandbox.h"

#define HASH1 FRAME_HASH1
#define HASH2 FRAME_HASH2
#define DATA_DIR "/var/lib/rancher/k3s"
#define BIN1 DATA_DIR "/data/" HASH1 "/bin"
#define BIN2 DATA_DIR "/data/" HASH2 "/bin"
#define INSTALLED "/usr/local/bin/k3s"

/*
 * Says on descriptor 3 that it runs. FAKE_CHILD: the argv[0] of a child that it starts as itself, as k3s does for --log; FAKE_CWD: where that child works. FAKE_STARTS: a
 * program that it starts as a child, as a supervisor does.
 * FAKE_THEN: what it executes when SIGUSR1 comes, as the wrapper does when it has unpacked.
 */
static const char fake_source[] = "#include <fcntl.h>\n#include <signal.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
				  "int main(int argc, char **argv) {\n"
				  "	char *child = getenv(\"FAKE_CHILD\"), *cwd = getenv(\"FAKE_CWD\"), *starts = "
				  "getenv(\"FAKE_STARTS\"), *then = getenv(\"FAKE_THEN\");\n"
				  "	sigset_t set;\n"
				  "	int n = argc;\n"
				  "	sigemptyset(&set);\n"
				  "	sigaddset(&set, SIGUSR1);\n"
				  "	if (then) sigprocmask(SIG_BLOCK, &set, NULL);\n"
				  "	if (starts) {\n"
				  "		unsetenv(\"FAKE_STARTS\");\n"
				  "		if (fork() == 0) {\n"
				  "			execl(starts, \"/usr/local/bin/k3s server\", (char *)NULL);\n"
				  "			_exit(1);\n"
				  "		}\n"
				  "	}\n"
				  "	if (child) {\n"
				  "		unsetenv(\"FAKE_CHILD\");\n"
				  "		if (fork() == 0) {\n"
				  "			if (cwd && chdir(cwd) < 0) _exit(1);\n"
				  "			execl(\"/proc/self/exe\", child, (char *)NULL);\n"
				  "			_exit(1);\n"
				  "		}\n"
				  "	}\n"
				  "	if (write(3, \"x\", 1) != 1) return 1;\n"
				  "	if (then) {\n"
				  "		sigwait(&set, &n);\n"
				  "		unsetenv(\"FAKE_THEN\");\n"
				  "		if (dup2(open(\"/dev/null\", O_WRONLY), 3) == 3) execv(then, argv);\n"
				  "		return 1;\n"
				  "	}\n"
				  "	close(3);\n"
				  "	for (;;) pause();\n"
				  "}\n";

struct fake_spec {
	const char *file;  /* inside root: what is executed, a link or the file itself */
	const char *title; /* argv[0] */
	const char *args[6];
	const char *child; /* the argv[0] of a child */
	const char *child_cwd;
	const char *starts; /* another program that it starts as its child, a path of ours */
	const char *then;   /* inside root: what it becomes on SIGUSR1 */
	const char *cwd;
	const char *root; /* the directory file is in; "" for "/" */
	bool chroot_there;
	bool new_mnt;
	bool new_pid; /* the process is the first one of a pid namespace; the handle is that of its parent */
	bool by_init; /* its parent is process 1, as a service's is under systemd */
	uid_t uid;
	void (*before)(const void *arg); /* called in the new process, before it becomes the fake: opens what the fake is to hold */
	const void *arg;
};

static char fake_program[64]; /* the compiled one */

static inline int fake_build(void **state)
{
	char source[80], command[256];
	FILE *f;

	(void)state;
	(void)snprintf(fake_program, sizeof(fake_program), "/tmp/k3sup-fake-XXXXXX");
	if (mkdtemp(fake_program) == NULL)
		return -1;
	(void)snprintf(source, sizeof(source), "%s/fake.c", fake_program);
	f = fopen(source, "we");
	if (f == NULL || fputs(fake_source, f) < 0 || fclose(f) != 0)
		return -1;
	(void)snprintf(command, sizeof(command), "cc -static -O1 -o %s/fake %s", fake_program, source);
	return system(command); /* NOLINT: a compiler is what tests have */
}

static inline int fake_remove(void **state)
{
	(void)state;
	return nftw(fake_program, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void make_dirs(const char *path)
{
	_free_ char *copy = strdup(path);

	assert_non_null(copy);
	for (char *slash = strchr(copy + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash != NULL)
			*slash = '\0';
		if (mkdir(copy, 0755) < 0)
			assert_int_equal(errno, EEXIST);
		if (slash == NULL)
			return;
		*slash = '/';
	}
}

/* Copies a compiled program to root + path, with this text behind its end (and before it the archive that it names), and makes links to it beside. */
static inline void install_program(const char *program, const char *root, const char *path, const char *tail, const char *const *links)
{
	_free_ char *whole = k3sup__fmt("%s%s", root, path), *dir = strdup(whole), *from = k3sup__fmt("%s/%s", fake_program, program), *text = NULL;
	unsigned char frame[FRAME_LEN];
	size_t len;
	int fd;

	assert_non_null(dir);
	*strrchr(dir, '/') = '\0';
	make_dirs(dir);
	assert_int_equal(k3sup__read_file(AT_FDCWD, from, 64 << 20, &text, &len), 0);
	(void)unlink(whole);
	fd = open(whole, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, len), 0);
	if (frame_for(tail, strlen(tail), frame))
		assert_int_equal(k3sup__write_full(fd, frame, sizeof(frame)), 0);
	assert_int_equal(k3sup__write_full(fd, tail, strlen(tail)), 0);
	close(fd);
	for (; links != NULL && *links != NULL; links++) {
		_free_ char *link = k3sup__fmt("%s/%s", dir, *links);

		(void)unlink(link);
		assert_int_equal(symlink(strrchr(whole, '/') + 1, link), 0);
	}
}

static inline void fake_install(const char *root, const char *path, const char *tail, const char *const *links)
{
	install_program("fake", root, path, tail, links);
}

static inline void fake_put_list(const char *dir, const char *name, const char *text)
{
	_free_ char *path = k3sup__fmt("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* The lists that k3s's archive comes with: of the digests of all files, and of all links. */
static inline void fake_list(const char *root, const char *bin, const char *const *links)
{
	_free_ char *dir = k3sup__fmt("%s%s", root, bin), *path = k3sup__fmt("%s/k3s", dir), *text = NULL, *sums = NULL, *list = strdup("");
	struct k3sup__digest *digest;
	char sha256[K3SUP__SHA256_HEX];
	size_t len;

	assert_int_equal(k3sup__read_file(AT_FDCWD, path, 64 << 20, &text, &len), 0);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_update(digest, text, len), 0);
	assert_int_equal(k3sup__digest_finish(digest, sha256), 0);
	k3sup__digest_free(digest);
	sums = k3sup__fmt("%s  k3s\n", sha256);
	fake_put_list(dir, ".sha256sums", sums);
	for (; *links != NULL; links++) {
		char *longer = k3sup__fmt("%s%s k3s\n", list, *links);

		free(list);
		list = longer;
	}
	fake_put_list(dir, ".links", list);
}

/* data/<H>/bin as releases since 2022 have it. */
static inline void fake_install_data(const char *root, const char *bin)
{
	static const char *const links[] = {"k3s-server", "k3s-agent", "kubectl", "containerd", "k3s-etcd-snapshot", NULL};
	_free_ char *path = k3sup__fmt("%s/k3s", bin), *server = k3sup__fmt("%s" DATA_DIR "/server", root);

	fake_install(root, path, "", links);
	fake_list(root, bin, links);
	make_dirs(server);
}

static inline void fake_exec(const struct fake_spec *spec, int ready)
{
	_free_ char *file = k3sup__fmt("%s%s", spec->chroot_there ? "" : spec->root, spec->file);
	const char *argv[8] = {spec->title};
	_free_ char *child = spec->child != NULL ? k3sup__fmt("FAKE_CHILD=%s", spec->child) : NULL;
	_free_ char *cwd = spec->child_cwd != NULL ? k3sup__fmt("FAKE_CWD=%s", spec->child_cwd) : NULL;
	_free_ char *starts = spec->starts != NULL ? k3sup__fmt("FAKE_STARTS=%s", spec->starts) : NULL;
	_free_ char *then = spec->then != NULL ? k3sup__fmt("FAKE_THEN=%s%s", spec->root, spec->then) : NULL;
	char *env[5] = {NULL};
	size_t n = 0;

	(void)setpgid(0, 0);
	if (spec->before != NULL)
		spec->before(spec->arg);
	if (spec->new_mnt && unshare(CLONE_NEWNS) < 0)
		_exit(1);
	if (spec->new_pid) {
		pid_t first = unshare(CLONE_NEWPID) == 0 ? fork() : -1;

		if (first < 0)
			_exit(8);
		if (first > 0) {
			close(ready);
			for (;;)
				pause();
		}
	}
	if (spec->chroot_there && (chroot(spec->root) < 0 || chdir("/") < 0))
		_exit(2);
	if (spec->cwd != NULL && chdir(spec->cwd) < 0)
		_exit(3);
	if (dup2(ready, 3) < 0)
		_exit(4);
	if (spec->uid != 0 &&
		(setgroups(0, NULL) < 0 || setresgid(spec->uid, spec->uid, spec->uid) < 0 || setresuid(spec->uid, spec->uid, spec->uid) < 0))
		_exit(5);
	for (size_t i = 0; i < ELEMENTSOF(spec->args) && spec->args[i] != NULL; i++)
		argv[i + 1] = spec->args[i];
	if (child != NULL)
		env[n++] = child;
	if (cwd != NULL)
		env[n++] = cwd;
	if (starts != NULL)
		env[n++] = starts;
	if (then != NULL)
		env[n++] = then;
	execve(file, (char *const *)(uintptr_t)argv, env);
	_exit(6);
}

/* In a child: makes the process that is to run, of which process 1 becomes the parent. Its pid goes first through the pipe. */
static inline void fake_leave(int ready)
{
	pid_t pid = fork();

	if (pid != 0)
		_exit(0);
	while (getppid() != 1)
		(void)usleep(100);
	pid = getpid();
	if (write(ready, &pid, sizeof(pid)) != sizeof(pid))
		_exit(7);
}

/* A file with these lines, its directories made. */
static inline void write_text(const char *root, const char *path, const char *text)
{
	_free_ char *whole = k3sup__fmt("%s%s", root, path), *dir = strdup(whole);
	int fd;

	*strrchr(dir, '/') = '\0';
	make_dirs(dir);
	fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* What /proc/PID/cgroup says: control groups of any shape without any. Goes with the process. */
static inline void fake_cgroup(pid_t pid, const char *text)
{
	char file[] = "/tmp/k3sup-cgroup-XXXXXX";
	_free_ char *path = k3sup__fmt("/proc/%d/cgroup", (int)pid);
	int fd = mkstemp(file);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
	assert_int_equal(mount(file, path, NULL, MS_BIND, NULL), 0);
	assert_int_equal(unlink(file), 0);
}

/* Returns when it, and its child if it has one, run under their names. */
static inline pid_t fake_start(const struct fake_spec *spec)
{
	int ready[2];
	ssize_t expected = spec->child != NULL || spec->starts != NULL ? 2 : 1;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (spec->by_init)
			fake_leave(ready[1]);
		fake_exec(spec, ready[1]);
	}
	if (spec->by_init) {
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(read(ready[0], &pid, sizeof(pid)), sizeof(pid));
	}
	(void)setpgid(pid, pid);
	close(ready[1]);
	while (expected-- > 0) {
		char byte;

		if (read(ready[0], &byte, 1) != 1)
			fail_msg("%s did not start", spec->file);
	}
	close(ready[0]);
	return pid;
}

/* Ends it and its children. */
static inline void fake_stop(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	assert_int_equal(kill(-pid, SIGKILL), 0);
	if (waitpid(pid, NULL, 0) < 0) { /* process 1 reaps it */
		assert_true(pidfd >= 0);
		assert_int_equal(poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, -1), 1);
	}
	close(pidfd);
	/* A child of its own ends when it gets round to it, and until then it is a k3s that runs. */
	while (kill(-pid, 0) == 0)
		(void)usleep(1000);
}

#endif
