/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/entry.h"

#include "base/process.h"
#include "node/warn.h"
#include "upgrade/records.h"

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

int k3sup__entry_open(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, bool prove,
	struct k3sup__entry *entry)
{
	k3sup__json *record;
	char id[K3SUP__ENTRY_ID];
	int r;

	if (entry->id[0])
		return 0;
	k3sup__entry_make_id(id);
	record = k3sup__entry_record(id, "open", K3SUP__VERB_UPGRADE);
	k3sup__json_set(record, "payload", k3sup__build_json(&payload->build));
	k3sup__json_set(record, "before", k3sup__build_json(&view->build));
	k3sup__json_set_str(record, "target", view->installed.path);
	k3sup__json_set_bool(record, "prove", prove);
	r = k3sup__entry_append(op, node, record);
	if (r < 0)
		return r;
	memcpy(entry->id, id, sizeof(id));
	entry->prove = prove;
	return 0;
}

int k3sup__entry_note_stop(k3sup_op *op, k3sup_node *node, const struct k3sup__entry *entry)
{
	return k3sup__entry_append(op, node, k3sup__entry_record(entry->id, "stop", K3SUP__VERB_UPGRADE));
}

int k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry)
{
	int r = entry->id[0] ? k3sup__entry_close_one(op, node, entry->id, K3SUP__VERB_UPGRADE, status < 0 ? k3sup_error_name(status) : "done")
			     : 0;

	if (r < 0)
		return r;
	entry->id[0] = '\0';
	return entry->older && status >= 0 ? k3sup__entry_close_all(op, node, K3SUP__VERB_UPGRADE) : 0;
}
