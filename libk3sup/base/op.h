/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations from the inside: how a verb is written.
 *
 * A verb is a class with a step function. The engine calls step() on the loop thread; step looks at its own state, arranges what comes next with one of
 * the five arrangers below, and returns what the arranger returned. When that is over, step is called again. It ends the operation by returning
 * a negative code, 0 (already so) or 1 (changed).
 *
 * File work is done by a work function on the context's worker thread (or inline). Until it returns, the operation belongs to it: the loop thread
 * touches nothing of the operation but its stop flag. A work function asks k3sup__op_checkpoint() between pieces that take time.
 * It keeps no descriptor open behind its end unless it must: hundreds of operations may have worked before the first of them is ended.
 *
 * Before a step is called, the engine itself ends an operation that was asked to stop or is out of time, unless it is past its point of no return.
 */
#ifndef K3SUP_BASE_OP_H
#define K3SUP_BASE_OP_H

#include <k3sup/ctx.h>
#include <k3sup/error.h>
#include <k3sup/op.h>

#include "base/json.h"
#include "base/util.h"

/* what step() returns besides an end */
#define K3SUP__WORK 1001  /* a work function was queued */
#define K3SUP__WAIT 1002  /* a deadline, a process or a child operation is waited for */
#define K3SUP__AGAIN 1003 /* call step again at once, after a look at the stop flag */

struct k3sup__op_class {
	const char *verb;  /* "swap"; the component of its log lines */
	size_t state_size; /* of the state behind the operation, zeroed at the start */
	int (*step)(k3sup_op *op);
	void (*clear)(k3sup_op *op); /* frees what the state owns; may be NULL. Called once, on the loop thread, when the operation has ended */
	bool concludes; /* wants one K3SUP__WOKE_STOP, to report what it leaves, instead of being ended by the engine when it is stopped */
};

/* why step() was called */
enum k3sup__woke {
	K3SUP__WOKE_START,
	K3SUP__WOKE_WORK,     /* the work function returned; its value is k3sup__op_work_result() */
	K3SUP__WOKE_DEADLINE, /* the time of op_sleep, op_watch or op_watch_fd is there */
	K3SUP__WOKE_PROCESS,  /* the watched process has ended */
	K3SUP__WOKE_FD,       /* the watched descriptor can be read or written, or has failed */
	K3SUP__WOKE_CHILD,    /* the child operation has ended */
	K3SUP__WOKE_STOP, /* it was asked to stop or is out of time, and failed with that code; what it still does is not stopped any more */
};

/*
 * A new operation, not started before the context is driven. deadline: of the whole operation (K3SUP__NEVER for none); when it passes before the point of
 * no return, the operation ends with K3SUP_E_TIMEOUT. The context gets it at once; the caller of the verb gets the reference in ret_op.
 */
int k3sup__op_new(k3sup_ctx *ctx, const struct k3sup__op_class *class, int64_t deadline, k3sup_op **ret_op) _must_check_;
void *k3sup__op_state(k3sup_op *op);
k3sup_ctx *k3sup__op_ctx(k3sup_op *op);
enum k3sup__woke k3sup__op_woke(k3sup_op *op);
int k3sup__op_stop_code(k3sup_op *op); /* with K3SUP__WOKE_STOP: why */
int64_t k3sup__op_deadline(k3sup_op *op);

/* The arrangers. */
int k3sup__op_work(k3sup_op *op, int (*fn)(k3sup_op *op)); /* K3SUP__WORK */
int k3sup__op_work_result(k3sup_op *op);
int k3sup__op_sleep(k3sup_op *op, int64_t deadline);                         /* K3SUP__WAIT */
int k3sup__op_watch(k3sup_op *op, k3sup_process *process, int64_t deadline); /* K3SUP__WAIT or a negative code */
int k3sup__op_watch_fd(k3sup_op *op, int fd, short events, int64_t deadline); /* poll()'s POLLIN and POLLOUT; likewise. No other operation may watch it */
int k3sup__op_call(k3sup_op *op, k3sup_op *child); /* K3SUP__WAIT; consumes the reference; the child's result stays readable by k3sup__op_child() until the next call */
k3sup_op *k3sup__op_child(k3sup_op *op);

/* From here on the operation is not stopped any more by cancel, callback or its own deadline. May be called from a work function. */
void k3sup__op_no_return(k3sup_op *op);
/* The part that could not be stopped is over and another one follows that can (an upgrade after its swap). */
void k3sup__op_may_stop(k3sup_op *op);
bool k3sup__op_is_past_return(k3sup_op *op);
/* 0, or why the operation shall stop now: K3SUP_E_CANCELLED, K3SUP_E_CALLBACK, K3SUP_E_TIMEOUT. Always 0 past the point of no return. op may be NULL. */
int k3sup__op_checkpoint(k3sup_op *op);

/*
 * Say why it fails: one sentence for people, without a full stop. Returns code, so that `return k3sup__fail(op, ...)` reads well. The first sentence
 * of an operation wins (the innermost knows most), until k3sup__op_forgive() takes it back. op may be NULL: then only the code is returned.
 */
int k3sup__fail(k3sup_op *op, int code, const char *fmt, ...) _printf_(3, 4);
void k3sup__op_forgive(k3sup_op *op);
/* What was said so far; NULL if nothing was. For those who forgive a failure and report it as a finding. */
const char *k3sup__op_sentence(const k3sup_op *op);
/* The failure that was said is final: what is still done (a last look at the node) neither adds to it nor takes it back. */
void k3sup__op_seal_failure(k3sup_op *op);
/* How it ends after all, also where a failure was sealed: this takes its place, its evidence stays. Returns code. */
int k3sup__op_fail_instead(k3sup_op *op, int code, const char *fmt, ...) _printf_(3, 4);
/* The object of evidence that goes with a failure; borrowed. NULL if op is NULL or its failure is sealed: setters take that. */
k3sup__json *k3sup__op_evidence(k3sup_op *op);
/* The object that becomes the result; borrowed. */
k3sup__json *k3sup__op_facts(k3sup_op *op);
/* What a child operation found out becomes the parent's: its error and evidence, when it failed. Returns its status. */
int k3sup__op_adopt(k3sup_op *op, k3sup_op *child);
/* What failed in an operation that goes on is this one's failure: its sentence and evidence are moved here. Returns code. */
int k3sup__op_take_failure(k3sup_op *op, k3sup_op *from, int code);

/*
 * Progress. Steps have weights; percent of the whole is counted from them. An operation that is called by another one fills the span of the parent's
 * current step. text may be NULL. done/total: -1 if it cannot be counted. Rate-limited inside; cheap to call for each chunk.
 */
struct k3sup__step {
	const char *name;
	uint32_t weight;
};
void k3sup__op_plan(k3sup_op *op, const struct k3sup__step *steps, size_t count); /* static array; once, before the first step begins */
void k3sup__op_begin(k3sup_op *op, const char *name, const char *fmt, ...) _printf_(3, 4);
void k3sup__op_progress(k3sup_op *op, int64_t done, int64_t total);
/* k3s went down, or came up, at this moment of CLOCK_BOOTTIME (ms). Counted for the outermost operation; saying it twice changes nothing. */
void k3sup__op_went_down(k3sup_op *op, int64_t at_ms);
void k3sup__op_came_up(k3sup_op *op, int64_t at_ms);
/* How long k3s has been down in this operation until now, -1 if it has not been. */
int64_t k3sup__op_downtime(const k3sup_op *op);

/* One log line; formatted only if somebody wants that level. op may be NULL (silence). From any thread that owns the operation. */
void k3sup__log(k3sup_op *op, int32_t level, const char *fmt, ...) _printf_(3, 4);

/* The processes that k3sup_op_process() hands out. Takes its own reference. */
int k3sup__op_add_process(k3sup_op *op, k3sup_process *process) _must_check_;

/* Keep something alive as long as the operation runs: called with arg when it has ended (after clear). One slot, used by node handles. */
void k3sup__op_on_end(k3sup_op *op, void (*fn)(void *arg), void *arg);

/*
 * Take options of any age: ret (size bytes of this library's struct) is zeroed and filled with what the caller's struct has of it. NULL stands for defaults.
 * -EINVAL: too small to hold struct_size and flags, or an unknown flag; -E2BIG: bytes behind what this library knows that are not zero.
 */
int k3sup__opts(const void *opts, void *ret, size_t size, uint32_t known_flags) _must_check_;

#endif
