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

#endif
