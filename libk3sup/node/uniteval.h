/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of an evaluation, for the files that do its parts: unitexec.c (how systemd treats the service), unitcommand.c (ExecStart=), unitenv.c (its environment).
 */
#ifndef K3SUP_NODE_UNITEVAL_H
#define K3SUP_NODE_UNITEVAL_H

#include "node/unit.h"

/* A command as it is collected: not yet with variables in it. */
struct k3sup__command {
	char *path;
	struct k3sup__strv argv;
	bool literal; /* ":": no variables */
};

struct k3sup__evaluation {
	k3sup_op *op;
	const k3sup_node *node;
	struct k3sup__unit *unit;
	const struct k3sup__assignment *at;
	struct k3sup__command command; /* the first one */
	size_t commands;
	struct k3sup__strv env_files; /* as they are written */
	struct k3sup__strv unset;
	bool beyond;    /* the command cannot be understood here, but systemd may */
	size_t skipped; /* the drop-in whose rest systemd does not read; 0: none */
};

/* Notes go with the line that they are about. Never with its text: that may hold a secret. */
int k3sup__eval_note(struct k3sup__evaluation *e, const char *what) _must_check_;
/* Specifiers of one word. 1, or 0 if they cannot be resolved: *ret is NULL then and *ret_why says why. */
int k3sup__eval_resolve(struct k3sup__evaluation *e, const char *text, char **ret, const char **ret_why) _must_check_;

/* The line that e->at is. 0 with a unit in any state, or negative. */
int k3sup__eval_exec_start(struct k3sup__evaluation *e) _must_check_;
int k3sup__eval_environment(struct k3sup__evaluation *e) _must_check_;
int k3sup__eval_env_file(struct k3sup__evaluation *e) _must_check_;
int k3sup__eval_unset(struct k3sup__evaluation *e) _must_check_;

/* When all lines are taken. */
int k3sup__eval_read_env_files(struct k3sup__evaluation *e) _must_check_;
void k3sup__command_clear(struct k3sup__command *command);

#endif
