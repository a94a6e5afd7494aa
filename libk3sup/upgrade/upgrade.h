/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upgrade from the inside: its state, and its parts: looking and deciding (look.c), the file (replace.c), the images (images.c), unpacking ahead (unpack.c), restarting and
 * proving (restart.c), and the end (report.c). In which order, upgrade.c says.
 */
#ifndef K3SUP_UPGRADE_UPGRADE_H
#define K3SUP_UPGRADE_UPGRADE_H

#include "swap/preflight.h"
#include "upgrade/entry.h"
#include "upgrade/hooks.h"
#include "upgrade/rollback.h"
#include "upgrade/services.h"

enum k3sup__phase {
	PHASE_LOOK,         /* lock, payload, node; decide */
	PHASE_BEFORE_WRITE, /* the caller's command, likewise below */
	PHASE_STAGE,
	PHASE_BEFORE_STOP,
	PHASE_UNPACK, /* the last thing before the swap: it moves links that the running k3s looks at */
	PHASE_SWAP,
	PHASE_AGAIN, /* look again, right before */
	PHASE_ORDER,
	PHASE_COMMANDS, /* a stop and a start, by the caller's commands */
	PHASE_EXIT,
	PHASE_PROVE,
	PHASE_DISARM, /* the start guard of that */
	PHASE_FAILED, /* the new build ends again and again */
	PHASE_BACK,
	PHASE_REPORT,
};

struct k3sup__upgrade {
	struct k3sup__node_state node;
	struct k3sup__source source;
	int64_t lock_deadline, stable_ms;
	struct k3sup__restart restart;
	uint32_t flags, probe, keep_backups;
	char *health;
	struct k3sup__hooks hooks;
	bool nested; /* within an upgrade that failed: that one has the turn, the entry and the report */

	enum k3sup__phase phase;
	struct k3sup__payload payload;
	struct k3sup__view view;
	struct k3sup__entry entry;
	struct k3sup__swapped swapped;
	struct k3sup__staged *staged; /* between staging and swapping */
	struct k3sup__images images;
	struct k3sup__back back;
	char *data_dir;
	struct k3sup__services services; /* of those that must restart */
	struct stat payload_file;        /* the installed file that is known to be the payload */
	bool swap;                       /* the file is not the payload, a cut swap left something, or there are images to look after */
	bool start_awaited;              /* k3s did not run, though its file is the payload: its supervisor may be in its pause */
	bool restarts;                   /* some k3s runs another build than the payload's */
	bool cleaned;                    /* what cut runs had left is gone, or versions that were kept */
	bool unpacked;                   /* by this run */
	bool signalled;
	bool proving;          /* the proof has been called */
	bool starts;           /* an earlier run has stopped k3s, and nobody started it */
	bool called;           /* the caller's commands have done their part */
	bool start_failed;     /* their start command said so */
	size_t count;          /* so many k3s are to come back */
	k3sup_process *old[2]; /* the ones that were told to restart */
	int status;            /* how it ends */
};

/* Work function (look.c): takes the node's turn, looks, decides and asks whether it may; changes nothing but what an earlier run was cut before. */
int k3sup__upgrade_look(k3sup_op *op);
/* What the swap is to do. images: those that it has to leave room for, NULL: none. */
struct k3sup__plan k3sup__upgrade_todo(const struct k3sup__upgrade *s, const struct k3sup__images *images);
/* Work functions (replace.c): the new file lies beside the old one, and takes its place. */
int k3sup__upgrade_stage(k3sup_op *op);
int k3sup__upgrade_swap(k3sup_op *op);

/* What is written down behind the swap. On the way back a disk that is full, or worse, is no reason to leave k3s without its start: a warning. 0, or a negative code. */
int k3sup__upgrade_settle(k3sup_op *op, const struct k3sup__upgrade *s, const char *path) _must_check_;

/* Has this upgrade changed the node? What the document says as "changed". */
bool k3sup__upgrade_has_changed(const struct k3sup__upgrade *s);
/* Work function (report.c), the last one whatever happened: status is how the upgrade ends. */
int k3sup__upgrade_report(k3sup_op *op);

/* The journal's entry, if there is none yet: before the first change. */
int k3sup__upgrade_open_entry(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;

/* The images (images.c): what the options say; what is there, before anything is decided; putting them in place, before the swap; and what becomes of them in the end, which is reported. */
int k3sup__upgrade_take_images(const struct k3sup_upgrade_opts *o, struct k3sup__images *ret) _must_check_;
int k3sup__upgrade_look_at_images(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;
int k3sup__upgrade_stage_images(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;
/* Behind the swap: there is no way back any more to the build before the one that was replaced. */
int k3sup__upgrade_forget_images(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;
/* Who goes back wants the images, too, that an upgrade replaced and that was never proven; before k3s starts, since it imports them then. */
int k3sup__upgrade_restore_images(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;
int k3sup__upgrade_end_images(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;

/* Work function (unpack.c): the new build's data/<H> is there, whole and on disk; or why not is reported, where that is no reason to refuse. */
int k3sup__upgrade_unpack(k3sup_op *op);

/* Who of those in the view must restart, and may they? Fills in the services, of what is refused too. Not with K3SUP_RESTART_NONE. For work functions. */
int k3sup__restart_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	const struct k3sup__restart *restart, struct k3sup__services *ret) _must_check_;
/* Work function: who runs now, right before the restart. */
int k3sup__restart_look(k3sup_op *op);
/* Work function: has those that must restart restarted. From the first signal or job on the operation is past its point of no return. */
int k3sup__restart_order(k3sup_op *op);
/* The caller's commands, as a child operation: k3s is stopped, that is proven, and started. From here on the operation is past its point of no return. */
int k3sup__restart_call(k3sup_op *op) _must_check_;
int k3sup__restart_called(k3sup_op *op) _must_check_;
/* Work function: the guard that this has left. */
int k3sup__restart_disarm(k3sup_op *op);
/* 0 when all of them have ended, else what the engine is to wait for. */
int k3sup__restart_wait(k3sup_op *op) _must_check_;
/* Waits, as a child operation, until the wanted build runs and stays. */
int k3sup__prove_call(k3sup_op *op) _must_check_;
/* What came of that. */
int k3sup__prove_result(k3sup_op *op) _must_check_;

#endif
