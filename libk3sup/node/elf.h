/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of ELF as is needed to say what machine a file is for, whether all of it is there, and where Go put its build information. Read with pread(2): a mapped file
 * that somebody truncates meanwhile would kill the host with SIGBUS.
 */
#ifndef K3SUP_NODE_ELF_H
#define K3SUP_NODE_ELF_H

#include "base/util.h"

#define K3SUP__ELF_LOADS 32 /* a k3s has up to ten */

struct k3sup__elf_load {
	uint64_t offset;
	uint64_t address;
	uint64_t size; /* in the file */
	bool writable;
};

struct k3sup__elf {
	bool program;   /* an executable or a position-independent one, with headers that can be believed */
	bool truncated; /* its headers promise bytes behind the end of the file */
	bool big_endian;
	bool is64;
	char arch[16]; /* as Go names it; "" if unknown */
	struct k3sup__elf_load loads[K3SUP__ELF_LOADS];
	size_t load_count;
	uint64_t buildinfo_offset; /* of the section .go.buildinfo */
	uint64_t buildinfo_size;   /* 0: there is no such section */
};

/* 0 whatever the file is (look at program), or -errno of reading. size: of the file. */
int k3sup__elf_read(int fd, uint64_t size, struct k3sup__elf *ret) _must_check_;
/* Where the bytes at an address of the running program are in the file, and how many follow; false if nowhere. */
bool k3sup__elf_offset(const struct k3sup__elf *elf, uint64_t address, uint64_t *ret_offset, uint64_t *ret_left);

uint64_t k3sup__elf_get(const struct k3sup__elf *elf, const unsigned char *bytes, size_t width); /* a number of 1 to 8 bytes in the file's byte order */

#endif
