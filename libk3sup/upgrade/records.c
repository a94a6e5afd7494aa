/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/records.h"

#include "base/journal.h"
#include "base/lock.h"
#include "base/process.h"

#include <sys/random.h>
#include <time.h>

int k3sup__entry_append(k3sup_op *op, k3sup_node *node, k3sup__json *record)
{
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, true, node->trust_flags, &dirfd);

	if (r < 0) {
		k3sup__json_unref(record);
		return r;
	}
	return k3sup__journal_append(op, dirfd, record);
}

k3sup__json *k3sup__entry_record(const char *id, const char *event, const char *verb)
{
	k3sup__json *record = k3sup__json_object();

	k3sup__json_set_str(record, "op", id);
	k3sup__json_set_str(record, "event", event);
	k3sup__json_set_str(record, "verb", verb);
	return record;
}

/* Waiting for randomness, early at boot, could take for ever. */
void k3sup__entry_make_id(char ret[static K3SUP__ENTRY_ID])
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

int k3sup__entry_note(k3sup_op *op, k3sup_node *node, const char *id, const char *verb, const char *event)
{
	return k3sup__entry_append(op, node, k3sup__entry_record(id, event, verb));
}

int k3sup__entry_note_stop(k3sup_op *op, k3sup_node *node, const char *id, const char *verb, const char *data_dir)
{
	k3sup__json *record = k3sup__entry_record(id, "stop", verb);

	k3sup__json_set_str(record, "data_dir", data_dir);
	return k3sup__entry_append(op, node, record);
}

static bool says(const k3sup__json *record, const char *key, const char *wanted)
{
	const char *text = k3sup__json_text(record, key);

	return text && k3sup__streq(text, wanted);
}

bool k3sup__entry_has(const k3sup__json *records, const char *id, const char *event)
{
	for (size_t i = 0; id && i < k3sup__json_len(records); i++)
		if (says(k3sup__json_element(records, i), "op", id) && says(k3sup__json_element(records, i), "event", event))
			return true;
	return false;
}

/* The last word counts. One of another boot says nothing about who has stopped k3s, nor one of an entry that came to its end. */
struct k3sup__owed k3sup__entry_owed(k3sup_node *node, const k3sup__json *records)
{
	struct k3sup__owed owed = {.verb = K3SUP__VERB_UPGRADE};
	const k3sup__json *last = NULL;
	char boot_id[37];
	const char *id;

	for (size_t i = k3sup__json_len(records); i-- > 0 && !last;) {
		const k3sup__json *record = k3sup__json_element(records, i);

		if (says(record, "event", "stop") || says(record, "event", "started"))
			last = record;
	}
	id = k3sup__json_text(last, "op");
	if (!id || strlen(id) >= sizeof(owed.id) || !says(last, "event", "stop") || k3sup__boot_id(node->proc_fd, boot_id) < 0 ||
		!says(last, "boot_id", boot_id))
		return owed;
	if (!k3sup__entry_has(records, id, "close")) {
		strcpy(owed.id, id);
		owed.data_dir = k3sup__json_text(last, "data_dir");
	}
	if (says(last, "verb", K3SUP__VERB_ROTATE))
		owed.verb = K3SUP__VERB_ROTATE;
	return owed;
}

int k3sup__entry_close_one(k3sup_op *op, k3sup_node *node, const char *id, const char *verb, const char *reason)
{
	k3sup__json *record = k3sup__entry_record(id, "close", verb);

	k3sup__json_set_str(record, "reason", reason);
	return k3sup__entry_append(op, node, record);
}

int k3sup__entry_close_all(k3sup_op *op, k3sup_node *node, const char *verb)
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
		entry = r >= 0 ? k3sup__journal_open_entry(records, verb) : NULL;
		if (entry)
			r = k3sup__entry_close_one(op, node, k3sup__json_text(entry, "op"), verb, "superseded");
		if (r >= 0)
			r = entry != NULL;
	}
	return r;
}
