/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warnings: sentences in the "warnings" of a result, for what does not stop an operation but must not be silent.
 */
#ifndef K3SUP_NODE_WARN_H
#define K3SUP_NODE_WARN_H

#include "base/op.h"

void k3sup__warn(k3sup_op *op, const char *fmt, ...) _printf_(2, 3); /* op may be NULL: silence */

#endif
