/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the host's own programs are run: those of its service manager, for a caller that may live in a container with the host's root mounted.
 */
#ifndef K3SUP_PROCESS_CHANNEL_H
#define K3SUP_PROCESS_CHANNEL_H

#include "base/child.h"
#include "node/node.h"

enum k3sup__channel_kind {
	K3SUP__CHANNEL_DIRECT,    /* the node's root is ours */
	K3SUP__CHANNEL_CHROOT,    /* a child that is chrooted into the node's root; sees of the host what is mounted there */
	K3SUP__CHANNEL_NAMESPACE, /* a child that enters the namespaces of process 1, whose root is the node's */
	K3SUP__N_CHANNELS,
};

struct k3sup__channel {
	enum k3sup__channel_kind kind;
	struct k3sup__root own;         /* of a namespace channel: process 1's root; else fd -1 */
	const struct k3sup__root *host; /* else: the node's root; borrowed */
	int enter_fd;                   /* of a namespace channel: /proc/1, above 2; else 0 */
};
#define K3SUP__CHANNEL_NONE ((struct k3sup__channel){.own = {.fd = -1}})

const char *k3sup__channel_name(enum k3sup__channel_kind kind); /* "direct", "chroot", "mount-namespace" */

/* Are the node's root and ours one? In a container with the host's root mounted they are not. */
bool k3sup__channel_is_home(const k3sup_node *node);

/* 1 if there is this channel here, 0 if not, -errno. No child is started. */
int k3sup__channel_open(k3sup_op *op, k3sup_node *node, enum k3sup__channel_kind kind, struct k3sup__channel *ret) _must_check_;
void k3sup__channel_clear(struct k3sup__channel *channel);

/* Is this a directory there that only root can have made? 1, 0, -ENOMEM and the like. */
int k3sup__channel_has_dir(k3sup_op *op, const struct k3sup__channel *channel, const char *path) _must_check_;

/*
 * Finds a program of the host: the first of these paths (NULL at the end) that root alone can have put there. -ENOENT if none is, K3SUP_E_UNTRUSTED. Borrows
 * from paths.
 */
int k3sup__channel_find(k3sup_op *op, const struct k3sup__channel *channel, const char *const *paths, const char **ret) _must_check_;

/* Runs it, see k3sup__child_run(). argv[0]: as found. At most 64 KiB of what it says are kept. */
int k3sup__channel_run(k3sup_op *op, const struct k3sup__channel *channel, const char *const *argv, int64_t deadline,
	struct k3sup__child_result *ret) _must_check_;

#endif
