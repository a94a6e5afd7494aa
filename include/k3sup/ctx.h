/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context: one private event loop, one worker thread, one file descriptor for the host to watch.
 *
 * Threads: a context and all that hangs on it (nodes, operations, processes) is used by one thread at a time; different contexts are
 * independent. k3sup_op_cancel() and all functions on documents work from any thread. After fork() a child must not use a context
 * it inherited.
 *
 * Hosting: the context is driven by k3sup_op_wait(), or by a host that polls k3sup_ctx_fd() for input, without a timeout, and
 * calls k3sup_ctx_dispatch() when it is readable. All callbacks (log, progress, done) run inside these two calls, on the caller's thread.
 */
#ifndef K3SUP_CTX_H
#define K3SUP_CTX_H

#include <k3sup/api.h>

/* k3sup_ctx_opts.flags */
#define K3SUP_CTX_INLINE 1u /* no worker thread: file work runs inside wait or dispatch. For single-threaded hosts and for tests */

struct k3sup_ctx_opts {
	uint32_t struct_size; /* sizeof(struct k3sup_ctx_opts) */
	uint32_t flags;       /* K3SUP_CTX_* */
};

/* log levels, as in syslog(3) */
#define K3SUP_LOG_NONE (-1)
#define K3SUP_LOG_ERR 3
#define K3SUP_LOG_WARNING 4
#define K3SUP_LOG_INFO 6
#define K3SUP_LOG_DEBUG 7

K3SUP_BEGIN_DECLS

/**
 * k3sup_log_fn - receives one finished line of text.
 * @level: K3SUP_LOG_ERR ... K3SUP_LOG_DEBUG
 * @component: the room that speaks: "base", "node", "swap", "process", "upgrade"
 * @message: one line, without line end; foreign bytes in it are escaped
 * @userdata: as given to k3sup_ctx_set_log()
 *
 * It returns nothing on purpose: a full log must not stop an upgrade. It must not call back into the context.
 */
typedef void (*k3sup_log_fn)(int32_t level, const char *component, const char *message, void *userdata);

/**
 * k3sup_ctx_new() - make a context.
 * @opts: NULL for the defaults.
 * @ret_ctx: the new context, with one reference that is the caller's. Untouched on failure.
 *
 * Opens at most 8 file descriptors, all close-on-exec, however many operations follow, and none of them is 0, 1 or 2 where the host has closed those. Reads no environment variable and no file; installs no
 * signal handler that the host could notice. The worker thread starts with the first operation that needs it, with all signals blocked.
 *
 * Blocking: no. On disk: nothing. Returns 0, or -EINVAL, -E2BIG (options of a newer library), -ENOMEM, -EMFILE, -ENFILE.
 * Since: 0.1
 */
K3SUP_API int k3sup_ctx_new(const struct k3sup_ctx_opts *opts, k3sup_ctx **ret_ctx) K3SUP_MUST_CHECK;

/** k3sup_ctx_ref() - take one more reference. NULL is fine. Since: 0.1 */
K3SUP_API k3sup_ctx *k3sup_ctx_ref(k3sup_ctx *ctx);

/**
 * k3sup_ctx_unref() - give a reference back; always returns NULL.
 *
 * Nodes and operations keep their context alive. With the last reference, operations that were detached and still run are cancelled and waited
 * for: each stops at its next safe point (a swap: the temp file is removed), which may take as long as one file system call takes.
 * Since: 0.1
 */
K3SUP_API k3sup_ctx *k3sup_ctx_unref(k3sup_ctx *ctx);

/**
 * k3sup_ctx_set_log() - where log lines go; without it the library is silent.
 * @max_level: the least important level that is wanted, K3SUP_LOG_NONE for silence.
 * @fn: NULL for silence.
 * @userdata: handed to @fn; must live until another call replaces it or the context is gone.
 *
 * Returns 0 or -EINVAL. Since: 0.1
 */
K3SUP_API int k3sup_ctx_set_log(k3sup_ctx *ctx, int32_t max_level, k3sup_log_fn fn, void *userdata);

/**
 * k3sup_ctx_fd() - the one descriptor to watch for input.
 *
 * Ownership: the context's; it stays the same as long as the context lives. Never read from it.
 * Deadlines make it readable as well, so no timeout is needed (they run on CLOCK_BOOTTIME: time in suspend counts).
 * Since: 0.1
 */
K3SUP_API int k3sup_ctx_fd(k3sup_ctx *ctx);

/**
 * k3sup_ctx_dispatch() - do what is ready, run callbacks, never wait.
 *
 * In an inline context "what is ready" includes the file work of operations, one piece (for instance one whole copy of a binary) a call.
 * Calling it when nothing is ready is fine. Calling it from inside a callback is refused with -EBUSY.
 * Returns 1 if something was done, 0 if nothing was ready, or a negative code if the loop itself failed.
 * Since: 0.1
 */
K3SUP_API int k3sup_ctx_dispatch(k3sup_ctx *ctx);

K3SUP_END_DECLS

#endif
