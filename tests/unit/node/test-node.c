/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "node/node.h"

struct turn_state {
	struct k3sup__node_state node;
	bool keep;
};

static int work(k3sup_op *op)
{
	return k3sup__node_take_turn(op, k3sup__op_node(op));
}

/* Takes its turn, then ends, or waits until it is cancelled. */
static int step(k3sup_op *op)
{
	struct turn_state *s = k3sup__op_state(op);

	switch (k3sup__op_woke(op)) {
	case K3SUP__WOKE_START:
		return k3sup__op_work(op, work);
	case K3SUP__WOKE_WORK:
		if (k3sup__op_work_result(op) < 0 || !s->keep)
			return k3sup__op_work_result(op);
		return k3sup__op_sleep(op, K3SUP__NEVER);
	default:
		return K3SUP_E_INTERNAL;
	}
}

static void clear(k3sup_op *op)
{
	k3sup__node_give_turn(op, k3sup__op_node(op));
}

static const struct k3sup__op_class turn_class = {.verb = "turn", .state_size = sizeof(struct turn_state), .step = step, .clear = clear};

static k3sup_node *make_node(struct scratch *s)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	return node;
}

static k3sup_op *begin_turn(k3sup_node *node, bool keep)
{
	struct turn_state *state;
	k3sup_op *op = NULL;

	assert_int_equal(k3sup__node_op_new(node, &turn_class, K3SUP__NEVER, &op), 0);
	state = k3sup__op_state(op);
	state->keep = keep;
	for (int i = 0; i < 5; i++)
		(void)k3sup_op_wait(op, 0);
	return op;
}

static void a_path_that_is_not_absolute_is_refused(void **state)
{
	struct scratch *s = *state;
	struct k3sup_node_opts base = {.struct_size = sizeof(base), .root = s->path}, opts;
	k3sup_node *node = (k3sup_node *)s;

	opts = base;
	opts.k3s = "usr/local/bin/k3s";
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), -EINVAL);
	opts = base;
	opts.data_dir = "";
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), -EINVAL);
	opts = base;
	opts.state_dir = "./x";
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), -EINVAL);
	opts = base;
	opts.flags = 0x80;
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), -EINVAL);
	assert_int_equal(k3sup_node_new(NULL, &base, &node), -EINVAL);
	assert_ptr_equal(node, s);
}

static void a_root_that_is_no_directory_is_refused(void **state)
{
	struct scratch *s = *state;
	_free_ char *file = k3sup__fmt("%s/file", s->path), *none = k3sup__fmt("%s/none", s->path);
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = file};
	k3sup_node *node = NULL;

	put_file(s->fd, "file", "", 0600);
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), K3SUP_E_ROOT);
	opts.root = none;
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), K3SUP_E_ROOT);
	assert_null(node);
}

static void a_directory_that_is_no_proc_is_refused(void **state)
{
	struct scratch *s = *state;
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path, .proc = s->path};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), K3SUP_E_FOREIGN_PROC);
	opts.proc = "/nowhere/proc";
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), K3SUP_E_FOREIGN_PROC);
}

/* Whether who asks for this root, with a proc mount of his own, is told that he sees its processes; -1 if he cannot ask. */
static int sees(k3sup_ctx *ctx, const char *proc, const char *root, bool found)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = root, .proc = proc};
	k3sup_node *node = NULL;
	int seen;

	if (k3sup_node_new(ctx, &opts, &node) < 0)
		return -1;
	seen = k3sup__node_sees_processes(node, found);
	if (k3sup__node_sees_processes(node, false) != seen) /* what was seen once is remembered */
		return -1;
	k3sup_node_unref(node);
	return seen;
}

/* In a pid namespace of our own: the host's proc is foreign (even where the number is the same), a fresh mount is ours, but it does not show the processes of a
 * root that was mounted for us. above: a directory of our own mount. */
static void in_new_namespace(const char *dir, const char *above)
{
	struct k3sup_ctx_opts ctx_opts = {.struct_size = sizeof(ctx_opts), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .proc = "/proc"};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;

	if (k3sup_ctx_new(&ctx_opts, &ctx) < 0 || k3sup_node_new(ctx, &opts, &node) != K3SUP_E_FOREIGN_PROC)
		_exit(1);
	if (mount("proc", dir, "proc", 0, NULL) < 0)
		_exit(2);
	opts.proc = dir;
	if (k3sup_node_new(ctx, &opts, &node) < 0)
		_exit(3);
	k3sup_node_unref(node);
	if (sees(ctx, dir, "/", false) != 1 || sees(ctx, dir, above, false) != 1)
		_exit(4);
	if (sees(ctx, dir, dir, false) != 0 || sees(ctx, dir, dir, true) != 1)
		_exit(5);
	k3sup_ctx_unref(ctx);
	_exit(0);
}

static void the_proc_of_another_pid_namespace_is_refused(void **state)
{
	struct scratch *s = *state;
	_free_ char *dir = NULL;
	int status;
	pid_t pid;

	if (geteuid() != 0 || under_valgrind())
		skip(); /* needs unshare(2) */
	dir = k3sup__fmt("%s/proc", s->path);
	assert_int_equal(mkdirat(s->fd, "proc", 0755), 0);
	pid = fork();
	if (pid == 0) {
		pid_t inner;

		if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(77);
		inner = fork();
		if (inner == 0)
			in_new_namespace(dir, s->path);
		if (inner < 0 || waitpid(inner, &status, 0) != inner || !WIFEXITED(status))
			_exit(99);
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void the_lock_belongs_to_one_handle(void **state)
{
	struct scratch *s = *state;
	k3sup_node *a = make_node(s), *b = make_node(s);

	assert_int_equal(k3sup_node_unlock(a), 0);
	assert_int_equal(k3sup_node_lock(a), 1);
	assert_int_equal(k3sup_node_lock(a), 0);
	assert_int_equal(k3sup_node_lock(b), K3SUP_E_BUSY);
	assert_int_equal(k3sup_node_unlock(b), 0);
	assert_int_equal(k3sup_node_unlock(a), 1);
	assert_int_equal(k3sup_node_lock(b), 1);
	k3sup_node_unref(b); /* the last reference gives it back */
	assert_int_equal(k3sup_node_lock(a), 1);
	k3sup_node_unref(a);
}

static void an_operation_takes_the_lock_and_gives_it_back(void **state)
{
	struct scratch *s = *state;
	k3sup_node *a = make_node(s), *b = make_node(s);
	k3sup_op *op = begin_turn(a, true);

	assert_int_equal(k3sup_op_status(op), -EINPROGRESS);
	assert_int_equal(k3sup_node_lock(b), K3SUP_E_BUSY);
	k3sup_op_cancel(op);
	assert_int_equal(k3sup_op_wait(op, -1), K3SUP_E_CANCELLED);
	assert_int_equal(k3sup_node_lock(b), 1);
	k3sup_op_unref(op);
	op = begin_turn(a, false);
	assert_int_equal(k3sup_op_status(op), K3SUP_E_BUSY);
	k3sup_op_unref(op);
	k3sup_node_unref(a);
	k3sup_node_unref(b);
}

static void one_operation_at_a_time_changes_a_node(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = make_node(s);
	k3sup_op *first = begin_turn(node, true), *second = begin_turn(node, false);

	assert_int_equal(k3sup_op_status(second), K3SUP_E_BUSY);
	k3sup_op_unref(second);
	k3sup_op_cancel(first);
	assert_int_equal(k3sup_op_wait(first, -1), K3SUP_E_CANCELLED);
	k3sup_op_unref(first);
	second = begin_turn(node, false);
	assert_int_equal(k3sup_op_status(second), 0);
	k3sup_op_unref(second);
	k3sup_node_unref(node);
}

static void a_lock_that_was_taken_for_several_verbs_outlives_them(void **state)
{
	struct scratch *s = *state;
	k3sup_node *a = make_node(s), *b = make_node(s);
	k3sup_op *op;

	assert_int_equal(k3sup_node_lock(a), 1);
	op = begin_turn(a, false);
	assert_int_equal(k3sup_op_status(op), 0);
	k3sup_op_unref(op);
	assert_int_equal(k3sup_node_lock(b), K3SUP_E_BUSY);
	op = begin_turn(a, true);
	assert_int_equal(k3sup_node_unlock(a), -EBUSY);
	k3sup_op_cancel(op);
	assert_int_equal(k3sup_op_wait(op, -1), K3SUP_E_CANCELLED);
	k3sup_op_unref(op);
	assert_int_equal(k3sup_node_unlock(a), 1);
	assert_int_equal(k3sup_node_lock(b), 1);
	k3sup_node_unref(a);
	k3sup_node_unref(b);
}

static void a_lock_taken_while_an_operation_holds_it_is_kept(void **state)
{
	struct scratch *s = *state;
	k3sup_node *a = make_node(s), *b = make_node(s);
	k3sup_op *op = begin_turn(a, true);

	assert_int_equal(k3sup_node_lock(a), 1);
	k3sup_op_cancel(op);
	assert_int_equal(k3sup_op_wait(op, -1), K3SUP_E_CANCELLED);
	k3sup_op_unref(op);
	assert_int_equal(k3sup_node_lock(b), K3SUP_E_BUSY);
	k3sup_node_unref(a);
	assert_int_equal(k3sup_node_lock(b), 1);
	k3sup_node_unref(b);
}

static void a_running_operation_keeps_the_node(void **state)
{
	struct scratch *s = *state;
	k3sup_node *a = make_node(s), *b = make_node(s);
	k3sup_op *op = begin_turn(a, true);

	k3sup_node_unref(a);
	assert_int_equal(k3sup_node_lock(b), K3SUP_E_BUSY);
	k3sup_op_cancel(op);
	assert_int_equal(k3sup_op_wait(op, -1), K3SUP_E_CANCELLED);
	assert_int_equal(k3sup_node_lock(b), 1);
	k3sup_op_unref(op);
	k3sup_node_unref(b);
}

static void a_node_keeps_its_context(void **state)
{
	struct k3sup_ctx_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_CTX_INLINE};
	struct scratch *s = *state;
	struct k3sup_node_opts node_opts = {.struct_size = sizeof(node_opts), .root = s->path};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op;

	assert_int_equal(k3sup_ctx_new(&opts, &ctx), 0);
	assert_int_equal(k3sup_node_new(ctx, &node_opts, &node), 0);
	k3sup_ctx_unref(ctx);
	op = begin_turn(node, true);
	assert_ptr_equal(k3sup_node_unref(k3sup_node_ref(node)), NULL);
	k3sup_op_unref(op); /* detached: the end of the context ends it */
	assert_ptr_equal(k3sup_node_unref(node), NULL);
	assert_null(k3sup_node_ref(NULL));
	assert_null(k3sup_node_unref(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_path_that_is_not_absolute_is_refused),
		TEST(a_root_that_is_no_directory_is_refused),
		TEST(a_directory_that_is_no_proc_is_refused),
		TEST(the_proc_of_another_pid_namespace_is_refused),
		TEST(the_lock_belongs_to_one_handle),
		TEST(an_operation_takes_the_lock_and_gives_it_back),
		TEST(one_operation_at_a_time_changes_a_node),
		TEST(a_lock_that_was_taken_for_several_verbs_outlives_them),
		TEST(a_lock_taken_while_an_operation_holds_it_is_kept),
		TEST(a_running_operation_keeps_the_node),
		TEST(a_node_keeps_its_context),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
