/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random units, read here and by a real systemd: "systemd --test" loads units as it does at boot and prints what it made of them, without starting anything.
 */
#include "tree.h"

#include "node/unit.h"
#include "node/unitfind.h"

#define SYSTEMD "/lib/systemd/systemd"

static uint64_t seed;

static unsigned pick(unsigned count)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % count;
}

static const char *one_of(const char *const *list, size_t count)
{
	return list[pick((unsigned)count)];
}
#define ONE_OF(list) one_of(list, ELEMENTSOF(list))

static const char *const pieces[] = {"a", "bc", "--x=", "\"", "'", "\"d e\"", "'f  g'", "\\n", "\\x41", "\\q", "\\\\", "\\'", "\\\"", " ",
	"\t", "  ", "%n", "%N", "%p", "%i", "%j", "%%", "%t", "%!", "\303\251", ";", " ; ", " \\; ", "\\s", "\\101", " \\\n", " \\\n# c\n",
	"\\\n  ", "''", "=", "#", "\\"};
static const char *const prefixes[] = {"", "", "", "-", "@", ":", "+", "!", "!!", "@-:", "--", "@@"};
static const char *const lines[] = {"KillMode=process", "KillMode=mixed", "KillMode=", "KillMode=x", "Restart=always", "Restart=on-failure",
	"Restart=no", "Restart=sometimes", "RestartSec=5", "RestartSec=1min 2s", "RestartSec=300ms", "RestartSec=x", "Type=simple", "Type=exec",
	"Type=notify", "Type=simple # x", "PrivateTmp=yes", "PrivateTmp=off", "ExecStart=", "Environment=", "WorkingDirectory=/srv/%p",
	"[Unit]", "[Service]", "; comment", "# comment \\", "KillMode = none", "  Restart=on-abort", "[X-Y]", "junk"};
static const char *const names[] = {"k3s.service", "k3s-a.service", "k3s-a-b.service", "x.service"};
static const char *const drop_in_dirs[] = {
	"k3s-.service.d", "k3s-a-.service.d", "service.d", "k3s-a.service.d", "k3s.service.d", "k3s-a-b.service.d", "x.service.d"};
static const char *const drop_in_names[] = {"10.conf", "20.conf", "30.conf", ".hid.conf", "x.txt"};

struct text {
	char *at;
};

static void put(struct text *text, const char *more)
{
	char *longer = k3sup__fmt("%s%s", text->at != NULL ? text->at : "", more);

	assert_non_null(longer);
	free(text->at);
	text->at = longer;
}

static void put_words(struct text *text, unsigned count)
{
	while (count-- > 0)
		put(text, ONE_OF(pieces));
}

static void put_assignment(struct text *text)
{
	switch (pick(4)) {
	case 0:
		put(text, "Environment=");
		for (unsigned n = pick(3) + 1; n > 0; n--) {
			put(text, pick(2) ? " A=" : " B_1=");
			put_words(text, pick(3));
		}
		break;
	case 1:
		put(text, "ExecStart=");
		put(text, ONE_OF(prefixes));
		put(text, pick(8) ? "/usr/bin/true " : "\"/usr/bin/tr\"ue ");
		put_words(text, pick(7));
		break;
	default:
		put(text, ONE_OF(lines));
	}
	put(text, "\n");
}

static void put_unit_file(struct scratch *s, const char *path, bool main)
{
	struct text text = {NULL};

	put(&text, "[Service]\n");
	/* Otherwise nearly all of them are wrong. */
	if (main || pick(3) == 0)
		put(&text, "ExecStart=\nExecStart=/usr/bin/true x\n");
	for (unsigned n = pick(5); n > 0; n--) {
		if (pick(3) > 0 && n == 1)
			put(&text, "ExecStart=\n");
		put_assignment(&text);
	}
	put_tree(s, path, text.at);
	free(text.at);
}

static void generate(struct scratch *s)
{
	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		for (unsigned copies = pick(2) + 1; copies > 0; copies--) {
			_free_ char *path = k3sup__fmt("%s/%s", k3sup__unit_dirs[pick(8)] + 1, names[i]);

			switch (pick(12)) {
			case 0:
				link_tree(s, "/dev/null", path);
				break;
			case 1:
				put_tree(s, path, "");
				break;
			default:
				(void)unlinkat(s->fd, path, 0);
				put_unit_file(s, path, true);
			}
		}
	for (unsigned n = pick(8); n > 0; n--) {
		_free_ char *path = k3sup__fmt("%s/%s/%s", k3sup__unit_dirs[pick(8)] + 1, ONE_OF(drop_in_dirs), ONE_OF(drop_in_names));

		put_unit_file(s, path, false);
	}
	if (pick(3) == 0)
		link_tree(s, ONE_OF(names), "etc/systemd/system/alias.service");
}

/* ---- what systemd says ---- */

static char *dump_of(struct scratch *s)
{
	struct text paths = {NULL}, out = {NULL};
	_free_ char *command = NULL, *top = NULL;
	char buffer[4096];
	FILE *pipe;

	put_tree(s, "run/systemd/system.control/all.target", "[Unit]\nWants=k3s.service k3s-a.service k3s-a-b.service x.service\n");
	for (size_t i = 0; k3sup__unit_dirs[i] != NULL; i++) {
		put(&paths, s->path);
		put(&paths, k3sup__unit_dirs[i]);
		put(&paths, ":");
	}
	put(&paths, "/usr/lib/systemd/system:"); /* its own, last, for sysinit.target and the like */
	top = k3sup__fmt("chmod -R a+rX %s", s->path);
	assert_int_equal(system(top), 0); /* NOLINT: a shell is what tests have */
	command = k3sup__fmt("exec setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH=/usr/bin:/bin XDG_RUNTIME_DIR=/tmp "
			     "SYSTEMD_UNIT_PATH=%s " SYSTEMD " --test --system --unit=all.target --no-pager 2>/dev/null",
		paths.at);
	pipe = popen(command, "re"); /* NOLINT */
	assert_non_null(pipe);
	while (fgets(buffer, sizeof(buffer), pipe) != NULL)
		put(&out, buffer);
	(void)pclose(pipe);
	free(paths.at);
	return out.at != NULL ? out.at : strdup("");
}

/* The value of a line "KEY: value" of a unit's part. from: where to look on. */
static char *value_in(const char *part, const char *key, const char **from)
{
	_free_ char *start = k3sup__fmt("\t%s: ", key);
	const char *at = strstr(from != NULL && *from != NULL ? *from : part, start), *end = strstr(part + 1, "-> Unit ");

	if (at == NULL || (end != NULL && at > end))
		return NULL;
	at += strlen(start);
	if (from != NULL)
		*from = at;
	return strndup(at, strcspn(at, "\n"));
}

/* One word of a command line as systemd prints it. */
static bool next_printed(const char **at, char *word)
{
	bool quoted;

	*at += strspn(*at, " ");
	if (**at == '\0')
		return false;
	quoted = **at == '"';
	for (*at += quoted; **at != '\0' && **at != (quoted ? '"' : ' '); (*at)++) {
		static const char letters[] = "a\ab\bf\fn\nr\rt\tv\v";
		const char *letter;

		if (**at != '\\') {
			*word++ = **at;
			continue;
		}
		(*at)++;
		letter = strchr("abfnrtv", **at);
		if (**at >= '0' && **at <= '3') {
			*word++ = (char)(((*at)[0] - '0') * 64 + ((*at)[1] - '0') * 8 + (*at)[2] - '0');
			*at += 2;
		} else if (letter != NULL) {
			for (const char *l = letters; *l != '\0'; l += 2)
				if (*l == **at)
					*word++ = l[1];
		} else {
			*word++ = **at;
		}
	}
	*at += quoted && **at == '"';
	*word = '\0';
	return true;
}

static void compare_command(const struct k3sup__unit *unit, const char *part)
{
	const char *exec = strstr(part, "-> ExecStart:"), *at;
	_free_ char *printed = NULL;
	char word[4096];
	size_t n = 0;

	assert_non_null(exec);
	printed = value_in(exec, "Command Line", NULL);
	assert_non_null(printed);
	for (at = printed; next_printed(&at, word); n++)
		if (n >= unit->argv.count || strcmp(word, unit->argv.items[n]) != 0)
			fail_msg("%s: word %zu of <%s> is here <%s>", unit->name, n, printed, n < unit->argv.count ? unit->argv.items[n] : "(none)");
	if (n != unit->argv.count)
		fail_msg("%s: <%s> are here %zu words", unit->name, printed, unit->argv.count);
}

static void compare_value(const struct k3sup__unit *unit, const char *part, const char *key, const char *ours)
{
	_free_ char *theirs = value_in(part, key, NULL);

	if (theirs == NULL || strcmp(theirs, ours) != 0)
		fail_msg("%s: %s is <%s>, here <%s>", unit->name, key, theirs != NULL ? theirs : "(none)", ours);
}

static void compare_environment(const struct k3sup__unit *unit, const char *part)
{
	const char *from = NULL;
	size_t n = 0;

	for (;; n++) {
		_free_ char *theirs = value_in(part, "Environment", &from);

		if (theirs == NULL)
			break;
		if (n >= unit->env.count || strncmp(theirs, unit->env.items[n], strcspn(theirs, "\n")) != 0)
			fail_msg("%s: Environment <%s> is here <%s>", unit->name, theirs, n < unit->env.count ? unit->env.items[n] : "(none)");
	}
	assert_int_equal(n, unit->env.count);
}

static void compare_drop_ins(struct scratch *s, const struct k3sup__unit *unit, const char *part)
{
	const char *from = NULL;
	size_t n = 1;

	for (;; n++) {
		_free_ char *theirs = value_in(part, "DropIn Path", &from);

		if (theirs == NULL)
			break;
		if (n >= unit->files.count || strcmp(theirs + strlen(s->path), unit->files.items[n]) != 0)
			fail_msg("%s: drop-in <%s> is here <%s>", unit->name, theirs, n < unit->files.count ? unit->files.items[n] : "(none)");
	}
	assert_int_equal(n, unit->files.count);
}

/* How many units were loaded by both. */
static unsigned compare(struct scratch *s, const char *dump, const char *name)
{
	_free_ char *start = k3sup__fmt("-> Unit %s:", name), *state = NULL;
	const char *part = strstr(dump, start);
	struct k3sup__unit unit;
	k3sup_node *node = tree_node(s);
	unsigned loaded;

	assert_int_equal(k3sup__unit_read(s->op, node, name, &unit), 0);
	k3sup_node_unref(node);
	state = part != NULL ? value_in(part, "Unit Load State", NULL) : NULL;
	loaded = unit.state == K3SUP__UNIT_LOADED;
	/* What is wrong is not in the dump, or says so. */
	if (loaded != (state != NULL && k3sup__streq(state, "loaded")))
		fail_msg("%s: %s for systemd, here %s", name, state != NULL ? state : "not in the dump", loaded ? "loaded" : unit.why);
	if (loaded) {
		compare_drop_ins(s, &unit, part);
		compare_command(&unit, part);
		compare_value(&unit, part, "KillMode", unit.kill_mode);
		compare_value(&unit, part, "Restart", unit.restart);
		compare_value(&unit, part, "Type", unit.type);
		compare_value(&unit, part, "PrivateTmp", unit.private_tmp ? "yes" : "no");
		compare_value(&unit, part, "RestartSec",
			unit.restart_us == 5000000            ? "5s"
				: unit.restart_us == 62000000 ? "1min 2s"
				: unit.restart_us == 300000   ? "300ms"
				: unit.restart_us == 100000   ? "100ms"
							      : "?");
		compare_environment(&unit, part);
	}
	k3sup__unit_clear(&unit);
	return loaded;
}

static void systemd_makes_the_same_of_random_units(void **state)
{
	const char *given = getenv("K3SUP_TEST_SEED"), *full = getenv("K3SUP_TEST_FULL");
	bool long_run = full != NULL && *full != '\0';
	unsigned rounds = long_run ? 1000 : 2, loaded = 0;

	(void)state;
	if (geteuid() != 0 || access(SYSTEMD, X_OK) < 0 || under_valgrind())
		skip();
	/* A slice is the same each time; what is new is for who has the time. */
	seed = given != NULL ? strtoull(given, NULL, 10) : long_run ? (uint64_t)getpid() * 2654435761u : 8926420046414995062u;
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t this = seed;
		void *one = NULL;
		struct scratch *s;
		_free_ char *dump = NULL;

		print_message("seed %llu\n", (unsigned long long)this);
		assert_int_equal(scratch_setup(&one), 0);
		s = one;
		assert_int_equal(chmod(s->path, 0755), 0);
		generate(s);
		dump = dump_of(s);
		if (strstr(dump, "-> Unit all.target:") == NULL) {
			print_message("systemd --test does not work here\n");
			assert_int_equal(i, 0);
			scratch_teardown(&one);
			skip();
		}
		for (size_t n = 0; n < ELEMENTSOF(names); n++)
			loaded += compare(s, dump, names[n]);
		assert_int_equal(scratch_teardown(&one), 0);
	}
	print_message("%u of %zu units were loaded\n", loaded, rounds * ELEMENTSOF(names));
	assert_true(loaded > rounds / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(systemd_makes_the_same_of_random_units),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
