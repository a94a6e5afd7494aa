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
		scratch_test(a_chain_of_parents_that_cannot_be_read_is_no_permission),
		scratch_test(cancelled_in_time_it_is_not_sent),
		scratch_test(bad_options_are_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
