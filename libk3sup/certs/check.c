/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup_certs_check(): which node it is, which window counts, one look at everything.
 */
#include <fcntl.h>
#include <time.h>

#include <k3sup/certs.h>

#include "base/strv.h"
#include "base/utc.h"
#include "certs/audit.h"
#include "certs/where.h"
#include "certs/wire.h"
#include "node/version.h"
#include "node/warn.h"

#define MOST_DAYS 36500
/* What a certificate can say: the years 0 to 9999. */
#define FIRST_SECOND (-62167219200)
#define LAST_SECOND 253402300799

struct check_state {
	struct k3sup__node_state node;
	bool at_given, wire;
	int64_t at;
	uint32_t warn_days;
	char *version;
	struct k3sup__strv services, kubeconfigs; /* empty: all; none */
	struct k3sup__certs_where where;
};

/* ---- which window ---- */

/* k3s pkg/daemons/config: 90 days, and 120 since May 2025, in all minors of that month. */
static bool renews_at_120(const char *text)
{
	static const uint32_t since[][2] = {{30, 13}, {31, 9}, {32, 5}, {33, 1}};
	struct k3sup__version version;

	if (k3sup__version_parse(text, strlen(text), &version) < 0)
		return true; /* the earlier warning is the safer one */
	for (size_t i = 0; version.major == 1 && i < ELEMENTSOF(since); i++)
		if (version.minor == since[i][0])
			return version.patch >= since[i][1];
	return version.major > 1 || version.minor > since[ELEMENTSOF(since) - 1][0];
}

/* Reading the version takes a look at 70 MB, so it is done only where it matters: if a leaf ends between 90 and 120 days from now. */
static int version_of_file(k3sup_op *op, k3sup_node *node, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	struct k3sup__build build = {0};
	_close_ int fd = -1;
	int r = k3sup__installed_find(op, node, NULL, &installed);

	if (r >= 0)
		r = fd = k3sup__place_open(&installed, O_RDONLY);
	if (r >= 0)
		r = k3sup__build_read_fd(op, fd, installed.path, K3SUP__BUILD_LENIENT, &build);
	if (r == -ENOMEM || (r < 0 && k3sup__op_checkpoint(op) < 0))
		return r;
	if (r < 0)
		k3sup__op_forgive(op);
	*ret = strdup(build.version);
	return *ret == NULL ? -ENOMEM : 0;
}

static int look(struct k3sup__audit *audit, const char *const *kubeconfigs)
{
	int r = k3sup__audit_authorities(audit);

	if (r >= 0)
		r = k3sup__audit_pairs(audit);
	if (r >= 0)
		r = k3sup__audit_listener(audit);
	if (r >= 0)
		r = k3sup__audit_others(audit);
	if (r >= 0)
		r = k3sup__audit_kubeconfigs(audit, kubeconfigs);
	if (r >= 0)
		r = k3sup__audit_unknown(audit);
	return r;
}

static bool ends_in_between(const struct k3sup__audit *audit)
{
	for (size_t i = 0; i < k3sup__json_len(audit->certificates); i++) {
		int64_t left = k3sup__json_number(k3sup__json_element(audit->certificates, i), "residual_seconds", 0);

		if (left >= 90 * K3SUP__DAY && left < 120 * K3SUP__DAY)
			return true;
	}
	return false;
}

static void report(k3sup_op *op, const struct k3sup__audit *audit, const struct k3sup__certs_where *where)
{
	static const char *const keys[] = {"ok", "warning", "expired", "not_yet_valid"};
	k3sup__json *facts = k3sup__op_facts(op), *counts = k3sup__json_object();
	char now[K3SUP__UTC_TEXT];

	k3sup__utc_text(audit->now, now);
	k3sup__certs_where_report(op, where);
	k3sup__json_set_str(facts, "reference_time", now);
	k3sup__json_set_int(facts, "warn_days", audit->window / K3SUP__DAY);
	k3sup__json_set(facts, "certificates", k3sup__json_ref(audit->certificates));
	k3sup__json_set(facts, "problems", k3sup__json_ref(audit->problems));
	k3sup__json_set(facts, "unknown", k3sup__json_ref(audit->unknown));
	for (size_t i = 0; i < ELEMENTSOF(keys); i++)
		k3sup__json_set_int(counts, keys[i], (int64_t)audit->counts[i]);
	k3sup__json_set(facts, "counts", counts);
	k3sup__json_set_bool(facts, "needs_action", audit->needs_action);
}

/* days: the window; *ret_between: a shorter one could have said something else. */
static int look_once(k3sup_op *op, uint32_t days, bool *ret_between)
{
	struct check_state *s = k3sup__op_state(op);
	const struct k3sup__certs_where *where = &s->where;
	_cleanup_(k3sup__audit_close) struct k3sup__audit audit = {
		.op = op,
		.root = &s->node.node->root,
		.data_dir = where->data_dir,
		.server = where->server,
		.services = (const char *const *)s->services.items,
		.now = s->at_given ? s->at : (int64_t)time(NULL),
		.window = days * (int64_t)K3SUP__DAY,
	};
	int r = k3sup__audit_open(&audit);

	if (r >= 0)
		r = look(&audit, (const char *const *)s->kubeconfigs.items);
	if (r < 0)
		return r;
	*ret_between = ends_in_between(&audit);
	report(op, &audit, where);
	return 0;
}

static int work(k3sup_op *op)
{
	struct check_state *s = k3sup__op_state(op);
	uint32_t days = s->warn_days;
	bool between = false;
	int r = k3sup__certs_where_find(op, s->node.node, &s->where);

	if (r < 0)
		return r;
	if (s->where.unseen)
		k3sup__warn(op, "whether k3s runs cannot be told: %s does not show the processes of this node", s->node.node->proc_path);
	if (days == 0)
		days = s->version == NULL || renews_at_120(s->version) ? 120 : 90;
	r = look_once(op, days, &between);
	if (r >= 0 && between && s->warn_days == 0 && s->version == NULL) {
		r = version_of_file(op, s->node.node, &s->version);
		if (r >= 0 && !renews_at_120(s->version))
			r = look_once(op, 90, &between);
	}
	return r;
}

/* ---- what is served ---- */

static int ask_what_is_served(k3sup_op *op)
{
	struct check_state *s = k3sup__op_state(op);
	struct k3sup__wire of = {
		.process = s->where.process,
		.worker = s->where.worker,
		.server = s->where.server,
		.data_dir = s->where.data_dir,
		.services = (const char *const *)s->services.items,
		.now = s->at_given ? s->at : (int64_t)time(NULL),
		.window = k3sup__json_number(k3sup__op_facts(op), "warn_days", 0) * K3SUP__DAY,
		.deadline = K3SUP__NEVER,
	};
	k3sup_op *child;
	int r;

	if (s->where.process == NULL) {
		k3sup__json_set(k3sup__op_facts(op), "served", k3sup__json_array());
		k3sup__warn(op, "nothing is served: k3s does not run");
		return 0;
	}
	r = k3sup__certs_served_op(s->node.node, &of, &child);
	return r < 0 ? r : k3sup__op_call(op, child);
}

static int take_what_is_served(k3sup_op *op)
{
	k3sup_op *child = k3sup__op_child(op);
	k3sup__json *facts = k3sup__op_facts(op), *theirs = k3sup__op_facts(child), *more = k3sup__json_member(theirs, "problems");
	int r = k3sup__op_adopt(op, child);

	if (r < 0)
		return r;
	for (size_t i = 0; i < k3sup__json_len(more); i++)
		k3sup__json_add(k3sup__json_member(facts, "problems"), k3sup__json_ref(k3sup__json_element(more, i)));
	if (k3sup__json_len(more) > 0)
		k3sup__json_set_bool(facts, "needs_action", true);
	k3sup__json_set(facts, "served", k3sup__json_ref(k3sup__json_member(theirs, "served")));
	return 0;
}

static int step(k3sup_op *op)
{
	struct check_state *s = k3sup__op_state(op);

	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		return k3sup__op_work(op, work);
	if (k3sup__op_woke(op) == K3SUP__WOKE_CHILD)
		return take_what_is_served(op);
	return k3sup__op_work_result(op) < 0 || !s->wire ? k3sup__op_work_result(op) : ask_what_is_served(op);
}

static void free_state(struct check_state *s)
{
	free(s->version);
	k3sup__strv_clear(&s->services);
	k3sup__strv_clear(&s->kubeconfigs);
	k3sup__certs_where_clear(&s->where);
}

static void clear(k3sup_op *op)
{
	free_state(k3sup__op_state(op));
}

static const struct k3sup__op_class class = {
	.verb = "certs_check",
	.state_size = sizeof(struct check_state),
	.step = step,
	.clear = clear,
};

static int take_list(const char *const *list, struct k3sup__strv *ret)
{
	int r = 0;

	for (; r == 0 && list != NULL && *list != NULL; list++)
		r = k3sup__strv_add_copy(ret, *list, strlen(*list));
	return r;
}

static int take(const struct k3sup_certs_check_opts *o, struct check_state *s)
{
	struct k3sup__version version;
	bool at_given = (o->flags & K3SUP_CERTS_CHECK_AT) != 0;
	int r;

	for (const char *const *one = o->kubeconfigs; one != NULL && *one != NULL; one++)
		if ((*one)[0] != '/')
			return -EINVAL;
	if (o->reserved != NULL || o->reserved2 != 0 || o->warn_days > MOST_DAYS || (at_given && (o->at < FIRST_SECOND || o->at > LAST_SECOND)))
		return -EINVAL;
	if (o->k3s_version != NULL && k3sup__version_parse(o->k3s_version, strlen(o->k3s_version), &version) < 0)
		return -EINVAL;
	s->at_given = at_given;
	s->wire = (o->flags & K3SUP_CERTS_CHECK_WIRE) != 0;
	s->at = o->at;
	s->warn_days = o->warn_days;
	if (o->k3s_version != NULL && (s->version = strdup(o->k3s_version)) == NULL)
		return -ENOMEM;
	r = k3sup__cert_services_take(o->services, &s->services);
	return r < 0 ? r : take_list(o->kubeconfigs, &s->kubeconfigs);
}

int k3sup_certs_check(k3sup_node *node, const struct k3sup_certs_check_opts *opts, k3sup_op **ret_op)
{
	struct k3sup_certs_check_opts o;
	struct check_state state = {0};
	k3sup_op *op;
	int r = node != NULL && ret_op != NULL ? k3sup__opts(opts, &o, sizeof(o), K3SUP_CERTS_CHECK_AT | K3SUP_CERTS_CHECK_WIRE) : -EINVAL;

	if (r >= 0)
		r = take(&o, &state);
	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0) {
		free_state(&state);
		return r;
	}
	state.node = *(struct k3sup__node_state *)k3sup__op_state(op);
	*(struct check_state *)k3sup__op_state(op) = state;
	*ret_op = op;
	return 0;
}
