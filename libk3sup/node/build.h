/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build identity: what k3s binary a file is, read from its bytes and never by running it.
 */
#ifndef K3SUP_NODE_BUILD_H
#define K3SUP_NODE_BUILD_H

#include "base/op.h"
#include "node/gobuild.h"

#define K3SUP__H_LEN 64 /* H: the name of the embedded archive, lowercase hex */

struct k3sup__build {
	uint64_t size;
	char sha256[65];                   /* "" if it was not asked for */
	char arch[16];                     /* Go's name: amd64, arm64, arm, s390x, riscv64, 386; "" if unknown */
	bool wrapper;                      /* carries an archive */
	bool inner;                        /* the program inside, or an image's k3s. Neither: not known to be k3s */
	bool names_archive;                /* also one that is not believed */
	char asset_hash[K3SUP__H_LEN + 1]; /* "" for an inner program */
	const char *asset_check;           /* how it was checked: "name", "frame", "digest"; NULL without it */
	char version[96];                  /* "" if it cannot be established */
	bool contradicts;                  /* several versions are written in it, so none is believed */
	char said[96];                     /* what it says itself, if it was asked (said.h) */
	char commit[48];
	char built[K3SUP__BUILT_LEN]; /* when, in RFC 3339; only the programs inside know it */
	char go[32];
};

/* flags */
#define K3SUP__BUILD_SHA256 1u /* hash the whole file too, in the same pass */
#define K3SUP__BUILD_LENIENT \
	2u /* 0 for every regular file that stays as it is meanwhile: what is not k3s just has empty fields (a torn installed file must be replaceable) */
#define K3SUP__BUILD_HOST_ARCH 4u /* K3SUP_E_PAYLOAD_ARCH if it is for another machine than this one */
#define K3SUP__BUILD_ARCHIVE 8u   /* the archive's SHA-256 must be what its name says: one more hash, in the same pass */

/* Somebody else who wants the bytes of the file, in their order, each once. take: 0, or a negative code that ends the reading. */
struct k3sup__tap {
	int (*take)(void *arg, uint64_t offset, const unsigned char *bytes, size_t len);
	void *arg;
};

/*
 * What counts as k3s: an ELF program that names an embedded archive ("embed/" or "build/data/", 64 lowercase hex digits, ".tar.zst", ".tar.gz" or ".tgz") and carries it
 * is a wrapper. One that names none is an inner program if its Go build information says so: its package is a command of the k3s source (but not the wrapper's), or the
 * linker set k3s's pkg/version, or (Go before 1.18, built from a list of files) kine is among its modules and the bytes hold one k3s version.
 *
 * A name alone is a text that any program may hold. It is believed by (asset_check)
 *   "digest"  a zstd frame in the file has the SHA-256 that it says: asked for, or because there are several names or frames to choose from
 *   "frame"   it is the only one, and there is one whole zstd frame (frames.h): what was cut, shifted or never there is noticed, changed bytes are not
 *   "name"    it is the only one, and names a gzip file (releases before 2021): where that begins and ends is not written down, so nothing was checked
 *
 * 0, or K3SUP_E_PAYLOAD_NOT_FILE, _EMPTY, _NOT_K3S, _ARCH, _TRUNCATED, _CORRUPT, _CHANGED, -errno, with a sentence that names `shown`. ret is filled with what is known on
 * failure too.
 * Two sources that contradict each other about the version leave it empty and add a warning to the operation's facts.
 */
int k3sup__build_read_fd(k3sup_op *op, int fd, const char *shown, unsigned flags, struct k3sup__build *ret) _must_check_;
/* The same for somebody who wants the bytes, too (tap may be NULL). They do not come if the first look says that it is none: look at the verdict first. */
int k3sup__build_read_tapped(k3sup_op *op, int fd, const char *shown, unsigned flags, const struct k3sup__tap *tap, struct k3sup__build *ret)
	_must_check_;
/* Opens a path of the caller as a payload: regular, readable; with trust check of every component (from "/", links followed). Errors as above and K3SUP_E_PAYLOAD_MISSING, K3SUP_E_UNTRUSTED. */
int k3sup__payload_open(k3sup_op *op, const char *path, unsigned trust_flags, int *ret_fd) _must_check_;
/* Can this machine, or this very program, execute programs of an architecture in Go's words? */
bool k3sup__build_runs_here(const char *arch);
/* {size, sha256, arch, kind, version, said_version, commit, built, go, asset_hash, asset_check}: only what is known. */
k3sup__json *k3sup__build_json(const struct k3sup__build *build);
/* Was that such a text of this build? By its archive, or size and version; its digest is not asked for. */
bool k3sup__build_is(const k3sup__json *json, const struct k3sup__build *build);

#endif
