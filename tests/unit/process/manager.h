/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A service manager as its programs show it: a small static program that stands in for systemctl and systemd-run in a root of the test's own, reached by a chroot. It writes down
 * what it was asked, and says what the test has put there for its first words.
 */
#ifndef K3SUP_TESTS_UNIT_PROCESS_MANAGER_H
#define K3SUP_TESTS_UNIT_PROCESS_MANAGER_H

#include "../rooms.h"

#include "process/systemctl.h"

#define SYSTEMCTL "/usr/bin/systemctl"
#define SYSTEMD_RUN "/usr/bin/systemd-run"

/*
 * The words of a call, joined by blanks, are a line of /asked. Of the files /says-0, /says-1, ... the first one whose first line is a pattern for
 * what was asked (fnmatch(3)) is answered with its rest; a line "!" there ends it with status 1.
 */
static const char manager_source[] = "#include <fnmatch.h>\n#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n"
				     "int main(int argc, char **argv) {\n"
				     "	char asked[8192] = \"\", name[32], text[8192], *rest;\n"
				     "	FILE *f;\n"
				     "	for (int i = 0; i < argc; i++) {\n"
				     "		strcat(asked, i ? argv[i] : strrchr(argv[0], '/') + 1);\n"
				     "		strcat(asked, i + 1 < argc ? \" \" : \"\");\n"
				     "	}\n"
				     "	f = fopen(\"/asked\", \"a\");\n"
				     "	if (!f || fprintf(f, \"%s\\n\", asked) < 0 || fclose(f)) return 2;\n"
				     "	for (int i = 0; i < 10; i++) {\n"
				     "		snprintf(name, sizeof(name), \"/says-%d\", i);\n"
				     "		f = fopen(name, \"r\");\n"
				     "		if (!f) continue;\n"
				     "		text[fread(text, 1, sizeof(text) - 1, f)] = 0;\n"
				     "		fclose(f);\n"
				     "		rest = strchr(text, '\\n');\n"
				     "		*rest++ = 0;\n"
				     "		if (fnmatch(text, asked, 0)) continue;\n"
				     "		if (*rest == '!') return fputs(rest + 2, stdout), 1;\n"
				     "		return fputs(rest, stdout) < 0;\n"
				     "	}\n"
				     "	return 0;\n"
				     "}\n";

static inline int manager_build(void **state)
{
	_free_ char *source = NULL, *command = NULL;
	FILE *f;

	if (rooms_build(state) != 0)
		return -1;
	source = k3sup__fmt("%s/manager.c", fake_program);
	command = k3sup__fmt("cc -static -O1 -o %s/manager %s", fake_program, source);
	f = fopen(source, "we");
	if (f == NULL || fputs(manager_source, f) < 0 || fclose(f) != 0)
		return -1;
	return system(command); /* NOLINT: a compiler is what tests have */
}

/* Is what a systemd is known by (sd_booted(3)), with its programs. */
static inline void manager_install(const struct scratch *s)
{
	_free_ char *booted = below(s, "/run/systemd/system");

	install_program("manager", s->path, SYSTEMCTL, "", NULL);
	install_program("manager", s->path, SYSTEMD_RUN, "", NULL);
	make_dirs(booted);
}

/* What it says to a call that begins so, a pattern; number: its place among what it is compared with. */
static inline void manager_says(const struct scratch *s, int number, const char *asked, const char *answer)
{
	_free_ char *name = k3sup__fmt("says-%d", number), *text = k3sup__fmt("%s*\n%s", asked, answer);

	fake_put_list(s->path, name, text);
}

/* All that it was asked since the last time. Owned. */
static inline char *manager_asked(const struct scratch *s)
{
	char *text = NULL;

	if (k3sup__read_file(s->fd, "asked", 65536, &text, NULL) < 0)
		return strdup("");
	assert_int_equal(unlinkat(s->fd, "asked", 0), 0);
	return text;
}

static inline void assert_asked(const struct scratch *s, const char *expected)
{
	_free_ char *asked = manager_asked(s);

	assert_string_equal(asked, expected);
}

#endif
