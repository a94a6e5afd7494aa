/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of the names that a scan found is the one of the archive that it found. The rules are in build.h.
 */
#ifndef K3SUP_NODE_ARCHIVE_H
#define K3SUP_NODE_ARCHIVE_H

#include "node/scan.h"

/* Where there is something to choose between, the frames are read once more for their digests; of no released k3s. buffer: K3SUP__SCAN_BUFFER bytes. */
int k3sup__archive_resolve(k3sup_op *op, int fd, unsigned char *buffer, struct k3sup__scan *scan) _must_check_;
/* Sets wrapper, asset_hash and asset_check if one of the names is believed. There is at least one. */
void k3sup__archive_believe(const struct k3sup__scan *scan, struct k3sup__build *build);
/* None was: K3SUP_E_PAYLOAD_CORRUPT or K3SUP_E_PAYLOAD_NOT_K3S, with a sentence. */
int k3sup__archive_judge(k3sup_op *op, const char *shown, const struct k3sup__scan *scan) _must_check_;

#endif
