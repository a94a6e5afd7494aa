/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3s's configuration files, merged as k3s merges them (k3s pkg/configfilearg: parser.go, defaultparser.go), and flags as k3s finds them among arguments (urfave/cli).
 *
 *   which file   $K3S_CONFIG_FILE, else the first --config or -c of the command line, else /etc/rancher/k3s/config.yaml. Nothing in a flag means no file
 *   drop-ins     FILE.d/ *.yaml and *.yml, in any case, sorted by bytes, no directories; the file itself first, and it may be missing
 *   keys         of the top level only. A later one replaces an earlier one, lists and all; KEY+ appends to it. The order is that in which a key was first seen
 *   arguments    --KEY=VALUE, one for each element of a list, a single dash for one letter, right behind "server" or "agent": so what the command line says wins, or is
 *                appended
 *
 *   a hole       a drop-in that is a link to nothing is taken for having no configuration at all
 *
 * Eras: a missing file that was named was fatal until 2024; drop-ins and KEY+ came in 2021 (in 2020 there was only the file, and KEY+ was a flag that does not exist);
 * KEY and VALUE were two arguments at first, where nothing and true gave no value. Keys that the server does not know are dropped since 2022. What differs for
 * the keys that are looked for here is what the era's k3s does not start with, so one that runs is read alike.
 */
#ifndef K3SUP_NODE_CONFIG_H
#define K3SUP_NODE_CONFIG_H

#include "base/strv.h"
#include "node/node.h"

struct k3sup__config {
	char *path;               /* inside the root; NULL: none is read */
	const char *named_by;     /* "environment", "option", "default" */
	struct k3sup__strv files; /* what was read, in this order */
	struct k3sup__strv args;  /* what the files come to. May hold secrets */
};

/*
 * argv, env: of k3s; NULL: not known. directory: where it is started, NULL: "/". 0, also if there is no file. K3SUP_E_UNTRUSTED (somebody else than root could change
 * it), K3SUP_E_CONFIG (k3s does not start with it), K3SUP_E_PARSE (what k3s reads out of it cannot be told here), other -errno: each with a sentence that names the file.
 */
int k3sup__config_read(k3sup_op *op, const k3sup_node *node, const struct k3sup__strv *argv, const struct k3sup__strv *env,
	const char *directory, struct k3sup__config *ret) _must_check_;
void k3sup__config_clear(struct k3sup__config *config);

/* The merge alone. */
struct k3sup__config_merge {
	k3sup__json *keys; /* [[key, value], ...] */
};
int k3sup__config_add(struct k3sup__config_merge *merge, const char *text, size_t len, char **ret_why)
	_must_check_; /* K3SUP_E_CONFIG, K3SUP_E_PARSE, -EFBIG, -ENOMEM */
int k3sup__config_args(const struct k3sup__config_merge *merge, struct k3sup__strv *ret, char **ret_why) _must_check_;
void k3sup__config_merge_clear(struct k3sup__config_merge *merge);

/*
 * The value of a flag of one value: the last one counts. letter: its short form, '\0': none. 1, *ret points into args; 0: it is not there; -EINVAL: both forms are there,
 * which k3s refuses.
 */
int k3sup__flag_find(const struct k3sup__strv *args, const char *name, char letter, const char **ret) _must_check_;

#endif
