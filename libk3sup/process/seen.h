/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is waited for, and what was seen of it: who came, since when each counts, who ended.
 */
#ifndef K3SUP_PROCESS_SEEN_H
#define K3SUP_PROCESS_SEEN_H

#include "node/identify.h"
#include "process/deaths.h"
#include "process/service.h"

#define K3SUP__MOST_SEEN 2 /* a server and an agent */

/* What is wanted. */
struct k3sup__want {
	char asset_hash[K3SUP__H_LEN + 1]; /* "": it has none */
	bool by_file;                      /* without H: the k3s that executes this very file. Neither: any build */
	dev_t file_dev;
	ino_t file_ino;
	size_t count;       /* so many k3s (server and agent may share one file); at least 1 */
	int64_t come_by;    /* the first of them must have been seen until then; deadline of CLOCK_BOOTTIME */
	int64_t give_up;    /* likewise, for all */
	int64_t stable_ms;  /* 0: being there once is enough */
	uint32_t probe;     /* K3SUP_PROBE_* */
	const char *health; /* command, or NULL; borrowed, a copy is made */
	unsigned most_ends; /* after so many ends of the wanted build it is called a crash loop before the time is over; 0: never */
	struct k3sup__service *services[K3SUP__MOST_SEEN]; /* that are asked whether they have given up; NULL or borrowed, from an operation that waits for this one */
	k3sup_process *previous[K3SUP__MOST_SEEN]; /* do not count; NULL or borrowed, references are taken */
};

/* A k3s that was found, and since when it counts. */
struct k3sup__watched {
	k3sup_process *process;
	int64_t from;
};

struct k3sup__seen {
	struct k3sup__watched items[K3SUP__MOST_SEEN]; /* are what is wanted, and have yet to stay */
	k3sup_process *unpacking[K3SUP__MOST_SEEN];    /* were seen while they still unpacked: their age does not count from their start */
	unsigned starts;                               /* how often a k3s was seen to start that could be the wanted one */
	struct k3sup__deaths deaths;                   /* and to end before it had stayed */
};

/* Is this candidate the wanted build? */
bool k3sup__want_matches(const struct k3sup__want *want, const struct k3sup__candidate *candidate);

bool k3sup__is_listed(k3sup_process *const list[static K3SUP__MOST_SEEN], const k3sup_process *process);

/* Takes in what a look has found, also where that is too much or too little. */
void k3sup__seen_take(struct k3sup__seen *seen, const struct k3sup__want *want, const struct k3sup__sighting *sighting);
/* Lets go of those that have ended. How many? */
unsigned k3sup__seen_drop_ended(k3sup_op *op, struct k3sup__seen *seen);
/* The youngest is the last one to have stayed; its process is NULL if there is none. */
const struct k3sup__watched *k3sup__seen_youngest(const struct k3sup__seen *seen);
void k3sup__seen_clear(struct k3sup__seen *seen);

#endif
