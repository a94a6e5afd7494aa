/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "process/signal.h"

/* A handle of any process of ours, whatever it is. */
static k3sup_process *handle_of(k3sup_node *node, pid_t pid)
{
	_free_ char *name = k3sup__fmt("%d", (int)pid);
	k3sup_process *process = NULL;
	struct k3sup__stat stat;
	int dirfd = openat(node->proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(dirfd >= 0);
	assert_int_equal(k3sup__stat_read(dirfd, &stat), 0);
	assert_int_equal(k3sup__process_new(node->proc_fd, pid, dirfd, stat.start_time, &process), 0);
	return process;
}

static k3sup_op *run_signal(k3sup_node *node, k3sup_process *process, int signo, int expected)
{
	struct k3sup_signal_opts opts = {.struct_size = sizeof(opts), .process = process, .signo = signo};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_signal(node, &opts, &op), 0);
	assert_status(op, expected);
	return op;
}

static pid_t start_fake(const struct scratch *s)
{
	struct fake_spec spec = {.root = s->path, .file = BIN1 "/k3s-server", .title = "k3s server"};

	fake_install_data(s->path, BIN1);
	return fake_start(&spec);
}

static void exactly_this_process_gets_exactly_this_signal(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	siginfo_t info;
	k3sup_op *op = run_signal(node, process, SIGUSR2, 1);

	assert_int_equal(result_number(op, "/pid"), pid);
	assert_int_equal(result_number(op, "/signo"), SIGUSR2);
	assert_int_equal(result_number(op, "/changed"), 1);
	k3sup_op_unref(op);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
	assert_int_equal(info.si_status, SIGUSR2);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void without_a_number_it_is_sigterm(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	siginfo_t info;

	k3sup_op_unref(run_signal(node, process, 0, 1));
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
	assert_int_equal(info.si_status, SIGTERM);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

/* Also while it is a zombie, which would take the signal. */
static void one_that_has_ended_is_already_so(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	siginfo_t info;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	k3sup_op_unref(run_signal(node, process, SIGTERM, 0));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	k3sup_op_unref(run_signal(node, process, SIGTERM, 0));
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void pid_1_and_ourselves_and_our_parents_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	const pid_t refused[] = {1, getpid(), getppid()};
	static const char *const why[] = {"process 1", "this program", "parent"};
	k3sup_process *process;
	k3sup_op *op;

	for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
		process = handle_of(node, refused[i]);
		op = run_signal(node, process, SIGWINCH, K3SUP_E_REFUSED_PID);
		if (refused[i] != 1)
			assert_says(op, why[i]);
		else
			assert_says(op, "process 1 is not signalled");
		assert_int_equal(result_number(op, "/changed"), 0);
		k3sup_op_unref(op);
		k3sup_process_unref(process);
	}
	k3sup_node_unref(node);
}

/* The parent of a parent: the test forks, and asks for its own process from there. */
static void a_grandparent_is_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_process *process = handle_of(node, getpid());
	int status;
	pid_t child = fork();

	if (child == 0) {
		pid_t grandchild = fork();

		if (grandchild == 0)
			_exit(k3sup__signal_allowed(NULL, node, process) == K3SUP_E_REFUSED_PID ? 0 : 1);
		(void)waitpid(grandchild, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* Not a child: that is what gets signalled in these tests. */
	child = start_fake(s);
	k3sup_process_unref(process);
	process = handle_of(node, child);
	assert_int_equal(k3sup__signal_allowed(NULL, node, process), 0);
	fake_stop(child);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

/* The same process, but not the program that was identified any more. */
static void one_that_executes_another_program_is_not_signalled(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = s->path, .file = BIN1 "/k3s-server", .title = "k3s server", .then = "/usr/bin/other"};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_process *process;
	struct stat before, now;
	k3sup_op *op;
	pid_t pid;

	fake_install_data(s->path, BIN1);
	fake_install(s->path, spec.then, "", NULL);
	pid = fake_start(&spec);
	process = running_process(node);
	assert_int_equal(k3sup__process_check(process), 0);
	assert_int_equal(fstatat(k3sup__process_dirfd(process), "exe", &before, 0), 0);
	assert_int_equal(kill(pid, SIGUSR1), 0);
	do {
		assert_int_equal(fstatat(k3sup__process_dirfd(process), "exe", &now, 0), 0);
	} while (now.st_ino == before.st_ino);
	assert_int_equal(k3sup__process_check(process), K3SUP_E_GONE);
	op = run_signal(node, process, SIGKILL, K3SUP_E_GONE);
	assert_says(op, "executes another program by now");
	k3sup_op_unref(op);
	assert_false(k3sup__process_ended(process));
	fake_stop(pid);
	assert_int_equal(k3sup__process_check(process), -ESRCH);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

/* The control of pid_1_and_ourselves_...: with the node declared a container it is allowed. */
static void process_1_of_a_declared_container_is_allowed(void **state)
{
	struct scratch *s = *state;
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_NODE_IS_CONTAINER, .root = s->path};
	k3sup_node *node = NULL;
	k3sup_process *process;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	process = handle_of(node, 1);
	assert_int_equal(k3sup__signal_allowed(s->op, node, process), 0);
	k3sup_process_unref(process);
	process = handle_of(node, getpid());
	assert_int_equal(k3sup__signal_allowed(s->op, node, process), K3SUP_E_REFUSED_PID);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

/* Before v1.33.6 and v1.34.2 the parent of a --log pair dies of SIGTERM at once and leaves its child behind. */
static void of_a_log_pair_the_one_is_told_that_ends_both(void **state)
{
	static const struct {
		const char *version;
		bool parent;
	} cases[] = {{"v1.21.3+k3s1", false}, {"v1.30.4+k3s1", false}, {"v1.32.9+k3s1", false}, {"v1.33.5+k3s1", false},
		{"v1.33.6+k3s1", true}, {"v1.34.1+k3s1", false}, {"v1.34.2+k3s1", true}, {"v1.35.0+k3s1", true}, {"", true}};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		static const char *const links[] = {"k3s-server", NULL};
		struct fake_spec spec = {.root = s->path, .file = BIN1 "/k3s-server", .title = "/usr/local/bin/k3s init", .child = "k3s server"};
		_free_ char *link = k3sup__fmt("%s" BIN1 "/k3s-server", s->path),
			    *tail = k3sup__fmt("embed/" HASH1 ".tar.zst %s ", cases[i].version);
		struct k3sup__sighting sighting;
		const struct k3sup__candidate *c;
		pid_t pid;

		(void)unlink(link);
		fake_install(s->path, BIN1 "/k3s", tail, links);
		pid = fake_start(&spec);
		assert_int_equal(k3sup__identify_scan(s->op, node, NULL, &sighting), 0);
		assert_int_equal(sighting.count, 1);
		c = &sighting.candidates[0];
		assert_int_equal(k3sup__process_pid(c->process), pid);
		assert_non_null(c->worker);
		assert_int_equal(k3sup__process_pid(c->worker), c->worker_pid);
		assert_int_not_equal(c->worker_pid, pid);
		if (k3sup__signal_target(c) != (cases[i].parent ? c->process : c->worker))
			fail_msg("of %s the wrong one is told", cases[i].version);
		k3sup__sighting_clear(&sighting);
		fake_stop(pid);
	}
	k3sup_node_unref(node);
}

static void a_chain_of_parents_that_cannot_be_read_is_no_permission(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	int proc_fd = node->proc_fd;

	node->proc_fd = -1; /* as if descriptors had run out */
	assert_int_equal(k3sup__signal_allowed(s->op, node, process), -EBADF);
	assert_sentence(s, "cannot tell whether process");
	node->proc_fd = proc_fd;
	assert_false(k3sup__process_ended(process));
	fake_stop(pid);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void cancelled_in_time_it_is_not_sent(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	pid_t pid = start_fake(s);
	k3sup_process *process = running_process(node);
	struct k3sup_signal_opts opts = {.struct_size = sizeof(opts), .process = process};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_signal(node, &opts, &op), 0);
	k3sup_op_cancel(op);
	assert_status(op, K3SUP_E_CANCELLED);
	k3sup_op_unref(op);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	fake_stop(pid);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_process *process = handle_of(node, getpid());
	struct k3sup_signal_opts fine = {.struct_size = sizeof(fine), .process = process}, opts;
	k3sup_op *op = NULL;

	opts = fine;
	opts.process = NULL;
	assert_int_equal(k3sup_signal(node, &opts, &op), -EINVAL);
	opts = fine;
	opts.signo = 1000;
	assert_int_equal(k3sup_signal(node, &opts, &op), -EINVAL);
	opts.signo = -1;
	assert_int_equal(k3sup_signal(node, &opts, &op), -EINVAL);
	opts = fine;
	opts.reserved2 = 1;
	assert_int_equal(k3sup_signal(node, &opts, &op), -EINVAL);
	assert_int_equal(k3sup_signal(NULL, &fine, &op), -EINVAL);
	assert_int_equal(k3sup_signal(node, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_signal(node, &fine, NULL), -EINVAL);
	assert_null(op);
	k3sup_process_unref(process);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(exactly_this_process_gets_exactly_this_signal),
		scratch_test(without_a_number_it_is_sigterm),
		scratch_test(one_that_has_ended_is_already_so),
		scratch_test(pid_1_and_ourselves_and_our_parents_are_refused),
		scratch_test(a_grandparent_is_refused),
		scratch_test(one_that_executes_another_program_is_not_signalled),
		scratch_test(process_1_of_a_declared_container_is_allowed),
		scratch_test(of_a_log_pair_the_one_is_told_that_ends_both),
		scratch_test(a_chain_of_parents_that_cannot_be_read_is_no_permission),
		scratch_test(cancelled_in_time_it_is_not_sent),
		scratch_test(bad_options_are_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
