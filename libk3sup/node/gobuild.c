/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record begins with "\xff Go buildinf:", the pointer size and flags, 16 bytes in all. Up to Go 1.17 two pointers to string headers follow (the Go version, and the
 * module text between two 16-byte sentinels); since Go 1.18 (flag 2) both strings lie at byte 32, each behind its length as a varint.
 */
#include "node/gobuild.h"

#include <stdio.h>

#include "node/version.h"

#define MAGIC "\xff Go buildinf:"
#define MAGIC_LEN 14
#define ALIGN 16
#define INLINE_AT 32
#define FLAG_BIG_ENDIAN 1u
#define FLAG_INLINE 2u
#define SENTINEL 16
#define SEARCH_LEN 65536 /* the record is the first thing in its section or segment */
#define MAX_DEFINITIONS 128

struct text {
	char *at;
	size_t len;
};

/* The first writable segment is where Go puts the record when there are no section headers. */
static bool region(const struct k3sup__elf *elf, uint64_t *ret_offset, uint64_t *ret_len)
{
	if (elf->buildinfo_size > 0) {
		*ret_offset = elf->buildinfo_offset;
		*ret_len = elf->buildinfo_size;
		return true;
	}
	for (size_t i = 0; i < elf->load_count; i++)
		if (elf->loads[i].writable) {
			*ret_offset = elf->loads[i].offset;
			*ret_len = elf->loads[i].size;
			return true;
		}
	return false;
}

static bool take_varint_text(unsigned char **at, const unsigned char *end, struct text *ret)
{
	uint64_t len = 0;
	unsigned shift = 0;

	for (;;) {
		unsigned char byte;

		if (*at == end || shift > 28)
			return false;
		byte = *(*at)++;
		len |= (uint64_t)(byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			break;
		shift += 7;
	}
	if (len > (uint64_t)(end - *at))
		return false;
	*ret = (struct text){.at = (char *)*at, .len = (size_t)len};
	*at += len;
	return true;
}

static bool read_inline(unsigned char *record, size_t len, struct text *go, struct text *mod, size_t *ret_used)
{
	unsigned char *at = record + INLINE_AT;

	if (len < INLINE_AT || !take_varint_text(&at, record + len, go) || !take_varint_text(&at, record + len, mod))
		return false;
	*ret_used = (size_t)(at - record);
	return true;
}

/* Reads the string whose header is at an address of the program. 1 if it is there. */
static int read_string(int fd, const struct k3sup__elf *elf, const struct k3sup__elf *order, uint64_t address, size_t width,
	unsigned char *into, size_t room, struct text *ret)
{
	unsigned char header[16];
	uint64_t offset, left, len;
	ssize_t n;

	if (!k3sup__elf_offset(elf, address, &offset, &left) || left < 2 * width)
		return 0;
	n = k3sup__pread_full(fd, header, 2 * width, (int64_t)offset);
	if (n < 0)
		return (int)n;
	if ((size_t)n != 2 * width)
		return 0;
	len = k3sup__elf_get(order, header + width, width);
	if (!k3sup__elf_offset(elf, k3sup__elf_get(order, header, width), &offset, &left) || len > left || len > room)
		return 0;
	n = k3sup__pread_full(fd, into, (size_t)len, (int64_t)offset);
	if (n < 0)
		return (int)n;
	*ret = (struct text){.at = (char *)into, .len = (size_t)n};
	return 1;
}

static int read_pointers(int fd, const struct k3sup__elf *elf, unsigned char *record, size_t len, struct text *go, struct text *mod)
{
	struct k3sup__elf order = {.big_endian = (record[MAGIC_LEN + 1] & FLAG_BIG_ENDIAN) != 0};
	size_t width = record[MAGIC_LEN];
	uint64_t go_at, mod_at;
	int r;

	if ((width != 4 && width != 8) || len < ALIGN + 2 * width + 256)
		return 0;
	go_at = k3sup__elf_get(&order, record + ALIGN, width);
	mod_at = k3sup__elf_get(&order, record + ALIGN + width, width);
	/* The record is not needed any more: its memory takes the two strings, the first in at most 256 bytes. */
	r = read_string(fd, elf, &order, go_at, width, record, 256, go);
	if (r <= 0)
		return r;
	r = read_string(fd, elf, &order, mod_at, width, record + 256, len - 256, mod);
	if (r == 0) /* a program without modules */
		*mod = (struct text){.at = (char *)record, .len = 0};
	return r < 0 ? r : 1;
}

static void strip_sentinels(struct text *mod)
{
	if (mod->len < 2 * SENTINEL + 1 || mod->at[mod->len - SENTINEL - 1] != '\n') {
		mod->len = 0;
		return;
	}
	mod->at += SENTINEL;
	mod->len -= 2 * SENTINEL;
}

/* Go quotes a setting that holds blanks or quotes as a Go string. In place. */
static void unquote(struct text *t)
{
	size_t out = 0;

	if (t->len < 2 || t->at[0] != '"' || t->at[t->len - 1] != '"')
		return;
	for (size_t i = 1; i < t->len - 1; i++) {
		char c = t->at[i];

		if (c == '\\' && i + 1 < t->len - 1) {
			c = t->at[++i];
			if (c == 'n' || c == 't' || c == 'r')
				c = ' ';
		}
		t->at[out++] = c;
	}
	t->len = out;
}

/* The next word of a list of flags, blanks outside of quotes divide. */
static bool next_word(struct text *rest, struct text *word)
{
	char *end;
	size_t n = 0;

	while (rest->len > 0 && (*rest->at == ' ' || *rest->at == '\t' || *rest->at == '\n' || *rest->at == '\r')) {
		rest->at++;
		rest->len--;
	}
	if (rest->len == 0)
		return false;
	if (*rest->at == '"' || *rest->at == '\'') {
		end = memchr(rest->at + 1, *rest->at, rest->len - 1);
		if (end == NULL)
			return false;
		*word = (struct text){.at = rest->at + 1, .len = (size_t)(end - rest->at) - 1};
		n = word->len + 2;
	} else {
		while (n < rest->len && rest->at[n] != ' ' && rest->at[n] != '\t' && rest->at[n] != '\n' && rest->at[n] != '\r')
			n++;
		*word = (struct text){.at = rest->at, .len = n};
	}
	rest->at += n;
	rest->len -= n;
	return true;
}

static bool ends_with(const char *text, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len >= n && memcmp(text + len - n, suffix, n) == 0;
}

static bool starts_with(const struct text *t, const char *prefix)
{
	size_t n = strlen(prefix);

	return t->len >= n && memcmp(t->at, prefix, n) == 0;
}

static void copy_printable(char *ret, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && n + 1 < size && text[n] > ' ' && text[n] < 0x7f)
		n++;
	if (n == len) {
		memcpy(ret, text, n);
		ret[n] = '\0';
	}
}

/* "go1.22.5 X:boringcrypto" */
static size_t word_len(const struct text *t)
{
	const char *blank = memchr(t->at, ' ', t->len);

	return blank != NULL ? (size_t)(blank - t->at) : t->len;
}

/* One "-X name=value". */
struct definition {
	struct text package; /* without ".Variable" */
	struct text value;
	bool version; /* else commit */
	bool k3s;     /* k3s's own package, whoever forked it */
};

static bool take_definition(const struct text *word, struct definition *ret)
{
	char *equals = memchr(word->at, '=', word->len);
	size_t name_len;

	if (equals == NULL)
		return false;
	name_len = (size_t)(equals - word->at);
	*ret = (struct definition){.value = {.at = equals + 1, .len = word->len - name_len - 1}};
	if (ends_with(word->at, name_len, "/version.Version"))
		ret->version = true;
	else if (!ends_with(word->at, name_len, "/version.GitCommit"))
		return false;
	ret->package = (struct text){.at = word->at, .len = name_len - strlen(ret->version ? ".Version" : ".GitCommit")};
	ret->k3s = ends_with(ret->package.at, ret->package.len, "/k3s/pkg/version");
	return true;
}

/*
 * containerd's and crictl's versions are set in the same way, and are forks with "-k3s1" at their end. So: k3s's own package counts; else, for a build with another
 * module path, any that has a real "+k3s".
 */
static bool is_k3s_version(const struct definition *d)
{
	struct k3sup__version v;

	if (k3sup__version_parse(d->value.at, d->value.len, &v) < 0 || v.kind == K3SUP__VERSION_PLAIN)
		return false;
	return d->k3s || memmem(d->value.at, d->value.len, "+k3s", 4) != NULL;
}

static bool same_text(const struct text *a, const struct text *b)
{
	return a->len == b->len && memcmp(a->at, b->at, a->len) == 0;
}

static void choose(struct k3sup__gobuild *ret, const struct definition *all, size_t count)
{
	const struct definition *best = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct definition *d = &all[i];

		ret->sets_k3s = ret->sets_k3s || d->k3s;
		if (!d->version || !is_k3s_version(d))
			continue;
		if (best == NULL || (d->k3s && !best->k3s)) {
			best = d;
			ret->conflict = false;
		} else if (d->k3s == best->k3s && !same_text(&d->value, &best->value)) {
			ret->conflict = true;
		}
	}
	if (best == NULL || ret->conflict)
		return;
	copy_printable(ret->version, sizeof(ret->version), best->value.at, best->value.len);
	for (size_t i = 0; i < count; i++)
		if (!all[i].version && same_text(&all[i].package, &best->package))
			copy_printable(ret->commit, sizeof(ret->commit), all[i].value.at, all[i].value.len);
}

/* k3s sets Kubernetes' own variable, in the programs inside only (scripts/build); the wrapper is told no date (scripts/package-cli). */
static bool take_built(struct k3sup__gobuild *ret, const struct text *word)
{
	static const char name[] = "k8s.io/component-base/version.buildDate=";

	if (!starts_with(word, name))
		return false;
	copy_printable(ret->built, sizeof(ret->built), word->at + strlen(name), word->len - strlen(name));
	return true;
}

static void take_linker_flags(struct k3sup__gobuild *ret, struct text flags)
{
	struct definition all[MAX_DEFINITIONS];
	struct text word;
	size_t count = 0;

	unquote(&flags);
	while (count < MAX_DEFINITIONS && next_word(&flags, &word)) {
		if (starts_with(&word, "-X=")) {
			word.at += 3;
			word.len -= 3;
		} else if (word.len != 2 || memcmp(word.at, "-X", 2) != 0 || !next_word(&flags, &word)) {
			continue;
		}
		if (!take_built(ret, &word) && take_definition(&word, &all[count]))
			count++;
	}
	choose(ret, all, count);
}

static void take_path(struct k3sup__gobuild *ret, const struct text *path)
{
	if (ends_with(path->at, path->len, "/k3s/cmd/k3s"))
		ret->wrapper_path = true;
	else
		ret->inner_path = memmem(path->at, path->len, "/k3s/cmd/", 9) != NULL;
}

static void take_lines(struct k3sup__gobuild *ret, struct text mod)
{
	bool files = false, kine = false;

	while (mod.len > 0) {
		char *nl = memchr(mod.at, '\n', mod.len);
		struct text line = {.at = mod.at, .len = nl != NULL ? (size_t)(nl - mod.at) : mod.len};
		size_t used = line.len + (nl != NULL ? 1 : 0);

		if (starts_with(&line, "path\t")) {
			struct text path = {.at = line.at + 5, .len = line.len - 5};

			files = path.len == strlen("command-line-arguments") && starts_with(&path, "command-line-arguments");
			take_path(ret, &path);
		} else if (starts_with(&line, "build\t-ldflags=")) {
			take_linker_flags(ret, (struct text){.at = line.at + 15, .len = line.len - 15});
		} else if (starts_with(&line, "dep\tgithub.com/k3s-io/kine\t") || starts_with(&line, "dep\tgithub.com/rancher/kine\t")) {
			kine = true;
		}
		mod.at += used;
		mod.len -= used;
	}
	ret->has_kine = files && kine;
}

int k3sup__gobuild_read(int fd, const struct k3sup__elf *elf, unsigned char *scratch, size_t scratch_len, struct k3sup__gobuild *ret)
{
	uint64_t offset, len;
	struct text go, mod;
	size_t at, used = 0;
	ssize_t n;
	int r;

	*ret = (struct k3sup__gobuild){0};
	if (!region(elf, &offset, &len))
		return 0;
	n = k3sup__pread_full(fd, scratch, len < SEARCH_LEN ? (size_t)len : SEARCH_LEN, (int64_t)offset);
	if (n < 0)
		return (int)n;
	for (at = 0; at + INLINE_AT <= (size_t)n; at += ALIGN)
		if (memcmp(scratch + at, MAGIC, MAGIC_LEN) == 0)
			break;
	if (at + INLINE_AT > (size_t)n)
		return 0;
	n = k3sup__pread_full(fd, scratch, scratch_len, (int64_t)(offset + at));
	if (n < 0)
		return (int)n;
	if (n < INLINE_AT)
		return 0;
	if ((scratch[MAGIC_LEN + 1] & FLAG_INLINE) != 0)
		r = read_inline(scratch, (size_t)n, &go, &mod, &used) ? 1 : 0;
	else
		r = read_pointers(fd, elf, scratch, scratch_len, &go, &mod);
	if (r <= 0)
		return r;
	ret->found = true;
	ret->start = offset + at;
	ret->end = ret->start + used;
	copy_printable(ret->go, sizeof(ret->go), go.at, word_len(&go));
	strip_sentinels(&mod);
	take_lines(ret, mod);
	return 0;
}
