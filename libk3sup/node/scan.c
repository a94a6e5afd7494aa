/* SPDX-License-Identifier: Apache-2.0 */
#include "node/scan.h"

#include "node/version.h"

/*
 * A find is looked at when this many bytes before and behind it are in memory (or the file begins or ends there). The longest thing before is "build/data/" and 64
 * digits; the last bytes of a piece are kept for the next one.
 */
#define CONTEXT 128
#define KEEP (2 * CONTEXT)

/* A version begins at most this far before its plus, and ends at most this far behind it. */
#define BEFORE_PLUS 48
#define BEHIND_PLUS 64

/* A hostile file may be all pluses: looking at this many finds is enough, a real k3s has some tens. */
#define MAX_PLUSES 65536

struct window {
	const unsigned char *at;
	size_t len;
	uint64_t offset; /* in the file, of the first byte */
	unsigned pluses; /* looked at so far */
};

static bool has_before(const struct window *w, size_t at, const char *word)
{
	size_t len = strlen(word);

	return at >= len && memcmp(w->at + at - len, word, len) == 0;
}

static bool has_at(const struct window *w, size_t at, const char *word)
{
	size_t len = strlen(word);

	return w->len - at >= len && memcmp(w->at + at, word, len) == 0;
}

/*
 * Neighbours in the read-only data touch each other without a NUL between them, so both ends are checked. Names: k3s scripts/package-cli; "build/data/" from
 * go-bindata until mid-2025, "embed/" since; .tgz and .tar.gz before zstd.
 */
static void look_for_asset(struct k3sup__scan *scan, const struct window *w, size_t dot)
{
	const char *hash;

	if (!has_at(w, dot, ".tar.zst") && !has_at(w, dot, ".tar.gz") && !has_at(w, dot, ".tgz"))
		return;
	if (dot < K3SUP__H_LEN)
		return;
	hash = (const char *)w->at + dot - K3SUP__H_LEN;
	if (!k3sup__is_hex(hash, K3SUP__H_LEN))
		return;
	if (!has_before(w, dot - K3SUP__H_LEN, "embed/") && !has_before(w, dot - K3SUP__H_LEN, "build/data/"))
		return;
	if (scan->asset_hash[0] == '\0')
		memcpy(scan->asset_hash, hash, K3SUP__H_LEN);
	else if (memcmp(scan->asset_hash, hash, K3SUP__H_LEN) != 0)
		scan->many_hashes = true;
}

static void add_version(struct k3sup__scan *scan, const char *text, size_t len)
{
	if (len >= sizeof(scan->versions[0]))
		return;
	for (size_t i = 0; i < scan->version_count; i++)
		if (strlen(scan->versions[i]) == len && memcmp(scan->versions[i], text, len) == 0)
			return;
	if (scan->version_count == K3SUP__SCAN_VERSIONS) {
		scan->many_versions = true;
		return;
	}
	memcpy(scan->versions[scan->version_count], text, len);
	scan->versions[scan->version_count++][len] = '\0';
}

static bool is_word(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-';
}

/* What touches the version on the right may look like a part of it: the longest text that is a version counts. */
static void look_for_version(struct k3sup__scan *scan, struct window *w, size_t plus)
{
	size_t start = plus, end = plus + 1;
	struct k3sup__version v;

	if (!has_at(w, plus, "+k3s"))
		return;
	if (++w->pluses > MAX_PLUSES) {
		scan->many_versions = true;
		return;
	}
	if (w->offset + plus >= scan->skip_start && w->offset + plus < scan->skip_end)
		return;
	while (start > 0 && plus - start < BEFORE_PLUS && is_word(w->at[start - 1]))
		start--;
	while (end < w->len && end - plus < BEHIND_PLUS && is_word(w->at[end]))
		end++;
	for (; start < plus; start++) {
		const char *text = (const char *)w->at + start;

		if (*text != 'v' || k3sup__version_parse(text, plus - start, &v) < 0)
			continue;
		for (size_t e = end; e > plus + 4; e--)
			if (k3sup__version_parse(text, e - start, &v) == 0) {
				add_version(scan, text, e - start);
				return;
			}
	}
}

/* Looks at all finds from `from` to `to`. A single byte is searched for: nothing else is as fast over an archive, which is as good as random. */
static void look_for(struct k3sup__scan *scan, struct window *w, size_t from, size_t to, unsigned char byte,
	void (*look)(struct k3sup__scan *scan, struct window *w, size_t at))
{
	while (from < to) {
		const unsigned char *find = memchr(w->at + from, byte, to - from);

		if (find == NULL)
			return;
		from = (size_t)(find - w->at);
		look(scan, w, from++);
	}
}

static void dot(struct k3sup__scan *scan, struct window *w, size_t at)
{
	if (at + 1 < w->len && w->at[at + 1] == 't')
		look_for_asset(scan, w, at);
}

int k3sup__scan(k3sup_op *op, int fd, uint64_t limit, unsigned char *buffer, struct k3sup__scan *scan)
{
	struct window w = {.at = buffer};
	size_t from = 0;

	scan->size = 0;
	for (;;) {
		size_t want = K3SUP__SCAN_BUFFER - w.len, to;
		ssize_t n;
		int r = k3sup__op_checkpoint(op);

		if (r < 0)
			return r;
		if (want > limit - scan->size)
			want = (size_t)(limit - scan->size);
		n = k3sup__pread_full(fd, buffer + w.len, want, (int64_t)scan->size);
		if (n < 0)
			return (int)n;
		r = scan->digest != NULL ? k3sup__digest_update(scan->digest, buffer + w.len, (size_t)n) : 0;
		if (r < 0)
			return r;
		w.len += (size_t)n;
		scan->size += (uint64_t)n;
		to = (size_t)n < want || scan->size == limit ? w.len : w.len - CONTEXT;
		look_for(scan, &w, from, to, '.', dot);
		look_for(scan, &w, from, to, '+', look_for_version);
		if (to == w.len)
			return 0;
		k3sup__op_progress(op, (int64_t)scan->size, (int64_t)limit);
		memmove(buffer, buffer + w.len - KEEP, KEEP);
		w.offset += w.len - KEEP;
		w.len = KEEP;
		from = KEEP - CONTEXT;
	}
}
