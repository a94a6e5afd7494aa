/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts that units are made of: unit files and drop-ins, and the files of EnvironmentFile=. Only their grammar; what it means is unit.c's.
 */
#ifndef K3SUP_NODE_UNITTEXT_H
#define K3SUP_NODE_UNITTEXT_H

#include "base/strv.h"

struct k3sup__assignment {
	char *section;
	char *key;
	char *value; /* free of blanks around it, continuation lines joined by a blank */
	size_t file; /* the caller's number of the file */
	unsigned line;
};

struct k3sup__assignments {
	struct k3sup__assignment *items;
	size_t count;
};

/*
 * Appends what a unit file assigns. As in systemd a line without "=", one that is no UTF-8, and one before the first section are passed over. 0, -ENOMEM, or -EBADMSG
 * for a section header that is not closed (systemd gives up on the file), with its line.
 */
int k3sup__unit_parse(const char *text, size_t len, size_t file, struct k3sup__assignments *to, unsigned *ret_line) _must_check_;
void k3sup__assignments_clear(struct k3sup__assignments *assignments);

/* Sets what an environment file assigns, as systemd reads it: quotes, backslashes and continuation lines like a shell's, but nothing is expanded. 0 or -ENOMEM. */
int k3sup__env_parse(const char *text, size_t len, struct k3sup__strv *env) _must_check_;
/* "NAME=value" with a name that systemd accepts? */
bool k3sup__env_is_assignment(const char *text);

/* Is this UTF-8? */
bool k3sup__is_utf8(const char *text, size_t len);

#endif
