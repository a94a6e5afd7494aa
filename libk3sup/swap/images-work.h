/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/.k3sup-images, and what else the parts of images.h share.
 */
#ifndef K3SUP_SWAP_IMAGES_WORK_H
#define K3SUP_SWAP_IMAGES_WORK_H

#include "swap/images.h"

/* Of the work directory: above agent/images. A descriptor of images. */
int k3sup__images_parent(const struct k3sup__images *images);
/* agent/images is there. 0, or a negative code. */
int k3sup__images_make_dirs(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images) _must_check_;
/* Calls fn for each name in the work directory until it fails; the sum of what it returns. */
int k3sup__images_work_each(k3sup_op *op, int work, int (*fn)(k3sup_op *op, int work, const char *name, void *arg), void *arg) _must_check_;
/* 1, also if it was not there; or a negative code. */
int k3sup__images_work_remove(k3sup_op *op, int work, const char *name) _must_check_;
/* The work directory goes with the last thing in it. 0, or a negative code. */
int k3sup__images_work_drop(k3sup_op *op, const struct k3sup__images *images) _must_check_;
/* The same after something that has ended with n, which is returned if it is negative. */
int k3sup__images_work_end(k3sup_op *op, const struct k3sup__images *images, int n) _must_check_;
/* Gives a kept version this name in dir again. 0, or a negative code. */
int k3sup__images_put_back(k3sup_op *op, int work, const char *kept, int dir, const char *name) _must_check_;

#endif
