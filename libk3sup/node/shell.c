/* SPDX-License-Identifier: Apache-2.0 */
#include "node/shell.h"

#include "node/shellexpand.h"

#define MAX_SOURCED 8

void k3sup__shell_clear(struct k3sup__shell *shell)
{
	k3sup__strv_clear(&shell->vars);
	k3sup__strv_clear(&shell->exported);
	k3sup__strv_clear(&shell->unknown);
	k3sup__strv_clear(&shell->functions);
	k3sup__strv_clear(&shell->odd);
}

const char *k3sup__shell_get(const struct k3sup__shell *shell, const char *name)
{
	return k3sup__env_get(&shell->vars, name, strlen(name));
}

bool k3sup__shell_is_known(const struct k3sup__shell *shell, const char *name)
{
	return !shell->lost && !k3sup__strv_has(&shell->unknown, name);
}

struct reader {
	struct k3sup__shell *shell;
	const char *path;
	const char *text; /* from its beginning, to count lines */
	const char *at;
};

/* A simple command: raw words, and what ends it. */
struct command {
	const char *words[64];
	size_t lens[64];
	size_t count;
	char end[3]; /* "\n", ";", "&&", "||", "|", "&", "(", ")", "" */
	const char *begin;
};

static int say(struct reader *reader, const char *at, const char *what)
{
	unsigned line = 1;

	for (const char *c = reader->text; c < at; c++)
		line += *c == '\n';
	return k3sup__strv_add(&reader->shell->odd, k3sup__fmt("%s:%u: %s", reader->path, line, what));
}

static int be_lost(struct reader *reader, const char *at, const char *what)
{
	reader->shell->lost = true;
	reader->at += strlen(reader->at);
	return say(reader, at, what);
}

static void skip_blanks(struct reader *reader)
{
	for (;;) {
		if (*reader->at == ' ' || *reader->at == '\t')
			reader->at++;
		else if (reader->at[0] == '\\' && reader->at[1] == '\n')
			reader->at += 2;
		else
			return;
	}
}

static void skip_comment(struct reader *reader)
{
	if (*reader->at == '#')
		reader->at += strcspn(reader->at, "\n");
}

/* Redirections of a command say nothing about variables. */
static bool skip_redirection(struct reader *reader)
{
	ssize_t n;

	if (*reader->at != '<' && *reader->at != '>')
		return false;
	if (reader->at[0] == '<' && reader->at[1] == '<') /* a here document */
		return false;
	reader->at += strspn(reader->at, "<>&|");
	skip_blanks(reader);
	n = k3sup__shell_word_len(reader->at);
	if (n > 0)
		reader->at += n;
	return n >= 0;
}

/* 0; -EINVAL: it cannot be told where it ends. */
static int read_command(struct reader *reader, struct command *command)
{
	*command = (struct command){.begin = reader->at};
	for (;;) {
		ssize_t n;

		skip_blanks(reader);
		skip_comment(reader);
		if (skip_redirection(reader))
			continue;
		n = k3sup__shell_word_len(reader->at);
		if (n < 0 || command->count == ELEMENTSOF(command->words) || (n == 0 && (*reader->at == '<' || *reader->at == '>')))
			return -EINVAL;
		if (n == 0)
			break;
		command->words[command->count] = reader->at;
		command->lens[command->count++] = (size_t)n;
		reader->at += n;
	}
	command->end[0] = *reader->at;
	if (*reader->at == '&' || *reader->at == '|')
		command->end[1] = reader->at[1] == *reader->at ? *reader->at : '\0';
	reader->at += strlen(command->end);
	return 0;
}

static bool is(const struct command *command, size_t index, const char *word)
{
	return index < command->count && command->lens[index] == strlen(word) && memcmp(command->words[index], word, strlen(word)) == 0;
}

/* NAME of NAME=..., or 0. */
static size_t assigned_name(const struct command *command, size_t index)
{
	const char *equals = memchr(command->words[index], '=', command->lens[index]);
	size_t len = equals != NULL ? (size_t)(equals - command->words[index]) : 0;

	return k3sup__shell_is_name(command->words[index], len) ? len : 0;
}

static int forget(struct reader *reader, const char *name, size_t len)
{
	return k3sup__strv_add_copy(&reader->shell->unknown, name, len);
}

/* sure: false inside of a condition that was not understood. */
static int assign(struct reader *reader, const struct command *command, size_t index, bool sure)
{
	const char *word = command->words[index];
	size_t name = assigned_name(command, index);
	struct k3sup__strv value = {0};
	int r = sure ? k3sup__shell_expand(reader->shell, word + name + 1, command->lens[index] - name - 1, false, &value) : -EINVAL;

	if (r == -EINVAL) {
		r = forget(reader, word, name);
		if (r == 0 && reader->shell->allexport)
			r = k3sup__strv_add_copy(&reader->shell->exported, word, name);
		if (r == 0)
			r = say(reader, word, "the value of a variable is more than can be understood here");
	} else if (r == 0) {
		r = k3sup__shell_set(reader->shell, word, name, value.items[0]);
	}
	k3sup__strv_clear(&value);
	return r;
}

static int export_names(struct reader *reader, const struct command *command, bool sure)
{
	int r = 0;

	for (size_t i = 1; r == 0 && i < command->count; i++) {
		size_t len = assigned_name(command, i);

		if (len > 0)
			r = assign(reader, command, i, sure);
		else if (k3sup__shell_is_name(command->words[i], command->lens[i]))
			len = command->lens[i];
		if (r == 0 && len > 0)
			r = k3sup__strv_add_copy(&reader->shell->exported, command->words[i], len);
	}
	return r;
}

static void set_options(struct reader *reader, const struct command *command)
{
	for (size_t i = 1; i < command->count; i++) {
		if (is(command, i, "-a") || (is(command, i, "-o") && is(command, i + 1, "allexport")))
			reader->shell->allexport = true;
		if (is(command, i, "+a") || (is(command, i, "+o") && is(command, i + 1, "allexport")))
			reader->shell->allexport = false;
	}
}

/* The one word that a file name has to be; NULL if it is not known, or (errno) memory is gone. */
static char *file_name(struct reader *reader, const struct command *command, size_t index)
{
	struct k3sup__strv words = {0};
	char *name = NULL;
	int r = k3sup__shell_expand(reader->shell, command->words[index], command->lens[index], true, &words);

	if (r == 0 && words.count == 1)
		name = strdup(words.items[0]);
	errno = r == -ENOMEM || (r == 0 && words.count == 1 && name == NULL) ? ENOMEM : 0;
	k3sup__strv_clear(&words);
	return name;
}

static int source(struct reader *reader, const struct command *command, bool sure)
{
	struct k3sup__shell *shell = reader->shell;
	_free_ char *name = command->count == 2 && sure ? file_name(reader, command, 1) : NULL;
	int r;

	if (name == NULL && errno == ENOMEM && command->count == 2 && sure)
		return -ENOMEM;
	if (name == NULL || name[0] != '/' || shell->depth >= MAX_SOURCED || shell->source == NULL)
		return be_lost(reader, command->begin, "it reads a file that cannot be named here");
	shell->depth++;
	r = shell->source(shell, name, shell->arg);
	shell->depth--;
	/* Without it the script ends in an error, so nothing that follows counts. */
	return r == -ENOENT ? be_lost(reader, command->begin, "it reads a file that does not exist") : r;
}

/* [ -f FILE ]: 1, 0; -EINVAL: another condition. */
static int condition(struct reader *reader, const struct command *command, size_t first)
{
	static const char *const tests[] = {"-f", "-e", "-r", "-s"};
	_free_ char *name = NULL;

	if (!is(command, first, "[") || !is(command, first + 3, "]") || command->count != first + 4 || reader->shell->exists == NULL)
		return -EINVAL;
	for (size_t i = 0;; i++) {
		if (i == ELEMENTSOF(tests))
			return -EINVAL;
		if (is(command, first + 1, tests[i]))
			break;
	}
	name = file_name(reader, command, first + 2);
	if (name == NULL)
		return errno == ENOMEM ? -ENOMEM : -EINVAL;
	return name[0] == '/' ? reader->shell->exists(name, reader->shell->arg) : -EINVAL;
}

enum mode { SURE, UNSURE, SKIPPED };

static int run(struct reader *reader, struct command *command, enum mode mode);

static void drop_word(struct command *command)
{
	command->count--;
	memmove(command->words, command->words + 1, command->count * sizeof(*command->words));
	memmove(command->lens, command->lens + 1, command->count * sizeof(*command->lens));
}

/* Up to "fi"; command is "if" and its condition. */
static int run_if(struct reader *reader, struct command *command, enum mode mode)
{
	int truth = condition(reader, command, 1), r;
	enum mode inner = mode != SURE ? mode : truth == -EINVAL ? UNSURE : truth > 0 ? SURE : SKIPPED;
	const char *begin = command->begin;

	if (truth < 0 && truth != -EINVAL)
		return truth;
	r = read_command(reader, command);
	if (r < 0 || !is(command, 0, "then"))
		return be_lost(reader, begin, "an if that cannot be understood");
	drop_word(command);
	for (;;) {
		if (is(command, 0, "fi"))
			return 0;
		if (is(command, 0, "else")) {
			inner = inner == UNSURE || mode != SURE ? inner : inner == SURE ? SKIPPED : SURE;
			drop_word(command);
		}
		r = run(reader, command, inner);
		if (r < 0 || reader->shell->lost)
			return r;
		r = read_command(reader, command);
		if (r < 0 || (command->count == 0 && command->end[0] == '\0'))
			return be_lost(reader, begin, "an if whose end cannot be found");
	}
}

/* NAME () { ... }: what a function does when it is called is not looked at, but what it is named, and that is enough to refuse. */
static int read_function(struct reader *reader, const struct command *command)
{
	const char *end;

	reader->at += strspn(reader->at, " \t\n");
	if (*reader->at != ')')
		return be_lost(reader, command->begin, "it cannot be understood");
	reader->at++;
	reader->at += strspn(reader->at, " \t\n");
	/* The end of a function that is written as people write them: a brace at the beginning of a line, or all of it in one line. */
	end = *reader->at == '{' ? strstr(reader->at, "\n}") : NULL;
	if (*reader->at == '{') {
		size_t line = strcspn(reader->at, "\n");

		if (line > 0 && reader->at[line - 1] == '}')
			end = reader->at + line - 2;
	}
	if (end == NULL)
		return be_lost(reader, command->begin, "a function whose end cannot be told");
	reader->at = end + 2;
	return k3sup__strv_add_copy(&reader->shell->functions, command->words[0], command->lens[0]);
}

static bool is_harmless(const struct command *command)
{
	static const char *const words[] = {"true", "einfo", "ewarn", "ebegin", "eend", "echo", "printf", "ulimit", "umask", "mkdir", "rm",
		"touch", "chmod", "chown", "checkpath", "modprobe", "sysctl", "mount", "mountpoint", "install"};

	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		if (is(command, 0, words[i]))
			return true;
	return false;
}

/* ":" and its arguments: ${NAME:=VALUE} sets. */
static int run_colon(struct reader *reader, const struct command *command, bool sure)
{
	int r = sure ? 0 : -EINVAL;

	for (size_t i = 1; r == 0 && i < command->count; i++) {
		struct k3sup__strv words = {0};

		r = k3sup__shell_expand(reader->shell, command->words[i], command->lens[i], true, &words);
		k3sup__strv_clear(&words);
	}
	return r == -EINVAL ? be_lost(reader, command->begin, "it cannot be understood") : r;
}

static int run_words(struct reader *reader, struct command *command, bool sure)
{
	size_t assignments = 0;
	int r = 0;

	while (assignments < command->count && assigned_name(command, assignments) > 0)
		assignments++;
	if (assignments == command->count) {
		for (size_t i = 0; r == 0 && i < command->count; i++)
			r = assign(reader, command, i, sure);
		return r;
	}
	if (assignments == 0 && is(command, 0, "export"))
		return export_names(reader, command, sure);
	if (is(command, 0, "."))
		return source(reader, command, sure);
	if (is(command, 0, ":"))
		return run_colon(reader, command, sure);
	if (is(command, 0, "set") && sure) {
		set_options(reader, command);
		return 0;
	}
	if (is(command, 0, "unset") && sure) {
		for (size_t i = 1; i < command->count; i++)
			k3sup__env_unset(&reader->shell->vars, command->words[i], command->lens[i]);
		return 0;
	}
	if (is_harmless(command))
		return 0;
	return be_lost(reader, command->begin, "a command that is not understood");
}

/* What follows "&&" depends on the condition. */
static int run_and(struct reader *reader, struct command *command, enum mode mode)
{
	int truth = condition(reader, command, 0), r;

	if (truth < 0 && truth != -EINVAL)
		return truth;
	if (truth == -EINVAL && !is_harmless(command) && !is(command, 0, "["))
		return be_lost(reader, command->begin, "it cannot be understood");
	if (mode == SURE)
		mode = truth == -EINVAL ? UNSURE : truth ? SURE : SKIPPED;
	reader->at += strspn(reader->at, " \t\n");
	r = read_command(reader, command);
	if (r < 0 || k3sup__streq(command->end, "||"))
		return be_lost(reader, command->begin, "it cannot be understood");
	return run(reader, command, mode);
}

static int run(struct reader *reader, struct command *command, enum mode mode)
{
	/* Where these end cannot be told, not even if they are to be skipped. */
	static const char *const lost[] = {"for", "while", "until", "case", "{", "!", "function", "elif"};

	if (command->end[0] == '(' && command->count == 1)
		return read_function(reader, command);
	if (command->count == 0 && (command->end[0] == '\n' || command->end[0] == ';' || command->end[0] == '\0'))
		return 0;
	if (is(command, 0, "if"))
		return run_if(reader, command, mode);
	for (size_t i = 0; i < ELEMENTSOF(lost); i++)
		if (is(command, 0, lost[i]))
			return be_lost(reader, command->begin, "it cannot be understood");
	if (k3sup__streq(command->end, "&&"))
		return run_and(reader, command, mode);
	if (command->end[0] != '\n' && command->end[0] != ';' && command->end[0] != '\0')
		return be_lost(reader, command->begin, "it cannot be understood");
	return mode == SKIPPED ? 0 : run_words(reader, command, mode == SURE);
}

int k3sup__shell_read(struct k3sup__shell *shell, const char *text, const char *path)
{
	struct reader reader = {.shell = shell, .path = path, .text = text, .at = text};
	int r = 0;

	while (r == 0 && *reader.at != '\0' && !shell->lost) {
		struct command command;

		r = read_command(&reader, &command);
		if (r == -EINVAL)
			r = be_lost(&reader, command.begin, "it cannot be understood");
		else if (r == 0)
			r = run(&reader, &command, SURE);
	}
	return r;
}
