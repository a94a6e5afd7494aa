/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/live.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/utc.h"
#include "certs/audit.h"
#include "certs/removable.h"
#include "node/warn.h"

#define TRIGGER_DIR "server/tls/"
#define TRIGGER "dynamic-cert-regenerate"
#define STAGED "leaf" /* what temps are named after, of whatever leaf: so one look at a directory finds them all */

bool k3sup__live_wants(const struct k3sup__live *live, const char *service)
{
	for (const char *const *one = live->services; one != NULL && *one != NULL; one++)
		if (k3sup__streq(*one, service))
			return true;
	return live->services == NULL;
}

/* ---- reading ---- */

int k3sup__live_find_dir(const struct k3sup__live *live, const char *path, struct k3sup__place *ret)
{
	const char *name = strrchr(path, '/');
	_free_ char *dir = k3sup__fmt("%s/%.*s/", live->where->data_dir, (int)(name - path), path);
	int r = dir == NULL ? -ENOMEM : k3sup__root_find(live->op, &live->node->root, dir, live->node->trust_flags, ret);

	return r < 0 || ret->fd >= 0 ? r : -ENOENT;
}

static int read_open(struct k3sup__live *live, int fd, const char *path, struct k3sup__digest *digest)
{
	struct k3sup__tls_file *kept = &live->files.list[live->files.count];
	ssize_t n;
	int r;

	*kept = (struct k3sup__tls_file){.key = k3sup__endswith(path, ".key")};
	if (fstat(fd, &kept->st) < 0)
		return -errno;
	if (!S_ISREG(kept->st.st_mode) || kept->st.st_size > K3SUP__CERT_FILE_MOST)
		return K3SUP_E_TARGET_NOT_FILE;
	kept->path = strdup(path);
	kept->text = malloc((size_t)kept->st.st_size + 1);
	if (kept->path == NULL || kept->text == NULL) {
		free(kept->path);
		free(kept->text);
		return -ENOMEM;
	}
	live->files.count++; /* from here on clear wipes it */
	kept->mode = kept->st.st_mode & 0777;
	kept->uid = kept->st.st_uid;
	kept->gid = kept->st.st_gid;
	n = k3sup__read_full(fd, kept->text, (size_t)kept->st.st_size);
	if (n < 0)
		return (int)n;
	kept->len = (size_t)n;
	r = k3sup__digest_update(digest, kept->text, kept->len);
	return r < 0 ? r : k3sup__digest_finish(digest, kept->sha256);
}

static int read_file(struct k3sup__live *live, const char *pair, const char *suffix, struct k3sup__digest *digest)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place dir = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s%s", pair, suffix);
	_close_ int fd = -1;
	int r = path == NULL ? -ENOMEM : k3sup__op_checkpoint(live->op);

	if (r >= 0)
		r = k3sup__live_find_dir(live, path, &dir);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	fd = openat(dir.fd, strrchr(path, '/') + 1, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	r = fd >= 0 ? read_open(live, fd, path, digest) : errno == ELOOP ? K3SUP_E_TARGET_NOT_FILE : -errno;
	if (r == K3SUP_E_TARGET_NOT_FILE)
		return k3sup__fail(live->op, r, "%s/%s is not a regular file of a certificate's size", live->where->data_dir, path);
	return r < 0 ? k3sup__fail(live->op, r, "%s/%s cannot be read: %s", live->where->data_dir, path, k3sup_strerror(r)) : 0;
}

static int read_files(struct k3sup__live *live)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	int r = k3sup__digest_new(&digest);

	for (size_t i = 0; r >= 0 && i < k3sup__n_pairs; i++) {
		const struct k3sup__pair *pair = &k3sup__pairs[i];

		if (!k3sup__live_wants(live, pair->service) || (!live->where->server && (pair->flags & K3SUP__PAIR_AGENT) == 0))
			continue;
		r = read_file(live, pair->path, ".crt", digest);
		if (r >= 0)
			r = read_file(live, pair->path, ".key", digest);
	}
	return r;
}

static void warn_of_end(k3sup_op *op, const char *authority, int64_t at)
{
	char when[K3SUP__UTC_TEXT];

	k3sup__utc_text(at, when);
	k3sup__warn(op, "the authority %s.crt expires at %s, and no rotation of leafs changes that", authority, when);
}

/* What stands in the way of issuing new leafs. A server's only: an agent asks its server. */
static int look_at_authorities(struct k3sup__live *live, struct k3sup__audit *audit)
{
	static const char *const fatal[] = {"missing", "empty", "damaged", "unreadable", "key-mismatch", "usage"};

	for (size_t i = 0; i < k3sup__json_len(audit->problems); i++) {
		const k3sup__json *problem = k3sup__json_element(audit->problems, i);

		for (size_t k = 0; live->where->server && k < ELEMENTSOF(fatal); k++)
			if (k3sup__streq(k3sup__json_text(problem, "problem"), fatal[k]) &&
				k3sup__startswith(k3sup__json_text(problem, "path"), "server/"))
				return k3sup__fail(live->op, K3SUP_E_AUTHORITY, "no start could issue new certificates: %s: %s",
					k3sup__json_text(problem, "path"), k3sup__json_text(problem, "text"));
	}
	if (!k3sup__clock_can_be(audit->now))
		return k3sup__fail(live->op, K3SUP_E_CLOCK, "the clock shows a time before this library was built");
	for (size_t i = 0; i < K3SUP__N_CAS; i++) {
		const struct k3sup__certs *certs = live->where->server ? &audit->cas[i] : &audit->agent_cas[i];

		if (certs->count == 0)
			continue;
		/* Others of its bundle may be over: the roots of before. */
		if (live->where->server && audit->now > certs->list[0].not_after)
			return k3sup__fail(live->op, K3SUP_E_AUTHORITY, "no start could issue new certificates: %s.crt has expired",
				k3sup__ca_paths[i]);
		if (audit->now < certs->list[0].not_before)
			return k3sup__fail(live->op, K3SUP_E_CLOCK, "the clock shows a time before this cluster's authorities were made");
		if (live->where->server && certs->list[0].not_after < audit->now + K3SUP__CA_WINDOW)
			warn_of_end(live->op, k3sup__ca_paths[i], certs->list[0].not_after);
		k3sup__json_set_str(live->authorities, k3sup__ca_paths[i], certs->list[0].sha256);
	}
	return k3sup__json_broken(live->authorities) ? -ENOMEM : 0;
}

static int read_authorities(struct k3sup__live *live)
{
	_cleanup_(k3sup__audit_close) struct k3sup__audit audit = {
		.op = live->op,
		.root = &live->node->root,
		.data_dir = live->where->data_dir,
		.server = live->where->server,
		.now = (int64_t)time(NULL),
		.window = K3SUP__CA_WINDOW,
	};
	int r = k3sup__audit_open(&audit);

	if (r >= 0)
		r = k3sup__audit_authorities(&audit);
	live->authorities = k3sup__json_object();
	return r < 0 ? r : look_at_authorities(live, &audit);
}

int k3sup__live_look(struct k3sup__live *live)
{
	int r = read_authorities(live);

	if (r >= 0)
		r = read_files(live);
	return r < 0 ? r : k3sup__live_removable(live);
}

int k3sup__live_read(struct k3sup__live *live)
{
	if (live->where->running)
		return k3sup__fail(live->op, K3SUP_E_RUNNING, "k3s runs (pid %d): its certificates are only touched while it is stopped",
			(int)live->where->pid);
	if (live->where->unseen)
		return k3sup__node_fail_unseen(live->op, live->node);
	return k3sup__live_look(live);
}

void k3sup__live_clear(struct k3sup__live *live)
{
	k3sup__tls_files_clear(&live->files);
	k3sup__json_unref(live->authorities);
	live->authorities = NULL;
}

/* ---- taking away ---- */

static int ask_whether_stopped(const struct k3sup__live *live)
{
	return live->still ? live->still(live->op) : 0;
}

static k3sup__json *describe(const struct k3sup__tls_file *file)
{
	k3sup__json *json = k3sup__json_object();

	k3sup__json_set_str(json, "path", file->path);
	k3sup__json_set_str(json, "sha256", file->sha256);
	return json;
}

static int remove_one(struct k3sup__live *live, int dirfd, const struct k3sup__tls_file *kept)
{
	const char *name = strrchr(kept->path, '/') + 1;
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : k3sup__fail(live->op, -errno, "%s cannot be looked at: %s", kept->path, k3sup_strerror(-errno));
	if (st.st_ino != kept->st.st_ino || st.st_dev != kept->st.st_dev || st.st_size != kept->st.st_size ||
		st.st_mtim.tv_sec != kept->st.st_mtim.tv_sec || st.st_mtim.tv_nsec != kept->st.st_mtim.tv_nsec)
		return k3sup__fail(live->op, K3SUP_E_TARGET_CHANGED, "somebody has changed %s meanwhile", kept->path);
	if (unlinkat(dirfd, name, 0) < 0)
		return k3sup__fail(live->op, -errno, "%s cannot be removed: %s", kept->path, k3sup_strerror(-errno));
	if (live->removed != NULL)
		k3sup__json_add(live->removed, describe(kept));
	return 1;
}

/* All keys of one directory, or all its certificates; the directory is synced if anything was removed. */
static int remove_kind(struct k3sup__live *live, const char *dir, size_t dir_len, bool keys, const struct k3sup__tls_files *only)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int removed = 0, r = 0;

	for (size_t i = 0; r >= 0 && i < live->files.count; i++) {
		const struct k3sup__tls_file *kept = &live->files.list[i];
		const char *name = strrchr(kept->path, '/') + 1;

		if (kept->key != keys || (size_t)(name - kept->path) != dir_len || strncmp(kept->path, dir, dir_len) != 0)
			continue;
		if (only != NULL && k3sup__tls_files_find(only, kept->path) == NULL)
			continue;
		if (place.fd < 0)
			r = k3sup__live_find_dir(live, kept->path, &place);
		if (r >= 0)
			r = ask_whether_stopped(live);
		if (r >= 0)
			r = remove_one(live, place.fd, kept);
		removed += r > 0;
	}
	if (removed > 0) {
		int synced = k3sup__sync_dir(place.fd);

		if (r >= 0 && synced < 0)
			r = k3sup__fail(live->op, synced, "%.*s cannot be synced: %s", (int)dir_len, dir, k3sup_strerror(synced));
	}
	return r < 0 ? r : removed;
}

static bool first_of_its_dir(const struct k3sup__live *live, size_t index, size_t dir_len)
{
	for (size_t i = 0; i < index; i++)
		if ((size_t)(strrchr(live->files.list[i].path, '/') + 1 - live->files.list[i].path) == dir_len &&
			strncmp(live->files.list[i].path, live->files.list[index].path, dir_len) == 0)
			return false;
	return true;
}

int k3sup__live_remove(struct k3sup__live *live, const struct k3sup__tls_files *only)
{
	int removed = 0;

	for (size_t i = 0; i < live->files.count; i++) {
		const char *path = live->files.list[i].path;
		size_t dir_len = (size_t)(strrchr(path, '/') + 1 - path);

		if (!first_of_its_dir(live, i, dir_len))
			continue;
		for (int keys = 1; keys >= 0; keys--) {
			int r = remove_kind(live, path, dir_len, keys == 1, only);

			if (r < 0)
				return r;
			removed += r;
		}
	}
	return removed;
}

/* ---- putting in place ---- */

/* Of a directory: temps of leafs, which may be keys, and of the trigger. */
static int tidy_dir(struct k3sup__live *live, const char *dir)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__live_find_dir(live, dir, &place), more = 0;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = k3sup__stage_leftovers(live->op, place.fd, STAGED, true);
	if (r >= 0 && k3sup__streq(dir, TRIGGER_DIR))
		more = k3sup__stage_leftovers(live->op, place.fd, TRIGGER, true);
	return more < 0 ? more : r < 0 ? r : r + more;
}

int k3sup__live_tidy(struct k3sup__live *live)
{
	int removed = 0;

	for (const char *const *dir = k3sup__cert_dirs; *dir != NULL; dir++) {
		int r = tidy_dir(live, *dir);

		if (r < 0)
			return r;
		removed += r;
	}
	return removed;
}

static int put_staged(struct k3sup__live *live, int dirfd, const struct k3sup__tls_file *file)
{
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	bool renamed = false;
	const char *name = strrchr(file->path, '/') + 1;
	int r = k3sup__stage_begin_as(live->op, dirfd, name, STAGED, &stage);

	if (r >= 0)
		r = k3sup__write_full(stage.fd, file->text, file->len);
	if (r >= 0 && fchown(stage.fd, file->uid, file->gid) < 0)
		r = -errno;
	if (r >= 0)
		r = k3sup__stage_finish(live->op, &stage, -1, file->mode);
	if (r >= 0)
		r = k3sup__stage_publish(live->op, &stage, NULL, NULL, &renamed);
	k3sup__stage_drop(&stage);
	return r;
}

int k3sup__live_put(struct k3sup__live *live, const struct k3sup__tls_file *file)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place dir = K3SUP__PLACE_NONE;
	int r = k3sup__live_find_dir(live, file->path, &dir);

	if (r >= 0)
		r = put_staged(live, dir.fd, file);
	return r < 0 ? k3sup__fail(live->op, r, "%s cannot be put in place: %s", file->path, k3sup_strerror(r)) : 0;
}

int k3sup__live_set_trigger(struct k3sup__live *live, bool set)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place dir = K3SUP__PLACE_NONE;
	int r = live->where->server ? k3sup__live_find_dir(live, TRIGGER_DIR TRIGGER, &dir) : -ENOENT;
	bool there = r >= 0 && faccessat(dir.fd, TRIGGER, F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	if (r < 0 || there == set)
		return r < 0 && r != -ENOENT ? r : 0;
	r = ask_whether_stopped(live);
	if (r < 0)
		return r;
	if (set)
		r = k3sup__durable_write(live->op, dir.fd, TRIGGER, "", 0, 0600);
	else
		r = unlinkat(dir.fd, TRIGGER, 0) < 0 ? -errno : k3sup__sync_dir(dir.fd);
	return r < 0 ? k3sup__fail(live->op, r, TRIGGER_DIR TRIGGER " cannot be %s: %s", set ? "made" : "removed", k3sup_strerror(r)) : 1;
}
