/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Go's yaml.v2 takes a plain scalar for (resolve.go), and how Go prints that.
 */
#include "base/yaml.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>

static const char *word(const char *text)
{
	static const struct {
		const char *words, *value;
	} table[] = {{" y Y yes Yes YES true True TRUE on On ON ", "true"}, {" n N no No NO false False FALSE off Off OFF ", "false"},
		{" .nan .NaN .NAN ", "NaN"}, {" .inf .Inf .INF +.inf +.Inf +.INF ", "+Inf"}, {" -.inf -.Inf -.INF ", "-Inf"}};
	_free_ char *search = strchr(text, ' ') == NULL ? k3sup__fmt(" %s ", text) : NULL;

	for (size_t i = 0; search != NULL && i < ELEMENTSOF(table); i++)
		if (strstr(table[i].words, search) != NULL)
			return table[i].value;
	return NULL;
}

static int digit_of(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	return isalpha((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : 99;
}

/* strconv.ParseInt(text, 0, 64), and ParseUint where that overflows. false: neither takes it. */
static bool integer(const char *text, bool *ret_minus, uint64_t *ret)
{
	bool sign = *text == '+' || *text == '-';
	uint64_t value = 0;
	int base = 10;

	*ret_minus = *text == '-';
	text += sign;
	if (text[0] == '0' && text[1] != '\0') {
		char kind = (char)tolower((unsigned char)text[1]);

		base = kind == 'x' ? 16 : kind == 'b' ? 2 : 8;
		text += kind == 'x' || kind == 'b' || kind == 'o' ? 2 : 1;
	}
	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++)
		if (digit_of(*text) >= base || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
			__builtin_add_overflow(value, (uint64_t)digit_of(*text), &value))
			return false;
	*ret = value;
	if (*ret_minus)
		return value <= (uint64_t)INT64_MAX + 1;
	return !sign || value <= (uint64_t)INT64_MAX; /* ParseUint takes no sign */
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool is_float(const char *text)
{
	size_t before, after = 0;

	text += *text == '+' || *text == '-';
	before = strspn(text, "0123456789");
	text += before;
	if (*text == '.') {
		after = strspn(text + 1, "0123456789");
		text += after + 1;
	}
	if (before == 0 && after == 0)
		return false;
	if (*text == 'e' || *text == 'E') {
		text++;
		text += *text == '+' || *text == '-';
		if (*text == '\0')
			return false;
		text += strspn(text, "0123456789");
	}
	return *text == '\0';
}

/* The shortest text that is this number again, with an exponent below 1e-4 and from 1e6 on. The calling thread has the C locale. */
static char *print_float(double value)
{
	char digits[40], *e;
	int precision = 0, exponent;

	do {
		(void)snprintf(digits, sizeof(digits), "%.*e", precision, value);
	} while (strtod(digits, NULL) != value && precision++ < 17);
	e = strchr(digits, 'e');
	exponent = (int)strtol(e + 1, NULL, 10);
	if (exponent < -4 || exponent >= 6)
		return k3sup__fmt("%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+', abs(exponent));
	return k3sup__fmt("%.*f", precision > exponent ? precision - exponent : 0, value);
}

static int go_float(const char *text, char **ret)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before;
	double value;

	if (c == (locale_t)0)
		return -ENOMEM;
	before = uselocale(c);
	value = strtod(text, NULL);
	if (isfinite(value))
		*ret = print_float(value);
	(void)uselocale(before);
	freelocale(c);
	if (!isfinite(value)) /* ParseFloat: out of range */
		return 0;
	return *ret != NULL ? 1 : -ENOMEM;
}

static char *without_underscores(const char *text)
{
	char *plain = strdup(text), *to = plain;

	for (const char *from = text; plain != NULL && *from != '\0'; from++)
		if (*from != '_')
			*to++ = *from;
	if (plain != NULL)
		*to = '\0';
	return plain;
}

/* strconv.ParseFloat() takes underscores between digits only. */
static int fraction(const char *text, char **ret)
{
	_free_ char *plain = without_underscores(text);

	if (plain == NULL)
		return -ENOMEM;
	for (size_t i = 1; text[i] != '\0'; i++)
		if (text[i] == '_' && (!isdigit((unsigned char)text[i - 1]) || !isdigit((unsigned char)text[i + 1])))
			return 0;
	return is_float(plain) ? go_float(plain, ret) : 0;
}

static int number(const char *text, char **ret)
{
	_free_ char *plain = without_underscores(text);
	bool minus;
	uint64_t value;

	if (plain == NULL)
		return -ENOMEM;
	if (integer(plain, &minus, &value)) {
		*ret = k3sup__fmt("%s%llu", minus && value != 0 ? "-" : "", (unsigned long long)value);
		return *ret != NULL ? 1 : -ENOMEM;
	}
	return is_float(plain) ? go_float(plain, ret) : 0;
}

int k3sup__yaml_go_scalar(const char *text, char **ret)
{
	const char *known = word(text);

	if (known != NULL) {
		*ret = strdup(known);
		return *ret != NULL ? 1 : -ENOMEM;
	}
	if (*text == '.')
		return fraction(text, ret);
	if (!isdigit((unsigned char)*text) && *text != '+' && *text != '-')
		return 0;
	/* A date stays as it is written, since k3s reads it into an interface{}. */
	return number(text, ret);
}
