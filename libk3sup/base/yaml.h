/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML in, JSON values out. The front of libyaml: yaml.c alone includes <yaml.h>.
 */
#ifndef K3SUP_BASE_YAML_H
#define K3SUP_BASE_YAML_H

#include "base/json.h"

/*
 * The first document of a text (the way k3s reads its config.yaml). Scalars keep the text that was written, as strings; plain null, ~ and nothing are null.
 * Bounded: 1 MiB of text, nesting of 64, 100,000 nodes with aliases counted as often as they are used. Duplicate keys: the last one wins, as in Go's yaml.v2 for k3s's MapSlice reading.
 * An empty text gives null. 0, -EFBIG, -ENOMEM, or K3SUP_E_PARSE with a sentence in ret_why (owned, may be NULL).
 */
int k3sup__yaml_parse(const char *text, size_t len, k3sup__json **ret, char **ret_why) _must_check_;

/*
 * The same text as Go's yaml.v2 reads it into its MapSlice, which k3s does: an array of [key, value], in the order of the text, a key that comes twice twice. Plain
 * scalars are text as Go prints what they stand for (yes: "true", 010: "8", 1.50: "1.5"). No value at all gives an empty array, another one than a mapping K3SUP_E_PARSE,
 * as all that Go refuses as well; K3SUP_E_UNSUPPORTED and -EFBIG: Go may read it.
 */
int k3sup__yaml_pairs(const char *text, size_t len, k3sup__json **ret, char **ret_why) _must_check_;

/*
 * What Go prints for a plain scalar that is no null. 1 with a text; 0: it is what is written; -ENOMEM.
 * (goscalar.c)
 */
int k3sup__yaml_go_scalar(const char *text, char **ret) _must_check_;

#endif
