/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Export, deprecation and C++ macros. Nothing else: every public header includes this one first.
 */
#ifndef K3SUP_API_H
#define K3SUP_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define K3SUP_BEGIN_DECLS extern "C" {
#define K3SUP_END_DECLS }
#else
#define K3SUP_BEGIN_DECLS
#define K3SUP_END_DECLS
#endif

#if defined(__GNUC__)
#define K3SUP_API __attribute__((visibility("default")))
#define K3SUP_MUST_CHECK __attribute__((warn_unused_result))
#else
#define K3SUP_API
#define K3SUP_MUST_CHECK
#endif

K3SUP_BEGIN_DECLS

/* The five object types. All are opaque and counted: _ref() returns its argument, _unref() returns NULL and takes NULL. */
typedef struct k3sup_ctx k3sup_ctx;
typedef struct k3sup_node k3sup_node;
typedef struct k3sup_op k3sup_op;
typedef struct k3sup_process k3sup_process;
typedef struct k3sup_doc k3sup_doc;

K3SUP_END_DECLS

#endif
