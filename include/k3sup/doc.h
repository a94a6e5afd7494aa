/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents: the one read-only type in which results, errors and evidence come. A document is a JSON value; what each verb's document
 * holds is described by the installed JSON Schema (share/k3sup/k3sup.schema.json). Keys are only ever added.
 *
 * Documents never change after they were made, so every function here may be called from any thread.
 * Paths are JSON Pointers (RFC 6901): "/running/build/version", "/candidates/0/pid"; "" is the document itself.
 */
#ifndef K3SUP_DOC_H
#define K3SUP_DOC_H

#include <k3sup/api.h>

K3SUP_BEGIN_DECLS

/** k3sup_doc_ref() - take one more reference. NULL is fine. Since: 0.1 */
K3SUP_API k3sup_doc *k3sup_doc_ref(k3sup_doc *doc);

/** k3sup_doc_unref() - give a reference back; always returns NULL. Text got from the document goes with the last one. Since: 0.1 */
K3SUP_API k3sup_doc *k3sup_doc_unref(k3sup_doc *doc);

/**
 * k3sup_doc_parse() - read a document from JSON text.
 * @json: UTF-8 text, need not end with NUL.
 * @len: its length in bytes, at most 64 MiB.
 * @ret_doc: the document, owned by the caller. Untouched on failure.
 *
 * Strict: no duplicate keys, no trailing text, nesting up to 2048.
 * Returns 0, or -EINVAL, -EFBIG, -ENOMEM, K3SUP_E_PARSE. Since: 0.1
 */
K3SUP_API int k3sup_doc_parse(const char *json, size_t len, k3sup_doc **ret_doc) K3SUP_MUST_CHECK;

/**
 * k3sup_doc_json() - the whole document as JSON on one line, without line end; all but printable ASCII is escaped.
 *
 * Ownership: the document's. NULL only for a NULL document. Since: 0.1
 */
K3SUP_API const char *k3sup_doc_json(k3sup_doc *doc);

/**
 * k3sup_doc_get() - a part of a document as a document of its own.
 * @ret_part: owned by the caller; it keeps what it needs of @doc alive. Untouched on failure.
 *
 * Returns 0, or -EINVAL, -ENOENT (nothing there), -ENOMEM. Since: 0.1
 */
K3SUP_API int k3sup_doc_get(k3sup_doc *doc, const char *path, k3sup_doc **ret_part) K3SUP_MUST_CHECK;

/**
 * k3sup_doc_len() - how many members or elements an object or array has.
 *
 * Returns the number, or -EINVAL, -ENOENT (nothing there), -EPROTOTYPE (neither object nor array). Since: 0.1
 */
K3SUP_API int64_t k3sup_doc_len(k3sup_doc *doc, const char *path);

/**
 * k3sup_doc_str() - the text at a path.
 * @ret_text: UTF-8, the document's. Untouched on failure.
 *
 * Returns 0, or -EINVAL, -ENOENT (nothing there, or null), -EPROTOTYPE (not a string). Since: 0.1
 */
K3SUP_API int k3sup_doc_str(k3sup_doc *doc, const char *path, const char **ret_text);

/**
 * k3sup_doc_i64() - the number at a path; true is 1 and false is 0.
 * @ret_value: untouched on failure.
 *
 * Returns 0, or -EINVAL, -ENOENT (nothing there, or null), -EPROTOTYPE (neither integer nor boolean). Since: 0.1
 */
K3SUP_API int k3sup_doc_i64(k3sup_doc *doc, const char *path, int64_t *ret_value);

K3SUP_END_DECLS

#endif
