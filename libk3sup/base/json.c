/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <k3sup/error.h>

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

#define MAX_TEXT ((size_t)64 << 20)

/*
 * Stands where a value was lost for want of memory: a null that is not jansson's, so no text that was parsed can look like it. Like jansson's own it is never
 * counted, freed or duplicated.
 */
static json_t lost = {JSON_NULL, SIZE_MAX};

static bool is_lost(const json_t *value)
{
	return json_is_null(value) && value != json_null();
}

k3sup__json *k3sup__json_object(void)
{
	return json_object();
}
k3sup__json *k3sup__json_array(void)
{
	return json_array();
}
k3sup__json *k3sup__json_int(int64_t value)
{
	return json_integer(value);
}
k3sup__json *k3sup__json_bool(bool value)
{
	return json_boolean(value);
}
k3sup__json *k3sup__json_null(void)
{
	return json_null();
}
k3sup__json *k3sup__json_copy(const k3sup__json *value)
{
	/* jansson does not copy a null, so of a mark it would give the mark itself, uncounted; NULL poisons what gets it just as well. */
	return k3sup__json_broken(value) ? NULL : json_deep_copy(value);
}
k3sup__json *k3sup__json_ref(k3sup__json *value)
{
	return json_incref(value);
}

/* What is about to be freed: objects that became marks are objects again, or jansson would not free them. */
static void unmark(json_t *value)
{
	const char *key;
	json_t *part;
	size_t i;

	if (!value || value == &lost || value->refcount != 1)
		return;
	if (is_lost(value))
		value->type = JSON_OBJECT;
	json_object_foreach (value, key, part)
		unmark(part);
	json_array_foreach (value, i, part)
		unmark(part);
}

void k3sup__json_unref(k3sup__json *value)
{
	unmark(value);
	json_decref(value);
}

/* Bytes that are not UTF-8 (a path, a comm) must stay visible and must not make the whole document impossible. */
static k3sup__json *escaped(const char *text, size_t len)
{
	_free_ char *copy = len < SIZE_MAX / 4 ? malloc(len * 4 + 1) : NULL;
	char *at = copy;

	if (!copy)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x80 || c == 0)
			at += sprintf(at, "\\x%02x", c);
		else
			*at++ = (char)c;
	}
	return json_stringn(copy, (size_t)(at - copy));
}

k3sup__json *k3sup__json_strn(const char *text, size_t len)
{
	json_t *value = memchr(text, 0, len) ? NULL : json_stringn(text, len);

	return value ? value : escaped(text, len);
}

k3sup__json *k3sup__json_str(const char *text)
{
	return text ? k3sup__json_strn(text, strlen(text)) : json_null();
}

k3sup__json *k3sup__json_fmt(const char *fmt, ...)
{
	_free_ char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return NULL;
	}
	return k3sup__json_str(text);
}

/*
 * Marking takes no memory: there is none. The mark replaces a member or an element (an array has room for a few from the start); an object without members
 * becomes a mark itself.
 */
static void mark_object(json_t *object)
{
	void *first = json_object_iter(object);

	if (first) {
		unmark(json_object_iter_value(first));
		(void)json_object_iter_set_new(object, first, &lost);
	} else if (json_is_object(object))
		object->type = JSON_NULL;
}

static void mark_array(json_t *array)
{
	size_t len = json_array_size(array);

	if (json_array_append_new(array, &lost) < 0 && len > 0) {
		unmark(json_array_get(array, len - 1));
		(void)json_array_set_new(array, len - 1, &lost);
	}
}

/* Not jansson's functions that consume the value, not even where they fail: freeing is ours. */
void k3sup__json_set(k3sup__json *object, const char *key, k3sup__json *value)
{
	if (object) {
		unmark(json_object_get(object, key));
		if (!value || json_object_set(object, key, value) < 0)
			mark_object(object);
	}
	k3sup__json_unref(value);
}

void k3sup__json_add(k3sup__json *array, k3sup__json *value)
{
	if (array && (!value || json_array_append(array, value) < 0))
		mark_array(array);
	k3sup__json_unref(value);
}

void k3sup__json_del(k3sup__json *object, const char *key)
{
	unmark(json_object_get(object, key));
	(void)json_object_del(object, key);
}

k3sup__json *k3sup__json_member(const k3sup__json *object, const char *key)
{
	return json_object_get(object, key);
}

k3sup__json *k3sup__json_element(const k3sup__json *array, size_t index)
{
	return json_array_get(array, index);
}

size_t k3sup__json_len(const k3sup__json *value)
{
	return json_is_object(value) ? json_object_size(value) : json_array_size(value);
}

const char *k3sup__json_text(const k3sup__json *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

int64_t k3sup__json_number(const k3sup__json *object, const char *key, int64_t fallback)
{
	const json_t *value = json_object_get(object, key);

	return json_is_integer(value) ? json_integer_value(value) : fallback;
}

bool k3sup__json_is_container(const k3sup__json *value)
{
	return json_is_object(value) || json_is_array(value);
}
bool k3sup__json_is_object(const k3sup__json *value)
{
	return json_is_object(value);
}
bool k3sup__json_is_null(const k3sup__json *value)
{
	return json_is_null(value);
}
const char *k3sup__json_as_str(const k3sup__json *value)
{
	return json_string_value(value);
}

bool k3sup__json_as_i64(const k3sup__json *value, int64_t *ret)
{
	if (json_is_integer(value))
		*ret = json_integer_value(value);
	else if (json_is_boolean(value))
		*ret = json_is_true(value);
	else
		return false;
	return true;
}

int k3sup__json_each(const k3sup__json *object, int (*fn)(const char *key, k3sup__json *value, void *arg), void *arg)
{
	const char *key;
	json_t *value;
	int r;

	json_object_foreach ((json_t *)object, key, value) {
		r = fn(key, value, arg);
		if (r)
			return r;
	}
	return 0;
}

/* Is this token, with ~1 and ~0 undone, that key? */
static bool is_key(const char *token, size_t len, const char *key)
{
	for (size_t i = 0; i < len; i++, key++) {
		char c = token[i];

		if (c == '~' && i + 1 < len && (token[i + 1] == '0' || token[i + 1] == '1'))
			c = token[++i] == '0' ? '~' : '/';
		if (*key != c)
			return false;
	}
	return *key == '\0';
}

/* One step of a JSON Pointer: the token up to the next slash. Takes no memory: who reads a document is never told that something is not there for want of it. */
static json_t *descend(const json_t *value, const char *token, size_t len)
{
	uint64_t index = 0;
	const char *key;
	json_t *part;

	if (!json_is_array(value)) {
		json_object_foreach ((json_t *)value, key, part)
			if (is_key(token, len, key))
				return part;
		return NULL;
	}
	if (len == 0 || len > 9 || (len > 1 && token[0] == '0'))
		return NULL;
	for (size_t i = 0; i < len; i++) {
		if (token[i] < '0' || token[i] > '9')
			return NULL;
		index = index * 10 + (uint64_t)(token[i] - '0');
	}
	return json_array_get(value, (size_t)index);
}

k3sup__json *k3sup__json_pointer(const k3sup__json *value, const char *path)
{
	while (value && *path) {
		size_t len;

		if (*path++ != '/')
			return NULL;
		len = strcspn(path, "/");
		value = descend(value, path, len);
		path += len;
	}
	return (json_t *)value;
}

static json_t *load(const char *text, size_t len, bool *ret_malformed)
{
	json_error_t error = {0};
	json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

	/* jansson's parser sets no code at all in some places where memory is gone. */
	*ret_malformed = !value && json_error_code(&error) != json_error_unknown && json_error_code(&error) != json_error_out_of_memory;
	return value;
}

/*
 * Twice: jansson's lexer (2.14) does not look whether its buffer could grow. A token that it gets no memory for may be called invalid, or be short of a byte, without a
 * word. What is the same both times, with room for the longest token before, is what the text says.
 */
int k3sup__json_parse(const char *text, size_t len, k3sup__json **ret)
{
	bool malformed, malformed_again;
	json_t *value, *again;
	char *volatile room; /* or a compiler sees that nobody needs it */
	int r = -ENOMEM;

	if (len > MAX_TEXT)
		return -EFBIG;
	room = malloc(2 * len + 64);
	if (!room)
		return -ENOMEM;
	free(room);
	value = load(text, len, &malformed);
	again = load(text, len, &malformed_again);
	if (malformed && malformed_again)
		r = K3SUP_E_PARSE;
	else if (value && again && json_equal(value, again))
		r = 0;
	json_decref(again);
	if (r == 0)
		*ret = value;
	else
		json_decref(value);
	return r;
}

bool k3sup__json_broken(const k3sup__json *value)
{
	const char *key;
	json_t *part;
	size_t i;

	if (!value || is_lost(value))
		return true;
	json_object_foreach ((json_t *)value, key, part) {
		if (k3sup__json_broken(part))
			return true;
	}
	json_array_foreach (value, i, part) {
		if (k3sup__json_broken(part))
			return true;
	}
	return false;
}

/* jansson takes DEL for printable; terminals do not. It can only be inside of a string. */
static char *escape_del(char *text)
{
	size_t count = 0;
	char *escaped, *at;

	for (const char *c = strchr(text, 0x7f); c; c = strchr(c + 1, 0x7f))
		count++;
	if (count == 0)
		return text;
	at = escaped = malloc(strlen(text) + 5 * count + 1);
	for (const char *c = text; escaped && *c; c++) {
		if (*c == 0x7f)
			at = stpcpy(at, "\\u007F");
		else
			*at++ = *c;
	}
	if (escaped)
		*at = '\0';
	free(text);
	return escaped;
}

char *k3sup__json_dump(const k3sup__json *value)
{
	char *text = value && !k3sup__json_broken(value) ? json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY) : NULL;

	return text ? escape_del(text) : NULL;
}
