/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/process.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static int run_spec(struct scratch *s, const struct k3sup__child_spec *spec, struct k3sup__child_result *ret)
{
	*ret = (struct k3sup__child_result){0};
	return k3sup__child_run(s->op, spec, ret);
}

static struct k3sup__child_spec spec_of(const char *const *argv)
{
	return (struct k3sup__child_spec){.argv = argv, .root_fd = -1, .deadline = k3sup__deadline(60000), .max_output = 65536};
}

/* Runs a shell script in an empty environment. */
static int run_sh(struct scratch *s, const char *script, struct k3sup__child_result *ret)
{
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};
	struct k3sup__child_spec spec = spec_of(argv);

	return run_spec(s, &spec, ret);
}

static void assert_says(struct scratch *s, const char *script, const char *output)
{
	struct k3sup__child_result result;

	assert_int_equal(run_sh(s, script, &result), 0);
	assert_int_equal(result.exit_code, 0);
	assert_string_equal(result.output, output);
	assert_int_equal(result.output_len, strlen(output));
	k3sup__child_result_clear(&result);
}

static void output_and_exit_code_come_back(void **state)
{
	struct k3sup__child_result result;

	assert_int_equal(run_sh(*state, "echo out; echo err >&2; exit 7", &result), 0);
	assert_int_equal(result.exit_code, 7);
	assert_int_equal(result.term_signal, 0);
	assert_false(result.timed_out);
	assert_false(result.truncated);
	assert_string_equal(result.output, "out\nerr\n");
	k3sup__child_result_clear(&result);
}

static void a_signal_is_told_apart_from_an_exit(void **state)
{
	struct k3sup__child_result result;

	assert_int_equal(run_sh(*state, "kill -TERM $$", &result), 0);
	assert_int_equal(result.exit_code, -1);
	assert_int_equal(result.term_signal, SIGTERM);
	assert_false(result.timed_out);
	k3sup__child_result_clear(&result);
}

static void no_descriptor_is_inherited(void **state)
{
	const char *const argv[] = {"/bin/ls", "/proc/self/fd", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;
	int fds[20];

	for (size_t i = 0; i < ELEMENTSOF(fds); i++)
		fds[i] = open("/", O_PATH); /* not close-on-exec, as a careless host's */
	assert_int_equal(run_spec(*state, &spec, &result), 0);
	for (size_t i = 0; i < ELEMENTSOF(fds); i++)
		close(fds[i]);
	assert_string_equal(result.output, "0\n1\n2\n3\n"); /* 3 is the directory that ls reads */
	k3sup__child_result_clear(&result);
}

static void stdin_is_empty(void **state)
{
	assert_says(*state, "cat; readlink /proc/self/fd/0", "/dev/null\n");
}

static void the_environment_is_what_was_given(void **state)
{
	const char *const argv[] = {"/usr/bin/env", NULL};
	const char *const env[] = {"A=1", "B=2", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;

	assert_int_equal(run_spec(*state, &spec, &result), 0);
	assert_string_equal(result.output, "");
	k3sup__child_result_clear(&result);
	spec.env = env;
	assert_int_equal(run_spec(*state, &spec, &result), 0);
	assert_string_equal(result.output, "A=1\nB=2\n");
	k3sup__child_result_clear(&result);
}

static void it_begins_in_the_directory_asked_for_with_its_own_session_and_umask(void **state)
{
	struct scratch *s = *state;
	const char *const argv[] = {
		"/bin/sh", "-c", "pwd; umask; read -r _ _ _ _ pgrp sid _ </proc/$$/stat; test $$ = $pgrp && test $$ = $sid", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;
	const mode_t old = umask(0);
	_free_ char *expected = k3sup__fmt("%s\n0022\n", s->path);

	spec.cwd = s->path;
	assert_int_equal(run_spec(s, &spec, &result), 0);
	umask(old);
	assert_int_equal(result.exit_code, 0);
	assert_string_equal(result.output, expected);
	k3sup__child_result_clear(&result);
}

static void signals_are_as_after_boot(void **state)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old_pipe, old_term, old_rt;
	sigset_t block, old;

	sigaction(SIGPIPE, &ignore, &old_pipe);
	sigaction(SIGTERM, &ignore, &old_term);
	sigaction(SIGRTMIN + 3, &ignore, &old_rt);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	assert_says(*state, "grep -E '^Sig(Blk|Ign)' /proc/self/status", "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	sigaction(SIGPIPE, &old_pipe, NULL);
	sigaction(SIGTERM, &old_term, NULL);
	sigaction(SIGRTMIN + 3, &old_rt, NULL);
}

static atomic_int sigchld_seen;

static void on_sigchld(int signo)
{
	(void)signo;
	sigchld_seen++;
}

static void the_hosts_sigchld_handler_is_not_called(void **state)
{
	struct sigaction action = {.sa_handler = on_sigchld}, old;
	struct k3sup__child_result result;

	sigchld_seen = 0;
	sigaction(SIGCHLD, &action, &old);
	assert_int_equal(run_sh(*state, "exit 3", &result), 0);
	sigaction(SIGCHLD, &old, NULL);
	assert_int_equal(result.exit_code, 3);
	assert_int_equal(sigchld_seen, 0);
	k3sup__child_result_clear(&result);
}

static void the_status_survives_a_host_that_ignores_sigchld(void **state)
{
	struct sigaction action = {.sa_handler = SIG_IGN}, old;
	struct k3sup__child_result result;

	sigaction(SIGCHLD, &action, &old);
	assert_int_equal(run_sh(*state, "exit 4", &result), 0);
	sigaction(SIGCHLD, &old, NULL);
	assert_int_equal(result.exit_code, 4);
	k3sup__child_result_clear(&result);
}

static atomic_bool stop_stealing;

/* The host's own reaping loop. Gives back how many it got. */
static void *steal(void *arg)
{
	atomic_int *stolen = arg;

	while (!stop_stealing)
		if (waitpid(-1, NULL, WNOHANG) > 0)
			(*stolen)++;
	return NULL;
}

static void the_hosts_waitpid_loop_gets_nothing(void **state)
{
	struct k3sup__child_result result;
	atomic_int stolen = 0;
	pthread_t thread;

	stop_stealing = false;
	assert_int_equal(pthread_create(&thread, NULL, steal, &stolen), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(run_sh(*state, "exit 5", &result), 0);
		assert_int_equal(result.exit_code, 5);
		k3sup__child_result_clear(&result);
	}
	stop_stealing = true;
	pthread_join(thread, NULL);
	assert_int_equal(stolen, 0);
}

static void output_is_bounded_and_the_rest_is_read(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; exit 6", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;

	spec.max_output = 1000;
	assert_int_equal(run_spec(*state, &spec, &result), 0);
	assert_true(result.truncated);
	assert_int_equal(result.output_len, 1000);
	assert_int_equal(strspn(result.output, "x"), 1000);
	assert_int_equal(result.exit_code, 6);
	k3sup__child_result_clear(&result);
}

/* Is this process gone, or a zombie that its new parent has not fetched yet? Waits for it for some seconds. */
static bool goes_away(pid_t pid)
{
	const int64_t deadline = k3sup__deadline(10000);

	while (k3sup__now_ms() < deadline) {
		_free_ char *path = k3sup__fmt("/proc/%d/stat", (int)pid);
		_free_ char *text = NULL;

		if (k3sup__read_file(AT_FDCWD, path, 4096, &text, NULL) < 0 || strstr(text, ") Z "))
			return true;
		poll(NULL, 0, 10);
	}
	return false;
}

static void past_its_deadline_the_whole_group_is_killed(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo $!; sleep 1000", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;

	spec.deadline = k3sup__deadline(500);
	assert_int_equal(run_spec(*state, &spec, &result), 0);
	assert_true(result.timed_out);
	assert_int_equal(result.term_signal, SIGKILL);
	assert_int_equal(result.exit_code, -1);
	assert_true(atoi(result.output) > 1);
	assert_true(goes_away(atoi(result.output)));
	k3sup__child_result_clear(&result);
}

/* Waits until the program says something through the fifo "said", then acts on what it said. */
struct listener {
	struct scratch *s;
	void (*act)(struct scratch *s, int said);
	pthread_t thread;
};

static void *listen_to(void *arg)
{
	struct listener *listener = arg;
	char text[32] = "";
	int fd = openat(listener->s->fd, "said", O_RDONLY | O_CLOEXEC);

	if (k3sup__read_full(fd, text, sizeof(text) - 1) > 0)
		listener->act(listener->s, atoi(text));
	close(fd);
	return NULL;
}

static int run_with_listener(struct scratch *s, void (*act)(struct scratch *s, int said), const char *script, struct k3sup__child_result *ret)
{
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct listener listener = {.s = s, .act = act};
	int r;

	spec.cwd = s->path;
	assert_int_equal(mkfifoat(s->fd, "said", 0600), 0);
	assert_int_equal(pthread_create(&listener.thread, NULL, listen_to, &listener), 0);
	r = run_spec(s, &spec, ret);
	pthread_join(listener.thread, NULL);
	return r;
}

static void cancel_op(struct scratch *s, int said)
{
	(void)said;
	k3sup_op_cancel(s->op);
}

static void cancel_kills_it(void **state)
{
	struct k3sup__child_result result;
	const int64_t began = k3sup__now_ms();

	assert_int_equal(run_with_listener(*state, cancel_op, "trap '' TERM; echo 1 >said; sleep 1000", &result), K3SUP_E_CANCELLED);
	assert_null(result.output);
	assert_true(k3sup__now_ms() - began < 30000);
}

static int program_pid;

static void kill_parent_of(struct scratch *s, int said)
{
	struct k3sup__stat stat;
	_free_ char *path = k3sup__fmt("/proc/%d", said);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)s;
	program_pid = said;
	if (k3sup__stat_read(fd, &stat) == 0)
		kill(stat.ppid, SIGKILL);
	close(fd);
}

static void the_program_dies_with_its_keeper(void **state)
{
	struct k3sup__child_result result;

	assert_int_equal(run_with_listener(*state, kill_parent_of, "echo $$ >said; exec sleep 1000", &result), 0);
	assert_int_equal(result.exit_code, -1);
	assert_int_equal(result.term_signal, SIGKILL);
	assert_false(result.timed_out);
	assert_true(goes_away(program_pid));
	k3sup__child_result_clear(&result);
}

static int hosts_pipe[2];
static bool hosts_pipe_ended;

static void close_pipe(struct scratch *s, int said)
{
	struct pollfd fd = {.fd = hosts_pipe[0], .events = POLLIN};

	(void)said;
	close(hosts_pipe[1]);
	hosts_pipe_ended = poll(&fd, 1, 10000) == 1 && (fd.revents & POLLHUP);
	put_file(s->fd, "go", "", 0600);
}

static void the_keeper_holds_nothing_of_the_hosts_open(void **state)
{
	struct k3sup__child_result result;

	assert_int_equal(pipe(hosts_pipe), 0);
	assert_int_equal(run_with_listener(*state, close_pipe, "echo 1 >said; until test -e go; do sleep 0.01; done", &result), 0);
	assert_int_equal(result.exit_code, 0);
	assert_true(hosts_pipe_ended);
	close(hosts_pipe[0]);
	k3sup__child_result_clear(&result);
}

static void what_cannot_be_run_is_an_error(void **state)
{
	static const struct {
		const char *path;
		int code;
	} cases[] = {{"/nonexistent/program", -ENOENT}, {"/etc/passwd", -EACCES}, {"/etc", -EACCES}, {"/etc/passwd/x", -ENOTDIR}, {"sh", -EINVAL}};
	struct scratch *s = *state;
	struct k3sup__child_result result;

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		const char *const argv[] = {cases[i].path, NULL};
		struct k3sup__child_spec spec = spec_of(argv);

		assert_int_equal(run_spec(s, &spec, &result), cases[i].code);
		assert_sentence(s, i == ELEMENTSOF(cases) - 1 ? "absolute" : cases[i].path);
		assert_null(result.output);
	}
}

static void a_missing_directory_is_an_error(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "exit 0", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;

	spec.cwd = "/nonexistent";
	assert_int_equal(run_spec(*state, &spec, &result), -ENOENT);
}

static void it_runs_inside_the_root_given(void **state)
{
	const char *const argv[] = {"/bin/sh", "-c", "cd /share && test ! -e /usr/share && pwd", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;
	struct scratch *s = *state;
	_close_ int usr = open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC);

	need_root();
	/* An empty root has no shell, so it cannot be the host's that runs. */
	spec.root_fd = s->fd;
	assert_int_equal(run_spec(s, &spec, &result), -ENOENT);
	/* Where /bin and /lib are links into /usr, /usr is a root with a shell. */
	spec.root_fd = usr;
	assert_int_equal(run_spec(s, &spec, &result), 0);
	assert_string_equal(result.output, "/share\n");
	k3sup__child_result_clear(&result);
	usr = k3sup__close(usr);
}

/* Somebody whose mount and uts namespaces are not ours, and who has a file nobody else sees. */
static pid_t start_elsewhere(struct scratch *s)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			mount("elsewhere", s->path, "tmpfs", 0, NULL) < 0 || sethostname("elsewhere", 9) < 0)
			_exit(1);
		(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) { /* no right to */
		close(ready[0]);
		waitpid(pid, NULL, 0);
		return -1;
	}
	close(ready[0]);
	return pid;
}

static void *idle(void *arg)
{
	pause();
	return arg;
}

/* Also from a process with several threads, which may not enter another mount namespace itself. */
static void it_runs_in_the_namespaces_of_another(void **state)
{
	struct scratch *s = *state;
	_free_ char *script = k3sup__fmt("uname -n; stat -f -c %%T %s; test -e %s/here || echo elsewhere", s->path, s->path);
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;
	pthread_t thread;
	char name[32];
	pid_t pid;

	need_root();
	pid = start_elsewhere(s);
	if (pid < 0)
		skip();
	assert_int_equal(pthread_create(&thread, NULL, idle, NULL), 0);
	put_file(s->fd, "here", "", 0600);
	snprintf(name, sizeof(name), "/proc/%d", (int)pid);
	spec.enter_fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(spec.enter_fd > 0);
	assert_int_equal(run_spec(s, &spec, &result), 0);
	assert_string_equal(result.output, "elsewhere\ntmpfs\nelsewhere\n");
	k3sup__child_result_clear(&result);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* Who is gone has no namespaces: the program is not run here instead. */
	assert_true(run_spec(s, &spec, &result) < 0);
	close(spec.enter_fd);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}

static void a_grandchild_that_keeps_the_pipe_is_not_waited_for(void **state)
{
	struct k3sup__child_result result;
	const int64_t began = k3sup__now_ms();
	pid_t grandchild;

	assert_int_equal(run_sh(*state, "sleep 1000 & echo $!", &result), 0);
	assert_true(k3sup__now_ms() - began < 10000);
	assert_int_equal(result.exit_code, 0);
	grandchild = atoi(result.output);
	assert_true(grandchild > 1);
	assert_int_equal(kill(grandchild, SIGKILL), 0); /* it was left alone, so it is there */
	k3sup__child_result_clear(&result);
}

static void a_grandchild_that_never_stops_writing_is_not_waited_for(void **state)
{
	struct k3sup__child_result result;
	const int64_t began = k3sup__now_ms();

	/* Once nobody reads, SIGPIPE ends it. */
	assert_int_equal(run_sh(*state, "yes & exit 2", &result), 0);
	assert_true(k3sup__now_ms() - began < 10000);
	assert_int_equal(result.exit_code, 2);
	k3sup__child_result_clear(&result);
}

/* Runs a check in a process of its own that may spoil itself; its exit status is 0 if all was well. */
static void in_own_process(struct scratch *s, bool (*check)(struct scratch *s))
{
	int status = -1;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(check(s) ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool lists_three_descriptors(struct scratch *s)
{
	const char *const argv[] = {"/bin/ls", "/proc/self/fd", NULL};
	struct k3sup__child_spec spec = spec_of(argv);
	struct k3sup__child_result result;
	bool ok;

	(void)!open("/", O_PATH);
	if (run_spec(s, &spec, &result) < 0)
		return false;
	ok = result.exit_code == 0 && k3sup__streq(result.output, "0\n1\n2\n3\n");
	k3sup__child_result_clear(&result);
	return ok;
}

static bool runs_without_standard_descriptors(struct scratch *s)
{
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	return lists_three_descriptors(s);
}

static void a_host_may_have_closed_its_standard_descriptors(void **state)
{
	in_own_process(*state, runs_without_standard_descriptors);
}

/* From here on the kernel refuses these two calls to this process. */
static bool forbid(uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
	};
	struct sock_fprog program = {.len = ELEMENTSOF(code), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
		syscall(SYS_clone3, NULL, 0) < 0 && errno == (int)error;
}

static bool runs_on_an_old_kernel(struct scratch *s)
{
	return forbid(ENOSYS) && lists_three_descriptors(s);
}

static bool runs_under_an_old_container_runtime(struct scratch *s)
{
	return forbid(EPERM) && lists_three_descriptors(s);
}

static void the_fallbacks_keep_the_promises(void **state)
{
	in_own_process(*state, runs_on_an_old_kernel);
	in_own_process(*state, runs_under_an_old_container_runtime);
}

static bool sigchld_stays_away_on_an_old_kernel(struct scratch *s)
{
	struct sigaction action = {.sa_handler = on_sigchld};

	sigchld_seen = 0;
	sigaction(SIGCHLD, &action, NULL);
	return forbid(ENOSYS) && lists_three_descriptors(s) && sigchld_seen == 0 && waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static void the_fallback_keeps_sigchld_away(void **state)
{
	in_own_process(*state, sigchld_stays_away_on_an_old_kernel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(output_and_exit_code_come_back),
		scratch_test(a_signal_is_told_apart_from_an_exit),
		scratch_test(no_descriptor_is_inherited),
		scratch_test(stdin_is_empty),
		scratch_test(the_environment_is_what_was_given),
		scratch_test(it_begins_in_the_directory_asked_for_with_its_own_session_and_umask),
		scratch_test(signals_are_as_after_boot),
		scratch_test(the_hosts_sigchld_handler_is_not_called),
		scratch_test(the_status_survives_a_host_that_ignores_sigchld),
		scratch_test(the_hosts_waitpid_loop_gets_nothing),
		scratch_test(output_is_bounded_and_the_rest_is_read),
		scratch_test(past_its_deadline_the_whole_group_is_killed),
		scratch_test(cancel_kills_it),
		scratch_test(the_program_dies_with_its_keeper),
		scratch_test(the_keeper_holds_nothing_of_the_hosts_open),
		scratch_test(what_cannot_be_run_is_an_error),
		scratch_test(a_missing_directory_is_an_error),
		scratch_test(it_runs_inside_the_root_given),
		scratch_test(it_runs_in_the_namespaces_of_another),
		scratch_test(a_grandchild_that_keeps_the_pipe_is_not_waited_for),
		scratch_test(a_grandchild_that_never_stops_writing_is_not_waited_for),
		scratch_test(a_host_may_have_closed_its_standard_descriptors),
		scratch_test(the_fallbacks_keep_the_promises),
		scratch_test(the_fallback_keeps_sigchld_away),
	};

	if (under_valgrind())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
