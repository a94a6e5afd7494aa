/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One look of the certificates' audit at one file that was made up, and what has to hold of what it says.
 */
#ifndef K3SUP_TESTS_FUZZ_AUDIT_H
#define K3SUP_TESTS_FUZZ_AUDIT_H

#include "fuzz.h"

#include "certs/audit.h"

static inline void rule_of_list(const k3sup__json *list, const char *const *keys)
{
	char *json = k3sup__json_dump(list);

	RULE(json);
	free(json);
	for (size_t i = 0; i < k3sup__json_len(list); i++)
		for (const char *const *key = keys; *key; key++)
			RULE(k3sup__json_text(k3sup__json_element(list, i), *key));
}

static inline void fuzz_audit(int (*look)(struct k3sup__audit *audit))
{
	static const char *const rows[] = {"path", "kind", "cn", "not_after", "status", "sha256", NULL};
	static const char *const problems[] = {"path", "problem", "remedy", "text", NULL};
	static struct k3sup__audit kept;
	static struct k3sup__root root;
	struct k3sup__audit *audit = &kept;

	if (!kept.pki) {
		RULE(k3sup__root_open(NULL, fuzz_dir(), &root) == 0);
		kept = (struct k3sup__audit){.root = &root, .data_dir = "", .server = true, .now = 1800000000, .window = 120 * K3SUP__DAY};
		RULE(k3sup__audit_open(&kept) == 0);
	}
	RULE(look(audit) == 0);
	rule_of_list(audit->certificates, rows);
	rule_of_list(audit->problems, problems);
	k3sup__json_unref(audit->certificates);
	k3sup__json_unref(audit->problems);
	audit->certificates = k3sup__json_array();
	audit->problems = k3sup__json_array();
}

#endif
