/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/entry.h"

#include "node/warn.h"

void k3sup__entry_take_over(
	k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, struct k3sup__entry *entry)
{
	const char *id = view->open_entry ? k3sup__json_text(view->open_entry, "op") : NULL;
	int64_t prove = 1;

	entry->owed = k3sup__entry_owed(node, view->records);
	entry->owed.data_dir = NULL; /* the view has it, and looks at it */
	entry->older = id != NULL;
	if (!id)
		return;
	if (strlen(id) >= sizeof(entry->id) || !k3sup__build_is(k3sup__json_member(view->open_entry, "payload"), &payload->build)) {
		k3sup__warn(op, "an earlier upgrade to another payload was never finished; the present arguments decide");
		return;
	}
	/* What it says was there before it would be gone back to: that is another file now. */
	if (view->same == 0 && !k3sup__build_is(k3sup__json_member(view->open_entry, "before"), &view->build)) {
		k3sup__warn(op, "an earlier upgrade was never finished, and the installed file is another one now than it was to replace");
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

int k3sup__entry_stops(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, struct k3sup__entry *entry)
{
	int r = k3sup__entry_note_stop(op, node, entry->id, K3SUP__VERB_UPGRADE, view->data_dir.path);

	if (r >= 0) {
		memcpy(entry->owed.id, entry->id, sizeof(entry->id));
		entry->owed.verb = K3SUP__VERB_UPGRADE;
	}
	return r;
}

int k3sup__entry_note_started(k3sup_op *op, k3sup_node *node, struct k3sup__entry *entry)
{
	struct k3sup__owed owed = entry->owed;

	entry->owed.id[0] = '\0';
	if (k3sup__streq(owed.id, entry->id)) /* which is closed now */
		return 0;
	return owed.id[0] ? k3sup__entry_note(op, node, owed.id, owed.verb, "started") : 0;
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
