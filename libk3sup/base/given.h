/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files that the caller names by paths of its own (keys, lists, signatures), read once and whole.
 */
#ifndef K3SUP_BASE_GIVEN_H
#define K3SUP_BASE_GIVEN_H

#include "base/root.h"

struct k3sup__given {
	const char *what; /* "the key"; for sentences */
	const char *path; /* relative ones count from the working directory */
	unsigned flags;   /* of k3sup__root_find(), which walks from "/"; K3SUP__TRUSTED where the content is believed */
	size_t max;       /* bytes; one more is read, so that the caller can tell */
	int code;         /* what it is when it cannot be read: K3SUP_E_KEY ... */
};

/* 0 and owned bytes with a NUL behind; given->code, K3SUP_E_UNTRUSTED, -ENOMEM. */
int k3sup__given_read(k3sup_op *op, const struct k3sup__given *given, char **ret_bytes, size_t *ret_len) _must_check_;

#endif
