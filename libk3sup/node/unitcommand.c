/* SPDX-License-Identifier: Apache-2.0 */
#include "node/uniteval.h"
#include "node/unitwords.h"

void k3sup__command_clear(struct k3sup__command *command)
{
	free(command->path);
	k3sup__strv_clear(&command->argv);
	*command = (struct k3sup__command){0};
}

/* systemd does not load a unit with a wrong command; of a drop-in it only leaves out the rest. */
static int refuse(struct k3sup__evaluation *e, const char *why)
{
	if (e->at->file > 0 && !e->beyond) {
		e->skipped = e->at->file;
		return k3sup__eval_note(e, why);
	}
	return k3sup__unit_spoil(e->unit, K3SUP__UNIT_BAD, "%s:%u: %s=: %s", e->unit->files.items[e->at->file], e->at->line, e->at->key, why);
}

/* The prefixes of systemd.service(5), "Special executable prefixes"; each counts once. */
static const char *skip_prefixes(const char *word, bool *ret_argv0, bool *ret_literal, bool *ret_ignore)
{
	bool full = false, drop = false;

	for (;; word++) {
		if (*word == '-' && !*ret_ignore)
			*ret_ignore = true;
		else if (*word == '@' && !*ret_argv0)
			*ret_argv0 = true;
		else if (*word == ':' && !*ret_literal)
			*ret_literal = true;
		else if (*word == '+' && !full && !drop)
			full = true;
		else if (*word == '!' && !full && !drop)
			drop = true;
		else if (*word == '!' && drop && word[-1] == '!' && word[1] != '!')
			continue;
		else
			return word;
	}
}

/* An unquoted semicolon ends a command; "\;" is one as an argument. */
static bool is_semicolon(const char *at)
{
	return at[0] == ';' && (at[1] == '\0' || strchr(K3SUP__BLANKS, at[1]) != NULL);
}

static int add_argument(struct k3sup__evaluation *e, const char *word, struct k3sup__command *command, const char **ret_why)
{
	char *resolved = NULL;
	int r = k3sup__eval_resolve(e, word, &resolved, ret_why);

	if (r <= 0)
		return r;
	r = k3sup__strv_add(&command->argv, resolved);
	return r < 0 ? r : 1;
}

/* 1; 0 with *ret_why: systemd would not take it, or nobody can tell. */
static int take_arguments(struct k3sup__evaluation *e, const char **text, struct k3sup__command *command, const char **ret_why)
{
	int r = 1;

	while (r > 0 && **text != '\0' && !is_semicolon(*text)) {
		_free_ char *word = NULL;

		if ((*text)[0] == '\\' && is_semicolon(*text + 1)) {
			*text += 2;
			*text += strspn(*text, K3SUP__BLANKS);
			r = add_argument(e, ";", command, ret_why);
			continue;
		}
		r = k3sup__unit_word(text, false, &word);
		if (r == -EINVAL)
			*ret_why = "its quotes are not closed";
		if (r > 0)
			r = add_argument(e, word, command, ret_why);
	}
	return r == -EINVAL ? 0 : r < 0 ? r : *ret_why == NULL;
}

static int check_path(const char *path, const char **ret_why)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)path[i] < ' ' || strchr("\"'\\\177", path[i]) != NULL)
			*ret_why = "the name of its program has quotes, backslashes or control characters";
	if (len == 0)
		*ret_why = "it names no program";
	else if (path[len - 1] == '/' || k3sup__endswith(path, "/.") || k3sup__endswith(path, "/.."))
		*ret_why = "its program is a directory";
	else if (path[0] != '/' && strchr(path, '/') != NULL)
		*ret_why = "its program is neither an absolute path nor a plain name";
	return *ret_why == NULL;
}

static int take_command(struct k3sup__evaluation *e, const char **text, struct k3sup__command *command, const char **ret_why)
{
	bool argv0 = false, ignore = false;
	_free_ char *word = NULL;
	int r = k3sup__unit_word(text, false, &word);

	if (r <= 0)
		return r == -EINVAL ? (*ret_why = "its quotes are not closed", 0) : r;
	if (k3sup__streq(word, ";"))
		return 1;
	r = k3sup__eval_resolve(e, skip_prefixes(word, &argv0, &command->literal, &ignore), &command->path, ret_why);
	if (r > 0)
		r = check_path(command->path, ret_why);
	if (r > 0 && !argv0) {
		r = k3sup__strv_add_copy(&command->argv, command->path, strlen(command->path));
		r = r < 0 ? r : 1;
	}
	if (r > 0)
		r = take_arguments(e, text, command, ret_why);
	if (r > 0 && command->argv.count == 0) {
		*ret_why = "after @ it names no argument 0";
		r = 0;
	}
	if (r == 0 && ignore) { /* "-": systemd goes on without it */
		k3sup__command_clear(command);
		*ret_why = NULL;
		*text += strlen(*text);
		return 1;
	}
	return r;
}

int k3sup__eval_exec_start(struct k3sup__evaluation *e)
{
	const char *text = e->at->value, *why = NULL;
	int r = 1;

	if (*text == '\0') {
		k3sup__command_clear(&e->command);
		e->commands = 0;
		return 0;
	}
	while (r > 0 && *text != '\0') {
		struct k3sup__command command = {.path = NULL};

		r = take_command(e, &text, &command, &why);
		if (r > 0 && is_semicolon(text)) {
			text++;
			text += strspn(text, K3SUP__BLANKS);
		}
		if (r > 0 && command.path != NULL && e->commands++ == 0) {
			e->command = command;
			continue;
		}
		k3sup__command_clear(&command);
	}
	return r < 0 ? r : r == 0 ? refuse(e, why != NULL ? why : "it cannot be understood") : 0;
}
