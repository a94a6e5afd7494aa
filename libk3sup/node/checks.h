/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of decisions, each with a name and a sentence: what policies and the preflight come to. All are taken and kept, so that a caller sees everything that
 * stands in the way at once; the first refusal is the one that an operation fails with.
 */
#ifndef K3SUP_NODE_CHECKS_H
#define K3SUP_NODE_CHECKS_H

#include "base/op.h"

enum k3sup__decision {
	K3SUP__PASS,
	K3SUP__WARN,    /* it cannot be told, or is odd, and is no reason to refuse */
	K3SUP__ALLOWED, /* would be refused, but the caller allowed it */
	K3SUP__REFUSE,
};

struct k3sup__checks {
	k3sup__json *list;     /* [{name, decision, text}] and for refusals error */
	int code;              /* of the first refusal; 0 if there is none */
	char *why;             /* its sentence */
	k3sup__json *evidence; /* what goes with it; may be NULL */
};

void k3sup__checks_begin(struct k3sup__checks *checks);
void k3sup__checks_clear(struct k3sup__checks *checks);

/* code: of a refusal (or of what was allowed). evidence: may be NULL; consumed. */
void k3sup__checks_add(struct k3sup__checks *checks, const char *name, enum k3sup__decision decision, int code, k3sup__json *evidence,
	const char *fmt, ...) _printf_(6, 7);
/* 0, or the first refusal with its sentence and evidence; -ENOMEM. The list becomes "checks" of the operation's facts. */
int k3sup__checks_judge(k3sup_op *op, struct k3sup__checks *checks) _must_check_;
/* The same for what is decided again: what was decided under these names before gives way. */
int k3sup__checks_amend(k3sup_op *op, struct k3sup__checks *checks) _must_check_;

#endif
