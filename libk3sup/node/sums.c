/* SPDX-License-Identifier: Apache-2.0 */
#include "node/sums.h"

#define DIGITS ((size_t)64)

static const struct {
	const char *arch, *artifact;
} artifacts[] = {
	/* k3s: install.sh setup_verify_arch() */
	{"amd64", "k3s"},
	{"arm64", "k3s-arm64"},
	{"arm", "k3s-armhf"},
	{"s390x", "k3s-s390x"},
	{"riscv64", "k3s-riscv64"},
};

struct line {
	const char *digest, *name;
	size_t name_len;
};

const char *k3sup__artifact(const char *arch)
{
	for (size_t i = 0; i < ELEMENTSOF(artifacts); i++)
		if (k3sup__streq(artifacts[i].arch, arch))
			return artifacts[i].artifact;
	return NULL;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "DIGEST  NAME", or "DIGEST *NAME" of a file that was read in binary mode. */
static bool parse(const char *at, size_t len, struct line *ret)
{
	if (len < DIGITS + 3 || at[DIGITS] != ' ' || (at[DIGITS + 1] != ' ' && at[DIGITS + 1] != '*'))
		return false;
	for (size_t i = 0; i < DIGITS; i++)
		if (hex_value(at[i]) < 0)
			return false;
	*ret = (struct line){.digest = at, .name = at + DIGITS + 2, .name_len = len - DIGITS - 2};
	return true;
}

/* NULL if this can be a list, or what it is instead. */
static const char *what_else(const char *text, size_t len)
{
	size_t at = 0;

	if (len > K3SUP__SUMS_MAX)
		return "is longer than 1 MiB, which no list of digests is";
	while (at < len && strchr(" \t\r\n", text[at]) != NULL && text[at] != '\0')
		at++;
	if (at == len)
		return "is empty";
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)text[i] < ' ' && strchr("\t\r\n", text[i]) == NULL) || text[i] == '\0' || text[i] == 127)
			return "is no text but something binary";
	if (text[at] == '<')
		return "is a web page, not a list of digests";
	if (memchr(text, '\r', len) != NULL)
		return "has the line ends of another system (CRLF); it is not as it was published";
	return NULL;
}

static bool is_name(const struct line *line, const char *name)
{
	return strlen(name) == line->name_len && memcmp(line->name, name, line->name_len) == 0;
}

/* Of a k3s binary; each architecture has a list of its own. */
static const char *binary_of(const struct line *line)
{
	for (size_t i = 0; i < ELEMENTSOF(artifacts); i++)
		if (is_name(line, artifacts[i].artifact))
			return artifacts[i].artifact;
	return NULL;
}

static bool same_digest(const char *a, const char *b)
{
	for (size_t i = 0; i < DIGITS; i++)
		if (hex_value(a[i]) != hex_value(b[i]))
			return false;
	return true;
}

int k3sup__sums_find(k3sup_op *op, const char *text, size_t len, const char *shown, const char *artifact, char ret[static K3SUP__SHA256_HEX])
{
	const char *found = NULL, *other = NULL, *wrong = what_else(text, len);
	bool binary = binary_of(&(struct line){.name = artifact, .name_len = strlen(artifact)}) != NULL;
	unsigned number = 0;

	if (wrong != NULL)
		return k3sup__fail(op, K3SUP_E_SUMS, "%s %s", shown, wrong);
	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t line_len = end != NULL ? (size_t)(end - text) - at : len - at;
		struct line line;

		number++;
		if (!parse(text + at, line_len, &line))
			return k3sup__fail(op, K3SUP_E_SUMS, "line %u of %s is not a digest and a name", number, shown);
		at += line_len + 1;
		if (!is_name(&line, artifact)) {
			other = other != NULL || !binary ? other : binary_of(&line);
			continue;
		}
		if (found != NULL)
			return k3sup__fail(op, K3SUP_E_SUMS,
				same_digest(found, line.digest) ? "%s names %s twice" : "%s names %s twice, with different digests", shown,
				artifact);
		found = line.digest;
	}
	if (found == NULL && other != NULL)
		return k3sup__fail(op, K3SUP_E_SUMS, "%s is for another architecture: it names %s, but not %s", shown, other, artifact);
	if (found == NULL)
		return k3sup__fail(op, K3SUP_E_SUMS, "%s does not name %s", shown, artifact);
	for (size_t i = 0; i < DIGITS; i++)
		ret[i] = "0123456789abcdef"[hex_value(found[i])];
	ret[DIGITS] = '\0';
	return 0;
}
