/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 as people and tools write it: line ends and blanks anywhere, padding complete.
 */
#ifndef K3SUP_BASE_BASE64_H
#define K3SUP_BASE_BASE64_H

#include "base/util.h"

/* The length of what the text stands for, written over it; -1 if it is not base64 from one end to the other, or empty. dry: only look. */
ssize_t k3sup__base64(unsigned char *bytes, size_t len, bool dry);

#endif
