/* SPDX-License-Identifier: Apache-2.0 */
#include "node/warn.h"

#include <stdarg.h>
#include <stdio.h>

/* An operation may look at the same thing several times. */
static bool is_said(const k3sup__json *warnings, const char *text)
{
	for (size_t i = 0; i < k3sup__json_len(warnings); i++) {
		const char *said = k3sup__json_as_str(k3sup__json_element(warnings, i));

		if (said != NULL && k3sup__streq(said, text))
			return true;
	}
	return false;
}

void k3sup__warn(k3sup_op *op, const char *fmt, ...)
{
	k3sup__json *facts = op != NULL ? k3sup__op_facts(op) : NULL;
	_free_ char *text = NULL;
	va_list ap;

	if (facts == NULL)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (text != NULL && is_said(k3sup__json_member(facts, "warnings"), text))
		return;
	if (k3sup__json_member(facts, "warnings") == NULL)
		k3sup__json_set(facts, "warnings", k3sup__json_array());
	/* Without memory the element is NULL, which marks the document as broken. */
	k3sup__json_add(k3sup__json_member(facts, "warnings"), text != NULL ? k3sup__json_str(text) : NULL);
	k3sup__log(op, K3SUP_LOG_WARNING, "%s", text != NULL ? text : "(no memory for a warning)");
}
