/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A strict reader for the part of the shell's language that init scripts are configured with: assignments, export, set -a, sourcing, "if [ -f FILE ]". Nothing is
 * executed. What it does not understand it remembers, and what depends on that is not known rather than guessed.
 */
#ifndef K3SUP_NODE_SHELL_H
#define K3SUP_NODE_SHELL_H

#include "base/strv.h"

struct k3sup__shell {
	struct k3sup__strv vars;
	struct k3sup__strv exported; /* names */
	struct k3sup__strv unknown;  /* names of variables whose value depends on something that was not understood */
	struct k3sup__strv functions;
	struct k3sup__strv odd; /* sentences: "FILE:LINE: ..." */
	bool allexport;
	bool lost; /* from some line on nothing was understood: no variable is known */

	/* Of the caller: reads FILE into this shell by k3sup__shell_read(); -ENOENT if it is not there. exists: 1, 0 or negative. */
	int (*source)(struct k3sup__shell *shell, const char *file, void *arg);
	int (*exists)(const char *file, void *arg);
	void *arg;
	unsigned depth; /* of sourcing */
};

/* 0, also if not all of it was understood; -ENOMEM; what source() returned but -ENOENT. path: for sentences. */
int k3sup__shell_read(struct k3sup__shell *shell, const char *text, const char *path) _must_check_;
void k3sup__shell_clear(struct k3sup__shell *shell);

/* NULL: not set. Ask k3sup__shell_is_known() first. */
const char *k3sup__shell_get(const struct k3sup__shell *shell, const char *name);
bool k3sup__shell_is_known(const struct k3sup__shell *shell, const char *name);

/* The words of a text as eval would take it, without redirections. -EINVAL: it is more than words, or needs what is not known. (shellwords.c) */
int k3sup__shell_words(struct k3sup__shell *shell, const char *text, struct k3sup__strv *ret) _must_check_;

#endif
