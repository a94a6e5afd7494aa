/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of foreign roots share. All of it happens in a mount namespace, on a tmpfs that is the process's root directory: so "/" holds canaries, too, and a
 * path that leaves the node's root by any way ends at one.
 */
#ifndef K3SUP_TESTS_FOREIGN_FOREIGN_H
#define K3SUP_TESTS_FOREIGN_FOREIGN_H

#include "../unit/base/scratch.h"

#include "base/root.h"

#define PLACE "/host/node" /* the node's root */

/* How a path is looked up: ours, or a way that must be caught. */
typedef int (*look_fn)(const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret);
int look_ours(const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret);
int look_naive(const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret);

/* Each openat(2) that is made for a look-up is asked where it went. */
extern unsigned long opens, opens_outside;
void opens_watch(const char *inside); /* NULL: not any more */

int forests(unsigned count, unsigned seed, look_fn look, unsigned long *ret_differences);
int racer(unsigned rounds);
int renamer(unsigned rounds);

#endif
