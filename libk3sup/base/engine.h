/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine under the operations: what ctx.c, worker.c, watch.c, progress.c, op.c, run.c and outcome.c share. Nobody else includes this.
 *
 * Who may touch what: the loop thread (whoever calls wait or dispatch) owns everything, except that an operation in state OP_WORKING belongs to the worker
 * thread until it is handed back through done_work. Fields under `mutex` are named as such; `stop`, `past_return`, `stop_pending` and `log_level` are atomic.
 */
#ifndef K3SUP_BASE_ENGINE_H
#define K3SUP_BASE_ENGINE_H

#include "base/doc.h"
#include "base/op.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <uv.h>

enum op_at {
	OP_READY,   /* in ctx->ready: step is due */
	OP_WORKING, /* in the worker's hands, or in its queue */
	OP_WAITING, /* for a deadline, a process, a child */
	OP_ENDED,
};

struct watch;

struct k3sup_op {
	k3sup_ctx *ctx;
	const struct k3sup__op_class *class;
	void *state;
	unsigned users; /* references of callers; while there are any, the context is kept */
	unsigned refs;  /* users, and 1 while it runs, and 1 while a late done callback is due */
	enum op_at at;
	enum k3sup__woke woke;
	int status;      /* valid in OP_ENDED */
	atomic_int stop; /* 0 or the code of why it shall stop */
	atomic_bool past_return;
	bool abandoned; /* the context goes away: end at the next step boundary, past return or not */

	int (*work)(k3sup_op *op);
	int work_result;

	int64_t deadline;      /* of the whole operation */
	int64_t wait_deadline; /* of this wait */
	int64_t due;           /* when the timer wakes it: the earlier of the two that count */
	size_t heap_slot;      /* 1-based place in ctx->heap, 0: not there */
	struct watch *watch;
	k3sup_op *child;  /* waited for, or the last one */
	k3sup_op *parent; /* who waits for us; NULL when it does not any more */

	k3sup__json *facts;
	k3sup__json *evidence;
	char *message;
	bool failed; /* message is set by k3sup__fail() and not forgiven */
	int fail_code;
	bool sealed;  /* k3sup__op_seal_failure() */
	int stopping; /* why its class was told to conclude, 0: it was not */
	k3sup_doc *result;
	k3sup_doc *error;
	k3sup_process **processes;
	size_t n_processes;

	k3sup_done_fn done;
	void *done_data;
	bool notify; /* a done callback set after the end is due */
	k3sup_progress_fn progress;
	void *progress_data;
	const struct k3sup__step *steps;
	size_t n_steps;
	size_t step; /* index into steps of the one that runs */
	char *step_text;
	uint32_t percent;
	int64_t last_progress; /* when the callback was last called */
	int64_t step_began;    /* when the current step of the plan began, 0: none has */
	int64_t down_since;    /* k3s is down since then, 0: it is not */
	int64_t down_total;    /* of outages that are over; -1: there was none */

	void (*on_end)(void *arg);
	void *on_end_arg;

	TAILQ_ENTRY(k3sup_op) all;
	TAILQ_ENTRY(k3sup_op) ready;
	TAILQ_ENTRY(k3sup_op) queue; /* worker's queue, then done_work; under mutex */
	bool queued;                 /* in the worker's queue, not yet begun; under mutex */
	TAILQ_ENTRY(k3sup_op) waiters;
};
TAILQ_HEAD(op_list, k3sup_op);

/* Something a worker wants to be said on the loop thread. */
struct message {
	k3sup_op *op; /* progress: whose callback; NULL for a log line. Stays valid: its operation cannot end before this was delivered */
	int32_t level;
	const char *component;
	struct k3sup_progress progress;
	char *text;
	TAILQ_ENTRY(message) next;
};
TAILQ_HEAD(message_list, message);

struct k3sup_ctx {
	unsigned refs; /* the caller's, one for each node handle, one for each operation that has users */
	unsigned flags;
	bool dispatching;
	bool dying;
	bool woken;  /* the loop took in a wake-up */
	bool worked; /* inline: this dispatch has done its piece of work */

	uv_loop_t loop;
	uv_async_t wake;
	uv_poll_t timer;
	int timerfd;
	int64_t armed; /* what timerfd is set to, K3SUP__NEVER: off */
	k3sup_op **heap;
	size_t heap_len, heap_room;
	LIST_HEAD(, watch) watches;

	struct op_list all; /* all that run */
	struct op_list ready;
	atomic_bool stop_pending; /* some operation's stop flag was set from outside */

	k3sup_doc *lost_error, *lost_result; /* of operations that end when there is no memory to say how; made before the first one */

	atomic_int log_level;
	k3sup_log_fn log;
	void *log_data;

	pthread_mutex_t mutex;
	pthread_cond_t work_there;
	pthread_t thread;
	bool thread_runs;
	bool quit;                    /* under mutex */
	struct op_list work;          /* under mutex */
	struct op_list done_work;     /* under mutex */
	struct message_list messages; /* under mutex */
	unsigned n_messages;          /* under mutex */
	unsigned n_dropped;           /* under mutex */
};

/* ctx.c */
void k3sup__ctx_wake(k3sup_ctx *ctx);            /* from any thread and from signal handlers */
void k3sup__ctx_ask_stop(k3sup_ctx *ctx);        /* likewise; the next dispatch looks at the stop flags */
bool k3sup__ctx_is_driven(const k3sup_ctx *ctx); /* does this very thread dispatch it now? */
void k3sup__ctx_make_ready(k3sup_op *op, enum k3sup__woke woke);
int k3sup__ctx_reserve_timers(k3sup_ctx *ctx) _must_check_; /* room in the heap for one more operation: so arming cannot fail */
void k3sup__ctx_arm(k3sup_op *op);                          /* by wait_deadline and deadline */
void k3sup__ctx_disarm(k3sup_op *op);

/* worker.c */
int k3sup__worker_submit(k3sup_op *op) _must_check_;
bool k3sup__worker_unqueue(k3sup_op *op);   /* true: it had not begun and is ours again */
bool k3sup__worker_collect(k3sup_ctx *ctx); /* finished work becomes ready, messages are delivered; true if there was any */
void k3sup__worker_stop(k3sup_ctx *ctx);
void k3sup__worker_say(k3sup_ctx *ctx, struct message *message); /* takes it over; drops it when too many wait */

/* watch.c */
int k3sup__watch_add(k3sup_op *op, k3sup_process *process) _must_check_;
int k3sup__watch_add_fd(k3sup_op *op, int fd, short events) _must_check_;
void k3sup__watch_remove(k3sup_op *op);

/* progress.c */
void k3sup__progress_complete(k3sup_op *op); /* it ends well: 100 percent, whichever steps there was nothing to do in */
void k3sup__progress_end(k3sup_op *op);      /* the last step is over: its time goes into the facts */
void k3sup__progress_call(k3sup_op *op, const struct k3sup_progress *progress);

/* op.c */
void k3sup__op_release(k3sup_op *op); /* one of refs */

/* run.c */
void k3sup__op_run(k3sup_op *op);            /* step, and what it arranges */
bool k3sup__op_can_stop(const k3sup_op *op); /* neither past its point of no return nor stopping already */
int k3sup__op_stop_reason(k3sup_op *op);     /* 0: it shall go on */
void k3sup__op_look_at_stop(k3sup_ctx *ctx);

/* outcome.c */
int k3sup__outcome_reserve(k3sup_ctx *ctx) _must_check_; /* so that an operation has documents even if memory is gone when it ends */
void k3sup__outcome_freeze(k3sup_op *op);

#endif
