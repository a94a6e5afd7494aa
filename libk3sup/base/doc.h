/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents from the inside: a JSON value, frozen.
 */
#ifndef K3SUP_BASE_DOC_H
#define K3SUP_BASE_DOC_H

#include <k3sup/doc.h>

#include "base/json.h"

/* Consumes the value, on failure too. 0 or -ENOMEM. */
int k3sup__doc_new(k3sup__json *value, k3sup_doc **ret) _must_check_;
const k3sup__json *k3sup__doc_value(const k3sup_doc *doc);

#endif
