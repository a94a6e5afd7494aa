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

static void add_name(struct k3sup__scan *scan, const char *hash, bool zstd)
{
	for (size_t i = 0; i < scan->name_count; i++)
		if (memcmp(scan->names[i].hash, hash, K3SUP__H_LEN) == 0)
			return;
	if (scan->name_count == K3SUP__SCAN_NAMES) {
		scan->many_names = true;
		return;
	}
	scan->names[scan->name_count].zstd = zstd;
	memcpy(scan->names[scan->name_count++].hash, hash, K3SUP__H_LEN);
}

/*
 * Neighbours in the read-only data touch each other without a NUL between them, so both ends are checked. Names: k3s scripts/package-cli; "build/data/" from
 * go-bindata until mid-2025, "embed/" since; .tgz and .tar.gz before zstd.
 */
static void look_for_asset(struct k3sup__scan *scan, const struct window *w, size_t dot)
{
	bool zstd = has_at(w, dot, ".tar.zst");
	const char *hash;

	if (!zstd && !has_at(w, dot, ".tar.gz") && !has_at(w, dot, ".tgz"))
		return;
	if (dot < K3SUP__H_LEN)
		return;
	hash = (const char *)w->at + dot - K3SUP__H_LEN;
	if (!k3sup__is_hex(hash, K3SUP__H_LEN))
		return;
	if (!has_before(w, dot - K3SUP__H_LEN, "embed/") && !has_before(w, dot - K3SUP__H_LEN, "build/data/"))
		return;
	add_name(scan, hash, zstd);
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

/* What is to be done with each piece as it comes. */
static int take(struct k3sup__scan *scan, const struct window *w, size_t fresh)
{
	const unsigned char *bytes = w->at + w->len - fresh;
	uint64_t offset = w->offset + w->len - fresh;
	int r = scan->digest != NULL ? k3sup__digest_update(scan->digest, bytes, fresh) : 0;

	if (r == 0 && scan->tap != NULL)
		r = scan->tap->take(scan->tap->arg, offset, bytes, fresh);
	return r == 0 ? k3sup__frames_see(&scan->frames, w->at, w->len, w->offset, offset) : r;
}

static void search(struct k3sup__scan *scan, struct window *w, size_t from, size_t to)
{
	look_for(scan, w, from, to, '.', dot);
	look_for(scan, w, from, to, '+', look_for_version);
}

/* An offset in the file as one in the window, between the two. */
static size_t within(const struct window *w, uint64_t offset, size_t from, size_t to)
{
	if (offset <= w->offset + from)
		return from;
	return offset - w->offset < to ? (size_t)(offset - w->offset) : to;
}

/* What the archive says is compressed: nothing in it is the program's own text. */
static void search_outside(struct k3sup__scan *scan, struct window *w, size_t from, size_t to)
{
	size_t archive = within(w, scan->frames.covers, from, to), behind = within(w, scan->frames.covered, archive, to);

	search(scan, w, from, archive);
	search(scan, w, behind, to);
}

int k3sup__scan(k3sup_op *op, int fd, uint64_t limit, unsigned char *buffer, struct k3sup__scan *scan)
{
	struct window w = {.at = buffer};
	size_t from = 0;

	scan->size = 0;
	scan->frames = (struct k3sup__frames){.fd = fd, .digest = scan->archive};
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
		w.len += (size_t)n;
		scan->size += (uint64_t)n;
		r = take(scan, &w, (size_t)n);
		if (r < 0)
			return r;
		to = (size_t)n < want || scan->size == limit ? w.len : w.len - CONTEXT;
		search_outside(scan, &w, from, to);
		if (to == w.len) {
			k3sup__frames_end(&scan->frames);
			return 0;
		}
		k3sup__op_progress(op, (int64_t)scan->size, (int64_t)limit);
		memmove(buffer, buffer + w.len - KEEP, KEEP);
		w.offset += w.len - KEEP;
		w.len = KEEP;
		from = KEEP - CONTEXT;
	}
}
