/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What alloc.c plays: the scenarios (alloc-verbs.c), and the node on which they happen (alloc-node.c).
 */
#ifndef K3SUP_TESTS_CRASH_ALLOC_H
#define K3SUP_TESTS_CRASH_ALLOC_H

#include <k3sup.h>

#include <stdbool.h>
#include <stddef.h>

/* What a scenario does to the node, and so from where it begins and what may be there afterwards. */
enum kind {
	READS,
	INSTALLS,
	ROLLS_BACK,
	LISTS,         /* what is kept, after a swap */
	VERSIONS,      /* k3s is a link to one of them */
	VERSIONS_BACK, /* and leads to the new one */
	STAGES,
	COMMITS, /* images that were staged */
	UNSTAGES,
	UNPACKS,  /* over a torn data/<H> */
	RETIRES,  /* certificates */
	RESTORES, /* those that were retired, over new ones */
};

struct scenario {
	const char *name;
	int (*start)(k3sup_ctx *ctx, k3sup_node *node, k3sup_op **ret_op);
	int expected; /* without a fault */
	enum kind kind;
	bool stopped; /* no k3s runs */
	bool control; /* must be caught */
};

extern const struct scenario scenarios[];
extern const size_t n_scenarios;
/* What makes a node from which ROLLS_BACK, LISTS, VERSIONS_BACK, COMMITS and UNSTAGES begin; NULL for the others. */
const struct scenario *scenario_before(enum kind kind);
/* The one that makes certificates be retired. */
extern const struct scenario scenario_retire;
/* An allocation of a control that must look used. */
extern void *volatile scenario_sink;

/* The node's root and what lies in it, as paths of ours. */
extern struct node_files {
	const char *root;
	char *payload, *unpacker, *gzipped, *sums, *images[3]; /* images: NULL at the end */
	char *authorities, *prepared;                          /* of a cluster, and those to take their place */
	char *backup;                                          /* the name of the one to restore */
} files;

/* In a sandbox: makes what is put back for each point, and starts a k3s. */
void node_make(void);
/* Ends the k3s, and makes certificates. retire: plays a scenario, 1 if it did what it says. */
void node_stop(int (*play)(const struct scenario *scenario));
void node_remove(void);
void node_put_back(enum kind kind);
/* What is wrong with the files: NULL, or a sentence. status: how it ended. again: it was run twice. */
const char *node_look(enum kind kind, int status, bool again);

#endif
