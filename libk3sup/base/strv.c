/* SPDX-License-Identifier: Apache-2.0 */
#include "base/strv.h"

int k3sup__strv_add(struct k3sup__strv *strv, char *text)
{
	char **items = text != NULL ? reallocarray(strv->items, strv->count + 2, sizeof(*items)) : NULL;

	if (items == NULL) {
		free(text);
		return -ENOMEM;
	}
	strv->items = items;
	items[strv->count++] = text;
	items[strv->count] = NULL;
	return 0;
}

int k3sup__strv_add_copy(struct k3sup__strv *strv, const char *text, size_t len)
{
	return k3sup__strv_add(strv, strndup(text, len));
}

void k3sup__strv_clear(struct k3sup__strv *strv)
{
	for (size_t i = 0; i < strv->count; i++)
		free(strv->items[i]);
	free(strv->items);
	*strv = (struct k3sup__strv){0};
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void k3sup__strv_sort(struct k3sup__strv *strv)
{
	if (strv->count > 1)
		qsort(strv->items, strv->count, sizeof(*strv->items), by_bytes);
}

bool k3sup__strv_has(const struct k3sup__strv *strv, const char *text)
{
	for (size_t i = 0; i < strv->count; i++)
		if (k3sup__streq(strv->items[i], text))
			return true;
	return false;
}

k3sup__json *k3sup__strv_json(const struct k3sup__strv *strv)
{
	k3sup__json *array = k3sup__json_array();

	for (size_t i = 0; i < strv->count; i++)
		k3sup__json_add(array, k3sup__json_str(strv->items[i]));
	return array;
}

static char **find(const struct k3sup__strv *env, const char *name, size_t len)
{
	for (size_t i = 0; i < env->count; i++)
		if (strncmp(env->items[i], name, len) == 0 && env->items[i][len] == '=')
			return &env->items[i];
	return NULL;
}

int k3sup__env_set(struct k3sup__strv *env, const char *name, size_t len, const char *value)
{
	char *text = k3sup__fmt("%.*s=%s", (int)len, name, value), **old = find(env, name, len);

	if (text == NULL)
		return -ENOMEM;
	if (old == NULL)
		return k3sup__strv_add(env, text);
	free(*old);
	*old = text;
	return 0;
}

const char *k3sup__env_get(const struct k3sup__strv *env, const char *name, size_t len)
{
	char **at = find(env, name, len);

	return at != NULL ? *at + len + 1 : NULL;
}

void k3sup__env_unset(struct k3sup__strv *env, const char *name, size_t len)
{
	char **at = find(env, name, len);

	if (at == NULL)
		return;
	free(*at);
	env->count--;
	memmove(at, at + 1, (size_t)(env->items + env->count + 1 - at) * sizeof(*at));
}
