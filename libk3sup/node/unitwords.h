/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of a unit's settings, as systemd takes them apart: quotes anywhere, C escapes inside both kinds of quotes too, specifiers, and variables in commands
 * (systemd.syntax(7), systemd.unit(5) "Specifiers", systemd.service(5) "Command lines"; extract-word.c and env-util.c of systemd 252).
 */
#ifndef K3SUP_NODE_UNITWORDS_H
#define K3SUP_NODE_UNITWORDS_H

#include "base/strv.h"

#define K3SUP__BLANKS " \t\n\r"

/*
 * The next word of *text, which moves behind it and the blanks that follow. 1 with a word, 0 at the end, -EINVAL for quotes or a backslash that are never closed,
 * -ENOMEM. An escape that does not exist stays as it is written (commands), or is -EINVAL too if strict (Environment=).
 */
int k3sup__unit_word(const char **text, bool strict, char **ret) _must_check_;

/*
 * Resolves specifiers. 0; -EBADSLT for one that systemd does not know; -ENODATA for one that only the running systemd knows (such as %H): *ret is NULL then, as on
 * -ENOMEM.
 */
int k3sup__unit_specifiers(const char *unit, const char *text, char **ret) _must_check_;

/*
 * Puts variables into the arguments of a command: ${NAME} anywhere, $NAME as a word of its own (which becomes as many words as its value has), $$ as $. What is not
 * set is empty. The first argument stays.
 */
int k3sup__unit_expand(const struct k3sup__strv *argv, const struct k3sup__strv *env, struct k3sup__strv *ret) _must_check_;

/* A time span ("5s", "1min 30s", "2.5") in microseconds; -1 for "infinity". 0, or -EINVAL. */
int k3sup__unit_span(const char *text, int64_t *ret) _must_check_;

#endif
