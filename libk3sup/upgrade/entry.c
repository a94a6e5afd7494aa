/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/entry.h"

#include "base/journal.h"
#include "base/process.h"
#include "node/warn.h"

#include <sys/random.h>
#include <time.h>

static int append(k3sup_op *op, k3sup_node *node, k3sup__json *record)
{
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, true, node->trust_flags, &dirfd);

	if (r < 0) {
		k3sup__json_unref(record);
		return r;
	}
	return k3sup__journal_append(op, dirfd, record);
}

static k3sup__json *record_of(const char *id, const char *event)
{
	k3sup__json *record = k3sup__json_object();

	k3sup__json_set_str(record, "op", id);
	k3sup__json_set_str(record, "event", event);
	k3sup__json_set_str(record, "verb", "upgrade");
	return record;
}

static bool was_stopped(k3sup_node *node, const struct k3sup__view *view, const char *id)
{
	char boot_id[37];

	if (k3sup__boot_id(node->proc_fd, boot_id) < 0)
		return false;
	for (size_t i = 0; i < k3sup__json_len(view->records); i++) {
		const k3sup__json *record = k3sup__json_element(view->records, i);
		const char *op = k3sup__json_text(record, "op"), *event = k3sup__json_text(record, "event");
		const char *boot = k3sup__json_text(record, "boot_id");

		if (op && event && boot && k3sup__streq(op, id) && k3sup__streq(event, "stop") && k3sup__streq(boot, boot_id))
			return true;
	}
	return false;
}

void k3sup__entry_take_over(
	k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, struct k3sup__entry *entry)
{
	const char *id = view->open_entry ? k3sup__json_text(view->open_entry, "op") : NULL;
	int64_t prove = 1;

	entry->older = id != NULL;
	if (!id)
		return;
	entry->stopped = was_stopped(node, view, id);
	if (strlen(id) >= sizeof(entry->id) || !k3sup__build_is(k3sup__json_member(view->open_entry, "payload"), &payload->build)) {
		k3sup__warn(op, "an earlier upgrade to another payload was never finished; the present arguments decide");
		return;
	}
	strcpy(entry->id, id);
	entry->resumed = true;
	(void)k3sup__json_as_i64(k3sup__json_member(view->open_entry, "prove"), &prove);
	entry->prove = prove != 0;
	k3sup__log(op, K3SUP_LOG_INFO, "going on where an earlier run was cut");
}

/* Only has to differ from the ids of other entries in this journal: waiting for randomness, early at boot, could take for ever. */
static void make_id(char ret[static 17])
{
	unsigned char random[8];
	struct timespec now;

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random)) {
		uint64_t number;

		clock_gettime(CLOCK_REALTIME, &now);
		number = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
		memcpy(random, &number, sizeof(random));
	}
	k3sup__hex(random, sizeof(random), ret);
}

int k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, bool prove,
	struct k3sup__entry *entry)
{
	k3sup__json *record;
	char id[17];
	int r;

	if (entry->id[0])
		return 0;
	make_id(id);
	record = record_of(id, "open");
	k3sup__json_set(record, "payload", k3sup__build_json(&payload->build));
	k3sup__json_set(record, "before", k3sup__build_json(&view->build));
	k3sup__json_set_str(record, "target", view->installed.path);
	k3sup__json_set_bool(record, "prove", prove);
	r = append(op, node, record);
	if (r < 0)
		return r;
	memcpy(entry->id, id, sizeof(id));
	entry->prove = prove;
	return 0;
}

int k3sup__entry_note_stop(k3sup_op *op, k3sup_node *node, const struct k3sup__entry *entry)
{
	return append(op, node, record_of(entry->id, "stop"));
}

static int close_one(k3sup_op *op, k3sup_node *node, const char *id, const char *reason)
{
	k3sup__json *record = record_of(id, "close");

	k3sup__json_set_str(record, "reason", reason);
	return append(op, node, record);
}

static int close_older(k3sup_op *op, k3sup_node *node)
{
	int r = 1;

	while (r > 0) {
		_cleanup_(k3sup__json_unrefp) k3sup__json *records = NULL;
		_close_ int dirfd = -1;
		const k3sup__json *entry;
		unsigned damaged;

		r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);
		if (r >= 0)
			r = k3sup__journal_read(op, dirfd, &records, &damaged);
		entry = r >= 0 ? k3sup__journal_open_entry(records) : NULL;
		if (entry)
			r = close_one(op, node, k3sup__json_text(entry, "op"), "superseded");
		if (r >= 0)
			r = entry != NULL;
	}
	return r;
}

int k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry)
{
	int r = entry->id[0] ? close_one(op, node, entry->id, status < 0 ? k3sup_error_name(status) : "done") : 0;

	if (r < 0)
		return r;
	entry->id[0] = '\0';
	return entry->older && status >= 0 ? close_older(op, node) : 0;
}
