/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON values, made and read. The front of jansson: json.c alone includes <jansson.h>.
 *
 * Building never fails half-way: a value that could not be made (no memory) is NULL, and putting NULL somewhere poisons the container,
 * which k3sup__json_broken() tells. So a caller builds a whole document and asks once. Setters consume the value they are given.
 */
#ifndef K3SUP_BASE_JSON_H
#define K3SUP_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

typedef struct json_t k3sup__json;

k3sup__json *k3sup__json_object(void);
k3sup__json *k3sup__json_array(void);
/* Text that is not UTF-8 is kept readable: each foreign byte becomes \xNN (a backslash, an x and two digits). NULL becomes null. */
k3sup__json *k3sup__json_str(const char *text);
k3sup__json *k3sup__json_strn(const char *text, size_t len);
k3sup__json *k3sup__json_int(int64_t value);
k3sup__json *k3sup__json_bool(bool value);
k3sup__json *k3sup__json_null(void);
k3sup__json *k3sup__json_fmt(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
k3sup__json *k3sup__json_copy(const k3sup__json *value); /* deep */

void k3sup__json_set(k3sup__json *object, const char *key, k3sup__json *value); /* replaces; consumes value */
void k3sup__json_add(k3sup__json *array, k3sup__json *value);                   /* consumes value */
void k3sup__json_del(k3sup__json *object, const char *key);
static inline void k3sup__json_set_str(k3sup__json *o, const char *key, const char *text)
{
	k3sup__json_set(o, key, k3sup__json_str(text));
}
static inline void k3sup__json_set_int(k3sup__json *o, const char *key, int64_t value)
{
	k3sup__json_set(o, key, k3sup__json_int(value));
}
static inline void k3sup__json_set_bool(k3sup__json *o, const char *key, bool value)
{
	k3sup__json_set(o, key, k3sup__json_bool(value));
}

k3sup__json *k3sup__json_ref(k3sup__json *value);
void k3sup__json_unref(k3sup__json *value); /* NULL is fine */
static inline void k3sup__json_unrefp(k3sup__json **value)
{
	k3sup__json_unref(*value);
}

/* Reading; all return borrowed values, NULL or a default where there is none of that type. */
k3sup__json *k3sup__json_member(const k3sup__json *object, const char *key);
k3sup__json *k3sup__json_element(const k3sup__json *array, size_t index);
size_t k3sup__json_len(const k3sup__json *value); /* of an object or array, else 0 */
const char *k3sup__json_text(const k3sup__json *object, const char *key);
int64_t k3sup__json_number(const k3sup__json *object, const char *key, int64_t fallback);
bool k3sup__json_is_container(const k3sup__json *value);
bool k3sup__json_is_object(const k3sup__json *value);
bool k3sup__json_is_null(const k3sup__json *value);
const char *k3sup__json_as_str(const k3sup__json *value);        /* NULL if it is no string */
bool k3sup__json_as_i64(const k3sup__json *value, int64_t *ret); /* integers and booleans */
/* Calls fn for each member in order of insertion; stops at the first value but 0 and returns it. */
int k3sup__json_each(const k3sup__json *object, int (*fn)(const char *key, k3sup__json *value, void *arg), void *arg);
/* RFC 6901; NULL if nothing is there. */
k3sup__json *k3sup__json_pointer(const k3sup__json *value, const char *path);

/* 0, -ENOMEM, -EFBIG or K3SUP_E_PARSE. Strict: no duplicate keys, no trailing text, bounded depth. */
int k3sup__json_parse(const char *text, size_t len, k3sup__json **ret) _must_check_;
/* One line of printable ASCII, to be freed with free(); NULL if memory ran out or the value is broken. */
char *k3sup__json_dump(const k3sup__json *value);
/* Did a value under this one get lost for want of memory? */
bool k3sup__json_broken(const k3sup__json *value);

#endif
