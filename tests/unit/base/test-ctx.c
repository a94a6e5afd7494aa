/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

/* Stands between the library and the kernel. */
static int fail_timerfd; /* errno */

int timerfd_create(clockid_t clock, int flags)
{
	if (fail_timerfd) {
		errno = fail_timerfd;
		return -1;
	}
	return (int)syscall(SYS_timerfd_create, clock, flags);
}

/* 0: made and gone, 1: refused for want of descriptors, 2: something else. */
static int try_with_limit(rlim_t limit)
{
	struct rlimit few = {.rlim_cur = limit, .rlim_max = limit};
	k3sup_ctx *ctx = NULL;
	int r;

	if (setrlimit(RLIMIT_NOFILE, &few) < 0)
		return 2;
	r = k3sup_ctx_new(NULL, &ctx);
	if (r == 0)
		k3sup_ctx_unref(ctx);
	else if (r != -EMFILE || ctx)
		return 2;
	return r < 0;
}

/* The first test, since libuv's first loop in a process is made otherwise than later ones. */
static void short_of_descriptors_it_is_refused_and_the_process_lives(void **state)
{
	size_t refused = 0, made = 0;

	(void)state;
	if (under_valgrind())
		skip();
	for (rlim_t limit = count_fds() - 3; limit < 64 && made < 3; limit++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0)
			_exit(try_with_limit(limit));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status))
			fail_msg("with %d descriptors the process was killed", (int)limit);
		assert_in_range(WEXITSTATUS(status), 0, 1);
		refused += WEXITSTATUS(status) == 1;
		made += WEXITSTATUS(status) == 0;
	}
	assert_true(refused >= 4);
	assert_int_equal(made, 3);
}

static void a_context_opens_few_descriptors_and_none_for_children(void **state)
{
	size_t before = count_fds(), opened = 0;
	bool had[64];
	k3sup_ctx *ctx = NULL;

	(void)state;
	for (int fd = 0; fd < 64; fd++)
		had[fd] = fcntl(fd, F_GETFD) >= 0;
	assert_int_equal(k3sup_ctx_new(NULL, &ctx), 0);
	for (int fd = 0; fd < 64; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (had[fd] || flags < 0)
			continue;
		opened++;
		assert_true(flags & FD_CLOEXEC);
	}
	assert_int_equal(count_fds() - before, opened);
	assert_in_range(opened, 1, 8);
	k3sup_ctx_unref(ctx);
	/* libuv keeps a pipe for the whole process */
	before = count_fds();
	for (int i = 0; i < 50; i++) {
		assert_int_equal(k3sup_ctx_new(NULL, &ctx), 0);
		k3sup_ctx_unref(ctx);
	}
	assert_int_equal(count_fds(), before);
}

static void a_context_that_cannot_be_made_leaves_nothing(void **state)
{
	size_t before = count_fds();
	k3sup_ctx *ctx = NULL;

	(void)state;
	fail_timerfd = EMFILE;
	assert_int_equal(k3sup_ctx_new(NULL, &ctx), -EMFILE);
	fail_timerfd = 0;
	assert_null(ctx);
	assert_int_equal(count_fds(), before);
}

/* A daemon's host has closed what it does not use; libuv ends the process where it has to close one of these. */
static void standard_descriptors_may_be_closed(void **state)
{
	int status = -1;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		k3sup_ctx *ctx = NULL;

		for (int fd = 0; fd <= STDERR_FILENO; fd++)
			(void)close(fd);
		if (k3sup_ctx_new(NULL, &ctx) < 0 || k3sup_ctx_fd(ctx) <= STDERR_FILENO)
			_exit(1);
		for (int fd = 0; fd <= STDERR_FILENO; fd++)
			if (fcntl(fd, F_GETFD) >= 0)
				_exit(2); /* they are as they were */
		k3sup_ctx_unref(ctx);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void options_are_checked(void **state)
{
	struct k3sup_ctx_opts opts = {.struct_size = sizeof(opts), .flags = 0x80};
	k3sup_ctx *ctx = NULL;

	(void)state;
	assert_int_equal(k3sup_ctx_new(&opts, &ctx), -EINVAL);
	opts.flags = 0;
	assert_int_equal(k3sup_ctx_new(&opts, NULL), -EINVAL);
	opts.struct_size = 4;
	assert_int_equal(k3sup_ctx_new(&opts, &ctx), -EINVAL);
	assert_null(ctx);
	assert_int_equal(k3sup_ctx_dispatch(NULL), -EINVAL);
	assert_int_equal(k3sup_ctx_fd(NULL), -EINVAL);
	assert_null(k3sup_ctx_ref(NULL));
	assert_null(k3sup_ctx_unref(NULL));
}

static void log_settings_are_checked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(k3sup_ctx_set_log(NULL, K3SUP_LOG_ERR, NULL, NULL), -EINVAL);
	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_DEBUG + 1, NULL, NULL), -EINVAL);
	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_NONE - 1, NULL, NULL), -EINVAL);
	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_DEBUG, NULL, NULL), 0);
	assert_int_equal(k3sup_ctx_set_log(f->ctx, K3SUP_LOG_NONE, NULL, NULL), 0);
}

static void the_descriptor_stays_and_sleeps_until_a_deadline(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_sleep, .until = k3sup__now_ms() + 30};
	struct pollfd p = {.fd = k3sup_ctx_fd(f->ctx), .events = POLLIN};
	int turns = 0;

	begin(f->ctx, &s);
	while (k3sup_op_status(s.op) == -EINPROGRESS) {
		assert_int_equal(poll(&p, 1, LONG), 1);
		assert_true(k3sup_ctx_dispatch(f->ctx) >= 0);
		assert_true(++turns < 10); /* it does not spin */
	}
	assert_int_equal(k3sup_ctx_fd(f->ctx), p.fd);
	settle(f->ctx);
	assert_int_equal(poll(&p, 1, 0), 0);
	k3sup_op_unref(s.op);
}

static void a_thread_that_cannot_be_made_fails_the_operation_alone(void **state)
{
	struct fixture *f = *state;
	struct script s = {.step = step_work, .work = work_until_let_go}, sleeper = {.step = step_sleep, .until = k3sup__now_ms() + 5};
	struct script deadline = s;
	pthread_attr_t before, huge;

	if (under_valgrind())
		skip();
	assert_int_equal(pthread_getattr_default_np(&before), 0);
	assert_int_equal(pthread_attr_init(&huge), 0);
	assert_int_equal(pthread_attr_setstacksize(&huge, SIZE_MAX / 4 * 3), 0);
	assert_int_equal(pthread_setattr_default_np(&huge), 0);
	begin(f->ctx, &s);
	begin(f->ctx, &sleeper);
	begin_as(&script_class, f->ctx, &deadline, k3sup__now_ms() + 60000);
	assert_int_equal(finish(s.op), -EAGAIN);
	assert_error(s.op, -EAGAIN, "worker");
	assert_int_equal(finish(deadline.op), -EAGAIN);
	assert_int_equal(pthread_setattr_default_np(&before), 0);
	assert_int_equal(finish(sleeper.op), 1);
	assert_int_equal(s.works, 0);
	k3sup_op_unref(s.op);
	k3sup_op_unref(sleeper.op);
	k3sup_op_unref(deadline.op);
	pthread_attr_destroy(&huge);
	pthread_attr_destroy(&before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_of_descriptors_it_is_refused_and_the_process_lives),
		cmocka_unit_test(a_context_opens_few_descriptors_and_none_for_children),
		cmocka_unit_test(a_context_that_cannot_be_made_leaves_nothing),
		cmocka_unit_test(standard_descriptors_may_be_closed),
		cmocka_unit_test(options_are_checked),
		in_both(log_settings_are_checked),
		in_both(the_descriptor_stays_and_sleeps_until_a_deadline),
		in_worker(a_thread_that_cannot_be_made_fails_the_operation_alone),
	};

	return cmocka_run_group_tests_name("ctx", tests, NULL, NULL);
}
