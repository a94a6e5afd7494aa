/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/entry.h"

#include "base/journal.h"

#include <sys/random.h>

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

/* The name of the archive where there is one; a bare program has only its size and version. */
static bool is_about(const k3sup__json *entry, const struct k3sup__build *build)
{
	const k3sup__json *payload = k3sup__json_member(entry, "payload");
	const char *hash = k3sup__json_text(payload, "asset_hash"), *version = k3sup__json_text(payload, "version");

	if (k3sup__json_number(payload, "size", -1) != (int64_t)build->size)
		return false;
	if (build->asset_hash[0])
		return hash && k3sup__streq(hash, build->asset_hash);
	return !hash && k3sup__streq(version ? version : "", build->version);
}

int k3sup__entry_take_over(
	k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, struct k3sup__entry *entry)
{
	const char *id = view->open_entry ? k3sup__json_text(view->open_entry, "op") : NULL;
	k3sup__json *warnings, *record;

	if (!id || strlen(id) >= sizeof(entry->id))
		return 0;
	if (is_about(view->open_entry, &payload->build)) {
		strcpy(entry->id, id);
		entry->resumed = true;
		k3sup__log(op, K3SUP_LOG_INFO, "going on where an earlier run was cut");
		return 0;
	}
	warnings = k3sup__json_array();
	k3sup__json_add(warnings,
		k3sup__json_str(
			"an earlier upgrade to another payload was never finished; its entry is closed, the present arguments decide"));
	k3sup__json_set(k3sup__op_facts(op), "warnings", warnings);
	record = record_of(id, "close");
	k3sup__json_set_str(record, "reason", "superseded");
	return append(op, node, record);
}

int k3sup__entry_open(
	k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload, struct k3sup__entry *entry)
{
	unsigned char random[8];
	k3sup__json *record;
	char id[17];
	int r;

	if (entry->id[0])
		return 0;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return k3sup__fail(op, -errno, "cannot get random bytes: %s", k3sup_strerror(errno));
	k3sup__hex(random, sizeof(random), id);
	record = record_of(id, "open");
	k3sup__json_set(record, "payload", k3sup__build_json(&payload->build));
	k3sup__json_set(record, "before", k3sup__build_json(&view->build));
	k3sup__json_set_str(record, "target", view->installed.path);
	r = append(op, node, record);
	if (r >= 0)
		memcpy(entry->id, id, sizeof(id));
	return r;
}

int k3sup__entry_close(k3sup_op *op, k3sup_node *node, int status, struct k3sup__entry *entry)
{
	k3sup__json *record;
	int r;

	if (!entry->id[0])
		return 0;
	record = record_of(entry->id, "close");
	k3sup__json_set_str(record, "reason", k3sup_error_name(status < 0 ? status : 0));
	r = append(op, node, record);
	if (r >= 0)
		entry->id[0] = '\0';
	return r;
}
