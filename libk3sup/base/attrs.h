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

#endif
