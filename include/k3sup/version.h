/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The version of the library: the only place where it is written. CMake, pkg-config and both bindings read it from here.
 */
#ifndef K3SUP_VERSION_H
#define K3SUP_VERSION_H

#include <k3sup/api.h>

#define K3SUP_VERSION_MAJOR 0
#define K3SUP_VERSION_MINOR 1
#define K3SUP_VERSION_PATCH 0

K3SUP_BEGIN_DECLS

/**
 * k3sup_version() - the version of the library that is running, "MAJOR.MINOR.PATCH".
 *
 * Ownership: static text. Threads: any. Compare with the macros above to find out whether headers and library agree;
 * within one soname a newer library serves programs built with older headers.
 * Since: 0.1
 */
K3SUP_API const char *k3sup_version(void);

/**
 * k3sup_version_compare() - the total order of k3s versions.
 * @a: a version such as "v1.30.4+k3s1", "v1.30.4-rc2+k3s1", "v1.30.4+k3s-7d66e419-dirty"; the "v" may be missing, and
 *     an image tag's "-k3s1" is read as "+k3s1".
 * @b: the other one.
 * @ret_order: -1, 0 or 1: @a is older than, the same as, or newer than @b. Untouched on failure.
 *
 * Unlike SemVer the order counts build metadata: +k3s2 is newer than +k3s1 (source: k3s scripts/version.sh; packaged
 * components differ between the two). Numbers compare as numbers (rc10 after rc2), a pre-release comes before its release,
 * and a build from an untagged commit (+k3s-<hash>) before every numbered build of the same version. Two untagged builds of one
 * version are ordered by their text, so that the order is total; that says nothing about which is newer.
 *
 * Blocking: no. Threads: any. On disk: nothing.
 * Returns 0, or -EINVAL (a NULL argument) or K3SUP_E_PARSE (not a version).
 * Since: 0.1
 */
K3SUP_API int k3sup_version_compare(const char *a, const char *b, int32_t *ret_order) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
