/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "node/warn.h"
#include "process/running-state.h"

static void report(struct k3sup__running *s, k3sup__json *to)
{
	k3sup__json_set(to, "running", k3sup__sighting_json(&s->sighting));
	k3sup__json_set_int(to, "starts", s->seen.starts);
	k3sup__json_set_int(to, "ends", s->seen.deaths.count);
	if (s->seen.deaths.count > 0)
		k3sup__json_set(to, "deaths", k3sup__deaths_json(&s->seen.deaths));
	if (s->answers)
		k3sup__json_set(to, "probes", k3sup__json_copy(s->answers));
	if (s->healthy)
		k3sup__json_set(to, "health", k3sup__json_copy(s->healthy));
}

int k3sup__running_finish(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	char how[K3SUP__DEATH_TEXT];
	int r = 0;

	report(s, k3sup__op_facts(op));
	k3sup__deaths_text(&s->seen.deaths, how);
	if (s->seen.deaths.count > 0)
		k3sup__warn(op, "k3s ended %u times before it stayed; %s", s->seen.deaths.count, how);
	for (size_t i = 0; r == 0 && i < s->sighting.count; i++)
		r = k3sup__op_add_process(op, s->sighting.candidates[i].process);
	return r < 0 ? r : s->waited;
}

/* The kernel tells only who is quick, its manager everybody. */
static void tell_end(const struct k3sup__running *s, char ret[static K3SUP__DEATH_TEXT])
{
	if (s->loser && s->loser->exit_code >= 0)
		snprintf(ret, K3SUP__DEATH_TEXT, "the last one ended with status %d", s->loser->exit_code);
	else if (s->loser && s->loser->exit_signal > 0)
		snprintf(ret, K3SUP__DEATH_TEXT, "the last one ended by signal %d", s->loser->exit_signal);
	else
		k3sup__deaths_text(&s->seen.deaths, ret);
}

/* One that ended once and is up again is starting (k3s-io/k3s#2298: the first start may fail while somebody else unpacks). More often, or for good, it is dying. */
static bool is_dying(const struct k3sup__running *s)
{
	return s->seen.deaths.count > 1 || (s->seen.deaths.count == 1 && s->last_look < 0);
}

int k3sup__running_give_up(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	const struct k3sup__watched *w = k3sup__seen_youngest(&s->seen);
	const char *hash = s->want.asset_hash;
	char how[K3SUP__DEATH_TEXT];

	report(s, k3sup__op_evidence(op));
	if (s->last_look == K3SUP_E_AMBIGUOUS || s->last_look == K3SUP_E_NOT_READY) /* it has its sentence */
		return s->last_look;
	if (s->last_look == K3SUP_E_WRONG_BUILD)
		return k3sup__fail(op, s->last_look, "the k3s that runs is not the wanted build%s%.12s", hash[0] ? " " : "", hash);
	tell_end(s, how);
	if (is_dying(s))
		return k3sup__fail(op, K3SUP_E_NOT_STABLE, "k3s came up %u times and ended %u times before it had stayed for %lld ms; %s",
			s->seen.starts, s->seen.deaths.count, (long long)s->want.stable_ms, how);
	if (s->last_look == 0)
		return k3sup__fail(op, K3SUP_E_TIMEOUT, "k3s runs as process %d, but had not yet stayed for %lld ms when the time was over",
			(int)k3sup__process_pid(w->process), (long long)s->want.stable_ms);
	return k3sup__fail(op, s->last_look,
		s->sighting.count > 0 ? "not all of k3s was started within the given time" : "no k3s was started within the given time");
}

/* Whatever else runs at this moment. */
int k3sup__running_call_it_a_loop(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);

	k3sup__op_forgive(op);
	s->last_look = K3SUP_E_NOT_RESTARTED;
	return k3sup__running_give_up(op);
}

bool k3sup__running_has_lost(const struct k3sup__running *s)
{
	/* Those that come and end too fast to be seen are told by its manager alone; the last one that it counts may just have begun. */
	bool unseen = s->seen.starts == 0 && s->want.most_ends > 0 && s->restarted > s->want.most_ends;

	return s->last_look == K3SUP_E_NOT_RESTARTED && (s->gave_up > 1 || unseen);
}

int k3sup__running_call_it_lost(k3sup_op *op)
{
	struct k3sup__running *s = k3sup__op_state(op);
	const char *result = k3sup__json_text(s->loser->facts, "result");
	char how[K3SUP__DEATH_TEXT];

	k3sup__op_forgive(op);
	report(s, k3sup__op_evidence(op));
	k3sup__json_set(k3sup__op_evidence(op), "service", k3sup__service_json(s->loser));
	tell_end(s, how);
	if (s->gave_up > 1)
		return k3sup__fail(
			op, K3SUP_E_NOT_STABLE, "%s has given up starting k3s (%s); %s", s->loser->name, result ? result : "failed", how);
	return k3sup__fail(op, K3SUP_E_NOT_STABLE, "%s has started k3s again %u times; %s", s->loser->name, s->restarted, how);
}
