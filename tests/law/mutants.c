/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Known mistakes, made in the library under test: the linker leads these calls of it here. Those that are made in calls of the kernel are in cuts.c.
 */
#include "law.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/durable.h"
#include "base/lock.h"
#include "certs/live.h"
#include "upgrade/rotation.h"
#include "upgrade/upgrade.h"

int __real_k3sup__stage_leftovers(k3sup_op *op, int dirfd, const char *name, bool remove);
int __wrap_k3sup__stage_leftovers(k3sup_op *op, int dirfd, const char *name, bool remove);
int __real_k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	bool prove, struct k3sup__entry *entry);
int __wrap_k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	bool prove, struct k3sup__entry *entry);
int __real_k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry);
int __wrap_k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry);
int __real_k3sup__lock_take(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int *ret_fd);
int __wrap_k3sup__lock_take(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int *ret_fd);
int __real_k3sup__restart_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	const struct k3sup__restart *restart, struct k3sup__services *ret);
int __wrap_k3sup__restart_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	const struct k3sup__restart *restart, struct k3sup__services *ret);
int __real_k3sup__stage_publish(k3sup_op *op, struct k3sup__stage *stage, const char *backup, int (*before_rename)(k3sup_op *op), bool *ret_renamed);
int __wrap_k3sup__stage_publish(k3sup_op *op, struct k3sup__stage *stage, const char *backup, int (*before_rename)(k3sup_op *op), bool *ret_renamed);
int __real_k3sup__live_put(struct k3sup__live *live, const struct k3sup__tls_file *file);
int __wrap_k3sup__live_put(struct k3sup__live *live, const struct k3sup__tls_file *file);
int __real_k3sup__live_keep(struct k3sup__live *live, int backups, char **ret_name, bool *ret_made);
int __wrap_k3sup__live_keep(struct k3sup__live *live, int backups, char **ret_name, bool *ret_made);

int __real_k3sup__rotation_look(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation);
int __wrap_k3sup__rotation_look(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation);

int __wrap_k3sup__stage_leftovers(k3sup_op *op, int dirfd, const char *name, bool remove)
{
	return machine->mutant == NO_SWEEP ? 0 : __real_k3sup__stage_leftovers(op, dirfd, name, remove);
}

int __wrap_k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	bool prove, struct k3sup__entry *entry)
{
	return machine->mutant == ENTRY_NOT_OPENED ? 0 : __real_k3sup__entry_open(op, node, view, payload, prove, entry);
}

int __wrap_k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry)
{
	return machine->mutant == ENTRY_NOT_CLOSED ? 0 : __real_k3sup__entry_close(op, node, status, entry);
}

int __wrap_k3sup__lock_take(k3sup_op *op, const struct k3sup__root *root, unsigned trust_flags, int *ret_fd)
{
	if (machine->mutant != LOCK_NOT_TAKEN || !machine->counting)
		return __real_k3sup__lock_take(op, root, trust_flags, ret_fd);
	*ret_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return 0;
}

int __wrap_k3sup__restart_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	const struct k3sup__restart *restart, struct k3sup__services *ret)
{
	if (machine->mutant == RESTART_FORGOTTEN && view->same == 1)
		return 0;
	return __real_k3sup__restart_admit(op, node, view, payload, restart, ret);
}

/* Over the file that is there. */
static int overwrite(struct k3sup__stage *stage)
{
	char buffer[4096];
	ssize_t n;
	int fd = openat(stage->dirfd, stage->name, O_WRONLY | O_TRUNC | O_CLOEXEC);

	for (off_t at = 0; fd >= 0 && (n = pread(stage->fd, buffer, sizeof(buffer), at)) > 0; at += n)
		if (write(fd, buffer, (size_t)n) != n)
			return -EIO;
	return fd < 0 ? -errno : close(fd);
}

int __wrap_k3sup__stage_publish(k3sup_op *op, struct k3sup__stage *stage, const char *backup, int (*before_rename)(k3sup_op *op), bool *ret_renamed)
{
	if (machine->mutant == BACKUP_GONE_EARLY && backup) {
		(void)unlinkat(stage->dirfd, backup, 0);
		for (unsigned i = 0; i < 8; i++) /* as one that is copied anew takes its time */
			(void)point();
	}
	if (machine->mutant == IN_PLACE && stage->old_fd >= 0 && overwrite(stage) < 0)
		return -EIO;
	return __real_k3sup__stage_publish(op, stage, backup, before_rename, ret_renamed);
}

/* Certificates are put in place behind the first key. */
int __wrap_k3sup__live_put(struct k3sup__live *live, const struct k3sup__tls_file *file)
{
	static const struct k3sup__tls_file *held[K3SUP__CERT_MOST];
	static size_t count;
	int r;

	if (machine->mutant != KEY_BACK_FIRST)
		return __real_k3sup__live_put(live, file);
	if (!file->key) {
		held[count++] = file;
		return 0;
	}
	r = __real_k3sup__live_put(live, file);
	while (r >= 0 && count > 0)
		r = __real_k3sup__live_put(live, held[--count]);
	return r;
}

int __wrap_k3sup__live_keep(struct k3sup__live *live, int backups, char **ret_name, bool *ret_made)
{
	if (machine->mutant != NO_BACKUP_OF_LEAFS)
		return __real_k3sup__live_keep(live, backups, ret_name, ret_made);
	*ret_name = NULL;
	*ret_made = false;
	return 0;
}

struct k3sup__owed __real_k3sup__entry_owed(k3sup_node *node, const k3sup__json *records);
struct k3sup__owed __wrap_k3sup__entry_owed(k3sup_node *node, const k3sup__json *records);

struct k3sup__owed __wrap_k3sup__entry_owed(k3sup_node *node, const k3sup__json *records)
{
	static const struct k3sup__owed nothing = {.verb = K3SUP__VERB_UPGRADE};

	return machine->mutant == STOP_NOT_NOTED ? nothing : __real_k3sup__entry_owed(node, records);
}

int __real_k3sup__failed_note(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build, const char *sha256, int reason, const char *text);
int __wrap_k3sup__failed_note(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build, const char *sha256, int reason, const char *text);

int __wrap_k3sup__failed_note(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build, const char *sha256, int reason, const char *text)
{
	return machine->mutant == FAILURE_FORGOTTEN ? 0 : __real_k3sup__failed_note(op, node, build, sha256, reason, text);
}

int __real_k3sup__rollback_judge(k3sup_op *op);
int __wrap_k3sup__rollback_judge(k3sup_op *op);

int __wrap_k3sup__rollback_judge(k3sup_op *op)
{
	int r = __real_k3sup__rollback_judge(op);

	return machine->mutant == LEFT_DYING ? 0 : r;
}

/* Each run that was not cut retires again. */
int __wrap_k3sup__rotation_look(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation)
{
	int r = __real_k3sup__rotation_look(op, node, rotation);

	if (machine->mutant == NO_KEY)
		rotation->done &= rotation->resumed;
	return r;
}
