/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, the environment, and what they must not say. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_OPTIONS 48

/* The common options first, then the program's own. */
static size_t all_options(struct cli *cli, struct cli_option *ret)
{
	const struct cli_option common[] = {
		{"root", CLI_TEXT, &cli->node.root, "DIR", "the node's root directory (default /; in a pod: /host)"},
		{"proc", CLI_TEXT, &cli->node.proc, "DIR", "its proc mount, of our own pid namespace (default /proc)"},
		{"data-dir", CLI_TEXT, &cli->node.data_dir, "DIR", "k3s's data-dir inside the root (default: observed)"},
		{"k3s", CLI_TEXT, &cli->node.k3s, "FILE", "the installed k3s file inside the root (default: found)"},
		{"state-dir", CLI_TEXT, &cli->node.state_dir, "DIR", "where the journal is kept inside the root (default /var/lib/k3sup)"},
		{"allow-group-writable", CLI_FLAG, &cli->allow_group_writable, NULL, "path components may be writable by their group"},
		{"node-is-container", CLI_FLAG, &cli->node_is_container, NULL,
			"the node is a container (k3d): its k3s may be process 1, whose end ends the container"},
		{"timeout", CLI_SECONDS, &cli->timeout_ms, "SECONDS", "bounds everything (default 900)"},
		{"json", CLI_FLAG, &cli->json, NULL, "print exactly one line with one JSON object, for failures too"},
		{"events", CLI_NUMBER, &cli->events_fd, "FD", "write one JSON object per line and step to this descriptor"},
		{"verbose", CLI_FLAG, &cli->verbose, NULL, "say on stderr what is done (short: -v)"},
	};
	size_t n = 0;

	for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
		ret[n++] = common[i];
	for (size_t i = 0; i < cli->n_options && n < MAX_OPTIONS; i++)
		ret[n++] = cli->options[i];
	return n;
}

static void help(struct cli *cli, const struct cli_option *options, size_t n)
{
	printf("Usage: %s %s\n\n%s\n\nOptions:\n", cli->tool, cli->usage, cli->about);
	for (size_t i = 0; i < n; i++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s", options[i].name, options[i].arg ? " " : "", options[i].arg ? options[i].arg : "");
		printf("  %-26s %s\n", left, options[i].help);
	}
	printf("  %-26s %s\n", "--help", "this text");
	printf("\nEach option has an environment twin (--wait-lock is K3SUP_WAIT_LOCK); options win. Exit statuses: 0 the goal holds, 1 "
	       "unexpected failure,\n"
	       "2 usage, 3 refused before anything was touched, 4 no single k3s of this node can be named, 5 another run holds the lock, 6 "
	       "the new k3s does\n"
	       "not run, 7 it failed and the build before was put back, 8 cancelled or out of time (run it again), 9 not as expected, 11 "
	       "k3s\n"
	       "runs but is not proven.\n\nExamples:\n%s",
		cli->examples);
}

static int add_to_list(struct cli_list *list, const char *text)
{
	if (!*text || list->count + 1 == sizeof(list->items) / sizeof(list->items[0]))
		return -E2BIG;
	list->items[list->count++] = text;
	return 0;
}

static int split_to_list(struct cli_list *list, const char *text)
{
	char *rest = strdup(text), *one; /* lives as long as the program */
	int r = rest ? 0 : -ENOMEM;

	while (r == 0 && (one = strsep(&rest, ",")))
		r = add_to_list(list, one);
	return r;
}

static bool is_list(const struct cli_option *option)
{
	return option->kind == CLI_LIST || option->kind == CLI_NAMES;
}

/* What a value that set_option() does not take is not. */
static const char *wanted(const struct cli_option *option)
{
	return option->kind == CLI_SECONDS ? "number of seconds" : is_list(option) ? "list, or it is too long" : "number";
}

static int set_option(const struct cli_option *option, const char *text)
{
	char *end = NULL;
	double seconds;

	errno = 0;
	switch (option->kind) {
	case CLI_FLAG:
		*(bool *)option->value = !text || (*text && strcmp(text, "0") != 0);
		return 0;
	case CLI_TEXT:
		*(const char **)option->value = text;
		return 0;
	case CLI_SECONDS:
		seconds = strtod(text, &end);
		if (end == text || *end || !(seconds >= 0 && seconds < 1e9))
			return -EINVAL;
		*(int64_t *)option->value = (int64_t)(seconds * 1000);
		return 0;
	case CLI_NUMBER:
		*(int64_t *)option->value = strtoll(text, &end, 10);
		return end == text || *end || errno || *(int64_t *)option->value < 0 ? -EINVAL : 0;
	case CLI_LIST:
		return add_to_list(option->value, text);
	case CLI_NAMES:
		return split_to_list(option->value, text);
	}
	return -EINVAL;
}

static void from_environment(struct cli *cli, const struct cli_option *option)
{
	char name[64];
	const char *text;
	int n = snprintf(name, sizeof(name), "K3SUP_%s", option->name);

	for (int i = 0; i < n; i++)
		name[i] = name[i] == '-' ? '_' : (char)toupper((unsigned char)name[i]);
	text = getenv(name);
	if (text && *text && (is_list(option) ? split_to_list(option->value, text) : set_option(option, text)) < 0)
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "%s: '%s' is not a %s", name, text, wanted(option)));
}

/* A list on the command line takes the place of the one in the environment, and is not added to it. */
static void forget_environment(const struct cli_option *option)
{
	struct cli_list *list = option->value;

	if (!is_list(option) || list->given)
		return;
	*list = (struct cli_list){.given = true};
}

/* A usage error, too, must come as JSON if that was asked for, wherever on the line or in the environment. */
static bool wants_json(int argc, char **argv)
{
	const char *twin = getenv("K3SUP_JSON");

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return twin && *twin && strcmp(twin, "0") != 0;
}

/* What was closed by who started us would be the next file that is opened, and a message would be written into it. */
static void open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Nor the one that events are written to. */
static void check_events(struct cli *cli)
{
	int flags = cli->events_fd >= 0 && cli->events_fd <= INT_MAX ? fcntl((int)cli->events_fd, F_GETFL) : -1;

	if (cli->events_fd != -1 && (flags < 0 || (flags & O_ACCMODE) == O_RDONLY))
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--events: %lld is no descriptor that can be written to", (long long)cli->events_fd));
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
	struct cli_option options[MAX_OPTIONS];
	struct option longs[MAX_OPTIONS + 2] = {0};
	size_t n = all_options(cli, options);
	int c, index;

	open_standard();
	cli->events_fd = -1;
	cli->json = wants_json(argc, argv);
	for (size_t i = 0; i < n; i++) {
		if (options[i].value != &cli->json) /* known by now */
			from_environment(cli, &options[i]);
		longs[i] = (struct option){options[i].name, options[i].arg ? required_argument : no_argument, NULL, 0};
	}
	longs[n] = (struct option){"help", no_argument, NULL, 'h'};
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":v", longs, &index)) != -1) {
		if (c == 'h') {
			help(cli, options, n);
			exit(cli_flush() ? CLI_OK : CLI_FAILED);
		} else if (c == 'v') {
			cli->verbose = true;
		} else if (c != 0) {
			exit(cli_fail(cli, CLI_USAGE, -EINVAL,
				c == ':' ? "%s needs an argument; see --help" : "unknown option %s; see --help", argv[optind - 1]));
		} else {
			forget_environment(&options[index]);
			if (set_option(&options[index], optarg) < 0)
				exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--%s: '%s' is not a %s", options[index].name, optarg,
					wanted(&options[index])));
		}
	}
	check_events(cli);
	return optind;
}

/* ---- what they say ---- */

void cli_check_terms(struct cli *cli, const char *sha256, const char *sums, const char *signature, const char *key, const char *expect_version)
{
	int32_t order;

	if (!signature != !key)
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, signature ? "--signature needs --key" : "--key needs --signature"));
	if (sha256 && (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdefABCDEF") != 64))
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--sha256 is 64 hex digits, not '%s'", sha256));
	if (expect_version && k3sup_version_compare(expect_version, expect_version, &order) < 0)
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--expect-version: '%s' is not a version", expect_version));
	if ((sums && !*sums) || (signature && (!*signature || !*key)))
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--sums, --signature and --key name files; an empty text is none"));
}

void cli_check_commands(struct cli *cli, bool wanted, const char *stop, const char *start, const char *status)
{
	const bool all = stop && *stop && start && *start && status && *status;

	if (wanted && !all)
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--restart commands needs --stop-command, --start-command and --status-command"));
	if (!wanted && (stop || start || status))
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--stop-command, --start-command and --status-command go with --restart commands"));
}

const char *const cli_restarts[] = {
	[K3SUP_RESTART_AUTO] = "auto", [K3SUP_RESTART_SIGNAL] = "signal", [K3SUP_RESTART_NONE] = "none", [K3SUP_RESTART_SERVICE] = "service", [K3SUP_RESTART_COMMANDS] = "commands", NULL};
const char *const cli_probes[] = {
	[K3SUP_PROBE_AUTO] = "auto", [K3SUP_PROBE_KUBELET] = "kubelet", [K3SUP_PROBE_SUPERVISOR] = "supervisor", [K3SUP_PROBE_APISERVER] = "apiserver", [K3SUP_PROBE_NONE] = "none", NULL};

int cli_word(const char *word, const char *const *words, uint32_t *ret)
{
	for (uint32_t i = 0; words[i]; i++)
		if (strcmp(words[i], word) == 0) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

int64_t cli_explicit_ms(int64_t ms)
{
	return ms == 0 ? -1 : ms;
}
