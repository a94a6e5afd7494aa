/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was read from a program once is not read again as long as the file is what it was: who waits for a k3s that unpacks itself looks at its wrapper several times a second.
 */
#ifndef K3SUP_NODE_KNOWN_H
#define K3SUP_NODE_KNOWN_H

#include "node/build.h"

struct k3sup__known;

struct k3sup__known *k3sup__known_new(void); /* NULL: no memory */
void k3sup__known_free(struct k3sup__known *known);

/*
 * As k3sup__build_read_fd() with K3SUP__BUILD_LENIENT. Remembered by device, inode, size and both times, unless these are so young that one more change could leave
 * them as they are. Threads: any.
 */
int k3sup__known_read(struct k3sup__known *known, int fd, const char *shown, struct k3sup__build *ret) _must_check_;

#endif
