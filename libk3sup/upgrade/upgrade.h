/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The upgrade from the inside: its state, and its parts: looking and deciding (look.c), the file (replace.c), the images (images.c), unpacking ahead (unpack.c), restarting and
 * proving (restart.c), or what needs k3s to be stopped (turn.c), and the end (report.c). In which order, upgrade.c says.
 */
#ifndef K3SUP_UPGRADE_UPGRADE_H
#define K3SUP_UPGRADE_UPGRADE_H

#include "swap/preflight.h"
#include "upgrade/entry.h"
#include "upgrade/hooks.h"
#include "upgrade/rollback.h"
#include "upgrade/services.h"
#include "upgrade/stopping.h"

enum k3sup__phase {
	PHASE_LOOK,         /* lock, payload, node; decide */
	PHASE_BEFORE_WRITE, /* the caller's command, likewise below */
	PHASE_STAGE,
	PHASE_BEFORE_STOP,
	PHASE_UNPACK, /* the last thing before the swap: it moves links that the running k3s looks at */
	PHASE_SWAP,
	PHASE_AGAIN,  /* look again, right before */
	PHASE_RETIRE, /* of a k3s that is left stopped */
	PHASE_WINDOW, /* stopped, and what is done meanwhile, and started */
	PHASE_ORDER,
	PHASE_COMMANDS, /* a stop and a start, by the caller's commands */
	PHASE_EXIT,
	PHASE_PROVE,
	PHASE_SETTLE, /* the start guards of that */
	PHASE_VERIFY, /* the certificates are new */
	PHASE_FAILED, /* the new build ends again and again */
	PHASE_BACK,
	PHASE_REPORT,
};

struct k3sup__upgrade {
	struct k3sup__node_state node;
	struct k3sup__source source;
	int64_t lock_deadline, stable_ms;
	struct k3sup__restart restart;
	struct k3sup__stopping stopping;
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
	bool called;           /* the caller's commands, or the window, have done their part, and start guards wait for the proof */
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

/* Does some k3s in the view run another build than the payload's? */
bool k3sup__restart_is_due(const struct k3sup__view *view, const struct k3sup__payload *payload);
/*
 * Who of those in the view must restart, and may they? Fills in the services, of what is refused too. payload: NULL if all of them are to be stopped and started, by their managers. Not
 * with K3SUP_RESTART_NONE. K3SUP_E_CONFIG: they would not start again. For work functions.
 */
int k3sup__restart_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__view *view, const struct k3sup__payload *payload,
	const struct k3sup__restart *restart, struct k3sup__services *ret) _must_check_;
/* Work function: who runs now, right before the restart. */
int k3sup__restart_look(k3sup_op *op);
/* Work function: has those that must restart restarted. From the first signal or job on the operation is past its point of no return. */
int k3sup__restart_order(k3sup_op *op);
/* The caller's commands, as a child operation: k3s is stopped, that is proven, and started. From here on the operation is past its point of no return. */
int k3sup__restart_call(k3sup_op *op) _must_check_;
int k3sup__restart_called(k3sup_op *op) _must_check_;
/* What a child operation says of the service, the commands' answers above all, is told of it in the end. */
void k3sup__restart_take_facts(k3sup_op *op, k3sup_op *child);
/* Work function, after the proof: the guards that this has left; and who stops k3s from now on was not us. */
int k3sup__restart_settle(k3sup_op *op);
/* 0 when all of them have ended, else what the engine is to wait for. */
int k3sup__restart_wait(k3sup_op *op) _must_check_;
/* Waits, as a child operation, until the wanted build runs and stays. */
int k3sup__prove_call(k3sup_op *op) _must_check_;
/* What came of that. */
int k3sup__prove_result(k3sup_op *op) _must_check_;

/* What needs k3s to be stopped (turn.c). Work function's part, right before: is it still wanted, and by whom; the entries that say so. */
int k3sup__turn_prepare(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;
/* The window, as a child operation; and what came of it. */
int k3sup__turn_call(k3sup_op *op) _must_check_;
int k3sup__turn_result(k3sup_op *op) _must_check_;
/* Work function: the certificates of a k3s that is left stopped. */
int k3sup__turn_retire(k3sup_op *op);
/* Is it to be seen whether k3s has made new certificates? That, as a child operation; and what came of it. */
bool k3sup__turn_is_to_verify(const struct k3sup__upgrade *s);
int k3sup__turn_verify(k3sup_op *op) _must_check_;
int k3sup__turn_verified(k3sup_op *op) _must_check_;
/* The rotation's entry, and the facts about it. For the work function that reports. */
int k3sup__turn_report(k3sup_op *op, struct k3sup__upgrade *s) _must_check_;

#endif
