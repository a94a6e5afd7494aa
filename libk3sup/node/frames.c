/* SPDX-License-Identifier: Apache-2.0 */
#include "node/frames.h"

#include <k3sup/error.h>

static const unsigned char magic[4] = {0x28, 0xb5, 0x2f, 0xfd};

#define LONGEST_HEADER 18 /* magic, descriptor, window, dictionary, content size */
#define BLOCK_HEADER 3
#define CHECKSUM 4
#define MAX_BLOCK ((uint32_t)128 << 10)
#define BEGUN_BLOCKS 4 /* so many are hardly an accident: one in twenty times each */

/* What is in memory now. */
struct view {
	const unsigned char *at;
	uint64_t start, end; /* offsets in the file */
};

static bool has(const struct view *v, uint64_t offset, size_t len)
{
	return offset >= v->start && offset <= v->end && v->end - offset >= len;
}

static const unsigned char *at(const struct view *v, uint64_t offset)
{
	return v->at + (offset - v->start);
}

/* ---- following one frame ---- */

/* The header of the frame. False: it is none. */
static bool read_header(struct k3sup__walk *walk, const unsigned char *header)
{
	static const unsigned char dictionary[] = {0, 1, 2, 4}, content[] = {0, 2, 4, 8};
	unsigned descriptor = header[4], size = content[descriptor >> 6];
	bool single = descriptor & 0x20;

	if (descriptor & 0x08) /* reserved */
		return false;
	if (size == 0 && single)
		size = 1;
	walk->checksum = descriptor & 0x04;
	walk->next = walk->start + sizeof(magic) + 1 + (single ? 0 : 1) + dictionary[descriptor & 3] + size;
	return true;
}

/* One block further. False: this is no frame. */
static bool read_block(struct k3sup__walk *walk, const unsigned char *header)
{
	uint32_t word = header[0] | (uint32_t)header[1] << 8 | (uint32_t)header[2] << 16;
	uint32_t type = word >> 1 & 3, size = word >> 3;

	if (type == 3 || size > MAX_BLOCK)
		return false;
	walk->last = word & 1;
	walk->blocks++;
	walk->next += BLOCK_HEADER + (type == 1 ? 1 : size) + (walk->last && walk->checksum ? CHECKSUM : 0);
	return true;
}

enum state { FOLLOWED, DEAD, SURE };

static enum state follow(struct k3sup__walk *walk, const struct view *v, bool sure)
{
	if (walk->next == 0) {
		if (!has(v, walk->start, LONGEST_HEADER))
			return FOLLOWED;
		if (!read_header(walk, at(v, walk->start)))
			return DEAD;
	}
	while (!walk->last && has(v, walk->next, BLOCK_HEADER)) {
		if (!read_block(walk, at(v, walk->next)))
			return DEAD;
		if (!sure && walk->blocks == K3SUP__FRAME_BLOCKS)
			return SURE;
	}
	return walk->last && !sure ? DEAD : FOLLOWED;
}

/* ---- the digest ---- */

static int count(struct k3sup__frames *frames, const struct view *v)
{
	uint64_t until = frames->walks[0].last && frames->walks[0].next < v->end ? frames->walks[0].next : v->end;
	unsigned char piece[16384];
	int r = 0;

	if (frames->digest == NULL)
		return 0;
	while (r == 0 && frames->counted < v->start) { /* is not in memory any more */
		uint64_t left = v->start - frames->counted;
		ssize_t n = k3sup__pread_full(frames->fd, piece, left < sizeof(piece) ? (size_t)left : sizeof(piece), (int64_t)frames->counted);

		if (n <= 0)
			return n < 0 ? (int)n : K3SUP_E_PAYLOAD_CHANGED;
		r = k3sup__digest_update(frames->digest, piece, (size_t)n);
		frames->counted += (uint64_t)n;
	}
	if (r == 0 && until > frames->counted) {
		r = k3sup__digest_update(frames->digest, at(v, frames->counted), (size_t)(until - frames->counted));
		frames->counted = until;
	}
	return r;
}

/* ---- all beginnings ---- */

static void drop(struct k3sup__frames *frames, size_t i)
{
	frames->walks[i] = frames->walks[--frames->walk_count];
}

static void begin_where_the_magic_is(struct k3sup__frames *frames, const struct view *v, uint64_t from)
{
	const unsigned char last = magic[sizeof(magic) - 1];
	const unsigned char *p = at(v, from), *end = at(v, v->end);

	while (p < end && (p = memchr(p, last, (size_t)(end - p))) != NULL) {
		uint64_t offset = v->start + (uint64_t)(p++ - v->at);

		if (offset - v->start < sizeof(magic) - 1 || memcmp(p - sizeof(magic), magic, sizeof(magic)) != 0)
			continue;
		if (frames->walk_count < K3SUP__FRAMES)
			frames->walks[frames->walk_count++] = (struct k3sup__walk){.start = offset + 1 - sizeof(magic)};
	}
}

static void become_sure(struct k3sup__frames *frames, size_t i)
{
	frames->walks[0] = frames->walks[i];
	frames->walk_count = 1;
	frames->sure = true;
	frames->counted = frames->covers = frames->walks[0].start;
}

static void follow_all(struct k3sup__frames *frames, const struct view *v)
{
	for (size_t i = 0; !frames->sure && i < frames->walk_count;) {
		enum state state = follow(&frames->walks[i], v, false);

		if (state == SURE) {
			become_sure(frames, i);
		} else if (state == DEAD) {
			frames->torn = frames->torn || (frames->walks[i].blocks >= BEGUN_BLOCKS && !frames->walks[i].last);
			drop(frames, i);
		} else {
			i++;
		}
	}
}

static int forget(struct k3sup__frames *frames, char ret[static K3SUP__SHA256_HEX])
{
	frames->sure = false;
	frames->walk_count = 0;
	ret[0] = '\0';
	return frames->digest != NULL ? k3sup__digest_finish(frames->digest, ret) : 0;
}

/* 1 if the frame ends within what is in memory, or turned out to be torn. */
static int follow_frame(struct k3sup__frames *frames, const struct view *v)
{
	struct k3sup__walk *walk = &frames->walks[0];
	char sha256[K3SUP__SHA256_HEX];
	int r;

	if (follow(walk, v, true) == DEAD) {
		frames->torn = true;
		frames->covered = walk->next;
		r = forget(frames, sha256);
		return r < 0 ? r : 1;
	}
	frames->covered = walk->next;
	r = count(frames, v);
	if (r < 0 || !walk->last || walk->next > v->end)
		return r;
	if (frames->count < K3SUP__FRAMES)
		frames->whole[frames->count] = (struct k3sup__frame){.start = walk->start, .end = walk->next};
	r = forget(frames, sha256);
	if (frames->count < K3SUP__FRAMES)
		memcpy(frames->whole[frames->count++].sha256, sha256, sizeof(sha256));
	return r < 0 ? r : 1;
}

int k3sup__frames_see(struct k3sup__frames *frames, const unsigned char *bytes, size_t len, uint64_t offset, uint64_t from)
{
	const struct view v = {.at = bytes, .start = offset, .end = offset + len};
	int r = 1;

	while (r > 0) {
		if (!frames->sure && from < v.end) {
			begin_where_the_magic_is(frames, &v, from);
			from = v.end;
		}
		follow_all(frames, &v);
		r = frames->sure ? follow_frame(frames, &v) : 0;
		/* Another one may begin behind this one. */
		if (r > 0)
			from = frames->covered > v.start ? frames->covered : v.start;
	}
	return r;
}

void k3sup__frames_end(struct k3sup__frames *frames)
{
	frames->torn = frames->torn || frames->sure;
	frames->sure = false;
	frames->walk_count = 0;
}
