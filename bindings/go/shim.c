/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

#include "_cgo_export.h"

#include <errno.h>
#include <poll.h>

static void on_log(int32_t level, const char *component, const char *message, void *userdata)
{
	k3supGoLog(level, (char *)component, (char *)message, (uintptr_t)userdata);
}

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	return k3supGoProgress((struct k3sup_progress *)progress, (uintptr_t)userdata);
}

static void on_done(k3sup_op *op, void *userdata)
{
	k3supGoDone(op, (uintptr_t)userdata);
}

int k3sup_go_set_log(k3sup_ctx *ctx, int32_t max_level, uintptr_t handle)
{
	return k3sup_ctx_set_log(ctx, max_level, handle ? on_log : NULL, (void *)handle);
}

int k3sup_go_set_progress(k3sup_op *op, uintptr_t handle)
{
	return k3sup_op_set_progress(op, on_progress, (void *)handle);
}

int k3sup_go_set_done(k3sup_op *op, uintptr_t handle)
{
	return k3sup_op_set_done(op, on_done, (void *)handle);
}

int k3sup_go_poll(int fd, int timeout_ms)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms) < 0 && errno != EINTR ? -errno : 0;
}
