/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The swap, for the verb and for the upgrade.
 */
#ifndef K3SUP_SWAP_SWAP_H
#define K3SUP_SWAP_SWAP_H

#include <k3sup/swap.h>

#include "swap/authentic.h"

#define K3SUP__BACKUP_SUFFIX ".k3sup-backup"

/* Where a payload comes from, as the caller of a verb said; kept by the operation. */
struct k3sup__source {
	char *path;  /* NULL if fd is given */
	int fd;      /* a duplicate of the caller's, or -1 */
	bool backup; /* neither: the backup beside the installed file */
	struct k3sup__terms terms;
	bool run_version;   /* ask it for its version by running it */
	bool check_archive; /* count the archive's digest, unless the terms say which bytes are right */
};

/* Copies what the caller gave; terms may be NULL. 0, -EINVAL (neither a path nor a descriptor; terms that contradict each other), -EBADF, -ENOMEM. */
int k3sup__source_take(const char *path, bool has_fd, int fd, const struct k3sup__given_terms *terms, struct k3sup__source *ret) _must_check_;
/* The backup; sha256 and expect_version may be NULL. 0, -EINVAL, -ENOMEM. */
int k3sup__source_take_backup(const char *sha256, const char *expect_version, struct k3sup__source *ret) _must_check_;
void k3sup__source_clear(struct k3sup__source *source);

/* A payload that was opened and looked at: a whole k3s binary for this machine. */
struct k3sup__payload {
	int fd;
	const char *shown; /* the path, or "the given descriptor"; borrowed from the source */
	struct stat st;
	struct k3sup__build build;      /* without digest: that is counted over the bytes that are written */
	char sha256[K3SUP__SHA256_HEX]; /* of a private copy, a backup, or of what was run; "" for the file itself: that can change */
	struct k3sup__proof *proof;     /* what the bytes have to be; NULL before it was loaded */
	const char *server_version;     /* which it must not exceed on an agent; NULL: nobody said; borrowed */
	bool run_version;               /* it is to be run with --version */
	bool untrusted;                 /* others can write it, and nothing binds its bytes */
	bool check_archive;             /* its archive has still to be checked by its digest, in the bytes that are installed */
	struct {
		struct stat st; /* of the installed file, st_ino 0: it was not compared */
		int same;
		char sha256[K3SUP__SHA256_HEX]; /* as of k3sup__swap_is_same() */
	} beside;                               /* what was compared with it while it was looked at */
	bool is_backup;
	char *own_path;        /* of a backup: what is shown; owned */
	struct stat backup_of; /* of a backup: the file it is one of */
};
#define K3SUP__PAYLOAD_NONE ((struct k3sup__payload){.fd = -1})

/*
 * Reads it once, and the installed file beside it if it is as long.
 *
 * Reports what is known of it as "wanted", also of one that is refused. What is packed, or is not trusted but bound by its terms, becomes a private copy, verified here.
 * Anything else is verified by the bytes that count: those that are compared with the installed file, or those that are installed.
 */
int k3sup__payload_load(k3sup_op *op, k3sup_node *node, const struct k3sup__source *source, struct k3sup__payload *ret) _must_check_;
/* Counts the archive's digest now, for those who do not install it. 0, K3SUP_E_PAYLOAD_CORRUPT; nothing happens where that is not asked for. */
int k3sup__payload_check_archive(k3sup_op *op, struct k3sup__payload *payload) _must_check_;
/* For payload.c and backup.c: the second half, when it is open and shown. */
int k3sup__payload_look(k3sup_op *op, k3sup_node *node, const struct k3sup__terms *terms, struct k3sup__payload *p) _must_check_;
/* Writes wanted into the facts. sha256: NULL if it was not counted. */
void k3sup__wanted_report(k3sup_op *op, const struct k3sup__payload *payload, const char *sha256);
void k3sup__payload_clear(struct k3sup__payload *payload);

/* Was this file, and none that was changed since, found to be the payload when that was looked at? */
bool k3sup__payload_is(const struct k3sup__payload *payload, const struct stat *st);
/* 1 if the file at target has the payload's bytes, 0 if not, or a negative code. sha256: of the bytes that were compared, if it is 1 and the terms ask for it; else "". */
int k3sup__swap_is_same(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__place *target,
	char sha256[static K3SUP__SHA256_HEX]) _must_check_;
/* Are these bytes what the terms demand? sha256 "": nothing was counted, since nothing is demanded. 0, K3SUP_E_DIGEST_MISMATCH, K3SUP_E_SIGNATURE. */
int k3sup__payload_prove(k3sup_op *op, const struct k3sup__payload *payload, const char sha256[static K3SUP__SHA256_HEX]) _must_check_;
/* For those who only ask: what a swap would find out while it compares or copies. */
int k3sup__payload_verify(k3sup_op *op, const struct k3sup__payload *payload) _must_check_;

/* The name of the backup, beside the target; owned text. */
char *k3sup__swap_backup_name(const char *name);
/* What cut runs left beside the target, and beside the link to it: temps, or a backup that is the target itself. A number, 0 for none, or a negative code. With remove: it is gone. */
int k3sup__swap_leftovers(k3sup_op *op, k3sup_node *node, const struct k3sup__place *target, bool remove) _must_check_;

struct k3sup__swapped {
	bool renamed;            /* the installed file is the payload now */
	char sha256[65];         /* of the bytes that were installed */
	char old_sha256[65];     /* of the backup */
	const char *asset_check; /* how the archive of what was installed was checked */
	struct stat st;          /* of the installed file */
	char *backup;            /* its path inside the root; owned */
	char *path;              /* of the installed file; owned */
};

struct k3sup__plan; /* preflight.h */

/* The payload beside the target, whole, verified and durable, under the name of a temp (or of another version, which nothing leads to yet). */
struct k3sup__staged;

/*
 * The steps "stage" and "verify" of the operation's plan. Everything that can be refused by looking at payload and target has been refused by now. ret and what plan points to are
 * needed until the end of the staged one.
 */
int k3sup__swap_stage(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__swapped *ret,
	struct k3sup__staged **ret_staged) _must_check_;
/* The staged file for reading and executing: borrowed; and its path inside the root: owned text, NULL without memory. */
int k3sup__staged_fd(const struct k3sup__staged *j);
char *k3sup__staged_path(const struct k3sup__staged *j);
/*
 * The step "swap", once. Refused if target or payload were changed since. The operation is past its point of no return when this comes back with 0. ret of staging is filled on
 * failure, too: renamed tells whether the target is the payload all the same.
 */
int k3sup__swap_publish(struct k3sup__staged *j) _must_check_;
/* Removes what was not published. NULL is fine. For work functions, and for the end of an operation. */
void k3sup__staged_free(struct k3sup__staged *j);
/* All three steps in one. */
int k3sup__swap_run(k3sup_op *op, k3sup_node *node, const struct k3sup__plan *plan, struct k3sup__swapped *ret) _must_check_;
/* Writes changed, wanted and backup into the facts, if there was a rename. */
void k3sup__swapped_report(k3sup_op *op, const struct k3sup__payload *payload, const struct k3sup__swapped *swapped);
void k3sup__swapped_clear(struct k3sup__swapped *swapped);

#endif
