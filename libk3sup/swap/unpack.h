/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a k3s unpacks of itself: <data-dir>/data/<H>, with the programs that really run.
 *
 * What k3s does (cmd/k3s/main.go), and why that is worth doing, and looking at, before anything is stopped:
 *
 *   where    the data-dir, but a copy below the default one counts, too: first (releases up to July 2024), or where the data-dir has none (later ones)
 *   when     if there is no bin/k3s (2021: bin/containerd). Under data/.lock, a flock(2), the question is only whether there is the directory
 *   how      to data/<H>-tmp, which is checked against bin/.sha256sums and bin/.links, renamed, and never looked at again, nor ever put on disk: after a power cut it may
 *            be torn, and then every start ends with SIGSEGV, or in a foreign program of the name, for ever
 *   links    data/current becomes data/previous, and a new one leads to data/<H>; since October 2024 those in data/cni, too. All are absolute, so k3s has to see the node's root
 *            as its own; and nothing but a fresh unpacking makes them, so it has to be k3s that unpacks
 *
 * Old directories are never removed by anybody: the shims of running containers are executed from them.
 */
#ifndef K3SUP_SWAP_UNPACK_H
#define K3SUP_SWAP_UNPACK_H

#include "node/build.h"
#include "node/node.h"

/* ---- what is there (unpacked.c) ---- */

enum k3sup__unpacked_form {
	K3SUP__UNPACKED_NONE,
	K3SUP__UNPACKED_WHOLE,
	K3SUP__UNPACKED_UNKNOWN, /* of a release that came without lists: it cannot be told */
	K3SUP__UNPACKED_TORN,
};

struct k3sup__unpacked {
	enum k3sup__unpacked_form form;
	struct k3sup__place data;    /* <data-dir>/data; fd -1: there is none */
	char hash[K3SUP__H_LEN + 1]; /* the name in it */
	char *path;                  /* of both, inside the root */
	struct stat st;              /* of the directory, if there is one */
	unsigned files;              /* that were looked at */
	uint64_t bytes;              /* in them */
	char *why;                   /* what is wrong with a torn one: half a sentence */
};
#define K3SUP__UNPACKED_EMPTY ((struct k3sup__unpacked){.data = K3SUP__PLACE_NONE})

/*
 * Compares data/<H> with its own lists. quick: whether all of it is there, and not what is in it. 0 whatever is found; K3SUP_E_UNTRUSTED, a cancel, or why it could not be
 * looked at. Changes nothing.
 */
int k3sup__unpacked_look(k3sup_op *op, const k3sup_node *node, const char *data_dir, const struct k3sup__build *build, bool quick,
	struct k3sup__unpacked *ret) _must_check_;
void k3sup__unpacked_clear(struct k3sup__unpacked *unpacked);

/*
 * Is anything of it used? By a process whose program is in there (a shim of a running container), or by a mount of it, in whatever mount namespace (a CNI plugin's hostPath). 1
 * with a sentence in ret_who (owned), 0, or why that cannot be known.
 */
int k3sup__unpacked_used(const k3sup_node *node, int dirfd, const char *hash, char **ret_who) _must_check_;

/* When a build was made: as it says itself, or its program where that is unpacked (unpacked-built.c). "": nobody says. 0, -ENOMEM, or why what is there cannot be read. */
int k3sup__unpacked_built(const k3sup_node *node, const char *data_dir, const struct k3sup__build *build, char ret[K3SUP__BUILT_LEN]) _must_check_;

/* ---- putting it away (aside.c), under k3s's own lock ---- */

/* Moves it to <H>.k3sup-torn. 0; K3SUP_E_TORN: it is used; why not. What was put aside earlier is gone then. */
int k3sup__unpacked_put_aside(k3sup_op *op, const k3sup_node *node, const struct k3sup__unpacked *unpacked) _must_check_;
/* For those who failed: what was put aside is back, or gone if something took its place; and what a killed k3s left of <H>-tmp is gone. Says nothing of its own failure. */
void k3sup__unpacked_take_back(const struct k3sup__unpacked *unpacked);
/* What was put aside, by whatever run, is gone. 1 if there was something, 0, or why not. */
int k3sup__unpacked_drop_aside(k3sup_op *op, const struct k3sup__unpacked *unpacked) _must_check_;

/* ---- unpacking ahead (unpack.c) ---- */

struct k3sup__unpack {
	int fd; /* the payload's verified bytes: for reading, and nobody can write them */
	const char *shown;
	const struct k3sup__build *build;
	const char *data_dir; /* inside the root */
	bool only_torn;       /* only where a torn one is in the way: else k3s does it as well */
	const char *like;     /* data/<H> of the running build, inside the root, whose security labels are the right ones; may be NULL */
};

/*
 * data/<H> is there, whole and on disk, when this comes back with 0 or 1 (it was not). The step "unpack" of the operation's plan; writes "unpacked" into the facts.
 *
 * The payload does it itself: chrooted into the node's root, as root with a clean environment, with limits, by `kubectl version --client`, which every release unpacks for and
 * which then does nothing. A torn directory that nobody uses is put aside before.
 *
 * K3SUP_E_UNPACK, K3SUP_E_TORN, K3SUP_E_DATA_DIR_SPACE: k3s could not start either; -EIO, -EROFS ... likewise. K3SUP_E_UNTRUSTED; a cancel. *ret_refuse is false where a failure
 * says nothing about k3s: the payload could not be executed here (no CAP_SYS_CHROOT, no memory).
 */
int k3sup__unpack_run(k3sup_op *op, k3sup_node *node, const struct k3sup__unpack *want, bool *ret_refuse) _must_check_;
/* Writes "unpacked" for one that is not even tried. reason: a sentence. */
void k3sup__unpack_skip(k3sup_op *op, const char *reason);

#endif
