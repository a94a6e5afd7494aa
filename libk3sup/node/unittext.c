/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unittext.h"

#include <ctype.h>

#include "node/unitwords.h"

#define COMMENTS "#;"

bool k3sup__is_utf8(const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + len;

	while (at < end) {
		unsigned more = *at < 0x80          ? 0
			: *at >= 0xc2 && *at < 0xe0 ? 1
			: *at >= 0xe0 && *at < 0xf0 ? 2
			: *at >= 0xf0 && *at < 0xf5 ? 3
						    : 4;

		if (more == 4 || (size_t)(end - at) <= more)
			return false;
		/* No overlong forms, no surrogates, nothing above U+10FFFF. */
		if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
			(at[0] == 0xf4 && at[1] > 0x8f))
			return false;
		while (more-- > 0)
			if ((*++at & 0xc0) != 0x80)
				return false;
		at++;
	}
	return true;
}

/* ---- unit files ---- */

struct reader {
	struct k3sup__assignments *to;
	size_t file;
	unsigned line;
	char *section;
	char *kept; /* of a line that goes on */
};

void k3sup__assignments_clear(struct k3sup__assignments *assignments)
{
	for (size_t i = 0; i < assignments->count; i++) {
		free(assignments->items[i].section);
		free(assignments->items[i].key);
		free(assignments->items[i].value);
	}
	free(assignments->items);
	*assignments = (struct k3sup__assignments){0};
}

static char *strip(char *text)
{
	size_t len;

	text += strspn(text, K3SUP__BLANKS);
	for (len = strlen(text); len > 0 && strchr(K3SUP__BLANKS, text[len - 1]) != NULL; len--)
		text[len - 1] = '\0';
	return text;
}

static int assign(struct reader *reader, char *key, char *value)
{
	struct k3sup__assignments *to = reader->to;
	struct k3sup__assignment *items = reallocarray(to->items, to->count + 1, sizeof(*items)), *one;

	if (items == NULL)
		return -ENOMEM;
	to->items = items;
	one = &items[to->count++];
	*one = (struct k3sup__assignment){
		.section = strdup(reader->section), .key = strdup(strip(key)), .value = strdup(strip(value)), .file = reader->file, .line = reader->line};
	return one->section != NULL && one->key != NULL && one->value != NULL ? 0 : -ENOMEM;
}

static int take_line(struct reader *reader, char *line)
{
	char *equals;
	size_t len;

	line = strip(line);
	len = strlen(line);
	if (len == 0 || !k3sup__is_utf8(line, len))
		return 0;
	if (line[0] == '[') {
		if (line[len - 1] != ']')
			return -EBADMSG;
		free(reader->section);
		reader->section = strndup(line + 1, len - 2);
		return reader->section != NULL ? 0 : -ENOMEM;
	}
	equals = strchr(line, '=');
	if (equals == NULL || reader->section == NULL)
		return 0;
	*equals = '\0';
	return assign(reader, line, equals + 1);
}

/* Does it end in a backslash that is not itself escaped? */
static bool goes_on(const char *line)
{
	bool escaped = false;

	for (; *line != '\0'; line++)
		escaped = !escaped && *line == '\\';
	return escaped;
}

static int take_physical(struct reader *reader, const char *at, size_t len)
{
	const char *first = at;
	char *line;
	int r = 0;

	reader->line++;
	while (first < at + len && strchr(K3SUP__BLANKS, *first) != NULL)
		first++;
	if (first < at + len && strchr(COMMENTS, *first) != NULL) /* also between the lines of one that goes on */
		return 0;
	line = k3sup__fmt("%s%.*s", reader->kept != NULL ? reader->kept : "", (int)len, at);
	free(reader->kept);
	reader->kept = NULL;
	if (line == NULL)
		return -ENOMEM;
	if (goes_on(line)) {
		line[strlen(line) - 1] = ' ';
		reader->kept = line;
		return 0;
	}
	r = take_line(reader, line);
	free(line);
	return r;
}

static bool is_end(char c)
{
	return c == '\n' || c == '\r' || c == '\0';
}

int k3sup__unit_parse(const char *text, size_t len, size_t file, struct k3sup__assignments *to, unsigned *ret_line)
{
	struct reader reader = {.to = to, .file = file};
	const char *end = text + len;
	int r = 0;

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	while (r == 0 && text < end) {
		const char *stop = text;

		while (stop < end && !is_end(*stop))
			stop++;
		r = take_physical(&reader, text, (size_t)(stop - text));
		/* CR LF is one end. */
		text = stop + 1 < end && is_end(stop[1]) && stop[0] != stop[1] ? stop + 2 : stop + 1;
	}
	if (r == 0 && reader.kept != NULL)
		r = take_line(&reader, reader.kept);
	*ret_line = reader.line;
	free(reader.kept);
	free(reader.section);
	return r;
}

/* ---- environment files ---- */

enum state { BEFORE_KEY, KEY, BEFORE_VALUE, VALUE, VALUE_ESCAPE, SINGLE, DOUBLE, DOUBLE_ESCAPE, COMMENT, COMMENT_ESCAPE };

struct env_reader {
	struct k3sup__strv *env;
	enum state state;
	char *key, *value;
	size_t key_len, value_len;
	size_t value_end; /* where the blanks begin that end the value so far */
};

static void put(struct env_reader *e, char c)
{
	e->value[e->value_len++] = c;
}

bool k3sup__env_is_assignment(const char *text)
{
	size_t n = 0;

	if (isdigit((unsigned char)text[0]))
		return false;
	while (isalnum((unsigned char)text[n]) || text[n] == '_')
		n++;
	return n > 0 && text[n] == '=';
}

static int push(struct env_reader *e, bool value_was_open)
{
	_free_ char *whole = NULL;

	while (e->key_len > 0 && strchr(K3SUP__BLANKS, e->key[e->key_len - 1]) != NULL)
		e->key_len--;
	if (value_was_open && e->value_end != SIZE_MAX)
		e->value_len = e->value_end;
	e->value[e->value_len] = '\0';
	e->key[e->key_len] = '\0';
	whole = k3sup__fmt("%s=", e->key);
	if (whole == NULL)
		return -ENOMEM;
	if (!k3sup__env_is_assignment(whole) || !k3sup__is_utf8(e->value, e->value_len))
		return 0;
	return k3sup__env_set(e->env, e->key, e->key_len, e->value);
}

static int end_of_value(struct env_reader *e, bool open)
{
	int r = push(e, open);

	e->state = BEFORE_KEY;
	e->key_len = e->value_len = 0;
	return r;
}

static bool is_newline(char c)
{
	return c == '\n' || c == '\r';
}

static void take_key(struct env_reader *e, char c)
{
	if (is_newline(c)) {
		e->state = BEFORE_KEY;
		e->key_len = 0;
	} else if (c == '=') {
		e->state = BEFORE_VALUE;
		e->value_end = SIZE_MAX;
	} else {
		e->key[e->key_len++] = c;
	}
}

static int take_before_value(struct env_reader *e, char c)
{
	if (is_newline(c))
		return end_of_value(e, false);
	if (c == '\'') {
		e->state = SINGLE;
	} else if (c == '"') {
		e->state = DOUBLE;
	} else if (c == '\\') {
		e->state = VALUE_ESCAPE;
	} else if (strchr(K3SUP__BLANKS, c) == NULL) {
		e->state = VALUE;
		put(e, c);
	}
	return 0;
}

static int take_value(struct env_reader *e, char c)
{
	if (is_newline(c))
		return end_of_value(e, true);
	if (c == '\\') {
		e->state = VALUE_ESCAPE;
		e->value_end = SIZE_MAX;
		return 0;
	}
	if (strchr(K3SUP__BLANKS, c) == NULL)
		e->value_end = SIZE_MAX;
	else if (e->value_end == SIZE_MAX)
		e->value_end = e->value_len;
	put(e, c);
	return 0;
}

static void take_double_escape(struct env_reader *e, char c)
{
	e->state = DOUBLE;
	if (strchr("\"\\`$", c) == NULL && c != '\n')
		put(e, '\\');
	if (c != '\n')
		put(e, c);
}

static int take(struct env_reader *e, char c)
{
	switch (e->state) {
	case BEFORE_KEY:
		if (strchr(COMMENTS, c) != NULL) {
			e->state = COMMENT;
		} else if (strchr(K3SUP__BLANKS, c) == NULL) {
			e->state = KEY;
			e->key[e->key_len++] = c;
		}
		return 0;
	case KEY:
		take_key(e, c);
		return 0;
	case BEFORE_VALUE:
		return take_before_value(e, c);
	case VALUE:
		return take_value(e, c);
	case VALUE_ESCAPE:
		e->state = VALUE;
		if (!is_newline(c))
			put(e, c);
		return 0;
	case SINGLE:
	case DOUBLE:
		if (c == (e->state == SINGLE ? '\'' : '"'))
			e->state = BEFORE_VALUE;
		else if (c == '\\' && e->state == DOUBLE)
			e->state = DOUBLE_ESCAPE;
		else
			put(e, c);
		return 0;
	case DOUBLE_ESCAPE:
		take_double_escape(e, c);
		return 0;
	case COMMENT:
		e->state = c == '\\' ? COMMENT_ESCAPE : is_newline(c) ? BEFORE_KEY : COMMENT;
		return 0;
	default:
		/* Before systemd 254 a comment that ends in a backslash goes on in the next line. What such a line assigns counts in some releases only. */
		e->state = COMMENT;
		return 0;
	}
}

int k3sup__env_parse(const char *text, size_t len, struct k3sup__strv *env)
{
	struct env_reader e = {.env = env, .key = malloc(len + 1), .value = malloc(len + 1)};
	int r = e.key != NULL && e.value != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < len && text[i] != '\0'; i++)
		r = take(&e, text[i]);
	if (r == 0 && e.state != BEFORE_KEY && e.state != KEY && e.state < COMMENT)
		r = push(&e, e.state == VALUE);
	free(e.key);
	free(e.value);
	return r;
}
