/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/lock.h"

/* Stands between the library and the kernel, so that the lock can be replaced at the worst moment: between opening and locking. */
static int replace_lock_in = -1; /* the state directory, once */

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd == F_OFD_SETLK && replace_lock_in >= 0) {
		int dirfd = replace_lock_in;

		replace_lock_in = -1;
		put_file(dirfd, "new", "", 0600);
		assert_int_equal(renameat(dirfd, "new", dirfd, "lock"), 0);
	}
#ifdef SYS_fcntl64
	return (int)syscall(SYS_fcntl64, fd, cmd, arg);
#else
	return (int)syscall(SYS_fcntl, fd, cmd, arg);
#endif
}

static struct k3sup__root open_root(struct scratch *s)
{
	struct k3sup__root root;

	assert_int_equal(k3sup__root_open(s->op, s->path, &root), 0);
	return root;
}

static int take(struct scratch *s, int *ret_fd)
{
	struct k3sup__root root = open_root(s);
	int r = k3sup__lock_take(s->op, &root, K3SUP__TRUSTED, ret_fd);

	k3sup__root_close(&root);
	return r;
}

static int holder(struct scratch *s, k3sup__json **ret)
{
	struct k3sup__root root = open_root(s);
	int r = k3sup__lock_holder(s->op, &root, K3SUP__TRUSTED, ret);

	k3sup__root_close(&root);
	return r;
}

static int open_dir(struct scratch *s, const char *path, bool create, int *ret_fd)
{
	struct k3sup__root root = open_root(s);
	int r = k3sup__state_dir_open(s->op, &root, path, create, K3SUP__TRUSTED, ret_fd);

	k3sup__root_close(&root);
	return r;
}

static void one_holder_at_a_time_in_the_same_process_too(void **state)
{
	struct scratch *s = *state;
	k3sup__json *who = NULL;
	int fd = -1, other = -1;
	char pid[32];

	assert_int_equal(take(s, &fd), 0);
	assert_true(fcntl(fd, F_GETFD, 0) & FD_CLOEXEC);
	assert_int_equal(take(s, &other), K3SUP_E_BUSY);
	assert_int_equal(other, -1);
	who = k3sup__json_pointer(s->op->evidence, "/holder");
	assert_int_equal(k3sup__json_number(who, "pid", 0), getpid());
	assert_string_equal(k3sup__json_text(who, "program"), program_invocation_short_name);
	assert_int_equal(strlen(k3sup__json_text(who, "boot_id")), 36);
	assert_true(k3sup__json_number(who, "pid_ns", 0) > 0);
	assert_true(k3sup__json_number(who, "start_time", 0) > 0);
	(void)snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	assert_sentence(s, pid);

	who = NULL;
	assert_int_equal(holder(s, &who), 1);
	assert_int_equal(k3sup__json_number(who, "pid", 0), getpid());
	k3sup__json_unref(who);
	close(fd);
	assert_int_equal(holder(s, &who), 0);
	assert_int_equal(take(s, &fd), 0);
	close(fd);
}

static void the_kernel_gives_back_what_a_killed_holder_had(void **state)
{
	struct scratch *s = *state;
	int ready[2], fd = -1, status;
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (take(s, &fd) == 0 && write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_int_equal(take(s, &fd), K3SUP_E_BUSY);
	assert_int_equal(k3sup__json_number(k3sup__json_pointer(s->op->evidence, "/holder"), "pid", 0), pid);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(holder(s, NULL), 0);
	assert_int_equal(take(s, &fd), 0);
	close(fd);
}

static void a_pid_of_another_boot_is_not_shown_as_one_of_ours(void **state)
{
	struct scratch *s = *state;
	int fd = -1, other;

	assert_int_equal(take(s, &fd), 0);
	put_file(s->fd, "var/lib/k3sup/lock", "{\"pid\": 1, \"boot_id\": \"x\", \"pid_ns\": 1, \"program\": \"k3sup\\u001b-upgrade\"}\n", 0600);
	assert_int_equal(take(s, &other), K3SUP_E_BUSY);
	assert_null(strstr(s->op->message, "pid 1"));
	assert_null(strchr(s->op->message, '\033'));
	assert_sentence(s, "another pid namespace");
	put_file(s->fd, "var/lib/k3sup/lock", "{\"pid\": 1", 0600);
	assert_int_equal(take(s, &other), K3SUP_E_BUSY);
	assert_int_equal(k3sup__json_len(k3sup__json_pointer(s->op->evidence, "/holder")), 0);
	assert_true(k3sup__json_is_object(k3sup__json_pointer(s->op->evidence, "/holder")));
	close(fd);
}

static void nobody_else_can_squat_it(void **state)
{
	struct scratch *s = *state;
	int fd = -1, status;
	mode_t mask;
	pid_t pid;

	need_root();
	assert_int_equal(fchmod(s->fd, 0755), 0);
	mask = umask(0);
	assert_int_equal(take(s, &fd), 0);
	umask(mask);
	close(fd);
	assert_int_equal(stat_at(s->fd, "var").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_at(s->fd, "var/lib").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_at(s->fd, "var/lib/k3sup").st_mode, S_IFDIR | 0700);
	assert_int_equal(stat_at(s->fd, "var/lib/k3sup/lock").st_mode, S_IFREG | 0600);
	pid = fork();
	if (pid == 0) {
		bool shut = setuid(65534) == 0 && openat(s->fd, "var/lib", O_RDONLY) >= 0 && openat(s->fd, "var/lib/k3sup", O_RDONLY) < 0 &&
			errno == EACCES && openat(s->fd, "var/lib/k3sup/lock", O_RDONLY) < 0 && errno == EACCES;

		_exit(shut ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void a_lock_that_was_replaced_is_taken_again(void **state)
{
	struct scratch *s = *state;
	struct stat st;
	int fd = -1, other;

	assert_int_equal(take(s, &fd), 0);
	close(fd);
	assert_int_equal(open_dir(s, K3SUP__STATE_DIR, false, &replace_lock_in), 0);
	other = replace_lock_in;
	assert_int_equal(take(s, &fd), 0);
	assert_int_equal(replace_lock_in, -1);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_ino, stat_at(s->fd, "var/lib/k3sup/lock").st_ino);
	close(other);
	assert_int_equal(take(s, &other), K3SUP_E_BUSY);
	close(fd);
}

static void a_directory_that_is_not_ours_alone_is_refused(void **state)
{
	struct scratch *s = *state;
	int fd = -1;

	assert_int_equal(open_dir(s, "/var/lib/k3sup//", true, &fd), 0);
	close(fd);
	assert_int_equal(open_dir(s, "/var/lib/k3sup", false, &fd), 0);
	close(fd);
	for (const mode_t *mode = (const mode_t[]){0755, 0710, 0777, 01777, 0}; *mode; mode++) {
		fchmodat(s->fd, "var/lib/k3sup", *mode, 0);
		assert_int_equal(take(s, &fd), K3SUP_E_STATE_DIR);
		assert_sentence(s, "/var/lib/k3sup (uid");
		assert_int_equal(holder(s, NULL), K3SUP_E_STATE_DIR);
	}
	fchmodat(s->fd, "var/lib/k3sup", 0500, 0);
	assert_int_equal(open_dir(s, "/var/lib/k3sup", false, &fd), 0);
	close(fd);
	fchmodat(s->fd, "var/lib", 0777, 0);
	k3sup__op_forgive(s->op);
	assert_int_equal(take(s, &fd), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "/var/lib (mode 0777");
	fchmodat(s->fd, "var/lib", 0755, 0);
	if (geteuid() == 0) {
		assert_int_equal(fchownat(s->fd, "var/lib/k3sup", 65534, 65534, 0), 0);
		assert_int_equal(take(s, &fd), K3SUP_E_STATE_DIR);
	}
}

static void a_lock_file_that_is_not_ours_alone_is_refused(void **state)
{
	struct scratch *s = *state;
	int fd = -1, dir = -1;

	assert_int_equal(open_dir(s, K3SUP__STATE_DIR, true, &dir), 0);
	put_file(s->fd, "canary", "precious", 0600);
	symlinkat("../../../canary", dir, "lock");
	assert_int_equal(take(s, &fd), K3SUP_E_STATE_DIR);
	assert_sentence(s, "symbolic link");
	assert_content(s->fd, "canary", "precious");
	unlinkat(dir, "lock", 0);
	mkfifoat(dir, "lock", 0600);
	assert_int_equal(take(s, &fd), K3SUP_E_STATE_DIR);
	assert_sentence(s, "not a regular file");
	unlinkat(dir, "lock", 0);
	put_file(dir, "lock", "", 0644);
	assert_int_equal(take(s, &fd), K3SUP_E_STATE_DIR);
	assert_sentence(s, "lock (uid");
	fchmodat(dir, "lock", 0600, 0);
	assert_int_equal(take(s, &fd), 0);
	close(fd);
	close(dir);
}

static void to_ask_changes_nothing(void **state)
{
	struct scratch *s = *state;
	k3sup__json *who = NULL;
	struct stat before, after;
	int fd = -1;

	assert_int_equal(holder(s, &who), 0);
	assert_int_equal(open_dir(s, K3SUP__STATE_DIR, false, &fd), -ENOENT);
	assert_null(s->op->message);
	assert_int_equal(count_entries(s->fd), 0);
	assert_int_equal(take(s, &fd), 0);
	before = stat_at(s->fd, "var/lib/k3sup/lock");
	assert_int_equal(holder(s, &who), 1);
	k3sup__json_unref(who);
	close(fd);
	assert_int_equal(holder(s, &who), 0);
	after = stat_at(s->fd, "var/lib/k3sup/lock");
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(after.st_mtim));
	assert_int_equal(before.st_size, after.st_size);
}

static void a_state_directory_behind_a_link_is_made_where_it_leads(void **state)
{
	struct scratch *s = *state;
	mode_t mask = umask(0377);
	int fd = -1, r;

	mkdirat(s->fd, "var", 0);
	fchmodat(s->fd, "var", 0755, 0);
	symlinkat("/data/k3sup", s->fd, "var/k3sup");
	r = open_dir(s, "/var/k3sup", true, &fd);
	umask(mask);
	assert_int_equal(r, 0);
	close(fd);
	assert_int_equal(stat_at(s->fd, "data").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_at(s->fd, "data/k3sup").st_mode, S_IFDIR | 0700);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(one_holder_at_a_time_in_the_same_process_too),
		scratch_test(the_kernel_gives_back_what_a_killed_holder_had),
		scratch_test(a_pid_of_another_boot_is_not_shown_as_one_of_ours),
		scratch_test(nobody_else_can_squat_it),
		scratch_test(a_lock_that_was_replaced_is_taken_again),
		scratch_test(a_directory_that_is_not_ours_alone_is_refused),
		scratch_test(a_lock_file_that_is_not_ours_alone_is_refused),
		scratch_test(to_ask_changes_nothing),
		scratch_test(a_state_directory_behind_a_link_is_made_where_it_leads),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
