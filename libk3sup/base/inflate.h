/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip (RFC 1952), streamed from a descriptor to a function, in memory that does not depend on the size.
 *
 * A stream may have several members, one behind the other. What is not a member behind one is refused, zeros too: two readers of such a file could disagree about its
 * content. Caps: a small file that promises much must not fill the node's disk.
 */
#ifndef K3SUP_BASE_INFLATE_H
#define K3SUP_BASE_INFLATE_H

#include "base/op.h"

#define K3SUP__INFLATE_MAX ((uint64_t)1 << 30)   /* bytes that come out; a k3s has 80 MB at most */
#define K3SUP__INFLATE_RATIO 200u                /* out for each one in; deflate reaches 1032, a k3s 3 */
#define K3SUP__INFLATE_FREE ((uint64_t)16 << 20) /* so much may come out whatever the ratio is */

/* Does the file begin as gzip does? 1, 0 or -errno. */
int k3sup__is_gzip(int fd) _must_check_;

/*
 * Calls sink with each piece that comes out; a negative value stops. From offset 0, wherever the descriptor stands. 0, K3SUP_E_GZIP (damaged, garbage behind, over a
 * cap), K3SUP_E_PAYLOAD_TRUNCATED (it ends within a member), what sink returned, -errno; asks k3sup__op_checkpoint() now and then.
 */
int k3sup__inflate(k3sup_op *op, int fd, const char *shown, int (*sink)(void *arg, const void *bytes, size_t len), void *arg) _must_check_;

#endif
