/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nth call of one kind fails, or kills who makes it, as with strace's inject=, but in the process itself: a filter of the kernel's (seccomp(2)) sends it a signal for each such
 * call, and the signal's handler makes the call, or does not. A program forks for each point and pays for its start once.
 */
#ifndef K3SUP_TESTS_CRASH_STRIKE_H
#define K3SUP_TESTS_CRASH_STRIKE_H

#include <stdbool.h>

struct strike {
	int call;      /* its number, -1: none */
	unsigned when; /* from 1 */
	int error;     /* an errno, 0: SIGKILL */
	bool paused;   /* calls are not counted */
	bool struck;
};

/* Lies in memory that outlives the process, so that who forked it sees whether it was struck. Exits where this machine cannot do it. */
void strike_arm(struct strike *strike);

#endif
