/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can all that is to be taken away be taken away? A retire that fails half-way leaves certificates without their keys, and the start that would make both again fails where it cannot
 * write the one either.
 */
#ifndef K3SUP_CERTS_REMOVABLE_H
#define K3SUP_CERTS_REMOVABLE_H

#include "certs/live.h"

/*
 * Of all files that were read: 0, K3SUP_E_TARGET_IMMUTABLE, K3SUP_E_TARGET_READONLY (the file system), K3SUP_E_TARGET_MOUNTED (one file alone), others of root_find. What cannot be found
 * out is no refusal: then the removal tells.
 */
int k3sup__live_removable(struct k3sup__live *live) _must_check_;

#endif
