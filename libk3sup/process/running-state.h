/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For running*.c alone: what such an operation knows, and how it ends.
 */
#ifndef K3SUP_PROCESS_RUNNING_STATE_H
#define K3SUP_PROCESS_RUNNING_STATE_H

#include "process/seen.h"

enum k3sup__running_phase { PHASE_LOOK, PHASE_PROBE, PHASE_HEALTH };

struct k3sup__running {
	struct k3sup__node_state node;
	struct k3sup__want want;
	char *health;
	enum k3sup__running_phase phase;
	struct k3sup__sighting sighting;
	struct k3sup__seen seen;
	int last_look;   /* what the last look said: 0, or the code that is returned when time is over */
	int64_t look_ms; /* how long it took */
	bool waited;
	size_t asked;                       /* so many of the sighting have been asked whether they are ready */
	int64_t managers_asked;             /* when */
	int64_t restarts[K3SUP__MOST_SEEN]; /* that managers told of at first; -1: they have not been asked */
	unsigned restarted;                 /* so many more they told of since */
	unsigned gave_up;                   /* so many times, one after another, one of them said that it has given up; that one: */
	const struct k3sup__service *loser; /* or the last one that was asked */
	k3sup_process *ready[K3SUP__MOST_SEEN]; /* have said so; one more look, as answers take their time and another one may have come meanwhile */
	k3sup__json *answers;                   /* of this round: probes */
	k3sup__json *healthy;                   /* of the health command */
};

int k3sup__running_finish(k3sup_op *op);         /* well */
int k3sup__running_give_up(k3sup_op *op);        /* out of time: what the last look said */
int k3sup__running_call_it_a_loop(k3sup_op *op); /* it ended too often, whatever else runs at this moment */
/* Nothing will come any more, as its manager says; and its end. */
bool k3sup__running_has_lost(const struct k3sup__running *s);
int k3sup__running_call_it_lost(k3sup_op *op);

#endif
