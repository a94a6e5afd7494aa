/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotes and variables of the shell.
 */
#ifndef K3SUP_NODE_SHELLEXPAND_H
#define K3SUP_NODE_SHELLEXPAND_H

#include "node/shell.h"

bool k3sup__shell_is_name(const char *text, size_t len);
int k3sup__shell_set(struct k3sup__shell *shell, const char *name, size_t len, const char *value) _must_check_;

/* How long the word is that begins here, quotes and all; 0: none does. -EINVAL: its quotes or braces are not closed. */
ssize_t k3sup__shell_word_len(const char *text) _must_check_;

/*
 * Expands a word. split: unquoted variables become several words, or none. Appends to ret. -EINVAL: it holds more than quotes and known variables.
 */
int k3sup__shell_expand(struct k3sup__shell *shell, const char *word, size_t len, bool split, struct k3sup__strv *ret) _must_check_;

#endif
