/* SPDX-License-Identifier: Apache-2.0 */
#include "process/seen.h"

#include <unistd.h>

bool k3sup__want_matches(const struct k3sup__want *want, const struct k3sup__candidate *c)
{
	if (c->unpacking)
		return false;
	if (want->asset_hash[0])
		return k3sup__streq(want->asset_hash, c->asset_hash);
	return !want->by_file || (c->image && c->exe_dev == want->file_dev && c->exe_ino == want->file_ino);
}

bool k3sup__is_listed(k3sup_process *const list[static K3SUP__MOST_SEEN], const k3sup_process *process)
{
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		if (list[i] && k3sup__process_same(list[i], process))
			return true;
	return false;
}

/*
 * The process's own age decides, not how long we have been looking. Start times are whole clock ticks since boot, on CLOCK_BOOTTIME (proc(5)); it started
 * somewhere within its tick, and must not be taken for older than it is.
 */
static int64_t started_at(const k3sup_process *process)
{
	long ticks = sysconf(_SC_CLK_TCK);

	return (int64_t)((k3sup__process_start_time(process) + 1) * 1000 / (uint64_t)(ticks > 0 ? ticks : 100));
}

static void forget_unpacking(struct k3sup__seen *s, const k3sup_process *process)
{
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		if (s->unpacking[i] && k3sup__process_same(s->unpacking[i], process))
			s->unpacking[i] = k3sup_process_unref(s->unpacking[i]);
}

static k3sup_process *bury(k3sup_op *op, struct k3sup__seen *s, k3sup_process *process, int64_t from)
{
	int64_t now = k3sup__now_ms();

	k3sup__log(op, K3SUP_LOG_WARNING, "process %d ended before it had stayed", (int)k3sup__process_pid(process));
	k3sup__op_went_down(op, now);
	k3sup__deaths_add(&s->deaths, process, now - from);
	forget_unpacking(s, process);
	return k3sup_process_unref(process);
}

unsigned k3sup__seen_drop_ended(k3sup_op *op, struct k3sup__seen *s)
{
	unsigned n = s->deaths.count;

	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++) {
		struct k3sup__watched *w = &s->items[i];

		if (w->process && k3sup__process_ended(w->process))
			w->process = bury(op, s, w->process, w->from);
	}
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		if (s->unpacking[i] && k3sup__process_ended(s->unpacking[i]))
			(void)bury(op, s, k3sup_process_ref(s->unpacking[i]), started_at(s->unpacking[i]));
	return s->deaths.count - n;
}

/* The wanted ones of the last look, also while there are others, or too few: their deaths count. */
static void take_wanted(struct k3sup__seen *s, const struct k3sup__want *want, const struct k3sup__sighting *sighting)
{
	struct k3sup__watched found[K3SUP__MOST_SEEN] = {{0}};

	for (size_t i = 0, n = 0; i < sighting->count && n < K3SUP__MOST_SEEN; i++) {
		k3sup_process *process = sighting->candidates[i].process;
		bool unpacked = k3sup__is_listed(s->unpacking, process);
		struct k3sup__watched *w = &found[n];

		if (!k3sup__want_matches(want, &sighting->candidates[i]) || k3sup__is_listed(want->previous, process) ||
			k3sup__deaths_has(&s->deaths, process)) /* it ended after the look, and was counted */
			continue;
		n++;
		w->process = k3sup_process_ref(process);
		for (size_t j = 0; j < K3SUP__MOST_SEEN; j++)
			if (s->items[j].process && k3sup__process_same(s->items[j].process, process))
				w->from = s->items[j].from;
		if (w->from)
			continue;
		w->from = unpacked ? k3sup__now_ms() : started_at(process);
		s->starts += !unpacked;
	}
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++)
		k3sup_process_unref(s->items[i].process);
	memcpy(s->items, found, sizeof(found));
}

/* Wrappers that unpack: the same processes, but not yet the wanted build. */
static void note_unpacking(struct k3sup__seen *s, const struct k3sup__want *want, const struct k3sup__sighting *sighting)
{
	for (size_t i = 0; i < sighting->count; i++) {
		k3sup_process *process = sighting->candidates[i].process;

		if (!sighting->candidates[i].unpacking || k3sup__is_listed(s->unpacking, process) ||
			k3sup__is_listed(want->previous, process) || k3sup__deaths_has(&s->deaths, process))
			continue;
		k3sup_process_unref(s->unpacking[1]);
		s->unpacking[1] = s->unpacking[0];
		s->unpacking[0] = k3sup_process_ref(process);
		s->starts++;
	}
}

void k3sup__seen_take(struct k3sup__seen *s, const struct k3sup__want *want, const struct k3sup__sighting *sighting)
{
	note_unpacking(s, want, sighting);
	take_wanted(s, want, sighting);
}

const struct k3sup__watched *k3sup__seen_youngest(const struct k3sup__seen *s)
{
	const struct k3sup__watched *a = &s->items[0], *b = &s->items[1];

	if (!a->process || !b->process)
		return a->process ? a : b;
	return b->from > a->from ? b : a;
}

void k3sup__seen_clear(struct k3sup__seen *s)
{
	for (size_t i = 0; i < K3SUP__MOST_SEEN; i++) {
		k3sup_process_unref(s->items[i].process);
		k3sup_process_unref(s->unpacking[i]);
	}
	k3sup__deaths_clear(&s->deaths);
}
