/* SPDX-License-Identifier: Apache-2.0 */
#include "node/shellexpand.h"

#include <ctype.h>

#define MAX_DEPTH 8
#define MAX_TEXT ((size_t)1024 * 1024)

bool k3sup__shell_is_name(const char *text, size_t len)
{
	if (len == 0 || isdigit((unsigned char)text[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && text[i] != '_')
			return false;
	return true;
}

/* ---- where a word ends ---- */

static ssize_t brace_len(const char *text);

/* text begins with a quote. */
static ssize_t quoted_len(const char *text)
{
	const char *at = text + 1;

	while (*at != '\0' && *at != *text) {
		ssize_t n = 1;

		if (*text == '"' && *at == '\\' && at[1] != '\0')
			n = 2;
		else if (*text == '"' && at[0] == '$' && at[1] == '{')
			n = brace_len(at);
		if (n < 0)
			return n;
		at += n;
	}
	return *at != '\0' ? at + 1 - text : -EINVAL;
}

/* text begins with ${ */
static ssize_t brace_len(const char *text)
{
	const char *at = text + 2;

	while (*at != '\0' && *at != '}') {
		ssize_t n = 1;

		if (*at == '\\' && at[1] != '\0')
			n = 2;
		else if (*at == '\'' || *at == '"')
			n = quoted_len(at);
		else if (at[0] == '$' && at[1] == '{' && at - text < 4096) /* nested, but not without end */
			n = brace_len(at);
		if (n < 0)
			return n;
		at += n;
	}
	return *at != '\0' ? at + 1 - text : -EINVAL;
}

ssize_t k3sup__shell_word_len(const char *text)
{
	const char *at = text;

	while (*at != '\0' && strchr(" \t\n;&|<>()", *at) == NULL) {
		ssize_t n = 1;

		if (*at == '\\' && at[1] != '\0')
			n = 2;
		else if (*at == '\'' || *at == '"')
			n = quoted_len(at);
		else if (at[0] == '$' && at[1] == '{')
			n = brace_len(at);
		else if (*at == '`' || (at[0] == '$' && at[1] == '('))
			n = -EINVAL;
		if (n < 0)
			return n;
		at += n;
	}
	return at - text;
}

/* ---- what it stands for ---- */

struct expansion {
	struct k3sup__shell *shell;
	struct k3sup__strv *words;
	char *text; /* of the word so far */
	size_t len, room;
	bool open; /* there is a word, if only an empty one in quotes */
	bool split;
	unsigned depth;
};

static int put(struct expansion *e, const char *text, size_t len)
{
	e->open = true;
	if (e->len + len + 1 > e->room) {
		size_t room = 2 * (e->len + len) + 64;
		char *bigger = room < MAX_TEXT ? realloc(e->text, room) : NULL;

		if (bigger == NULL)
			return room < MAX_TEXT ? -ENOMEM : -EINVAL;
		e->text = bigger;
		e->room = room;
	}
	memcpy(e->text + e->len, text, len);
	e->len += len;
	e->text[e->len] = '\0';
	return 0;
}

static int end_word(struct expansion *e)
{
	int r = e->open ? k3sup__strv_add_copy(e->words, e->text, e->len) : 0;

	e->open = false;
	e->len = 0;
	return r;
}

static int put_value(struct expansion *e, const char *value, bool quoted)
{
	int r = 0;

	if (quoted || !e->split)
		return put(e, value, strlen(value));
	while (r == 0 && *value != '\0') {
		size_t blanks = strspn(value, " \t\n"), n;

		if (blanks > 0)
			r = end_word(e);
		value += blanks;
		n = strcspn(value, " \t\n");
		if (r == 0 && n > 0)
			r = put(e, value, n);
		value += n;
	}
	return r;
}

static int expand(struct expansion *e, const char *at, const char *end, bool quoted);

int k3sup__shell_set(struct k3sup__shell *shell, const char *name, size_t len, const char *value)
{
	_free_ char *copy = strndup(name, len);

	if (copy == NULL)
		return -ENOMEM;
	if (shell->allexport && !k3sup__strv_has(&shell->exported, copy)) {
		int r = k3sup__strv_add_copy(&shell->exported, name, len);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < shell->unknown.count; i++)
		if (k3sup__streq(shell->unknown.items[i], copy))
			shell->unknown.items[i][0] = '\0'; /* known again */
	return k3sup__env_set(&shell->vars, name, len, value);
}

/* ${NAME:-WORD} and its kind, from behind the name to the brace. */
static int put_default(struct expansion *e, const char *name, size_t len, const char *at, const char *end, bool quoted)
{
	const char *value = k3sup__env_get(&e->shell->vars, name, len);
	bool colon = *at == ':', present;
	char op;

	at += colon;
	op = *at++;
	present = value != NULL && !(colon && value[0] == '\0');
	if (op == '+')
		return present ? expand(e, at, end, quoted) : 0;
	if (op != '-' && op != '=')
		return -EINVAL;
	if (present)
		return put_value(e, value, quoted);
	if (op == '=') {
		struct k3sup__strv words = {0};
		struct expansion inner = {.shell = e->shell, .words = &words, .depth = e->depth};
		int r = put(&inner, "", 0);

		if (r == 0)
			r = expand(&inner, at, end, quoted);
		if (r == 0)
			r = k3sup__shell_set(e->shell, name, len, inner.text);
		free(inner.text);
		k3sup__strv_clear(&words);
		return r == 0 ? put_value(e, k3sup__env_get(&e->shell->vars, name, len), quoted) : r;
	}
	return expand(e, at, end, quoted);
}

/* *at is behind the dollar. */
static int put_variable(struct expansion *e, const char **at, bool quoted)
{
	bool braces = **at == '{';
	const char *name = *at + braces, *value;
	_free_ char *copy = NULL;
	ssize_t whole;
	size_t len = 0;

	while (isalnum((unsigned char)name[len]) || name[len] == '_')
		len++;
	if (!k3sup__shell_is_name(name, len)) { /* $1, $$, $(...) */
		if (braces || len > 0 || strchr("@*#?-$!(", *name) != NULL)
			return *name == '\0' ? put(e, "$", 1) : -EINVAL;
		return put(e, "$", 1);
	}
	copy = strndup(name, len);
	if (copy == NULL)
		return -ENOMEM;
	if (!k3sup__shell_is_known(e->shell, copy))
		return -EINVAL;
	value = k3sup__env_get(&e->shell->vars, name, len);
	if (!braces || name[len] == '}') {
		*at = name + len + braces;
		return value != NULL ? put_value(e, value, quoted) : 0;
	}
	whole = brace_len(*at - 1);
	if (whole < 0)
		return -EINVAL;
	*at += whole - 1;
	return put_default(e, name, len, name + len, *at - 1, quoted);
}

static int put_backslash(struct expansion *e, const char **at, bool quoted)
{
	char next = (*at)[1];

	*at += 2;
	if (next == '\n')
		return 0;
	if (quoted && strchr("$`\"\\", next) == NULL)
		return put(e, *at - 2, 2);
	return put(e, *at - 1, 1);
}

static int expand_one(struct expansion *e, const char **at, const char *end, bool quoted)
{
	char c = **at;

	if (c == '\\' && *at + 1 < end)
		return put_backslash(e, at, quoted);
	if (c == '$' && *at + 1 < end) {
		(*at)++;
		return put_variable(e, at, quoted);
	}
	if (c == '`')
		return -EINVAL;
	if (!quoted && (c == '\'' || c == '"')) {
		ssize_t n = quoted_len(*at);
		const char *inside = *at + 1;
		int r;

		if (n < 0 || *at + n > end)
			return -EINVAL;
		*at += n;
		r = put(e, "", 0);
		if (r < 0)
			return r;
		return c == '\'' ? put(e, inside, (size_t)n - 2) : expand(e, inside, *at - 1, true);
	}
	(*at)++;
	return put(e, *at - 1, 1);
}

static int expand(struct expansion *e, const char *at, const char *end, bool quoted)
{
	int r = e->depth++ < MAX_DEPTH ? 0 : -EINVAL;

	while (r == 0 && at < end)
		r = expand_one(e, &at, end, quoted);
	e->depth--;
	return r;
}

int k3sup__shell_expand(struct k3sup__shell *shell, const char *word, size_t len, bool split, struct k3sup__strv *ret)
{
	struct expansion e = {.shell = shell, .words = ret, .split = split};
	/* A home directory depends on who asks. */
	int r = len > 0 && word[0] == '~' ? -EINVAL : 0;

	if (r == 0 && !split)
		r = put(&e, "", 0);
	if (r == 0)
		r = expand(&e, word, word + len, false);
	if (r == 0)
		r = end_word(&e);
	free(e.text);
	return r;
}
