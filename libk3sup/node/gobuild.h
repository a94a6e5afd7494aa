/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the Go linker wrote down about a program: which Go, which package, which settings (source: Go's debug/buildinfo and cmd/go).
 */
#ifndef K3SUP_NODE_GOBUILD_H
#define K3SUP_NODE_GOBUILD_H

#include "node/elf.h"

#define K3SUP__BUILT_LEN 32

struct k3sup__gobuild {
	bool found;
	char go[32];      /* "go1.22.5" */
	char version[96]; /* what the linker was told to set as k3s's version; "" if that was not recorded (Go before 1.18, -trimpath) */
	char commit[48];
	char built[K3SUP__BUILT_LEN]; /* when, as the programs inside are told: "2023-05-26T21:50:22Z"; "" as above */
	bool conflict;                /* it was told two different versions */
	bool wrapper_path;            /* the package is k3s's cmd/k3s */
	bool inner_path;              /* another command of the k3s source */
	bool sets_k3s;                /* the linker set a variable of k3s's pkg/version */
	bool has_kine;                /* built from a list of files (k3s 2021 to 2023), with kine among the modules */
	uint64_t start;               /* where the record itself lies in the file: the same text there is no second witness */
	uint64_t end;
};

/* 0 whatever is found, or -errno of reading. scratch is overwritten; what does not fit in it is not believed. */
int k3sup__gobuild_read(int fd, const struct k3sup__elf *elf, unsigned char *scratch, size_t scratch_len, struct k3sup__gobuild *ret) _must_check_;

#endif
