/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Go cannot say by itself: a cgo.Handle is an integer, and turning it into a pointer in Go is refused by vet and checkptr.
 */
#ifndef K3SUP_GO_SHIM_H
#define K3SUP_GO_SHIM_H

#include <k3sup.h>
#include <stdint.h>

int k3sup_go_set_log(k3sup_ctx *ctx, int32_t max_level, uintptr_t handle);
int k3sup_go_set_progress(k3sup_op *op, uintptr_t handle);
int k3sup_go_set_done(k3sup_op *op, uintptr_t handle);
int k3sup_go_poll(int fd, int timeout_ms);

#endif
