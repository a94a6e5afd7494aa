/* SPDX-License-Identifier: Apache-2.0 */
#include "node/checks.h"

#include <stdarg.h>
#include <stdio.h>

void k3sup__checks_begin(struct k3sup__checks *checks)
{
	*checks = (struct k3sup__checks){.list = k3sup__json_array()};
}

void k3sup__checks_clear(struct k3sup__checks *checks)
{
	k3sup__json_unref(checks->list);
	k3sup__json_unref(checks->evidence);
	free(checks->why);
	*checks = (struct k3sup__checks){0};
}

void k3sup__checks_add(struct k3sup__checks *checks, const char *name, enum k3sup__decision decision, int code, k3sup__json *evidence,
	const char *fmt, ...)
{
	static const char *const words[] = {[K3SUP__PASS] = "pass", [K3SUP__WARN] = "warn", [K3SUP__ALLOWED] = "allowed", [K3SUP__REFUSE] = "refuse"};
	k3sup__json *check = k3sup__json_object();
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	k3sup__json_set_str(check, "name", name);
	k3sup__json_set_str(check, "decision", words[decision]);
	/* Without memory the text is NULL, which marks the list as broken. */
	k3sup__json_set(check, "text", text ? k3sup__json_str(text) : NULL);
	if (decision == K3SUP__REFUSE)
		k3sup__json_set_str(check, "error", k3sup_error_name(code));
	k3sup__json_add(checks->list, check);
	if (decision == K3SUP__REFUSE && !checks->code) {
		checks->code = code;
		checks->why = text;
		checks->evidence = evidence;
		return;
	}
	free(text);
	k3sup__json_unref(evidence);
}

static int keep_evidence(const char *key, k3sup__json *value, void *arg)
{
	k3sup__json_set(arg, key, k3sup__json_ref(value));
	return 0;
}

int k3sup__checks_judge(k3sup_op *op, struct k3sup__checks *checks)
{
	if (!checks->list || k3sup__json_broken(checks->list))
		return -ENOMEM;
	k3sup__json_set(k3sup__op_facts(op), "checks", k3sup__json_ref(checks->list));
	if (!checks->code)
		return 0;
	if (checks->evidence)
		(void)k3sup__json_each(checks->evidence, keep_evidence, k3sup__op_evidence(op));
	return k3sup__fail(op, checks->code, "%s", checks->why);
}

static bool is_among(const k3sup__json *list, const char *name)
{
	for (size_t i = 0; i < k3sup__json_len(list); i++) {
		const char *its = k3sup__json_text(k3sup__json_element(list, i), "name");

		if (its && name && k3sup__streq(its, name))
			return true;
	}
	return false;
}

int k3sup__checks_amend(k3sup_op *op, struct k3sup__checks *checks)
{
	const k3sup__json *before = k3sup__json_member(k3sup__op_facts(op), "checks");
	k3sup__json *all = k3sup__json_array();

	for (size_t i = 0; i < k3sup__json_len(before); i++) {
		k3sup__json *check = k3sup__json_element(before, i);

		if (!is_among(checks->list, k3sup__json_text(check, "name")))
			k3sup__json_add(all, k3sup__json_ref(check));
	}
	for (size_t i = 0; i < k3sup__json_len(checks->list); i++)
		k3sup__json_add(all, k3sup__json_ref(k3sup__json_element(checks->list, i)));
	if (!checks->list || k3sup__json_broken(checks->list)) {
		k3sup__json_unref(all);
		return -ENOMEM;
	}
	k3sup__json_unref(checks->list);
	checks->list = all;
	return k3sup__checks_judge(op, checks);
}
