/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of operations share: operations whose step is a function of the test, driven as a host would drive them (one descriptor, no timeout), in a
 * context with a worker thread and in an inline one.
 */
#ifndef K3SUP_TESTS_UNIT_BASE_OPS_H
#define K3SUP_TESTS_UNIT_BASE_OPS_H

#include "scratch.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/process.h"

#define LONG 20000 /* ms: what must not take long is given up then */

struct fixture {
	k3sup_ctx *ctx;
	size_t fds;
	bool is_inline;
};

/* What a test lets its operation do, and sees of it. */
struct script {
	int (*step)(k3sup_op *op, struct script *s);
	int (*work)(k3sup_op *op, struct script *s);
	int steps, works, clears, dones, ends;
	enum k3sup__woke woke;
	int64_t until;
	k3sup_process *process;
	k3sup_op *op, *other;
	struct script *inner;
	k3sup_ctx *ctx;
	pthread_t thread;
	int number;
	sem_t begun, go;
};

struct script_state {
	struct script *script;
};

static inline struct script *script_of(k3sup_op *op)
{
	struct script_state *state = k3sup__op_state(op);

	return state->script;
}

static inline int script_step(k3sup_op *op)
{
	struct script *s = script_of(op);

	s->steps++;
	s->woke = k3sup__op_woke(op);
	return s->step(op, s);
}

static inline int script_work(k3sup_op *op)
{
	struct script *s = script_of(op);

	s->works++;
	s->thread = pthread_self();
	return s->work(op, s);
}

static inline void script_clear(k3sup_op *op)
{
	script_of(op)->clears++;
}

static const struct k3sup__op_class script_class = {
	.verb = "script", .state_size = sizeof(struct script_state), .step = script_step, .clear = script_clear};
static const struct k3sup__op_class concluding_class = {
	.verb = "script", .state_size = sizeof(struct script_state), .step = script_step, .clear = script_clear, .concludes = true};

static inline k3sup_op *begin_as(const struct k3sup__op_class *class, k3sup_ctx *ctx, struct script *s, int64_t deadline)
{
	struct script_state *state;

	assert_int_equal(k3sup__op_new(ctx, class, deadline, &s->op), 0);
	state = k3sup__op_state(s->op);
	state->script = s;
	s->ctx = ctx;
	return s->op;
}

static inline k3sup_op *begin(k3sup_ctx *ctx, struct script *s)
{
	return begin_as(&script_class, ctx, s, K3SUP__NEVER);
}

/* One turn of a host: it sleeps until the descriptor is readable, and a wake-up that is lost fails the test. */
static inline void turn_once(k3sup_ctx *ctx)
{
	struct pollfd p = {.fd = k3sup_ctx_fd(ctx), .events = POLLIN};
	int n;

	do
		n = poll(&p, 1, LONG);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		fail_msg("the context's descriptor never became readable");
	assert_true(k3sup_ctx_dispatch(ctx) >= 0);
}

static inline int finish(k3sup_op *op)
{
	while (k3sup_op_status(op) == -EINPROGRESS)
		turn_once(op->ctx);
	return k3sup_op_status(op);
}

/* Drives until *count is there; for operations that nobody holds any more. */
static inline void drive_until(k3sup_ctx *ctx, const int *count, int wanted)
{
	while (*count < wanted)
		turn_once(ctx);
}

/* Runs what is ready, and one moment more, to see that nothing else comes. */
static inline void settle(k3sup_ctx *ctx)
{
	struct pollfd p = {.fd = k3sup_ctx_fd(ctx), .events = POLLIN};

	for (int i = 0; i < 20 && poll(&p, 1, 0) == 1; i++)
		assert_true(k3sup_ctx_dispatch(ctx) >= 0);
}

static inline int setup_with(void **state, uint32_t flags)
{
	struct k3sup_ctx_opts opts = {.struct_size = sizeof(opts), .flags = flags};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(k3sup_ctx_new(&opts, &f->ctx), 0);
	k3sup_ctx_unref(f->ctx); /* the first loop of a process leaves a pipe behind */
	f->fds = count_fds();
	f->is_inline = flags & K3SUP_CTX_INLINE;
	assert_int_equal(k3sup_ctx_new(&opts, &f->ctx), 0);
	*state = f;
	return 0;
}

static inline int setup_worker(void **state)
{
	return setup_with(state, 0);
}

static inline int setup_inline(void **state)
{
	return setup_with(state, K3SUP_CTX_INLINE);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->ctx)
		settle(f->ctx);
	k3sup_ctx_unref(f->ctx);
	if (count_fds() != f->fds)
		fail_msg("%zu descriptors are open, %zu were before the test", count_fds(), f->fds);
	free(f);
	return 0;
}

static inline k3sup_process *start_process(pid_t *ret_pid)
{
	int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), dirfd;
	k3sup_process *process = NULL;
	struct k3sup__stat stat;
	char name[16];

	if (under_valgrind()) {
		close(proc_fd);
		skip();
	}
	*ret_pid = fork();
	assert_true(*ret_pid >= 0);
	if (*ret_pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
		for (;;)
			pause();
	}
	(void)snprintf(name, sizeof(name), "%d", (int)*ret_pid);
	dirfd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(k3sup__stat_read(dirfd, &stat), 0);
	assert_int_equal(k3sup__process_new(proc_fd, *ret_pid, dirfd, stat.start_time, &process), 0);
	close(proc_fd);
	return process;
}

static inline void end_process(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static inline void assert_error(k3sup_op *op, int code, const char *part)
{
	const char *message = NULL, *name = NULL;
	k3sup_doc *error = k3sup_op_error(op);
	int64_t number = 0;

	assert_int_equal(k3sup_op_status(op), code);
	assert_non_null(error);
	assert_int_equal(k3sup_doc_i64(error, "/code", &number), 0);
	assert_int_equal(number, code);
	assert_int_equal(k3sup_doc_str(error, "/name", &name), 0);
	assert_string_equal(name, k3sup_error_name(code));
	assert_int_equal(k3sup_doc_str(error, "/message", &message), 0);
	if (!strstr(message, part))
		fail_msg("\"%s\" does not say \"%s\"", message, part);
	assert_true(k3sup_doc_len(error, "/evidence") >= 0);
	assert_int_equal(k3sup_doc_i64(k3sup_op_result(op), "/ok", &number), 0);
	assert_int_equal(number, 0);
	assert_int_equal(k3sup_doc_i64(k3sup_op_result(op), "/error/code", &number), 0);
	assert_int_equal(number, code);
}

static inline void count_done(k3sup_op *op, void *userdata)
{
	struct script *s = userdata;

	assert_true(k3sup_op_status(op) != -EINPROGRESS);
	s->dones++;
}

/* ---- steps that many tests use ---- */

static inline int step_done(k3sup_op *op, struct script *s)
{
	(void)op;
	return s->number;
}

static inline int step_sleep(k3sup_op *op, struct script *s)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_START ? k3sup__op_sleep(op, s->until) : 1;
}

static inline int step_watch(k3sup_op *op, struct script *s)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_START ? k3sup__op_watch(op, s->process, s->until) : 1;
}

static inline int step_work(k3sup_op *op, struct script *s)
{
	(void)s;
	return k3sup__op_woke(op) == K3SUP__WOKE_START ? k3sup__op_work(op, script_work) : k3sup__op_work_result(op);
}

/* Works until it is told to stop; says when it has begun. */
static inline int work_until_stopped(k3sup_op *op, struct script *s)
{
	int stop;

	sem_post(&s->begun);
	while ((stop = k3sup__op_checkpoint(op)) == 0)
		sched_yield();
	return stop;
}

/* Works until the test lets it go, deaf to all requests. */
static inline int work_until_let_go(k3sup_op *op, struct script *s)
{
	(void)op;
	sem_post(&s->begun);
	while (sem_wait(&s->go) < 0)
		;
	return 1;
}

static inline void wait_begun(struct script *s)
{
	while (sem_wait(&s->begun) < 0)
		;
}

#define in_worker(fn) \
	{ \
#fn, fn, setup_worker, teardown, NULL \
	}
#define in_inline(fn) \
	{ \
#fn " (inline)", fn, setup_inline, teardown, NULL \
	}
#define in_both(fn) in_worker(fn), in_inline(fn)

#endif
