/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/rotation.h"

#include <time.h>

#include "base/journal.h"
#include "base/lock.h"
#include "certs/inventory.h"
#include "node/datadir.h"
#include "node/unittext.h"
#include "node/warn.h"
#include "swap/preflight.h"
#include "upgrade/window.h"

#define DAY 86400
#define MOST_KEY 256
#define MOST_DAYS 36500
#define MOST_TRIES 2
#define FAILED "not-rotated"

int k3sup__rotation_take(
	const char *key, int64_t within, const char *const *services, uint32_t keep, uint32_t keep_days, struct k3sup__rotation *ret)
{
	struct k3sup__rotation rotation = {.within = within, .retiring = {.keep = keep, .keep_days = keep_days}};
	int r = k3sup__cert_services_take(services, &rotation.retiring.services);

	/* The journal is JSON: what is no UTF-8 would not be found again in it. */
	if (r >= 0 && ((key && (!*key || strlen(key) > MOST_KEY || !k3sup__is_utf8(key, strlen(key)))) || within > MOST_DAYS))
		r = -EINVAL;
	if (r >= 0 && key && !(rotation.key = strdup(key)))
		r = -ENOMEM;
	if (r < 0) {
		k3sup__rotation_clear(&rotation);
		return r;
	}
	*ret = rotation;
	return 0;
}

void k3sup__rotation_clear(struct k3sup__rotation *rotation)
{
	free(rotation->key);
	k3sup__strv_clear(&rotation->retiring.services);
	k3sup__certs_where_clear(&rotation->where);
	k3sup__leafs_clear(&rotation->leafs);
	k3sup__json_unref(rotation->records);
	*rotation = (struct k3sup__rotation){0};
}

/* ---- what earlier runs have left in the journal ---- */

static bool has_text(const k3sup__json *object, const char *key, const char *text)
{
	const char *its = k3sup__json_text(object, key);

	return text ? its && k3sup__streq(its, text) : !its;
}

/* Is this entry about the same: the key, and the services? */
static bool is_about(const struct k3sup__rotation *rotation, const k3sup__json *record)
{
	const struct k3sup__strv *services = &rotation->retiring.services;
	const k3sup__json *its = k3sup__json_member(record, "services");
	bool same = has_text(record, "key", rotation->key) && k3sup__json_len(its) == services->count;

	for (size_t i = 0; same && i < services->count; i++)
		same = k3sup__strv_has(services, k3sup__json_as_str(k3sup__json_element(its, i)));
	return same;
}

/* The newest event of this name that an entry has; NULL if it has none. */
static const k3sup__json *last_event(const k3sup__json *records, const char *id, const char *event)
{
	for (size_t i = k3sup__json_len(records); id && i-- > 0;) {
		const k3sup__json *record = k3sup__json_element(records, i);

		if (has_text(record, "op", id) && has_text(record, "event", event))
			return record;
	}
	return NULL;
}

/* So often it says this. */
static unsigned times(const k3sup__json *records, const char *id, const char *event)
{
	unsigned n = 0;

	for (size_t i = 0; i < k3sup__json_len(records); i++)
		n += has_text(k3sup__json_element(records, i), "op", id) && has_text(k3sup__json_element(records, i), "event", event);
	return n;
}

struct comparing {
	const k3sup__json *with;
	bool keys, pairs, found; /* pairs: all but the listener's */
};

static int compare(const char *path, k3sup__json *value, void *arg)
{
	struct comparing *c = arg;

	if (c->keys == k3sup__leaf_is_key(path) && !(c->pairs && k3sup__leaf_is_listener(path)) &&
		has_text(c->with, path, k3sup__json_as_str(value)))
		c->found = true;
	return 0;
}

/* Is one of these certificates (or keys) still the live one? */
static bool is_live(const k3sup__json *prints, const struct k3sup__leafs *leafs, bool keys, bool pairs)
{
	struct comparing c = {.with = leafs->prints, .keys = keys, .pairs = pairs};

	(void)k3sup__json_each(prints, compare, &c);
	return c.found;
}

/* Was something retired under this key, proven, and is none of it live? */
static bool key_is_used(const struct k3sup__rotation *rotation)
{
	bool used = false;

	for (size_t i = 0; rotation->key && i < k3sup__json_len(rotation->records); i++) {
		const k3sup__json *record = k3sup__json_element(rotation->records, i);
		const k3sup__json *close;

		if (!has_text(record, "event", "open") || !has_text(record, "verb", K3SUP__VERB_ROTATE) || !is_about(rotation, record))
			continue;
		close = last_event(rotation->records, k3sup__json_text(record, "op"), "close");
		if (!close || !has_text(close, "reason", "done"))
			continue;
		if (is_live(k3sup__json_member(record, "prints"), &rotation->leafs, false, false))
			return false;
		used = true;
	}
	return used;
}

static void take_over(k3sup_op *op, struct k3sup__rotation *rotation)
{
	const k3sup__json *entry = k3sup__journal_open_entry(rotation->records, K3SUP__VERB_ROTATE);
	const char *id = entry ? k3sup__json_text(entry, "op") : NULL;

	if (!id || strlen(id) >= sizeof(rotation->id))
		return;
	if (!is_about(rotation, entry)) {
		rotation->older = true;
		k3sup__warn(op, "an earlier rotation under another key, or of other services, was never finished; the present arguments decide");
		return;
	}
	strcpy(rotation->id, id);
	rotation->resumed = true;
	rotation->prints = k3sup__json_member(entry, "prints");
	k3sup__log(op, K3SUP_LOG_INFO, "going on where an earlier rotation was cut");
}

/* ---- looking ---- */

static int read_journal(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation)
{
	_close_ int dirfd = -1;
	unsigned damaged;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);

	if (r == -ENOENT) {
		k3sup__op_forgive(op);
		rotation->records = k3sup__json_array();
		return rotation->records ? 0 : -ENOMEM;
	}
	return r < 0 ? r : k3sup__journal_read(op, dirfd, &rotation->records, &damaged);
}

/*
 * A run that was cut after the last file was removed, and before it could note that: its keys are gone, too. An agent's certificates are new after each start, so they alone say
 * nothing; of old releases its server gives it the old key again, so that the note is needed. The listener's certificate goes on until a start has come so far as to replace it:
 * who comes before that, as a Job's second pod, has nothing to retire any more. Only where it was waited for in vain the trigger is set once more.
 */
static bool is_done(const struct k3sup__rotation *rotation)
{
	const bool retired = rotation->resumed && last_event(rotation->records, rotation->id, "retired");
	const int64_t now = time(NULL);

	if (retired && last_event(rotation->records, rotation->id, FAILED) && times(rotation->records, rotation->id, "retired") < MOST_TRIES)
		return false;
	if (rotation->resumed)
		return !is_live(rotation->prints, &rotation->leafs, false, retired) &&
			(retired || !is_live(rotation->prints, &rotation->leafs, true, true));
	return key_is_used(rotation) || (rotation->within >= 0 && rotation->leafs.ends > now + rotation->within * DAY);
}

int k3sup__rotation_look(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation)
{
	struct k3sup__owed owed;
	int r = read_journal(op, node, rotation);

	if (r < 0)
		return r;
	owed = k3sup__entry_owed(node, rotation->records);
	rotation->ours = owed.id[0] != '\0';
	r = k3sup__certs_where_stopped(op, node, owed.data_dir, &rotation->where);
	if (r >= 0 && rotation->where.unseen)
		r = k3sup__node_fail_unseen(op, node);
	if (r < 0)
		return r;
	rotation->retiring.known = &rotation->where;
	k3sup__certs_where_report(op, &rotation->where);
	r = k3sup__leafs_look(op, node, &rotation->where, k3sup__rotation_services(rotation), &rotation->leafs);
	if (r < 0)
		return r;
	take_over(op, rotation);
	rotation->done = is_done(rotation);
	return 0;
}

/* ---- deciding ---- */

bool k3sup__rotation_needs_window(const struct k3sup__rotation *rotation)
{
	return rotation->alive ? !rotation->done : rotation->ours;
}

int k3sup__rotation_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__rotation *rotation, const struct k3sup__restart *restart)
{
	int r;

	if (!k3sup__rotation_needs_window(rotation))
		return 0;
	if (restart->by == K3SUP_RESTART_NONE && rotation->alive)
		return k3sup__fail(op, K3SUP_E_RUNNING,
			"k3s runs (process %d), and is not to be stopped: certificates are only touched while it is stopped",
			(int)rotation->where.pid);
	if (restart->by == K3SUP_RESTART_SIGNAL)
		return k3sup__fail(op, K3SUP_E_NO_SERVICE,
			"a rotation needs k3s to be stopped and to stay so: after a signal it would be there again at once");
	if (restart->by == K3SUP_RESTART_NONE)
		return 0;
	r = k3sup__startable(op, rotation->where.unstartable);
	/* A k3s that is stopped already is not left so for that: it gets its start, with the certificates it has. */
	if (r >= 0 && rotation->alive)
		r = k3sup__room_for(op, node, node->state_dir, "the backup of the certificates", rotation->leafs.bytes, rotation->leafs.inodes);
	return r < 0 ? r : k3sup__window_admit(op, node, restart);
}

void k3sup__rotation_report(k3sup_op *op, const struct k3sup__rotation *rotation)
{
	k3sup__json *facts = k3sup__op_facts(op);

	if (rotation->key)
		k3sup__json_set_str(facts, "key", rotation->key);
	k3sup__json_set_bool(facts, "resumed", rotation->resumed);
	k3sup__json_set_str(facts, "issued_by", rotation->where.server ? "itself" : "server");
}

static int take_path(const char *path, k3sup__json *value, void *arg)
{
	(void)value;
	k3sup__json_add(arg, k3sup__json_str(path));
	return 0;
}

void k3sup__rotation_plan(k3sup_op *op, const struct k3sup__rotation *rotation)
{
	k3sup__json *paths = k3sup__json_array();

	if (!rotation->done)
		(void)k3sup__json_each(rotation->leafs.prints, take_path, paths);
	k3sup__json_set(k3sup__op_facts(op), "retires", paths);
}

/* ---- doing ---- */

static int note(k3sup_op *op, k3sup_node *node, const struct k3sup__rotation *rotation, const char *event)
{
	return k3sup__entry_note(op, node, rotation->id, K3SUP__VERB_ROTATE, event);
}

static int open_entry(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation)
{
	char id[K3SUP__ENTRY_ID];
	k3sup__json *record;
	int r;

	k3sup__entry_make_id(id);
	record = k3sup__entry_record(id, "open", K3SUP__VERB_ROTATE);
	if (rotation->key)
		k3sup__json_set_str(record, "key", rotation->key);
	if (rotation->retiring.services.count > 0)
		k3sup__json_set(record, "services", k3sup__strv_json(&rotation->retiring.services));
	k3sup__json_set(record, "prints", k3sup__json_copy(rotation->leafs.prints));
	r = k3sup__entry_append(op, node, record);
	if (r >= 0)
		memcpy(rotation->id, id, sizeof(id));
	return r;
}

int k3sup__rotation_open(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation, bool stops)
{
	int r = rotation->id[0] ? 0 : open_entry(op, node, rotation);

	return r >= 0 && stops ? k3sup__entry_note_stop(op, node, rotation->id, K3SUP__VERB_ROTATE, rotation->where.data_dir) : r;
}

int k3sup__rotation_retire(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation, int (*still)(k3sup_op *op))
{
	int r = k3sup__retire(op, node, &rotation->retiring, still);

	rotation->retired |= r > 0;
	/* Where k3s is left stopped the listener's certificate stays, and each run comes here. */
	if (r == 0 && last_event(rotation->records, rotation->id, "retired"))
		return 0;
	return r < 0 ? r : note(op, node, rotation, "retired");
}

int k3sup__rotation_started(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation)
{
	return rotation->id[0] ? note(op, node, rotation, "started") : 0;
}

int k3sup__rotation_pending(k3sup_op *op, k3sup_node *node, const struct k3sup__rotation *rotation)
{
	if (!rotation->failed || !rotation->id[0] || last_event(rotation->records, rotation->id, FAILED))
		return 0;
	return note(op, node, rotation, FAILED);
}

int k3sup__rotation_close(k3sup_op *op, k3sup_node *node, struct k3sup__rotation *rotation, int status)
{
	const bool none = !rotation->id[0] && !rotation->older;
	int r = 0;

	if (rotation->id[0])
		r = k3sup__entry_close_one(op, node, rotation->id, K3SUP__VERB_ROTATE, status < 0 ? k3sup_error_name(status) : "done");
	/* Who retires sweeps; who finds that done already would leave it to the next one. */
	if (r >= 0 && status >= 0 && rotation->done && !rotation->retired)
		r = k3sup__retire_sweep(op, node);
	if (r < 0)
		return r;
	rotation->id[0] = '\0';
	return status < 0 || none ? 0 : k3sup__entry_close_all(op, node, K3SUP__VERB_ROTATE);
}
