/* SPDX-License-Identifier: Apache-2.0 */
#include "process/deaths.h"

#include <stdio.h>
#include <sys/wait.h>

void k3sup__deaths_add(struct k3sup__deaths *deaths, k3sup_process *process, int64_t lived_ms)
{
	size_t at = deaths->count++ % K3SUP__MOST_DEATHS;

	k3sup_process_unref(deaths->items[at].process);
	deaths->items[at].process = k3sup_process_ref(process);
	deaths->items[at].lived_ms = lived_ms < 0 ? 0 : lived_ms;
}

bool k3sup__deaths_has(const struct k3sup__deaths *deaths, const k3sup_process *process)
{
	for (size_t i = 0; i < K3SUP__MOST_DEATHS; i++)
		if (deaths->items[i].process && k3sup__process_same(deaths->items[i].process, process))
			return true;
	return false;
}

void k3sup__deaths_clear(struct k3sup__deaths *deaths)
{
	for (size_t i = 0; i < K3SUP__MOST_DEATHS; i++)
		k3sup_process_unref(deaths->items[i].process);
	*deaths = (struct k3sup__deaths){0};
}

/* Asked late: the kernel tells once the process was reaped, which is somebody else's business. */
static k3sup__json *death_json(k3sup_process *process, int64_t lived_ms)
{
	k3sup__json *one = k3sup__json_object();
	int status;

	k3sup__json_set_int(one, "pid", k3sup__process_pid(process));
	k3sup__json_set_int(one, "start_time", (int64_t)k3sup__process_start_time(process));
	k3sup__json_set_int(one, "lived_ms", lived_ms);
	if (k3sup__process_exit_status(process, &status) == 0)
		k3sup__json_set_int(
			one, WIFSIGNALED(status) ? "signal" : "exit_code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return one;
}

k3sup__json *k3sup__deaths_json(const struct k3sup__deaths *deaths)
{
	k3sup__json *all = k3sup__json_array();
	unsigned first = deaths->count > K3SUP__MOST_DEATHS ? deaths->count - K3SUP__MOST_DEATHS : 0;

	for (unsigned i = first; i < deaths->count; i++) {
		size_t at = i % K3SUP__MOST_DEATHS;

		k3sup__json_add(all, death_json(deaths->items[at].process, deaths->items[at].lived_ms));
	}
	return all;
}

void k3sup__deaths_text(const struct k3sup__deaths *deaths, char ret[static K3SUP__DEATH_TEXT])
{
	int status;

	if (deaths->count == 0 || k3sup__process_exit_status(deaths->items[(deaths->count - 1) % K3SUP__MOST_DEATHS].process, &status) < 0)
		snprintf(ret, K3SUP__DEATH_TEXT, "how the last one ended cannot be seen");
	else if (WIFSIGNALED(status))
		snprintf(ret, K3SUP__DEATH_TEXT, "the last one ended by signal %d", WTERMSIG(status));
	else
		snprintf(ret, K3SUP__DEATH_TEXT, "the last one ended with status %d", WEXITSTATUS(status));
}
