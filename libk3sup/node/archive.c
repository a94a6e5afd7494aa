/* SPDX-License-Identifier: Apache-2.0 */
#include "node/archive.h"

/* Which of several is the one that is named, or whether one that may be torn is, only its digest tells. */
static bool is_doubtful(const struct k3sup__scan *scan)
{
	return scan->frames.count > 0 && (scan->name_count > 1 || scan->frames.count > 1 || scan->frames.torn) && scan->archive == NULL;
}

int k3sup__archive_resolve(k3sup_op *op, int fd, unsigned char *buffer, struct k3sup__scan *scan)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	int r;

	if (!is_doubtful(scan))
		return 0;
	r = k3sup__digest_new(&digest);
	for (size_t i = 0; r == 0 && i < scan->frames.count; i++) {
		struct k3sup__frame *frame = &scan->frames.whole[i];

		for (uint64_t at = frame->start; r == 0 && at < frame->end;) {
			size_t want = frame->end - at < K3SUP__SCAN_BUFFER ? (size_t)(frame->end - at) : K3SUP__SCAN_BUFFER;
			ssize_t n = k3sup__pread_full(fd, buffer, want, (int64_t)at);

			if (n < 0)
				return (int)n;
			if ((size_t)n != want)
				return K3SUP_E_PAYLOAD_CHANGED;
			at += want;
			r = k3sup__digest_update(digest, buffer, want);
			if (r == 0)
				r = k3sup__op_checkpoint(op);
		}
		if (r == 0)
			r = k3sup__digest_finish(digest, frame->sha256);
	}
	return r;
}

static void believe_name(const struct k3sup__asset_name *name, const char *check, struct k3sup__build *build)
{
	build->wrapper = true;
	build->asset_check = check;
	memcpy(build->asset_hash, name->hash, sizeof(build->asset_hash));
}

void k3sup__archive_believe(const struct k3sup__scan *scan, struct k3sup__build *build)
{
	const struct k3sup__frames *frames = &scan->frames;

	for (size_t i = 0; i < scan->name_count; i++)
		for (size_t j = 0; j < frames->count; j++)
			if (k3sup__streq(scan->names[i].hash, frames->whole[j].sha256)) {
				believe_name(&scan->names[i], "digest", build);
				return;
			}
	if (scan->name_count > 1 || scan->many_names)
		return;
	if (!scan->names[0].zstd)
		believe_name(&scan->names[0], "name", build);
	else if (frames->count == 1 && frames->whole[0].sha256[0] == '\0' && !frames->torn)
		believe_name(&scan->names[0], "frame", build);
}

int k3sup__archive_judge(k3sup_op *op, const char *shown, const struct k3sup__scan *scan)
{
	const struct k3sup__frames *frames = &scan->frames;

	if (frames->torn)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_CORRUPT, "%s is damaged: the archive in it does not reach its end", shown);
	if (scan->name_count > 1)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_NOT_K3S, "%s names more than one embedded archive, and none that is in it", shown);
	if (frames->count == 0)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_NOT_K3S, "%s names an embedded archive, but there is none in it", shown);
	k3sup__json_set_str(k3sup__op_evidence(op), "archive_name", scan->names[0].hash);
	k3sup__json_set_str(k3sup__op_evidence(op), "archive_sha256", frames->whole[0].sha256);
	return k3sup__fail(op, K3SUP_E_PAYLOAD_CORRUPT, "%s is damaged: the archive in it has the SHA-256 %.12s... and is named %.12s...",
		shown, frames->whole[0].sha256, scan->names[0].hash);
}
