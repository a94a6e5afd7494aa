/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last processes that came and ended while one was waited for that stays: what a crash loop is told by.
 */
#ifndef K3SUP_PROCESS_DEATHS_H
#define K3SUP_PROCESS_DEATHS_H

#include "base/process.h"

#define K3SUP__MOST_DEATHS 8 /* that are kept; each holds two descriptors */

struct k3sup__deaths {
	struct {
		k3sup_process *process;
		int64_t lived_ms;
	} items[K3SUP__MOST_DEATHS];
	unsigned count; /* of all there were */
};

void k3sup__deaths_add(struct k3sup__deaths *deaths, k3sup_process *process, int64_t lived_ms);
/* Is it one of those that are kept? */
bool k3sup__deaths_has(const struct k3sup__deaths *deaths, const k3sup_process *process);
void k3sup__deaths_clear(struct k3sup__deaths *deaths);
/* [{pid, start_time, lived_ms, exit_code or signal}], oldest first; how it ended only where that can be seen. */
k3sup__json *k3sup__deaths_json(const struct k3sup__deaths *deaths);
/* "the last one ended with status 1", "... by signal 9", or "how the last one ended cannot be seen"; ret holds it. */
#define K3SUP__DEATH_TEXT 64
void k3sup__deaths_text(const struct k3sup__deaths *deaths, char ret[static K3SUP__DEATH_TEXT]);

#endif
