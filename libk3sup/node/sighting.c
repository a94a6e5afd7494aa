/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scan came to, as documents and as a verdict.
 */
#include "node/identify.h"

#include <stdio.h>

const char *k3sup__role_name(enum k3sup__role role)
{
	switch (role) {
	case K3SUP__ROLE_SERVER:
		return "server";
	case K3SUP__ROLE_AGENT:
		return "agent";
	default:
		return NULL;
	}
}

k3sup__json *k3sup__candidate_json(const struct k3sup__candidate *c)
{
	k3sup__json *json = k3sup__json_object();

	k3sup__json_set_int(json, "pid", k3sup__process_pid(c->process));
	k3sup__json_set_int(json, "start_time", (int64_t)k3sup__process_start_time(c->process));
	k3sup__json_set_int(json, "ppid", c->ppid);
	k3sup__json_set_str(json, "role", k3sup__role_name(c->role));
	k3sup__json_set_str(json, "comm", c->comm);
	k3sup__json_set_str(json, "exe", c->exe);
	k3sup__json_set_bool(json, "exe_deleted", c->exe_deleted);
	k3sup__json_set_str(json, "asset_hash", c->asset_hash[0] != '\0' ? c->asset_hash : NULL);
	if (c->worker_pid != 0)
		k3sup__json_set_int(json, "worker_pid", c->worker_pid);
	k3sup__json_set_str(json, "manager", k3sup__keeper_name(c->keeper));
	k3sup__json_set_str(json, "unit", c->unit);
	k3sup__json_set_str(json, "target", c->target);
	k3sup__json_set_str(json, "data_dir", c->data_dir);
	k3sup__json_set_bool(json, "unpacking", c->unpacking);
	k3sup__json_set_bool(json, "image", c->image);
	return json;
}

k3sup__json *k3sup__sighting_json(const struct k3sup__sighting *sighting)
{
	k3sup__json *list = k3sup__json_array();

	for (size_t i = 0; i < sighting->count; i++)
		k3sup__json_add(list, k3sup__candidate_json(&sighting->candidates[i]));
	return list;
}

/* Do both come from one installed file? Their services say so; else the same inode, or the same archive, or both are that file. */
static bool share_file(const struct k3sup__candidate *a, const struct k3sup__candidate *b)
{
	if (a->target != NULL && b->target != NULL)
		return k3sup__streq(a->target, b->target);
	if (a->exe_dev == b->exe_dev && a->exe_ino == b->exe_ino)
		return true;
	if (a->asset_hash[0] != '\0' && k3sup__streq(a->asset_hash, b->asset_hash))
		return true;
	return a->asset_hash[0] == '\0' && b->asset_hash[0] == '\0' && k3sup__streq(a->exe, b->exe);
}

static bool is_pair(const struct k3sup__sighting *s)
{
	const struct k3sup__candidate *a = s->candidates, *b = s->candidates + 1;

	if (s->count != 2 || !share_file(a, b))
		return false;
	return (a->role == K3SUP__ROLE_SERVER && b->role == K3SUP__ROLE_AGENT) || (a->role == K3SUP__ROLE_AGENT && b->role == K3SUP__ROLE_SERVER);
}

/* "12 (server, k3s.service)" */
static char *describe(const struct k3sup__candidate *c)
{
	const char *role = k3sup__role_name(c->role);

	return k3sup__fmt("%d (%s%s%s)", (int)k3sup__process_pid(c->process), role != NULL ? role : "k3s", c->unit != NULL ? ", " : "",
		c->unit != NULL ? c->unit : "");
}

int k3sup__sighting_judge(k3sup_op *op, const struct k3sup__sighting *sighting)
{
	_free_ char *a = NULL, *b = NULL;

	if (sighting->count == 1 || is_pair(sighting))
		return 0;
	k3sup__json_set(k3sup__op_evidence(op), "candidates", k3sup__sighting_json(sighting));
	k3sup__json_set(k3sup__op_evidence(op), "passed_over", k3sup__json_copy(sighting->passed_over));
	if (sighting->count == 0 && sighting->other == K3SUP__OTHER_ROOTLESS)
		return k3sup__fail(op, K3SUP_E_ROOTLESS,
			"no k3s of this node runs; process %d is a user's own (rootless), which is not supported", (int)sighting->other_pid);
	if (sighting->count == 0 && sighting->other == K3SUP__OTHER_RKE2)
		return k3sup__fail(
			op, K3SUP_E_RKE2, "no k3s of this node runs; process %d is rke2, which is not supported", (int)sighting->other_pid);
	if (sighting->count == 0)
		return k3sup__fail(op, K3SUP_E_NO_K3S, "no k3s of this node runs");
	a = describe(&sighting->candidates[0]);
	b = describe(&sighting->candidates[1]);
	return k3sup__fail(op, K3SUP_E_AMBIGUOUS, "%zu processes could be this node's k3s: %s, %s%s", sighting->count, a != NULL ? a : "?",
		b != NULL ? b : "?", sighting->count > 2 ? ", ..." : "");
}
