/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/prepared.h"

#include <unistd.h>

#include "node/warn.h"
#include "upgrade/records.h"

#define SETTLED_MS 60000 /* a younger k3s may still be making its certificates */

static bool says(const k3sup__json *record, const char *key, const char *wanted)
{
	const char *text = k3sup__json_text(record, key);

	return text && k3sup__streq(text, wanted);
}

static const k3sup__json *opened(const k3sup__json *records, const char *id)
{
	for (size_t i = 0; id && i < k3sup__json_len(records); i++)
		if (says(k3sup__json_element(records, i), "op", id) && says(k3sup__json_element(records, i), "event", "open"))
			return k3sup__json_element(records, i);
	return NULL;
}

/* The entry of the last upgrade, if that is proven and no swap came after it. */
static const k3sup__json *last_upgrade(const k3sup__json *records)
{
	for (size_t i = k3sup__json_len(records); i-- > 0;) {
		const k3sup__json *record = k3sup__json_element(records, i);

		if (says(record, "event", "kept") || says(record, "event", "made") || says(record, "event", "open"))
			return NULL;
		if (says(record, "verb", "upgrade") && says(record, "event", "close"))
			return says(record, "reason", "done") ? opened(records, k3sup__json_text(record, "op")) : NULL;
	}
	return NULL;
}

static void warn_of_file(k3sup_op *op, const struct k3sup__view *v)
{
	const k3sup__json *entry = last_upgrade(v->records), *payload = k3sup__json_member(entry, "payload");
	const char *version = k3sup__json_text(payload, "version");

	if (payload && v->installed.fd >= 0 && says(entry, "target", v->installed.path) && !k3sup__build_is(payload, &v->build))
		k3sup__warn(op, "%s is not what the last upgrade here has installed (%s): somebody replaced it since", v->installed.path,
			version ? version : "of unknown version");
}

/* What a cut run of ours has stopped is started, and proven; nobody has to look into it. */
static void warn_of_stop(k3sup_op *op, k3sup_node *node, const struct k3sup__view *v)
{
	if (k3sup__entry_owed(node, v->records).id[0])
		return;
	for (size_t i = 0; v->running_error == K3SUP_E_NO_K3S && i < v->units.count; i++)
		if (v->units.items[i].state == K3SUP__UNIT_LOADED) {
			k3sup__warn(op, "no k3s runs, though %s would start one: it was stopped, by an operator or by a step before this one",
				v->units.items[i].name);
			return;
		}
}

/* Does it exist, as far as can be told? */
static bool is_missing(const k3sup_node *node, const char *data_dir, const char *below)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", data_dir, below);

	return path && k3sup__root_find(NULL, &node->root, path, node->trust_flags, &place) >= 0 && place.fd < 0;
}

static void warn_of_certificates(k3sup_op *op, const k3sup_node *node, const struct k3sup__view *v)
{
	const struct k3sup__candidate *c = v->running_error == 0 ? &v->sighting.candidates[0] : NULL;
	const bool server = c && c->role == K3SUP__ROLE_SERVER;
	const char *below = server ? "server/tls/client-admin.crt" : "agent/client-kubelet.crt", *data_dir = v->data_dir.path;
	long ticks = sysconf(_SC_CLK_TCK);

	if (!c || k3sup__now_ms() - (int64_t)k3sup__process_start_time(c->process) * 1000 / (ticks > 0 ? ticks : 100) < SETTLED_MS)
		return;
	/* An agent's data-dir may be nothing but what its unit says: where none ever worked, none is missing anything. */
	if (!is_missing(node, data_dir, server ? "server/tls" : "agent") && is_missing(node, data_dir, below))
		k3sup__warn(op, "%s/%s of the k3s that runs is missing: its certificates were taken away, and the next start makes new ones",
			data_dir, below);
}

void k3sup__prepared_warn(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view)
{
	warn_of_file(op, view);
	warn_of_stop(op, node, view);
	warn_of_certificates(op, node, view);
}
