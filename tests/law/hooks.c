/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The caller's commands, which an upgrade asks before it writes and before it stops k3s: each run anew, whatever runs before it have asked. They may be cut, too.
 */
#include "law.h"

#include <string.h>

#include "process/ask.h"
#include "upgrade/hooks.h"

#define HOOK_WRITE 1u
#define HOOK_STOP 2u

int __wrap_k3sup__ask(k3sup_op *op, k3sup_node *node, const struct k3sup__question *question, k3sup__json **ret);
int __real_k3sup__hook_run(k3sup_op *op, k3sup_node *node, const char *name, const char *command, const struct k3sup__view *view,
	const struct k3sup__payload *payload);
int __wrap_k3sup__hook_run(k3sup_op *op, k3sup_node *node, const char *name, const char *command, const struct k3sup__view *view,
	const struct k3sup__payload *payload);

void hooks_begin(void)
{
	machine->asked = 0;
	machine->asked_late = false;
	machine->installed = node_installed();
	machine->ran = machine->running;
}

static bool has_ended(void)
{
	return machine->ran >= 0 && machine->lives[machine->ran].ended;
}

int __wrap_k3sup__ask(k3sup_op *op, k3sup_node *node, const struct k3sup__question *question, k3sup__json **ret)
{
	const unsigned which = strcmp(question->command, BEFORE_STOP) == 0 ? HOOK_STOP : HOOK_WRITE;

	(void)op;
	(void)node;
	if (point())
		cut_now();
	machine->asked_late |= has_ended() || node_installed() != machine->installed;
	machine->asked |= which;
	machine->ever_asked |= which;
	*ret = k3sup__json_object();
	k3sup__json_set_bool(*ret, "ok", true);
	if (point())
		cut_now();
	return 0;
}

/* Somebody remembers that it was asked. */
int __wrap_k3sup__hook_run(k3sup_op *op, k3sup_node *node, const char *name, const char *command, const struct k3sup__view *view,
	const struct k3sup__payload *payload)
{
	const unsigned which = strcmp(command, BEFORE_STOP) == 0 ? HOOK_STOP : HOOK_WRITE;

	if (machine->mutant == ASKED_ONCE && machine->ever_asked & which)
		return 0;
	return __real_k3sup__hook_run(op, node, name, command, view, payload);
}

char *hooks_complaint(void)
{
	if (machine->asked_late)
		return strdup("a command was asked after it was done");
	if (node_installed() != machine->installed && !(machine->asked & HOOK_WRITE))
		return strdup("it wrote and had not asked");
	return has_ended() && !(machine->asked & HOOK_STOP) ? strdup("it stopped k3s and had not asked") : NULL;
}
