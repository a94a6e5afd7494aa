/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes are this node's k3s, and where it keeps things. The /proc reader of the library.
 */
#ifndef K3SUP_NODE_IDENTIFY_H
#define K3SUP_NODE_IDENTIFY_H

#include "base/process.h"
#include "node/build.h"
#include "node/cgroup.h"
#include "node/node.h"
#include "node/role.h"

struct k3sup__candidate {
	k3sup_process *process; /* owned; of a --log pair the parent, which the service manager knows */
	k3sup_process *worker; /* of such a pair the child, which is the server or agent; owned; NULL: there is no pair, or its child was not seen */
	pid_t worker_pid; /* 0: none */
	enum k3sup__role role;
	char comm[64];
	pid_t ppid;
	bool unpacking;                    /* still the wrapper: its exe is the installed file and its comm is k3s */
	bool image;                        /* runs the installed file itself, or a former one (no wrapper: k3d, distributions) */
	char asset_hash[K3SUP__H_LEN + 1]; /* H of what it runs, "" if unknown (image, unpacking) */
	char *exe;                         /* inside the root, " (deleted)" taken off */
	bool exe_deleted;
	dev_t exe_dev;
	ino_t exe_ino;
	enum k3sup__keeper keeper; /* whose service it is; NONE: of nobody who can be named */
	char *unit;                /* that service: "k3s.service", or "k3s" of OpenRC; NULL with NONE */
	bool unit_main;            /* it is what the service manager itself started */
	char *target;              /* the k3s file that this service starts, inside the root, links followed; NULL: nobody says */
	char *data_dir;            /* observed: a server's cwd, else from exe; NULL if neither tells */
};

/* What is no k3s that this library takes care of, and is told by name where no k3s is found. */
enum k3sup__other { K3SUP__OTHER_NONE, K3SUP__OTHER_ROOTLESS, K3SUP__OTHER_RKE2 };

struct k3sup__sighting {
	struct k3sup__candidate *candidates;
	size_t count;
	k3sup__json *passed_over; /* [{pid, comm, reason}]: what came near and which rule dropped it */
	enum k3sup__other other;
	pid_t other_pid;
};

/*
 * One pass over the proc mount. All but the processes whose program is called like a k3s's cost one system call. What a candidate is:
 *
 *   comm     k3s-server or k3s-agent (the name under which the program inside was started), exe (the child of --log, started as /proc/self/exe) or the installed file's (a
 *            wrapper that still unpacks, or an image's k3s)
 *   uid      all four are 0; or all are ours if we are not root
 *   pid ns   ours
 *   root     the process's root directory is the node's. Or the node's root is another directory than ours, the process's root is ours, and its program lies inside the
 *            node's root (a k3s that is run under a --root directory without chroot)
 *   mount ns process 1's or ours. Else only a unit of the node can vouch for it (PrivateTmp= gives the genuine k3s another one, with the same root directory): its group is that
 *            of a service whose unit file or init script only root can write, and the service manager itself started it, or its parent that runs the same file. So a container's
 *            k3s never counts, be it in the host's pid namespace and chrooted to the host's files
 *   program  found inside the root again, trusted all the way, with the same inode: data/<H>/bin/{k3s,containerd} or the installed file. If it was deleted or replaced
 *            meanwhile: the same path, and an inode that only root can change
 *   title    counts only where comm does not tell: k3s and exe need server or agent there. exe, and k3s with the title "init" or none, may instead be a pair of parent and child
 *            that run the same file (--log, and k3s as pid 1): that is the parent, once. A child that runs its parent's file is never a candidate of its own: it is that
 *            child, or one between fork and exec
 *
 * What cannot be examined for want of rights, though comm and uid fit, makes the scan fail if nothing else was found: it must not look like "no k3s".
 * Nor must a pod that does not share the node's processes: K3SUP_E_FOREIGN_PROC.
 *
 * installed: the k3s file (fd -1: none), for wrapper-phase and image processes. 0 whatever was found, -errno if /proc cannot be read,
 * K3SUP_E_CANCELLED.
 */
int k3sup__identify_scan(k3sup_op *op, k3sup_node *node, const struct k3sup__place *installed, struct k3sup__sighting *ret) _must_check_;
void k3sup__sighting_clear(struct k3sup__sighting *sighting);
/*
 * 0 if these are one k3s, or a server and an agent that run the same file; K3SUP_E_NO_K3S, or K3SUP_E_ROOTLESS or K3SUP_E_RKE2 where one of those was seen instead;
 * K3SUP_E_AMBIGUOUS with evidence /candidates and /passed_over.
 */
int k3sup__sighting_judge(k3sup_op *op, const struct k3sup__sighting *sighting) _must_check_;
/* Was that "no k3s of this node runs", in any of its forms? */
static inline bool k3sup__is_no_k3s(int code)
{
	return code == K3SUP_E_NO_K3S || code == K3SUP_E_ROOTLESS || code == K3SUP_E_RKE2;
}
k3sup__json *k3sup__candidate_json(const struct k3sup__candidate *candidate);
k3sup__json *k3sup__sighting_json(const struct k3sup__sighting *sighting); /* array of candidates */

/*
 * The installed k3s file: the node's --k3s if given; else what a service of the node starts as k3s (unit files and init scripts that only root can write; copies in the
 * usual places are warned of); else /usr/local/bin/k3s, /opt/bin/k3s, /usr/bin/k3s, /bin/k3s, whichever exist once links are followed (the same inode counts once). Several: the
 * one whose H is running_hash (may be NULL), else K3SUP_E_TARGET_AMBIGUOUS. Never from a process's argv or environment.
 * K3SUP_E_TARGET_MISSING, _DANGLING, _LOOP, _NOT_FILE, K3SUP_E_UNTRUSTED.
 */
int k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret) _must_check_;

/* The one that this k3s was started from: its service says so, else as above with its H. */
int k3sup__installed_of(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *running, struct k3sup__place *ret) _must_check_;

/*
 * The data-dir inside the root and where that is known from (datadir.h has the sources, and more); owned text. Disagreements go to the operation's facts as a
 * warning, never to silence. candidate may be NULL.
 */
int k3sup__data_dir_find(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, char **ret_path, const char **ret_source)
	_must_check_;

#endif
