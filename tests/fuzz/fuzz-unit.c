/* SPDX-License-Identifier: Apache-2.0 */
/* Unit files: their grammar, words, specifiers, variables; environment files; init scripts. */
#include "fuzz.h"

#include "node/shell.h"
#include "node/unittext.h"
#include "node/unitwords.h"

static void take_words(const char *text, const struct k3sup__strv *env, bool strict)
{
	struct k3sup__strv words = {0}, expanded = {0};
	const char *at = text;
	int r;

	for (;;) {
		char *word = NULL, *resolved = NULL;

		r = k3sup__unit_word(&at, strict, &word);
		if (r <= 0)
			break;
		RULE(strlen(word) <= strlen(text) && at <= text + strlen(text));
		r = k3sup__unit_specifiers("k3s-a.service", word, &resolved);
		RULE(r == 0 ? resolved != NULL : r == -EBADSLT || r == -ENODATA);
		free(resolved);
		RULE(k3sup__strv_add(&words, word) == 0);
	}
	RULE(r == 0 || r == -EINVAL);
	RULE(r < 0 || *at == '\0');
	RULE(k3sup__unit_expand(&words, env, &expanded) == 0);
	RULE(words.count == 0 || k3sup__streq(words.items[0], expanded.items[0]));
	k3sup__strv_clear(&words);
	k3sup__strv_clear(&expanded);
}

static void take_script(const char *text)
{
	struct k3sup__shell shell = {.lost = false};
	struct k3sup__strv words = {0};

	RULE(k3sup__shell_read(&shell, text, "x") == 0);
	RULE(!shell.lost || shell.odd.count > 0);
	RULE(k3sup__shell_words(&shell, text, &words) <= 0);
	k3sup__strv_clear(&words);
	k3sup__shell_clear(&shell);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__assignments found = {0};
	struct k3sup__strv env = {0};
	char *text = malloc(size + 1);
	unsigned line;
	int r;

	RULE(text);
	memcpy(text, data, size);
	text[size] = '\0';
	RULE(k3sup__env_parse(text, size, &env) == 0);
	for (size_t i = 0; i < env.count; i++)
		RULE(k3sup__env_is_assignment(env.items[i]));
	r = k3sup__unit_parse(text, size, 0, &found, &line);
	RULE(r == 0 || r == -EBADMSG);
	for (size_t i = 0; i < found.count; i++) {
		int64_t span;

		RULE(found.items[i].line >= 1 && found.items[i].line <= line);
		RULE(strpbrk(found.items[i].value, "\n") == NULL);
		take_words(found.items[i].value, &env, false);
		take_words(found.items[i].value, &env, true);
		r = k3sup__unit_span(found.items[i].value, &span);
		RULE(r == -EINVAL || (r == 0 && span >= -1));
	}
	take_script(text);
	k3sup__assignments_clear(&found);
	k3sup__strv_clear(&env);
	free(text);
	return 0;
}
