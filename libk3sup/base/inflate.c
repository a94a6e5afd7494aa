/* SPDX-License-Identifier: Apache-2.0 */
#include "base/inflate.h"

#include <zlib.h>

#define IN_SIZE ((size_t)64 << 10)
#define OUT_SIZE ((size_t)256 << 10)
#define GZIP_ONLY (15 + 16) /* for inflateInit2(): the largest window, a gzip header and nothing else */

struct stream {
	k3sup_op *op;
	const char *shown;
	int fd;
	int (*sink)(void *arg, const void *bytes, size_t len);
	void *arg;
	z_stream z;
	unsigned char *in, *out;
	int64_t offset; /* of what is read next */
	uint64_t in_total, out_total;
};

int k3sup__is_gzip(int fd)
{
	unsigned char magic[2];
	ssize_t n = k3sup__pread_full(fd, magic, sizeof(magic), 0);

	return n < 0 ? (int)n : n == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

/* 1 if there is input, 0 at the end of the file. */
static int fill(struct stream *s)
{
	ssize_t n;

	if (s->z.avail_in > 0)
		return 1;
	n = k3sup__pread_full(s->fd, s->in, IN_SIZE, s->offset);
	if (n < 0)
		return k3sup__fail(s->op, (int)n, "cannot read %s: %s", s->shown, k3sup_strerror((int)n));
	s->offset += n;
	s->in_total += (uint64_t)n;
	s->z.next_in = s->in;
	s->z.avail_in = (uInt)n;
	return n > 0;
}

static int put(struct stream *s)
{
	size_t len = OUT_SIZE - s->z.avail_out;

	s->out_total += len;
	if (s->out_total > K3SUP__INFLATE_MAX)
		return k3sup__fail(s->op, K3SUP_E_GZIP, "%s unpacks to more than %u MiB", s->shown, (unsigned)(K3SUP__INFLATE_MAX >> 20));
	if (s->out_total > K3SUP__INFLATE_FREE && s->out_total / K3SUP__INFLATE_RATIO > s->in_total - s->z.avail_in)
		return k3sup__fail(s->op, K3SUP_E_GZIP, "%s unpacks to more than %u times its size, which no k3s does", s->shown,
			K3SUP__INFLATE_RATIO);
	return len > 0 ? s->sink(s->arg, s->out, len) : 0;
}

/* 1 when the member is complete, 0 to go on. */
static int inflate_piece(struct stream *s)
{
	int z, r;

	s->z.next_out = s->out;
	s->z.avail_out = (uInt)OUT_SIZE;
	z = inflate(&s->z, Z_NO_FLUSH);
	if (z == Z_MEM_ERROR)
		return -ENOMEM;
	if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
		return k3sup__fail(s->op, K3SUP_E_GZIP, "%s is a damaged gzip file: %s", s->shown,
			s->z.msg != NULL ? s->z.msg : "it needs a dictionary");
	r = put(s);
	if (r >= 0)
		r = k3sup__op_checkpoint(s->op);
	return r < 0 ? r : z == Z_STREAM_END;
}

static int member(struct stream *s)
{
	int r = 0;

	while (r == 0) {
		r = fill(s);
		if (r == 0)
			return k3sup__fail(s->op, K3SUP_E_PAYLOAD_TRUNCATED, "%s ends in the middle of its gzip stream", s->shown);
		if (r > 0)
			r = inflate_piece(s);
	}
	return r;
}

static int members(struct stream *s)
{
	for (;;) {
		int r = member(s);

		if (r >= 0)
			r = fill(s);
		if (r <= 0)
			return r;
		/* inflate() would say "incorrect header check", which is true of a damaged file, too. */
		if (s->z.next_in[0] != 0x1f)
			return k3sup__fail(s->op, K3SUP_E_GZIP, "%s has something behind the end of its gzip stream", s->shown);
		if (inflateReset(&s->z) != Z_OK)
			return K3SUP_E_INTERNAL;
	}
}

int k3sup__inflate(k3sup_op *op, int fd, const char *shown, int (*sink)(void *arg, const void *bytes, size_t len), void *arg)
{
	_free_ unsigned char *in = malloc(IN_SIZE), *out = malloc(OUT_SIZE);
	struct stream s = {.op = op, .shown = shown, .fd = fd, .sink = sink, .arg = arg, .in = in, .out = out};
	int r;

	if (in == NULL || out == NULL)
		return -ENOMEM;
	r = inflateInit2(&s.z, GZIP_ONLY);
	if (r != Z_OK)
		return r == Z_MEM_ERROR ? -ENOMEM : K3SUP_E_UNSUPPORTED;
	r = members(&s);
	(void)inflateEnd(&s.z);
	return r;
}
