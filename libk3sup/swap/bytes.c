/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/bytes.h"

#include "node/scan.h"

#include <fcntl.h>

#define CHUNK ((size_t)256 << 10) /* stays in a processor's cache until it was looked at */
#define KICK ((int64_t)8 << 20)

int k3sup__bytes_digest(k3sup_op *op, int fd, const char *shown, char ret[static K3SUP__SHA256_HEX])
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_free_ char *buf = malloc(CHUNK);
	int r = buf ? k3sup__digest_new(&digest) : -ENOMEM;
	int64_t at = 0;
	ssize_t n = 1;

	while (r >= 0 && n > 0) {
		n = k3sup__pread_full(fd, buf, CHUNK, at);
		r = n < 0 ? k3sup__fail(op, (int)n, "cannot read %s: %s", shown, k3sup_strerror((int)n))
			  : k3sup__digest_update(digest, buf, (size_t)n);
		at += n;
		if (r >= 0)
			r = k3sup__op_checkpoint(op);
	}
	return r < 0 ? r : k3sup__digest_finish(digest, ret);
}

int k3sup__bytes_same(k3sup_op *op, const struct k3sup__bytes *a, const struct k3sup__bytes *b, char *sha256)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_free_ char *of_a = malloc(CHUNK), *of_b = malloc(CHUNK);
	int r = of_a && of_b ? 0 : -ENOMEM;

	if (r >= 0 && sha256)
		r = k3sup__digest_new(&digest);
	for (int64_t at = 0; r >= 0 && at < a->size;) {
		ssize_t n = k3sup__pread_full(a->fd, of_a, CHUNK, at);
		ssize_t m = n < 0 ? 0 : k3sup__pread_full(b->fd, of_b, CHUNK, at);

		if (n < 0 || m < 0)
			return k3sup__fail(op, n < 0 ? (int)n : (int)m, "cannot read %s: %s", n < 0 ? a->shown : b->shown,
				k3sup_strerror(n < 0 ? (int)n : (int)m));
		if (n == 0)
			return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s got shorter while it was read", a->shown);
		if (n != m || memcmp(of_a, of_b, (size_t)n) != 0)
			return 0;
		at += n;
		r = digest ? k3sup__digest_update(digest, of_b, (size_t)m) : 0;
		if (r >= 0)
			r = k3sup__op_checkpoint(op);
	}
	if (r >= 0 && digest)
		r = k3sup__digest_finish(digest, sha256);
	return r < 0 ? r : 1;
}

int k3sup__beside_begin(struct k3sup__beside *beside, bool digest)
{
	beside->buf = malloc(K3SUP__SCAN_BUFFER);
	if (!beside->buf)
		return -ENOMEM;
	return digest ? k3sup__digest_new(&beside->digest) : 0;
}

int k3sup__beside_take(void *arg, uint64_t offset, const unsigned char *bytes, size_t len)
{
	struct k3sup__beside *b = arg;
	ssize_t n;

	if (b->differs || b->failed)
		return 0;
	n = k3sup__pread_full(b->fd, b->buf, len, (int64_t)offset);
	b->failed = n < 0;
	b->differs = n >= 0 && ((size_t)n != len || memcmp(bytes, b->buf, len) != 0);
	return b->digest && !b->differs && !b->failed ? k3sup__digest_update(b->digest, b->buf, len) : 0;
}

int k3sup__beside_end(struct k3sup__beside *beside, int *same, char sha256[static K3SUP__SHA256_HEX])
{
	sha256[0] = '\0';
	*same = beside->fd < 0 || beside->failed ? -1 : !beside->differs;
	return beside->digest && *same == 1 ? k3sup__digest_finish(beside->digest, sha256) : 0;
}

void k3sup__beside_clear(struct k3sup__beside *beside)
{
	k3sup__digest_free(beside->digest);
	free(beside->buf);
	*beside = (struct k3sup__beside){.fd = -1};
}

int k3sup__bytes_copy(k3sup_op *op, const struct k3sup__bytes *from, int to, char sha256[static K3SUP__SHA256_HEX])
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_free_ char *buf = malloc(CHUNK);
	int r = buf ? k3sup__digest_new(&digest) : -ENOMEM;

	for (int64_t at = 0; r >= 0 && at < from->size;) {
		size_t want = from->size - at < (int64_t)CHUNK ? (size_t)(from->size - at) : CHUNK;
		ssize_t n = k3sup__pread_full(from->fd, buf, want, at);

		if (n < 0)
			return k3sup__fail(op, (int)n, "cannot read %s: %s", from->shown, k3sup_strerror((int)n));
		if ((size_t)n < want)
			return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s got shorter while it was copied", from->shown);
		r = k3sup__write_full(to, buf, want);
		if (r < 0)
			return k3sup__fail(op, r, "cannot write the new file: %s", k3sup_strerror(r));
		r = k3sup__digest_update(digest, buf, want);
		at += n;
		/* The disk may begin while the rest is counted. Whether it could is for the fsync to say. */
		if (at % KICK == 0)
			(void)sync_file_range(to, at - KICK, KICK, SYNC_FILE_RANGE_WRITE);
		k3sup__op_progress(op, from->before + at, from->whole ? from->whole : from->size);
		if (r >= 0)
			r = k3sup__op_checkpoint(op);
	}
	return r < 0 ? r : k3sup__digest_finish(digest, sha256);
}
