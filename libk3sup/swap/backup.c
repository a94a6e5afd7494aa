/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/backup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/durable.h"
#include "node/identify.h"
#include "node/warn.h"
#include "swap/bytes.h"

#define MOST_SLOTS 99u
/* What was installed comes before what was only made, and that before what nothing is recorded of. */
#define RANK_KEPT 2000000
#define RANK_MADE 1000000

/* ---- names ---- */

/* 1 for NAME.k3sup-backup, N for NAME.k3sup-backup-N, 0 for anything else. */
static unsigned slot_of(const char *name, const char *entry)
{
	size_t len = strlen(name);
	const char *rest = entry + len + strlen(K3SUP__BACKUP_SUFFIX);
	unsigned slot = 0;

	if (strncmp(entry, name, len) != 0 || !k3sup__startswith(entry + len, K3SUP__BACKUP_SUFFIX))
		return 0;
	if (*rest == '\0')
		return 1;
	if (*rest++ != '-' || *rest == '0')
		return 0;
	for (; *rest >= '0' && *rest <= '9' && slot <= MOST_SLOTS; rest++)
		slot = slot * 10 + (unsigned)(*rest - '0');
	return *rest == '\0' && slot >= 2 && slot <= MOST_SLOTS ? slot : 0;
}

static char *slot_name(const char *name, unsigned slot)
{
	return slot == 1 ? k3sup__swap_backup_name(name) : k3sup__fmt("%s" K3SUP__BACKUP_SUFFIX "-%u", name, slot);
}

static char *beside(const struct k3sup__place *target, const char *name)
{
	return k3sup__fmt("%.*s%s", (int)(target->name - target->path), target->path, name);
}

/* ---- finding ---- */

/* Numbered names are in order by themselves; where versions lie beside each other the records tell. */
static void rank(const struct k3sup__backups *b, struct k3sup__backup *backup, unsigned slot)
{
	size_t index = 0;

	backup->ours = slot > 0 || k3sup__kept_find(b->records, "made", backup->path, NULL, NULL) != NULL;
	backup->rank = slot > 0 ? (int64_t)MOST_SLOTS + 1 - slot : 0;
	if (b->layout.link.fd < 0)
		return;
	if (k3sup__kept_find(b->records, "kept", backup->path, NULL, &index))
		backup->rank = RANK_KEPT + (int64_t)index;
	else if (k3sup__kept_find(b->records, "made", backup->path, NULL, &index))
		backup->rank = RANK_MADE + (int64_t)index;
}

static int add(struct k3sup__backups *b, const char *entry, unsigned slot, const struct stat *st)
{
	const struct k3sup__place *target = b->layout.target;
	struct k3sup__backup *grown = realloc(b->all, (b->count + 1) * sizeof(*b->all)), *one;

	if (!grown)
		return -ENOMEM;
	b->all = grown;
	one = &grown[b->count];
	*one = (struct k3sup__backup){.path = beside(target, entry), .st = *st};
	if (!one->path)
		return -ENOMEM;
	one->name = one->path + (target->name - target->path);
	rank(b, one, slot);
	b->count++;
	return 0;
}

static int take_entry(struct k3sup__backups *b, const char *entry)
{
	const struct k3sup__place *target = b->layout.target;
	unsigned slot = slot_of(target->name, entry);
	struct stat st;

	if (k3sup__is_temp_of(entry, target->name) || k3sup__is_temp_of(entry, k3sup__layout_front(&b->layout)->name))
		k3sup__json_add(b->litter, k3sup__json_str(entry));
	if (slot == 0 && !k3sup__layout_is_version(&b->layout, entry))
		return 0;
	/* A cut swap's second name of the installed file is none. */
	if (fstatat(target->dirfd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
		(st.st_dev == target->st.st_dev && st.st_ino == target->st.st_ino))
		return 0;
	return add(b, entry, slot, &st);
}

static int by_rank(const void *a, const void *b)
{
	const struct k3sup__backup *first = a, *second = b;

	if (first->rank != second->rank)
		return first->rank < second->rank ? 1 : -1;
	return strcmp(second->name, first->name);
}

static int scan(k3sup_op *op, struct k3sup__backups *b)
{
	int fd = openat(b->layout.target->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *entry = NULL;

	if (!dir) {
		r = -errno;
		k3sup__close(fd);
		return k3sup__fail(op, r, "cannot read the directory of %s: %s", b->layout.target->path, k3sup_strerror(r));
	}
	while (r >= 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			r = -errno;
			break;
		}
		r = take_entry(b, entry->d_name);
	}
	(void)closedir(dir);
	if (b->count > 1)
		qsort(b->all, b->count, sizeof(*b->all), by_rank);
	return r < 0 ? k3sup__fail(op, r, "cannot read the directory of %s: %s", b->layout.target->path, k3sup_strerror(r)) : 0;
}

static int read_records(k3sup_op *op, k3sup_node *node, struct k3sup__backups *b)
{
	int r = k3sup__kept_read(op, node, k3sup__layout_front(&b->layout)->path, &b->records);

	if (r != -EACCES && r != -EPERM)
		return r;
	k3sup__op_forgive(op);
	k3sup__warn(op, "what was recorded of the backups cannot be read: %s", k3sup_strerror(r));
	b->records = k3sup__json_array();
	return b->records ? 0 : -ENOMEM;
}

int k3sup__backups_find(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, struct k3sup__backups *ret)
{
	struct k3sup__backups b = {.layout = K3SUP__LAYOUT_NONE, .litter = k3sup__json_array()};
	int r = k3sup__layout_find(op, node, target, &b.layout);

	if (r >= 0)
		r = read_records(op, node, &b);
	if (r >= 0)
		r = scan(op, &b);
	if (r < 0)
		k3sup__backups_clear(&b);
	else
		*ret = b;
	return r;
}

void k3sup__backups_clear(struct k3sup__backups *backups)
{
	for (size_t i = 0; i < backups->count; i++)
		free(backups->all[i].path);
	free(backups->all);
	k3sup__json_unref(backups->records);
	k3sup__json_unref(backups->litter);
	k3sup__layout_clear(&backups->layout);
	*backups = (struct k3sup__backups){.layout = K3SUP__LAYOUT_NONE};
}

int k3sup__backup_open(k3sup_op *op, const k3sup_node *node, const struct k3sup__backups *backups, const struct k3sup__backup *backup)
{
	int fd = openat(backups->layout.target->dirfd, backup->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		k3sup__close(fd);
		return k3sup__fail(op, r, "cannot open the backup %s: %s", backup->path, k3sup_strerror(r));
	}
	if (st.st_dev != backup->st.st_dev || st.st_ino != backup->st.st_ino || !S_ISREG(st.st_mode))
		r = k3sup__fail(op, K3SUP_E_BACKUP_DAMAGED, "somebody replaced the backup %s meanwhile", backup->path);
	else if (!k3sup__trusted(&st, node->trust_flags & K3SUP__ALLOW_GROUP))
		r = k3sup__fail(op, K3SUP_E_UNTRUSTED, "the backup %s (mode %04o, uid %u) could be changed by somebody else than root",
			backup->path, (unsigned)st.st_mode & 07777u, (unsigned)st.st_uid);
	else
		return fd;
	k3sup__close(fd);
	return r;
}

/* ---- going back ---- */

/* Is the installed file what was kept last? A swap that was cut, or a way back that was gone: either way nothing is left to do. 1 or 0; sha256: of it, then. */
static int installed_is_kept(k3sup_op *op, const struct k3sup__backups *b, char sha256[static K3SUP__SHA256_HEX])
{
	const k3sup__json *kept = k3sup__kept_find(b->records, "kept", NULL, NULL, NULL);
	_close_ int fd = kept ? k3sup__place_open(b->layout.target, O_RDONLY) : -1;
	int r;

	if (!kept)
		return 0;
	if (fd < 0)
		return k3sup__fail(
			op, fd == -ESTALE ? K3SUP_E_TARGET_CHANGED : fd, "cannot read %s: %s", b->layout.target->path, k3sup_strerror(fd));
	r = k3sup__bytes_digest(op, fd, b->layout.target->path, sha256);
	return r < 0 ? r : k3sup__streq(sha256, k3sup__json_text(kept, "sha256"));
}

static bool is_named(const struct k3sup__backups *b, const struct k3sup__terms *terms, const char *name)
{
	return terms->expect_version && k3sup__layout_is_this_version(&b->layout, name, terms->expect_version);
}

/* The one that the caller names, where versions lie beside each other; NULL if there is none. */
static const struct k3sup__backup *named(const struct k3sup__backups *b, const struct k3sup__terms *terms)
{
	for (size_t i = 0; i < b->count; i++)
		if (is_named(b, terms, b->all[i].name))
			return &b->all[i];
	return NULL;
}

/* Several versions lie there, and nothing is recorded: the caller has to name one. */
static int choose(k3sup_op *op, const struct k3sup__backups *b, const struct k3sup__terms *terms, const struct k3sup__backup **ret)
{
	if (b->count == 0)
		return k3sup__fail(op, K3SUP_E_BACKUP_MISSING, "there is no backup of %s", k3sup__layout_front(&b->layout)->path);
	*ret = named(b, terms);
	if (*ret)
		return 0;
	*ret = &b->all[0];
	if (!terms->expect_version && b->count > 1 && b->layout.link.fd >= 0 && b->all[0].rank < RANK_MADE)
		return k3sup__fail(op,
			K3SUP_E_BACKUP_MISSING, "several versions lie beside %s, and nothing is recorded about which was installed before; say which version it has to be",
			b->layout.target->path);
	return 0;
}

/* The digest that the backup's bytes must have: of the terms, or the counted one, if that was recorded or nothing was. moves: it is not installed already. */
static int bind(k3sup_op *op, const struct k3sup__backups *b, struct k3sup__payload *p, bool moves)
{
	struct k3sup__proof *proof = p->proof;
	bool recorded = k3sup__kept_find(b->records, NULL, NULL, p->sha256, NULL) != NULL;
	/* Numbered backups change their names; a version has its own, and others say nothing of it. */
	const char *name = b->layout.link.fd >= 0 ? p->shown : NULL;

	if (proof->expected[0] == '\0') {
		if (!recorded && moves && k3sup__kept_find(b->records, NULL, name, NULL, NULL)) {
			k3sup__json_set_str(k3sup__op_evidence(op), "sha256", p->sha256);
			return k3sup__fail(op,
				K3SUP_E_BACKUP_DAMAGED, "%s does not have the SHA-256 that was recorded when it was kept; whoever knows that it is right can give it",
				p->shown);
		}
		memcpy(proof->expected, p->sha256, sizeof(proof->expected));
	}
	if (!recorded && moves && k3sup__streq(proof->kind, "none")) {
		int r;

		k3sup__warn(op, "nothing is recorded about %s; it is taken for what it says it is", p->shown);
		p->check_archive = true;
		r = k3sup__payload_check_archive(op, p);
		if (r < 0)
			return r;
	}
	if (recorded) {
		proof->kind = "digest";
		k3sup__json_set_bool(proof->report, "recorded", true);
	}
	return k3sup__payload_prove(op, p, p->sha256);
}

static int load(k3sup_op *op, k3sup_node *node, const struct k3sup__backups *b, const struct k3sup__terms *terms, struct k3sup__payload *p)
{
	const struct k3sup__backup *chosen = NULL; /* or the installed file itself */
	int r = installed_is_kept(op, b, p->sha256);
	bool held = r > 0 && (!terms->sha256 || k3sup__streq(terms->sha256, p->sha256));

	/* A version that the caller names goes before what was kept last. */
	held = held ? !named(b, terms) : is_named(b, terms, b->layout.target->name);
	if (!held && r >= 0)
		r = choose(op, b, terms, &chosen);
	if (r < 0)
		return r;
	p->own_path = strdup(chosen ? chosen->path : b->layout.target->path);
	if (!p->own_path)
		return -ENOMEM;
	p->shown = p->own_path;
	p->backup_of = b->layout.target->st;
	r = p->fd = chosen ? k3sup__backup_open(op, node, b, chosen) : k3sup__place_open(b->layout.target, O_RDONLY);
	if (r >= 0)
		r = k3sup__bytes_digest(op, p->fd, p->shown, p->sha256);
	if (r >= 0)
		r = k3sup__payload_look(op, node, terms, p);
	return r < 0 ? r : bind(op, b, p, chosen != NULL);
}

int k3sup__backup_load(k3sup_op *op, k3sup_node *node, const struct k3sup__terms *terms, struct k3sup__payload *ret)
{
	struct k3sup__payload p = K3SUP__PAYLOAD_NONE;
	struct k3sup__place target = K3SUP__PLACE_NONE;
	struct k3sup__backups b = {.layout = K3SUP__LAYOUT_NONE};
	int r = k3sup__installed_find(op, node, NULL, &target);

	p.is_backup = true;
	if (r >= 0)
		r = k3sup__backups_find(op, node, &target, &b);
	if (r >= 0)
		r = load(op, node, &b, terms, &p);
	k3sup__backups_clear(&b);
	k3sup__place_clear(&target);
	if (r < 0)
		k3sup__payload_clear(&p);
	else
		*ret = p;
	return r < 0 ? r : 0;
}

/* ---- the number of them ---- */

/* By name and by content: what is recorded of these bytes, or of a made file by its path. */
static int remove_ours(k3sup_op *op, k3sup_node *node, const struct k3sup__backups *b, const struct k3sup__backup *backup)
{
	char sha256[K3SUP__SHA256_HEX];
	_close_ int fd = -1;
	int r;

	if (!backup->ours)
		return 0;
	r = fd = k3sup__backup_open(op, node, b, backup);
	if (r >= 0)
		r = k3sup__bytes_digest(op, fd, backup->path, sha256);
	if (r < 0)
		return r;
	if (!k3sup__kept_find(b->records, NULL, NULL, sha256, NULL))
		return 0;
	if (unlinkat(b->layout.target->dirfd, backup->name, 0) < 0)
		return k3sup__fail(op, -errno, "cannot remove the backup %s: %s", backup->path, k3sup_strerror(errno));
	k3sup__log(op, K3SUP_LOG_INFO, "removed the backup %s", backup->path);
	return 1;
}

int k3sup__backups_prune(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, uint32_t keep)
{
	struct k3sup__backups b = {.layout = K3SUP__LAYOUT_NONE};
	int n = 0, r = k3sup__backups_find(op, node, target, &b);

	for (size_t i = keep; r >= 0 && i < b.count; i++) {
		r = remove_ours(op, node, &b, &b.all[i]);
		/* A foreign, untrusted or damaged one is not ours to judge. */
		if (r == K3SUP_E_UNTRUSTED || r == K3SUP_E_BACKUP_DAMAGED) {
			k3sup__op_forgive(op);
			r = 0;
		}
		n += r > 0;
	}
	if (r >= 0 && n > 0) {
		r = k3sup__sync_dir(target->dirfd);
		if (r < 0)
			(void)k3sup__fail(op, r, "cannot sync the directory of %s: %s", target->path, k3sup_strerror(r));
	}
	k3sup__backups_clear(&b);
	return r < 0 ? r : n;
}

static bool exists(int dirfd, const char *name, struct stat *st)
{
	return fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* One rename each, the last one first: cut in between there is a gap, and no name is lost. */
int k3sup__backups_shift(k3sup_op *op, const struct k3sup__place *target, uint32_t keep)
{
	unsigned free_slot = 1;
	struct stat st;

	for (; free_slot < keep && free_slot < MOST_SLOTS; free_slot++) {
		_free_ char *name = slot_name(target->name, free_slot);

		if (!name)
			return -ENOMEM;
		/* A cut swap's second name of the target stays where it is: it becomes the backup. */
		if (!exists(target->dirfd, name, &st) || (st.st_dev == target->st.st_dev && st.st_ino == target->st.st_ino))
			break;
	}
	for (unsigned to = free_slot; to > 1; to--) {
		_free_ char *from = slot_name(target->name, to - 1), *name = slot_name(target->name, to);

		if (!from || !name)
			return -ENOMEM;
		if (renameat(target->dirfd, from, target->dirfd, name) < 0)
			return k3sup__fail(op, -errno, "cannot rename the backup %s beside %s: %s", from, target->path, k3sup_strerror(errno));
	}
	return 0;
}
