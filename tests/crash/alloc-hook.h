/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations that fail when they are told to. Defined in the program, malloc(3) and its family come before the C library's and the sanitizer's for everybody, so
 * those that libraries make on our behalf are counted, too; who asked is told by the return address.
 */
#ifndef K3SUP_TESTS_CRASH_ALLOC_HOOK_H
#define K3SUP_TESTS_CRASH_ALLOC_HOOK_H

#include <stdbool.h>

/* Whose code asked. */
enum asker { OURS, JANSSON, YAML, ZLIB, LIBC, UV, CRYPTO, OTHERS, ASKERS };

struct hook {
	bool armed;
	unsigned askers;  /* whose allocations count: 1 << asker */
	unsigned fail_at; /* the first that fails, 0: none */
	bool for_good;    /* all after it, too */
	unsigned count;   /* since armed */
	unsigned by[ASKERS];
	unsigned failed;
	const void *first; /* who asked for the first that failed */
};
extern struct hook hook;
extern unsigned hook_kept; /* counted blocks that nobody has freed yet */

void hook_arm(unsigned askers, unsigned fail_at, bool for_good);

#endif
