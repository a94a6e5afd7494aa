/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files for <data-dir>/agent/images, where k3s imports container images from: put there before the restart, taken back where the new k3s does not come up.
 *
 * What k3s does there decides where what lies (pkg/agent/containerd: containerd.go, watcher.go):
 *
 *   at its start    it imports every file with a name that it knows (.tar, .tar.gz, .tgz, .tar.zst, .tzst, .tar.bz2, .tbz, .tar.lz4; .txt: images to pull), dot files
 *                   too; since v1.33.1, v1.32.5, v1.31.9 also those in directories below
 *   while it runs   since v1.32.0, v1.31.5, v1.30.9, v1.29.13 it imports what appears there two seconds later; it watches agent/, and takes every path that begins with
 *                   ".../agent/images" for one of its own, "agent/images-old" too
 *   .cache.json     where that file exists (v1.33.1 ...), a name is imported again only if its size differs and its time is later than at the last import
 *
 * So nothing of ours may lie there, not even below. Temps and the old versions that are kept lie in agent/.k3sup-images (0700), in no name that k3s would import; that is the
 * same file system and gives new files the label that they would have got there. Where agent/images is a mount of its own there is no other place than in it.
 * A file takes its name by one rename, when it is whole, with the present time. A version that is put back gets the present time, too.
 *
 * On disk: agent/.k3sup-images/NAME.k3sup-backup is the version of NAME that was there at the last commit. A later staging before the commit keeps it. The directory is
 * there only while something is kept, or after a cut.
 * What an upgrade keeps is NAME.k3sup-backup.ID, of the build that was installed then: an upgrade that was not proven may be followed by another one, whose rollback brings the
 * first one's build back, and that came with images of its own.
 */
#ifndef K3SUP_SWAP_IMAGES_H
#define K3SUP_SWAP_IMAGES_H

#include "base/durable.h"
#include "swap/authentic.h"

#define K3SUP__IMAGES_OF 13 /* the ID, with its end */

struct k3sup__image {
	char *path;       /* the caller's; owned */
	const char *name; /* its last component, and the name it gets */
	int fd;           /* -1 before it was looked at */
	struct stat st;
	struct k3sup__proof proof;
	bool there;                     /* there is a file of that name */
	bool same;                      /* with these bytes */
	bool kept;                      /* a version of the name is kept, from whenever */
	char sha256[K3SUP__SHA256_HEX]; /* of the bytes that were compared or written; "" if they were not counted */
	struct k3sup__stage stage;
	struct stat placed; /* the file that this run put in place */
	bool done;          /* it is in place */
	bool created;       /* where there was none */
	bool keeps;         /* what it replaced is kept since this run */
};

struct k3sup__images {
	struct k3sup__image *list;
	size_t count;
	struct k3sup__terms terms;
	char *path;                /* of agent/images inside the root */
	struct k3sup__place dir;   /* fd -1: it is not there yet */
	bool in_itself;            /* agent/images is a mount of its own */
	int64_t todo;              /* bytes of the files that are not there yet */
	bool made;                 /* agent/images was made by this run */
	bool cleaned;              /* what a cut run had left is gone */
	char of[K3SUP__IMAGES_OF]; /* what is kept is kept for this build; "": for none */
};
#define K3SUP__IMAGES_NONE ((struct k3sup__images){.dir = K3SUP__PLACE_NONE})

/*
 * Copies and checks what the caller gave. files: ends with NULL; NULL for none. A digest, or a signature without a list, is that of the only file; with a list each file has
 * to be in it by its name. 0, -EINVAL (also: two of one name, a name that is none or begins with a dot), -ENAMETOOLONG, -ENOMEM. ret can be cleared in any case.
 */
int k3sup__images_take(const char *const *files, const struct k3sup__given_terms *terms, struct k3sup__images *ret) _must_check_;
void k3sup__images_clear(struct k3sup__images *images);

/*
 * Opens the files, reads list, key and signature, and compares with what is there. Changes nothing. Those that are there already are verified here, the others when
 * they are copied. 0, K3SUP_E_PAYLOAD_*, K3SUP_E_SUMS, _KEY, _SIGNATURE, _DIGEST_MISMATCH, _UNTRUSTED, _TARGET_NOT_FILE, -ENOTDIR ...
 */
int k3sup__images_look(k3sup_op *op, k3sup_node *node, struct k3sup__images *images, const char *data_dir) _must_check_;
/* For those who only ask: are the bytes of the files that are not there yet the right ones? */
int k3sup__images_prove(k3sup_op *op, struct k3sup__images *images) _must_check_;
/* Has anything been put in place, or removed, by this run? */
bool k3sup__images_changed(const struct k3sup__images *images);
/* How many are not there yet? */
size_t k3sup__images_missing(const struct k3sup__images *images);
/* Writes "images" into the facts. */
void k3sup__images_report(k3sup_op *op, const struct k3sup__images *images);

/* ---- doing, under the lock (images-place.c; images-kept.c) ---- */

/*
 * Puts them there: first all are copied and verified, then each takes its name. The step "images" of the operation's plan. On failure it is undone. 0, or a negative code.
 */
int k3sup__images_stage(k3sup_op *op, k3sup_node *node, const char *data_dir, struct k3sup__images *images) _must_check_;
/* Takes back what this run did: what it replaced is there again, what it added is gone. For runs that fail; says nothing of its own failure but to the log. */
void k3sup__images_undo(k3sup_op *op, struct k3sup__images *images);
/* The kept versions are not needed any more, of whatever name and run, nor what cut runs left. 1 if something was removed, 0, or a negative code. */
int k3sup__images_commit(k3sup_op *op, k3sup_node *node, const char *data_dir) _must_check_;
/*
 * The kept versions take their names again. of: those that were kept for this build, and else those for none, so that nobody gets images of an older build than his own; NULL:
 * all, and of several of one name the one that was put in place first. 1 if there was one, and "images" in the facts names them; 0, or a negative code.
 */
int k3sup__images_restore(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *of) _must_check_;
/* Those that are kept for other builds have nobody any more who could go back to them. 0, or a negative code. */
int k3sup__images_forget(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *but_of) _must_check_;
/* A version of this name, for whomever? False, too, to those who may not look. */
bool k3sup__images_is_kept(const struct k3sup__images *images, const char *name);
/* The ID of a build: from its archive's name, or its size. */
void k3sup__images_id(const struct k3sup__build *build, char ret[static K3SUP__IMAGES_OF]);

/* Does anything wait for the one or the other? False, too, to those who may not look. */
bool k3sup__images_are_kept(k3sup_node *node, const char *data_dir);

#define K3SUP__IMAGES_WORK ".k3sup-images"
/* The directory of temps and kept versions: -ENOENT if there is none and create is false; K3SUP_E_UNTRUSTED if it is not root's alone. A descriptor. */
int k3sup__images_work_open(k3sup_op *op, const struct k3sup__images *images, bool create) _must_check_;
/* Where agent/images is; fd -1: it is not there. flags: of k3sup__root_find(). 0, -ENOENT (agent/ is not there either), or another negative code with a sentence. */
int k3sup__images_find(k3sup_op *op, k3sup_node *node, const char *data_dir, unsigned flags, struct k3sup__images *images) _must_check_;
char *k3sup__images_kept_name(const struct k3sup__images *images, const char *name);

#endif
