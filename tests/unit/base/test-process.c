/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/process.h"

/* ---- /proc/PID/stat ---- */

#define REST " 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654321 9 10 11"

static void a_stat_line_is_parsed_whatever_the_name_is(void **state)
{
	static const char *const names[] = {"k3s-server", "", " ", ")", "(", "a) R 1 (", ") S 99 1 1 0 -1", "\n", "k3s\n1 (k3s-server) S 1",
		"((((", "))))", "\xff\xfe", "exactly15bytes."};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		_free_ char *text = k3sup__fmt("1234 (%s) S 77 1234 1234 0 -1" REST "\n", names[i]);
		struct k3sup__stat stat;

		assert_int_equal(k3sup__stat_parse(text, &stat), 0);
		assert_string_equal(stat.comm, names[i]);
		assert_int_equal(stat.state, 'S');
		assert_int_equal(stat.ppid, 77);
		assert_int_equal(stat.start_time, 987654321);
	}
}

static void a_name_longer_than_the_kernels_is_cut(void **state)
{
	struct k3sup__stat stat;
	char name[200];
	_free_ char *text = NULL;

	(void)state;
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	text = k3sup__fmt("1 (%s) R 0 1 1 0 -1" REST, name);
	assert_int_equal(k3sup__stat_parse(text, &stat), 0);
	assert_int_equal(strlen(stat.comm), sizeof(stat.comm) - 1);
}

static void what_is_no_stat_line_is_refused(void **state)
{
	static const char *const bad[] = {"", "1234", "1 (a S 1", "1 a) S 1", ") (", "1 (a)", "1 (a) S",
		"1 (a) S 1 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0", ("1 (a) S x 1 1 0 -1" REST)};
	struct k3sup__stat stat;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		if (k3sup__stat_parse(bad[i], &stat) != K3SUP_E_PARSE)
			fail_msg("\"%s\" was taken", bad[i]);
}

/* Counts blanks instead of using scanf, so that a wrong number of fields in either is seen. */
static uint64_t start_time_by_counting(const char *text)
{
	const char *at = strrchr(text, ')');

	for (int field = 2; field < 22; field++)
		at = strchr(at + 1, ' ');
	return strtoull(at + 1, NULL, 10);
}

static void the_kernels_own_line_is_understood(void **state)
{
	int dir = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_free_ char *text = NULL;
	struct k3sup__stat stat;

	(void)state;
	assert_int_equal(k3sup__stat_read(dir, &stat), 0);
	assert_int_equal(k3sup__read_file(dir, "stat", 4096, &text, NULL), 0);
	assert_int_equal(stat.start_time, start_time_by_counting(text));
	assert_int_equal(stat.ppid, getppid());
	assert_int_equal(stat.state, 'R');
	assert_true(stat.start_time > 0);
	close(dir);
}

/* ---- handles ---- */

struct seen {
	pid_t pid;
	int dirfd;
	uint64_t start_time;
};

static pid_t start_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		for (;;)
			pause();
	}
	return pid;
}

static int look_at(int proc_fd, pid_t pid, struct seen *ret)
{
	char name[16];
	struct k3sup__stat stat;
	int r;

	(void)snprintf(name, sizeof(name), "%d", (int)pid);
	ret->pid = pid;
	ret->dirfd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->dirfd < 0)
		return -errno;
	r = k3sup__stat_read(ret->dirfd, &stat);
	ret->start_time = stat.start_time;
	return r;
}

static void end_child(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static k3sup_process *hold(int proc_fd, pid_t pid)
{
	k3sup_process *process = NULL;
	struct seen seen;

	assert_int_equal(look_at(proc_fd, pid, &seen), 0);
	assert_int_equal(k3sup__process_new(proc_fd, pid, seen.dirfd, seen.start_time, &process), 0);
	return process;
}

static void a_handle_says_who_it_is(void **state)
{
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid_t pid = start_child();
	k3sup_process *process = hold(proc_fd, pid);
	_free_ char *boot_id = NULL;
	struct stat ns;
	const char *text;
	int64_t number;
	k3sup_doc *info;

	(void)state;
	assert_null(k3sup_process_info(process));
	assert_int_equal(k3sup__process_set_info(process, k3sup__json_object()), 0);
	info = k3sup_process_info(process);
	assert_int_equal(k3sup_doc_i64(info, "/pid", &number), 0);
	assert_int_equal(number, pid);
	assert_int_equal(k3sup_doc_i64(info, "/start_time", &number), 0);
	assert_int_equal(number, k3sup__process_start_time(process));
	assert_int_equal(stat("/proc/self/ns/pid", &ns), 0);
	assert_int_equal(k3sup_doc_i64(info, "/pid_ns", &number), 0);
	assert_int_equal(number, ns.st_ino);
	assert_int_equal(k3sup__read_file(proc_fd, "sys/kernel/random/boot_id", 64, &boot_id, NULL), 0);
	assert_int_equal(k3sup_doc_str(info, "/boot_id", &text), 0);
	assert_int_equal(strlen(text), 36);
	assert_memory_equal(text, boot_id, 36);
	assert_int_equal(k3sup__process_pid(process), pid);
	assert_true(fcntl(k3sup_process_pidfd(process), F_GETFD) & FD_CLOEXEC);
	assert_int_equal(k3sup__process_set_info(process, NULL), -ENOMEM);
	k3sup_process_unref(process);
	end_child(pid);
	close(proc_fd);
}

static void a_signal_reaches_the_child_and_its_end_is_seen(void **state)
{
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid_t pid = start_child();
	k3sup_process *process = hold(proc_fd, pid), *again = k3sup_process_ref(process);
	struct k3sup__stat stat;
	siginfo_t info;

	(void)state;
	assert_false(k3sup__process_ended(process));
	assert_int_equal(k3sup__process_signal(process, 0), 0);
	assert_int_equal(k3sup__process_signal(process, 12345), -EINVAL);
	assert_int_equal(k3sup__process_signal(process, SIGTERM), 0);
	assert_int_equal(poll(&(struct pollfd){.fd = k3sup_process_pidfd(process), .events = POLLIN}, 1, 10000), 1);
	/* a zombie has ended, but its directory still answers */
	assert_true(k3sup__process_ended(process));
	assert_int_equal(k3sup__stat_read(k3sup__process_dirfd(process), &stat), 0);
	assert_int_equal(stat.state, 'Z');
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
	assert_int_equal(info.si_status, SIGTERM);
	assert_true(k3sup__process_ended(process));
	assert_int_equal(k3sup__process_signal(process, SIGTERM), -ESRCH);
	assert_int_equal(k3sup__stat_read(k3sup__process_dirfd(process), &stat), -ESRCH);
	assert_null(k3sup_process_unref(process));
	k3sup_process_unref(again);
	close(proc_fd);
}

static void handles_of_one_process_are_the_same_also_when_it_is_a_zombie(void **state)
{
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid_t pid = start_child(), other = start_child();
	k3sup_process *a = hold(proc_fd, pid), *b = hold(proc_fd, pid), *c = hold(proc_fd, other), *zombie;
	siginfo_t info;

	(void)state;
	assert_true(k3sup__process_same(a, b));
	assert_false(k3sup__process_same(a, c));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	zombie = hold(proc_fd, pid);
	assert_true(k3sup__process_same(a, zombie));
	k3sup_process_unref(zombie);
	k3sup_process_unref(a);
	k3sup_process_unref(b);
	k3sup_process_unref(c);
	end_child(pid);
	end_child(other);
	close(proc_fd);
}

static void somebody_else_is_not_taken_hold_of(void **state)
{
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid_t pid = start_child();
	size_t fds;
	struct seen seen;
	k3sup_process *process = NULL;

	(void)state;
	assert_int_equal(look_at(proc_fd, pid, &seen), 0);
	fds = count_fds();
	assert_int_equal(k3sup__process_new(proc_fd, pid, seen.dirfd, seen.start_time + 1, &process), -ESRCH);
	assert_int_equal(k3sup__process_new(proc_fd, -1, seen.dirfd, seen.start_time, &process), -EINVAL);
	end_child(pid);
	assert_int_equal(k3sup__process_new(proc_fd, pid, seen.dirfd, seen.start_time, &process), -ESRCH);
	assert_null(process);
	assert_int_equal(count_fds(), fds); /* the directory stays the caller's, and open */
	assert_true(fcntl(seen.dirfd, F_GETFD) >= 0);
	close(seen.dirfd);
	close(proc_fd);
}

static void null_handles_are_harmless(void **state)
{
	(void)state;
	assert_null(k3sup_process_ref(NULL));
	assert_null(k3sup_process_unref(NULL));
	assert_null(k3sup_process_info(NULL));
	assert_int_equal(k3sup_process_pidfd(NULL), -EINVAL);
}

/* ---- a number that is given to another process ---- */

enum { FINE, CANNOT_HERE, NOT_REUSED, FRESH_FAILED, OLD_DIR_TAKEN, OLD_TIME_TAKEN, OLD_HANDLE_WRONG, NEW_NOT_TAKEN, SAME, FAILED };

/* The next process here gets this number. */
static int next_pid(pid_t pid)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = dprintf(fd, "%d", (int)pid - 1) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static int judge(int proc_fd, struct seen *old, k3sup_process *handle)
{
	struct seen new = {.dirfd = -1};
	k3sup_process *wrong = NULL, *right = NULL;
	pid_t pid;

	/* Start times are counted in ticks of 10 ms; the second process must be of another one. */
	do {
		if (new.dirfd >= 0) {
			end_child(new.pid);
			close(new.dirfd);
		}
		if (next_pid(old->pid) < 0)
			return CANNOT_HERE;
		pid = start_child();
		if (pid != old->pid)
			return NOT_REUSED;
		if (look_at(proc_fd, pid, &new) < 0)
			return FRESH_FAILED;
	} while (new.start_time == old->start_time);
	if (k3sup__process_new(proc_fd, pid, old->dirfd, old->start_time, &wrong) != -ESRCH)
		return OLD_DIR_TAKEN;
	if (k3sup__process_new(proc_fd, pid, new.dirfd, old->start_time, &wrong) != -ESRCH)
		return OLD_TIME_TAKEN;
	if (!k3sup__process_ended(handle) || k3sup__process_signal(handle, SIGKILL) != -ESRCH || waitpid(pid, NULL, WNOHANG) != 0)
		return OLD_HANDLE_WRONG;
	if (k3sup__process_new(proc_fd, pid, new.dirfd, new.start_time, &right) < 0)
		return NEW_NOT_TAKEN;
	if (k3sup__process_same(handle, right))
		return SAME;
	k3sup_process_unref(right);
	end_child(pid);
	return FINE;
}

static int as_first_process(void)
{
	k3sup_process *handle;
	struct seen old, twice;
	int proc_fd, r;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
		return CANNOT_HERE;
	proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0 || look_at(proc_fd, start_child(), &old) < 0 || look_at(proc_fd, old.pid, &twice) < 0)
		return FAILED;
	if (k3sup__process_new(proc_fd, old.pid, twice.dirfd, twice.start_time, &handle) < 0)
		return FAILED;
	end_child(old.pid);
	r = judge(proc_fd, &old, handle);
	k3sup_process_unref(handle);
	return r;
}

static void a_number_given_to_another_process_is_noticed(void **state)
{
	pid_t helper, first;
	int status;

	(void)state;
	fflush(NULL);
	helper = fork();
	assert_true(helper >= 0);
	if (helper == 0) {
		if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
			_exit(CANNOT_HERE);
		first = fork();
		if (first == 0)
			_exit(as_first_process());
		if (first < 0 || waitpid(first, &status, 0) != first || !WIFEXITED(status))
			_exit(FAILED);
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(helper, &status, 0), helper);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CANNOT_HERE) {
		print_message("needs the right to make a pid namespace\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), FINE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stat_line_is_parsed_whatever_the_name_is),
		cmocka_unit_test(a_name_longer_than_the_kernels_is_cut),
		cmocka_unit_test(what_is_no_stat_line_is_refused),
		cmocka_unit_test(the_kernels_own_line_is_understood),
		cmocka_unit_test(a_handle_says_who_it_is),
		cmocka_unit_test(a_signal_reaches_the_child_and_its_end_is_seen),
		cmocka_unit_test(handles_of_one_process_are_the_same_also_when_it_is_a_zombie),
		cmocka_unit_test(somebody_else_is_not_taken_hold_of),
		cmocka_unit_test(null_handles_are_harmless),
		cmocka_unit_test(a_number_given_to_another_process_is_noticed),
	};

	if (under_valgrind())
		return 77;
	return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
