/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of texts: argument lists, environments, file names.
 */
#ifndef K3SUP_BASE_STRV_H
#define K3SUP_BASE_STRV_H

#include "base/json.h"
#include "base/util.h"

struct k3sup__strv {
	char **items; /* ended by NULL; NULL itself while nothing was ever added */
	size_t count;
};

/* Consumes text, on failure too; NULL is for want of memory. 0 or -ENOMEM. */
int k3sup__strv_add(struct k3sup__strv *strv, char *text) _must_check_;
int k3sup__strv_add_copy(struct k3sup__strv *strv, const char *text, size_t len) _must_check_;
void k3sup__strv_clear(struct k3sup__strv *strv);
void k3sup__strv_sort(struct k3sup__strv *strv); /* by bytes */
bool k3sup__strv_has(const struct k3sup__strv *strv, const char *text);
k3sup__json *k3sup__strv_json(const struct k3sup__strv *strv); /* array of strings */

/* As environment: "NAME=value". A later value of a name takes the place of the earlier one. */
int k3sup__env_set(struct k3sup__strv *env, const char *name, size_t len, const char *value) _must_check_;
const char *k3sup__env_get(const struct k3sup__strv *env, const char *name, size_t len); /* NULL: it is not there */
void k3sup__env_unset(struct k3sup__strv *env, const char *name, size_t len);

#endif
