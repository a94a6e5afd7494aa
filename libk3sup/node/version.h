/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parsed form of a k3s version, and its order. Policy and the build reader use it; the public face is <k3sup/version.h>.
 */
#ifndef K3SUP_NODE_VERSION_H
#define K3SUP_NODE_VERSION_H

#include <k3sup/version.h>

#include "base/util.h"

/* in the order in which they precede each other */
enum k3sup__version_pre { K3SUP__PRE_ALPHA, K3SUP__PRE_BETA, K3SUP__PRE_RC, K3SUP__PRE_NONE };
enum k3sup__version_kind {
	K3SUP__VERSION_PLAIN,    /* no k3s part: v0.9.1, v1.0.0, and any Kubernetes version */
	K3SUP__VERSION_UNTAGGED, /* +k3s-7d66e419 */
	K3SUP__VERSION_NUMBERED, /* +k3s1 */
};

struct k3sup__version {
	uint32_t major, minor, patch;
	enum k3sup__version_pre pre;
	uint32_t pre_number;
	enum k3sup__version_kind kind;
	uint32_t number; /* N of +k3sN */
	char commit[48]; /* of an untagged build, "-dirty" included; "" else */
};

/* A text of len bytes as a whole. 0 or K3SUP_E_PARSE; ret is untouched on failure. */
int k3sup__version_parse(const char *text, size_t len, struct k3sup__version *ret) _must_check_;
/* -1, 0, 1: a is older than, the same as, or newer than b. Total. */
int k3sup__version_order(const struct k3sup__version *a, const struct k3sup__version *b);

#endif
