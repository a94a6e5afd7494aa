/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program a process runs: is it this node's k3s?
 */
#ifndef K3SUP_NODE_PROGRAM_H
#define K3SUP_NODE_PROGRAM_H

#include "node/identify.h"
#include "node/installed.h"

/* How the paths that procfs shows relate to the node's root. */
struct k3sup__vantage {
	const k3sup_node *node;
	const struct k3sup__place *installed;
	char *prefix;     /* the root's own path as we see it, "" if it is our root */
	bool own_root;    /* the node's root is our root */
	struct stat root; /* our root */
	struct stat mnt;  /* our mount namespace */
	struct stat init; /* pid 1's mount namespace */
	bool init_known;
	int init_error;                       /* why it is not */
	struct stat pid_ns;                   /* ours */
	const char *names[K3SUP__PLACES + 3]; /* what a k3s's file can be called; NULL ends them */
};

int k3sup__vantage_open(const k3sup_node *node, const struct k3sup__place *installed, struct k3sup__vantage *ret) _must_check_;
void k3sup__vantage_close(struct k3sup__vantage *view);
/* Could the program that "exe" names be a k3s (or an rke2)? A look at its name only, to be done with all other processes for one system call each. */
bool k3sup__vantage_is_near(const struct k3sup__vantage *view, const char *text);
/* Is this the name, as comm has it, of an installed k3s file? */
bool k3sup__vantage_is_file_name(const struct k3sup__vantage *view, const char *comm);

/* Where a process stands. */
struct k3sup__stand {
	bool in_root; /* its root directory is the node's; else it is ours, which is another */
	bool own_mnt; /* its mount namespace is ours: paths are shown from our root */
	bool foreign; /* it is neither ours nor process 1's */
};

/*
 * A path that procfs showed (" (deleted)" taken off), as a path inside the node's root: fresh memory, or NULL if it is not inside (errno 0) or memory is gone. Where two
 * readings are possible, index 0 is the likelier one; NULL ends them.
 */
char *k3sup__vantage_path(const struct k3sup__vantage *view, const struct k3sup__stand *stand, const char *text, unsigned index);

enum k3sup__form { K3SUP__FORM_NONE, K3SUP__FORM_INNER, K3SUP__FORM_INSTALLED };

struct k3sup__program {
	enum k3sup__form form;
	const char *reason; /* why it is none of this node's k3s */
	char *path;         /* inside the root */
	bool deleted;
	struct stat st;
	char asset_hash[K3SUP__H_LEN + 1];
	char *data_dir; /* of data/<H>; NULL for the installed file */
};

/* 0 whatever it is, or -errno of looking at it. */
int k3sup__program_read(const struct k3sup__vantage *view, const struct k3sup__stand *stand, int dirfd, struct k3sup__program *ret) _must_check_;
/* Does the path end in data/<H>/bin/{k3s,containerd}? */
bool k3sup__program_is_inner(const char *path);
void k3sup__program_clear(struct k3sup__program *program);

#endif
