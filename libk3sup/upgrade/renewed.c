/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/renewed.h"

#include <time.h>

#include "certs/wire.h"
#include "node/warn.h"

#define DAY 86400
#define WITHIN_MS 120000 /* certificates are made early in a start, an agent's as soon as its server answers */
#define EVERY_MS 500
#define LAST_LOOK_MS 2000 /* before the caller's time is over: it is better to say what is wrong than that it is late */

static const struct k3sup__step plan[] = {{"verify", 1}};

struct renewed {
	struct k3sup__node_state node;
	struct k3sup__rotation *rotation;
	int64_t until;
	bool last; /* nobody waits any longer */
	k3sup__json *wrong, *absent, *again;
};

/* ---- the files ---- */

static void add_wrong(struct renewed *s, const char *path, const char *problem, const char *text)
{
	k3sup__json *one = k3sup__json_object();

	k3sup__json_set_str(one, "path", path);
	k3sup__json_set_str(one, "problem", problem);
	k3sup__json_set_str(one, "remedy", "act");
	k3sup__json_set_str(one, "text", text);
	k3sup__json_add(s->wrong, one);
}

static void add_again(struct renewed *s, const char *path, const char *from, const char *to)
{
	k3sup__json *one = k3sup__json_object();

	k3sup__json_set_str(one, "path", path);
	k3sup__json_set_str(one, "from", from);
	k3sup__json_set_str(one, "to", to);
	k3sup__json_add(s->again, one);
}

struct comparing {
	struct renewed *s;
	const struct k3sup__leafs *now;
};

/*
 * One that was there before: is it there again, and another one? An agent's key may be the old one, where its server still makes it. A server that is no agent any more keeps what its
 * agent had: nobody makes that again.
 */
static int compare(const char *path, k3sup__json *value, void *arg)
{
	struct comparing *c = arg;
	struct renewed *s = c->s;
	const char *was = k3sup__json_as_str(value), *is = k3sup__json_text(c->now->prints, path);
	const bool of_agent = k3sup__startswith(path, "agent/"), key = k3sup__leaf_is_key(path);

	if (is == NULL && (!k3sup__leaf_always_comes_back(path) || (s->last && s->rotation->where.server && of_agent)))
		k3sup__json_add(s->absent, k3sup__json_str(path));
	else if (is == NULL)
		add_wrong(s, path, "missing", "k3s has not made it again");
	else if (was != NULL && k3sup__streq(is, was) && (!key || !of_agent))
		add_wrong(s, path, "old", "it is still the one that was to be replaced");
	else if (!key)
		add_again(s, path, was, is);
	return 0;
}

static void forget(struct renewed *s)
{
	k3sup__json_unref(s->wrong);
	k3sup__json_unref(s->absent);
	k3sup__json_unref(s->again);
	s->wrong = s->absent = s->again = NULL;
}

static int judge(k3sup_op *op, struct renewed *s, const struct k3sup__leafs *now)
{
	const struct k3sup__rotation *rotation = s->rotation;
	struct comparing c = {.s = s, .now = now};
	k3sup__json *facts = k3sup__op_facts(op);

	forget(s);
	s->wrong = k3sup__json_array();
	s->absent = k3sup__json_array();
	s->again = k3sup__json_array();
	(void)k3sup__json_each(rotation->prints ? rotation->prints : rotation->leafs.prints, compare, &c);
	for (size_t i = 0; i < k3sup__json_len(now->problems); i++)
		k3sup__json_add(s->wrong, k3sup__json_ref(k3sup__json_element(now->problems, i)));
	k3sup__json_set(facts, "renewed", k3sup__json_ref(s->again));
	k3sup__json_set(facts, "absent", k3sup__json_ref(s->absent));
	if (k3sup__json_broken(s->wrong) || k3sup__json_broken(facts))
		return -ENOMEM;
	if (k3sup__json_len(s->wrong) > 0)
		return 0;
	if (rotation->within >= 0 && now->ends <= (int64_t)time(NULL) + rotation->within * DAY)
		return k3sup__fail(op, K3SUP_E_NOT_ROTATED, "k3s has made new certificates, but they, too, end within %lld days",
			(long long)rotation->within);
	return 1;
}

/* Where k3s is looked for anew: it is another process now, and its sockets are asked next. */
static int work_look(k3sup_op *op)
{
	struct renewed *s = k3sup__op_state(op);
	struct k3sup__certs_where where;
	struct k3sup__leafs now;
	int r = k3sup__certs_where_again(op, s->node.node, &s->rotation->where, &where); /* it may end and be started again meanwhile */

	if (r < 0)
		return r;
	k3sup__certs_where_clear(&s->rotation->where);
	s->rotation->where = where;
	r = k3sup__leafs_look(op, s->node.node, &where, k3sup__rotation_services(s->rotation), &now);
	if (r < 0)
		return r;
	r = judge(op, s, &now);
	k3sup__leafs_clear(&now);
	return r;
}

/* ---- the wire ---- */

static int call_wire(k3sup_op *op)
{
	struct renewed *s = k3sup__op_state(op);
	const struct k3sup__certs_where *where = &s->rotation->where;
	const struct k3sup__wire of = {
		.process = where->process,
		.worker = where->worker,
		.server = where->server,
		.data_dir = where->data_dir,
		.services = k3sup__rotation_services(s->rotation),
		.now = (int64_t)time(NULL),
		.deadline = s->until,
	};
	k3sup_op *child;
	int r = k3sup__certs_served_op(s->node.node, &of, &child);

	return r < 0 ? r : k3sup__op_call(op, child);
}

struct searching {
	const char *print;
	bool found;
};

static int search(const char *path, k3sup__json *value, void *arg)
{
	struct searching *wanted = arg;

	(void)path;
	wanted->found |= k3sup__streq(k3sup__json_as_str(value), wanted->print);
	return 0;
}

static bool was_retired(const struct renewed *s, const char *print)
{
	struct searching wanted = {.print = print};

	if (print)
		(void)k3sup__json_each(s->rotation->prints ? s->rotation->prints : s->rotation->leafs.prints, search, &wanted);
	return wanted.found;
}

/* That it is what the files hold says the check of the wire; that it is new says its fingerprint alone. */
static int judge_wire(k3sup_op *op, struct renewed *s, k3sup_op *child)
{
	const k3sup__json *problems = k3sup__json_member(k3sup__op_facts(child), "problems");
	k3sup__json *served = k3sup__json_member(k3sup__op_facts(child), "served");

	for (size_t i = 0; i < k3sup__json_len(problems); i++)
		k3sup__json_add(s->wrong, k3sup__json_ref(k3sup__json_element(problems, i)));
	for (size_t i = 0; i < k3sup__json_len(served); i++) {
		const k3sup__json *row = k3sup__json_element(served, i);

		if (was_retired(s, k3sup__json_text(row, "sha256")))
			add_wrong(s, k3sup__json_text(row, "path"), "served-old", "it is still served, though it was retired");
	}
	if (served)
		k3sup__json_set(k3sup__op_facts(op), "served", k3sup__json_copy(served));
	return k3sup__json_broken(s->wrong) ? -ENOMEM : k3sup__json_len(s->wrong) == 0;
}

/* ---- the machine ---- */

static int not_yet(k3sup_op *op)
{
	struct renewed *s = k3sup__op_state(op);
	const k3sup__json *first = k3sup__json_element(s->wrong, 0);
	const char *path = k3sup__json_text(first, "path"), *text = k3sup__json_text(first, "text");
	const int64_t now = k3sup__now_ms(), again = now + EVERY_MS;

	if (!s->last) {
		s->last = now >= s->until;
		return k3sup__op_sleep(op, again < s->until ? again : s->until > now ? s->until : now);
	}
	s->rotation->failed = true;
	k3sup__json_set(k3sup__op_evidence(op), "problems", k3sup__json_copy(s->wrong));
	return k3sup__fail(op, K3SUP_E_NOT_ROTATED, "k3s runs, but %s: %s", path ? path : "its certificates", text ? text : "they are not new");
}

static int step(k3sup_op *op)
{
	struct renewed *s = k3sup__op_state(op);
	int r;

	switch (k3sup__op_woke(op)) {
	case K3SUP__WOKE_WORK:
		r = k3sup__op_work_result(op);
		if (r == 1 && s->rotation->where.process)
			return call_wire(op);
		return r == 0 ? not_yet(op) : r;
	case K3SUP__WOKE_CHILD:
		r = k3sup__op_adopt(op, k3sup__op_child(op));
		if (r >= 0)
			r = judge_wire(op, s, k3sup__op_child(op));
		return r == 0 ? not_yet(op) : r;
	case K3SUP__WOKE_START:
		k3sup__op_plan(op, plan, ELEMENTSOF(plan));
		k3sup__op_begin(op, "verify", "looking whether k3s has made new certificates");
		break;
	default:
		break;
	}
	return k3sup__op_work(op, work_look);
}

static void clear(k3sup_op *op)
{
	forget(k3sup__op_state(op));
}

static const struct k3sup__op_class class = {
	.verb = "renewed",
	.state_size = sizeof(struct renewed),
	.step = step,
	.clear = clear,
};

int k3sup__renewed_op(k3sup_node *node, struct k3sup__rotation *rotation, int64_t deadline, k3sup_op **ret_op)
{
	const int64_t until = k3sup__deadline(WITHIN_MS), most = deadline - LAST_LOOK_MS;
	struct renewed *s;
	k3sup_op *op;
	int r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);

	if (r < 0)
		return r;
	s = k3sup__op_state(op);
	s->rotation = rotation;
	s->until = until < most ? until : most;
	*ret_op = op;
	return 0;
}
