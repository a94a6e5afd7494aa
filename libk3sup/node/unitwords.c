/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unitwords.h"

#include <ctype.h>

/* Fewer characters are never written than are read, so that a copy's room is enough; an escaped character takes at most as many bytes as its escape. */
struct word {
	const char *at;
	char *text;
	size_t len;
};

static int hex_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_utf8(struct word *word, uint32_t c)
{
	unsigned more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};

	word->text[word->len++] = (char)(first[more] | c >> 6 * more);
	while (more-- > 0)
		word->text[word->len++] = (char)(0x80 | (c >> 6 * more & 0x3f));
}

/* A number of so many digits; UINT32_MAX if they are not there. */
static uint32_t number(const char *digits, unsigned count, uint32_t base)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < count; i++) {
		int digit = hex_of(digits[i]);

		if (digit < 0 || (uint32_t)digit >= base)
			return UINT32_MAX;
		value = value * base + (uint32_t)digit;
	}
	return value;
}

/* What stands behind a backslash. How many characters that is; 0: no escape. */
static size_t unescape(struct word *word, const char *at)
{
	static const char letters[] = "a\ab\bf\fn\nr\rt\tv\v\\\\\"\"''s ";
	uint32_t value;

	for (const char *l = letters; *l != '\0'; l += 2)
		if (*at == *l) {
			word->text[word->len++] = l[1];
			return 1;
		}
	if (*at == 'x' || (*at >= '0' && *at <= '7')) {
		value = *at == 'x' ? number(at + 1, 2, 16) : number(at, 3, 8);
		if (value == 0 || value > 255)
			return 0;
		word->text[word->len++] = (char)value;
		return 3;
	}
	if (*at != 'u' && *at != 'U')
		return 0;
	value = number(at + 1, *at == 'u' ? 4 : 8, 16);
	if (value == 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
		return 0;
	put_utf8(word, value);
	return *at == 'u' ? 5 : 9;
}

/* How systemd takes a word: of a command, of Environment=, of a variable's value. */
enum manner { RELAXED, STRICT, PLAIN };

/* A backslash and what belongs to it. word->at stays on the last character of that. */
static int take_escape(struct word *word, enum manner manner, bool quoted)
{
	size_t n = manner == PLAIN ? 0 : unescape(word, word->at + 1);

	if (n > 0) {
		word->at += n;
		return 0;
	}
	if (manner == STRICT || (manner == RELAXED && quoted && word->at[1] == '\0'))
		return -EINVAL;
	if (manner == RELAXED)
		word->text[word->len++] = '\\';
	if (word->at[1] != '\0')
		word->text[word->len++] = *++word->at;
	return 0;
}

static int take_word(struct word *word, enum manner manner)
{
	char quote = '\0';

	for (; *word->at != '\0'; word->at++) {
		char c = *word->at;

		if (c == '\\') {
			int r = take_escape(word, manner, quote != '\0');

			if (r < 0)
				return r;
		} else if (quote == '\0' ? c == '\'' || c == '"' : c == quote) {
			quote = quote == '\0' ? c : '\0';
		} else if (quote == '\0' && strchr(K3SUP__BLANKS, c) != NULL) {
			break;
		} else {
			word->text[word->len++] = c;
		}
	}
	return quote != '\0' && manner != PLAIN ? -EINVAL : 0;
}

static int next_word(const char **text, enum manner manner, char **ret)
{
	struct word word = {.at = *text + strspn(*text, K3SUP__BLANKS)};
	int r;

	*text = word.at;
	if (*word.at == '\0')
		return 0;
	word.text = malloc(strlen(word.at) + 1);
	if (word.text == NULL)
		return -ENOMEM;
	r = take_word(&word, manner);
	if (r < 0) {
		free(word.text);
		return r;
	}
	word.text[word.len] = '\0';
	*ret = word.text;
	*text = word.at + strspn(word.at, K3SUP__BLANKS);
	return 1;
}

int k3sup__unit_word(const char **text, bool strict, char **ret)
{
	return next_word(text, strict ? STRICT : RELAXED, ret);
}

struct parts {
	const char *id;    /* k3s-a@b.service */
	size_t name_len;   /* k3s-a@b */
	size_t prefix_len; /* k3s-a */
	const char *inst;  /* b */
	size_t inst_len;
	size_t last; /* where the prefix's last component begins */
};

static struct parts parts_of(const char *unit)
{
	const char *dot = strrchr(unit, '.'), *at = strchr(unit, '@');
	struct parts p = {.id = unit, .name_len = dot != NULL ? (size_t)(dot - unit) : strlen(unit)};

	p.prefix_len = p.name_len;
	if (at != NULL && at < unit + p.name_len) {
		p.prefix_len = (size_t)(at - unit);
		p.inst = at + 1;
		p.inst_len = p.name_len - p.prefix_len - 1;
	}
	for (size_t i = 0; i < p.prefix_len; i++)
		if (unit[i] == '-')
			p.last = i + 1;
	return p;
}

/* unit_name_unescape(): "-" stands for "/", \xNN for a byte. */
static char *unescape_name(const char *name, size_t len)
{
	char *text = malloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; text != NULL && i < len; i++) {
		uint32_t value = name[i] == '\\' && i + 3 < len && name[i + 1] == 'x' ? number(name + i + 2, 2, 16) : UINT32_MAX;

		text[n++] = value != UINT32_MAX ? (char)value : name[i] == '-' ? '/' : name[i];
		i += value != UINT32_MAX ? 3 : 0;
	}
	if (text != NULL)
		text[n] = '\0';
	return text;
}

static const char *fixed(char c)
{
	static const struct {
		char c;
		const char *text;
	} values[] = {{'%', "%"}, {'t', "/run"}, {'S', "/var/lib"}, {'C', "/var/cache"}, {'L', "/var/log"}, {'E', "/etc"}, {'T', "/tmp"},
		{'V', "/var/tmp"}, {'h', "/root"}, {'u', "root"}, {'U', "0"}, {'g', "root"}, {'G', "0"}};

	for (size_t i = 0; i < ELEMENTSOF(values); i++)
		if (values[i].c == c)
			return values[i].text;
	return NULL;
}

/* What a specifier stands for in the system's own systemd. */
static int specifier(const char *unit, char c, char **ret)
{
	struct parts p = parts_of(unit);
	const char *value = fixed(c);

	if (value != NULL)
		*ret = strdup(value);
	else if (c == 'n')
		*ret = strdup(unit);
	else if (c == 'N')
		*ret = strndup(unit, p.name_len);
	else if (c == 'p')
		*ret = strndup(unit, p.prefix_len);
	else if (c == 'P')
		*ret = unescape_name(unit, p.prefix_len);
	else if (c == 'i')
		*ret = strndup(p.inst != NULL ? p.inst : "", p.inst_len);
	else if (c == 'I')
		*ret = unescape_name(p.inst != NULL ? p.inst : "", p.inst_len);
	else if (c == 'j')
		*ret = strndup(unit + p.last, p.prefix_len - p.last);
	else if (c == 'J')
		*ret = unescape_name(unit + p.last, p.prefix_len - p.last);
	else if (strchr("abBfHlmMoqrRsvwWyYdD", c) != NULL)
		return -ENODATA;
	else if (isalnum((unsigned char)c))
		return -EBADSLT;
	else
		*ret = k3sup__fmt("%%%c", c);
	return *ret != NULL ? 0 : -ENOMEM;
}

static int append(char **text, const char *more, size_t len)
{
	char *longer = k3sup__fmt("%s%.*s", *text, (int)len, more);

	if (longer == NULL)
		return -ENOMEM;
	free(*text);
	*text = longer;
	return 0;
}

int k3sup__unit_specifiers(const char *unit, const char *text, char **ret)
{
	_free_ char *out = strdup("");
	int r = out != NULL ? 0 : -ENOMEM;

	while (r == 0 && *text != '\0') {
		size_t n = strcspn(text, "%");
		_free_ char *value = NULL;

		r = append(&out, text, n);
		text += n;
		if (r < 0 || *text == '\0')
			break;
		if (text[1] == '\0') { /* systemd leaves a stray one */
			r = append(&out, text, 1);
			break;
		}
		r = specifier(unit, text[1], &value);
		if (r == 0)
			r = append(&out, value, strlen(value));
		text += 2;
	}
	*ret = NULL;
	if (r < 0)
		return r;
	*ret = out;
	out = NULL;
	return 0;
}

/* ${NAME} and $$ in a word. */
static int expand_word(const char *word, const struct k3sup__strv *env, char **ret)
{
	_free_ char *out = strdup("");
	int r = out != NULL ? 0 : -ENOMEM;

	while (r == 0 && *word != '\0') {
		size_t n = strcspn(word, "$");
		const char *end = word[n] == '$' && word[n + 1] == '{' ? strchr(word + n, '}') : NULL, *value;

		r = append(&out, word, n);
		word += n;
		if (r < 0 || *word == '\0')
			break;
		if (end != NULL) {
			value = k3sup__env_get(env, word + 2, (size_t)(end - word) - 2);
			r = append(&out, value != NULL ? value : "", value != NULL ? strlen(value) : 0);
			word = end + 1;
		} else {
			r = append(&out, word, 1);
			word += word[1] == '$' ? 2 : 1;
		}
	}
	if (r < 0)
		return r;
	*ret = out;
	out = NULL;
	return 0;
}

static int split_value(const char *value, struct k3sup__strv *ret)
{
	for (;;) {
		char *word;
		int r = next_word(&value, PLAIN, &word);

		if (r <= 0)
			return r;
		r = k3sup__strv_add(ret, word);
		if (r < 0)
			return r;
	}
}

int k3sup__unit_expand(const struct k3sup__strv *argv, const struct k3sup__strv *env, struct k3sup__strv *ret)
{
	struct k3sup__strv out = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < argv->count; i++) {
		const char *word = argv->items[i];
		char *expanded = NULL;

		if (i == 0) {
			r = k3sup__strv_add_copy(&out, word, strlen(word));
		} else if (word[0] == '$' && word[1] != '{' && word[1] != '$') {
			const char *value = k3sup__env_get(env, word + 1, strlen(word + 1));

			r = value != NULL ? split_value(value, &out) : 0;
		} else {
			r = expand_word(word, env, &expanded);
			if (r == 0)
				r = k3sup__strv_add(&out, expanded);
		}
	}
	if (r < 0) {
		k3sup__strv_clear(&out);
		return r;
	}
	*ret = out;
	return 0;
}

static int64_t unit_of(const char *name, size_t len)
{
	static const struct {
		const char *names;
		int64_t us;
	} units[] = {{" s sec second seconds ", 1000000}, {" ms msec ", 1000}, {" us usec \302\265s \316\274s ", 1},
		{" m min minute minutes ", 60000000}, {" h hr hour hours ", 3600000000}, {" d day days ", 86400000000},
		{" w week weeks ", 604800000000}, {" M month months ", 2629800000000}, {" y year years ", 31557600000000}};
	_free_ char *word = k3sup__fmt(" %.*s ", (int)len, name);

	for (size_t i = 0; word != NULL && i < ELEMENTSOF(units); i++)
		if (strstr(units[i].names, word) != NULL)
			return units[i].us;
	return len == 0 ? 1000000 : 0;
}

/* Digits with a point among them, times a unit. No strtod(): that depends on the host's locale. */
static int add_span(const char *digits, size_t len, int64_t us, int64_t *sum)
{
	int64_t value = 0, part;
	size_t i = 0;

	for (; i < len && digits[i] != '.'; i++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, digits[i] - '0', &value))
			return -EINVAL;
	if (__builtin_mul_overflow(value, us, &value))
		return -EINVAL;
	for (part = us, i++; i < len; i++) {
		if (digits[i] == '.')
			return -EINVAL;
		part /= 10;
		value += (digits[i] - '0') * part;
	}
	return __builtin_add_overflow(*sum, value, sum) ? -EINVAL : 0;
}

int k3sup__unit_span(const char *text, int64_t *ret)
{
	int64_t sum = 0;

	text += strspn(text, K3SUP__BLANKS);
	if (k3sup__startswith(text, "infinity") && text[8 + strspn(text + 8, K3SUP__BLANKS)] == '\0') {
		*ret = -1;
		return 0;
	}
	if (*text == '\0')
		return -EINVAL;
	while (*text != '\0') {
		size_t digits = strspn(text, "0123456789."), name;
		const char *unit = text + digits + strspn(text + digits, K3SUP__BLANKS);
		int64_t us;

		name = strcspn(unit, "0123456789." K3SUP__BLANKS);
		us = unit_of(unit, name);
		if (digits == 0 || *text == '.' || us == 0 || add_span(text, digits, us, &sum) < 0)
			return -EINVAL;
		text = unit + name;
		text += strspn(text, K3SUP__BLANKS);
	}
	*ret = sum;
	return 0;
}
