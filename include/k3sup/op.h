/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: what every verb returns. A verb states a goal and comes back at once; no step of it runs before the context is driven
 * (k3sup_op_wait() or k3sup_ctx_dispatch()), so callbacks can be set first.
 */
#ifndef K3SUP_OP_H
#define K3SUP_OP_H

#include <k3sup/api.h>

/* What a progress callback is told. Text is valid during the call. */
struct k3sup_progress {
	uint32_t struct_size; /* what the running library fills in; later fields may be there */
	uint32_t percent;     /* of the whole operation, 0..100, never falling; 100 when it ends well */
	int64_t done;         /* of this step, in bytes or in milliseconds; -1 if it cannot be counted */
	int64_t total;        /* likewise */
	int64_t downtime_ms;  /* how long k3s has been down in this operation, -1 if it has not been */
	const char *step;     /* one of the schema's step names: "lock", "identify", "stage", "swap", "restart", "prove", ... */
	const char *text;     /* one line for people */
};

K3SUP_BEGIN_DECLS

/**
 * k3sup_progress_fn - called at each step and at most about ten times a second within one.
 *
 * Returns 0 to go on. Any other value asks the operation to stop; it then ends with K3SUP_E_CALLBACK, unless it is past its point of no
 * return, where the answer is ignored. It must not call back into the context, except k3sup_op_cancel().
 */
typedef int32_t (*k3sup_progress_fn)(const struct k3sup_progress *progress, void *userdata);

/** k3sup_done_fn - called exactly once when an operation has ended, also after cancel, but not if it was detached by its last unref. */
typedef void (*k3sup_done_fn)(k3sup_op *op, void *userdata);

/** k3sup_op_ref() - take one more reference. NULL is fine. Since: 0.1 */
K3SUP_API k3sup_op *k3sup_op_ref(k3sup_op *op);

/**
 * k3sup_op_unref() - give a reference back; always returns NULL.
 *
 * Giving back the last reference of a running operation cancels and detaches it: no callback comes any more, and the operation goes to its
 * next safe point on its own while the context is driven, or when the context goes away. Past its point of no return it is finished as
 * long as somebody drives the context; k3sup_ctx_unref() waits only for the piece of work that runs, and leaves the rest to the next run.
 * Since: 0.1
 */
K3SUP_API k3sup_op *k3sup_op_unref(k3sup_op *op);

/**
 * k3sup_op_wait() - drive the context until this operation has ended.
 * @timeout_ms: how long at most, in milliseconds of CLOCK_BOOTTIME; below 0 is for ever, 0 is one dispatch.
 *
 * Other operations of the context run on meanwhile. Being out of time here does not stop the operation: cancel it, or wait again.
 * In an inline context a piece of file work that has begun is finished first.
 * Returns what k3sup_op_status() would: -EINPROGRESS if it still runs; -EBUSY from inside a callback.
 * Since: 0.1
 */
K3SUP_API int k3sup_op_wait(k3sup_op *op, int64_t timeout_ms);

/**
 * k3sup_op_cancel() - ask an operation to stop at its next safe point.
 *
 * The request stays (it cannot be lost between two steps). Past the point of no return, which each verb documents, it is ignored and the operation
 * ends as it would have. Cancelling an operation that has ended does nothing.
 * Threads: any, and from a signal handler; the caller must hold a reference. Since: 0.1
 */
K3SUP_API void k3sup_op_cancel(k3sup_op *op);

/**
 * k3sup_op_status() - how far it is.
 *
 * Returns -EINPROGRESS while it runs; else below 0 the error, 0 the goal held already, 1 it was reached and something changed. Since: 0.1
 */
K3SUP_API int k3sup_op_status(k3sup_op *op);

/**
 * k3sup_op_set_done() - call @fn when the operation has ended; if it has ended already, in the next dispatch.
 * @userdata: must live until @fn was called or replaced. @fn may be NULL to take it back.
 *
 * Returns 0 or -EINVAL. Since: 0.1
 */
K3SUP_API int k3sup_op_set_done(k3sup_op *op, k3sup_done_fn fn, void *userdata);

/**
 * k3sup_op_set_progress() - call @fn while the operation runs. @fn may be NULL to take it back.
 *
 * Returns 0 or -EINVAL. Since: 0.1
 */
K3SUP_API int k3sup_op_set_progress(k3sup_op *op, k3sup_progress_fn fn, void *userdata);

/**
 * k3sup_op_result() - the result, of failures too: what was seen and done until then.
 *
 * Ownership: the operation's; take a reference to keep it. NULL while it runs. Since: 0.1
 */
K3SUP_API k3sup_doc *k3sup_op_result(k3sup_op *op);

/**
 * k3sup_op_error() - why it failed: {code, name, message, evidence}.
 *
 * Ownership: the operation's. NULL while it runs and if it did not fail. Since: 0.1
 */
K3SUP_API k3sup_doc *k3sup_op_error(k3sup_op *op);

/**
 * k3sup_op_process() - the process number @index that k3sup_identify() or k3sup_wait_running() found.
 * @ret_process: owned by the caller. Untouched on failure.
 *
 * Returns 0, or -EINVAL, -EINPROGRESS, -ENOENT (no such index). Since: 0.1
 */
K3SUP_API int k3sup_op_process(k3sup_op *op, uint32_t index, k3sup_process **ret_process) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
