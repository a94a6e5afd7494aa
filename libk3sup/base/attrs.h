/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file carries besides its content: owner, mode, POSIX ACL, security label, capabilities, all other extended attributes.
 */
#ifndef K3SUP_BASE_ATTRS_H
#define K3SUP_BASE_ATTRS_H

#include "base/op.h"

/*
 * Makes the file behind `to` carry what the one behind `from` carries (both opened for reading or writing, not O_PATH); the mode
 * comes last. Left out: set-user-id and set-group-id (k3s has neither, and new content must not inherit such trust), and
 * security.ima and security.evm, which vouch for the old content. path: for the sentence that names what could not be kept.
 */
int k3sup__attrs_copy(k3sup_op *op, int from, int to, const char *path) _must_check_;
/*
 * Only the SELinux label: `to` gets that of `from` (any files or directories, not O_PATH). 1 if it had another one, 0 if there is nothing to do, also where the label means
 * nothing: `from` has none, or the loaded policy or the mount knows none. -errno.
 */
int k3sup__attrs_copy_label(int from, int to) _must_check_;
/*
 * What no mode shows, and what lets nobody remove or replace a file, or an entry of a directory: marked as immutable or append-only (chattr(1): +i, +a; 1, 0 or -errno), or a mount of
 * its own (kernels before 5.8 do not tell: false). Of the entry, or of the directory itself if name is "".
 */
int k3sup__is_immutable(int dirfd, const char *name) _must_check_;
bool k3sup__is_mount_point(int dirfd, const char *name);

#endif
