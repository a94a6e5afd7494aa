/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nth call of one kind fails, or kills who makes it, as with strace's inject=, but in the process itself: a filter of the kernel's (seccomp(2)) sends it a signal for each such
 * call, and the signal's handler makes the call, or does not. A program forks for each point and pays for its start once.
 */
#ifndef K3SUP_TESTS_CRASH_STRIKE_H
#define K3SUP_TESTS_CRASH_STRIKE_H

#include <stdbool.h>
#include <stddef.h>

#define STRIKE_NONE (-1)
#define STRIKE_LISTS (-2)
#define STRIKE_MOST 8192

struct strike {
	int call;      /* its number */
	unsigned when; /* from 1 */
	int error;     /* an errno, 0: SIGKILL */
	bool paused;   /* calls are not counted */
	bool struck;

	/*
	 * STRIKE_LISTS: no call fails. Those are listed before which the disk or what is at state may be another than before the call that came before them: a kill at any other one leaves
	 * what a kill at the one that is listed before it has left.
	 */
	const void *state;
	size_t state_len;
	unsigned listed;
	struct {
		int call;
		unsigned when;
	} list[STRIKE_MOST];
};

/* Lies in memory that outlives the process, so that who forked it sees whether it was struck. Exits where this machine cannot do it. */
void strike_arm(struct strike *strike);

#endif
