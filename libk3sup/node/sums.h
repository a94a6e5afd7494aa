/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of digests as k3s publishes them beside a release (sha256sum-amd64.txt): what sha256sum(1) prints, one line for each artifact.
 */
#ifndef K3SUP_NODE_SUMS_H
#define K3SUP_NODE_SUMS_H

#include "base/digest.h"
#include "base/op.h"

#define K3SUP__SUMS_MAX ((size_t)1 << 20)

/* The release's name of the k3s binary for an architecture as Go names it ("k3s", "k3s-arm64", "k3s-armhf" ...), NULL if there is none. */
const char *k3sup__artifact(const char *arch);

/*
 * The digest of that artifact. The list has to have exactly one entry of exactly that name, and nothing but entries: who may have mangled one line may have mangled
 * another. 0, or K3SUP_E_SUMS with a sentence that names shown.
 */
int k3sup__sums_find(k3sup_op *op, const char *text, size_t len, const char *shown, const char *artifact, char ret[static K3SUP__SHA256_HEX])
	_must_check_;

#endif
