/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- options ---- */

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
	       "not run, 8 cancelled or out of time (run it again), 9 not as expected, 11 k3s runs but is not proven.\n\nExamples:\n%s",
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

/* What a value that set_option() does not take is not. */
static const char *wanted(const struct cli_option *option)
{
	return option->kind == CLI_SECONDS ? "number of seconds" : option->kind == CLI_LIST ? "list of that length" : "number";
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
	if (text && *text && (option->kind == CLI_LIST ? split_to_list(option->value, text) : set_option(option, text)) < 0)
		exit(cli_fail(cli, CLI_USAGE, -EINVAL, "%s: '%s' is not a %s", name, text, wanted(option)));
}

/* A list on the command line takes the place of the one in the environment, and is not added to it. */
static void forget_environment(const struct cli_option *option)
{
	struct cli_list *list = option->value;

	if (option->kind != CLI_LIST || list->given)
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

int cli_parse(struct cli *cli, int argc, char **argv)
{
	struct cli_option options[MAX_OPTIONS];
	struct option longs[MAX_OPTIONS + 2] = {0};
	size_t n = all_options(cli, options);
	int c, index;

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
			exit(fflush(stdout) == 0 ? CLI_OK : CLI_FAILED);
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
	return optind;
}

/* ---- output ---- */

void cli_print_quoted(FILE *out, const char *text)
{
	putc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20 || *c >= 0x7f)
			fprintf(out, "\\u%04x", *c); /* bytes as Latin-1: readable and always valid */
		else
			putc(*c, out);
	}
	putc('"', out);
}

const char *cli_text(k3sup_doc *doc, const char *path, const char *fallback)
{
	const char *text = fallback;

	(void)k3sup_doc_str(doc, path, &text);
	return text;
}

int64_t cli_number(k3sup_doc *doc, const char *path, int64_t fallback)
{
	int64_t value = fallback;

	(void)k3sup_doc_i64(doc, path, &value);
	return value;
}

static void clear_bar(struct cli *cli)
{
	if (cli->bar)
		fputs("\r\033[K", stderr);
	cli->bar = false;
}

int cli_fail(struct cli *cli, int exit, int code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	clear_bar(cli);
	if (!cli->json) {
		fprintf(stderr, "%s: %s\n", cli->tool, text);
		return exit;
	}
	printf("{\"schema\":1,\"tool\":\"%s\",\"exit\":%d,\"ok\":false,\"changed\":false,\"error\":{\"code\":%d,\"name\":\"%s\","
	       "\"message\":",
		cli->tool, exit, code, k3sup_error_name(code));
	cli_print_quoted(stdout, text);
	printf(",\"evidence\":{}}}\n");
	return fflush(stdout) == 0 ? exit : CLI_FAILED;
}

int cli_finish(struct cli *cli, int exit, k3sup_op *op)
{
	k3sup_doc *result = k3sup_op_result(op), *error = k3sup_op_error(op);
	int status = k3sup_op_status(op);

	clear_bar(cli);
	if (!result)
		return cli_fail(cli, exit, status, "%s", k3sup_strerror(status));
	if (cli->json) {
		/* A result is an object: what only the program knows goes in front of its first member. */
		printf("{\"schema\":1,\"tool\":\"%s\",\"exit\":%d,%s\n", cli->tool, exit, k3sup_doc_json(result) + 1);
		return fflush(stdout) == 0 ? exit : CLI_FAILED;
	}
	if (error)
		fprintf(stderr, "%s: %s (%s)\n", cli->tool, cli_text(error, "/message", k3sup_strerror(status)), k3sup_error_name(status));
	return fflush(stdout) == 0 ? exit : CLI_FAILED;
}

static bool is_refusal(int status)
{
	return status == K3SUP_E_UNSUPPORTED || status == K3SUP_E_CONFINED ||
		(status <= K3SUP_E_NO_SERVICE && status >= K3SUP_E_SERVICE_TAKES_US) || (status <= K3SUP_E_RUNNING && status >= K3SUP_E_CLOCK) ||
		(status <= K3SUP_E_UNPACK && status >= K3SUP_E_TORN) || status == K3SUP_E_HOOK || status == K3SUP_E_FAILED_BEFORE ||
		(status <= K3SUP_E_POLICY_DOWNGRADE && status >= K3SUP_E_POLICY_UNKNOWN) ||
		(status <= K3SUP_E_ROOT && status > K3SUP_E_NO_K3S) || status == K3SUP_E_REFUSED_PID || status == -ENOSPC ||
		status == -EDQUOT || status == -EROFS || status == -EACCES || status == -EPERM || status == -ENOTDIR;
}

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

int cli_exit_of(int status, k3sup_doc *result)
{
	bool changed = cli_number(result, "/changed", 0) != 0, runs = k3sup_doc_len(result, "/processes") > 0;

	if (status >= 0)
		return CLI_OK;
	switch (status) {
	case -EINVAL:
		return result ? CLI_FAILED : CLI_USAGE; /* of an operation: what the kernel said */
	case K3SUP_E_NO_K3S:
	case K3SUP_E_ROOTLESS:
	case K3SUP_E_RKE2:
		return CLI_NO_K3S;
	case K3SUP_E_AMBIGUOUS:
		return changed ? CLI_UNPROVEN : CLI_NO_K3S;
	case K3SUP_E_BUSY:
		return CLI_BUSY;
	case K3SUP_E_NOT_RESTARTED:
	case K3SUP_E_NOT_STABLE:
	case K3SUP_E_NOT_READY:
	case K3SUP_E_WRONG_BUILD:
		/* One that was left in place flickers: whether it runs at this very moment says nothing. */
		return runs || strcmp(cli_text(result, "/rollback/decision", ""), "unsafe") == 0 ? CLI_UNPROVEN : CLI_DOWN;
	case K3SUP_E_ROLLED_BACK:
		return CLI_ROLLED_BACK;
	case K3SUP_E_GUARD:
		if (!changed)
			return CLI_REFUSED;
		return runs ? CLI_UNPROVEN : CLI_DOWN;
	case K3SUP_E_NOT_ROTATED:
		return CLI_UNPROVEN;
	case K3SUP_E_CANCELLED:
	case K3SUP_E_CALLBACK:
	case K3SUP_E_TIMEOUT:
		return CLI_STOPPED;
	default:
		return is_refusal(status) && !changed ? CLI_REFUSED : CLI_FAILED;
	}
}

/* ---- running ---- */

/* Only if somebody reads: while k3s is stopped nothing may wait for a full pipe, whose reader may be a container. */
static void write_line(int fd, const char *line, size_t len)
{
	if (poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 0) > 0)
		if (write(fd, line, len) < 0)
			return; /* the reader went away: what is said here is a courtesy */
}

static void on_log(int32_t level, const char *component, const char *message, void *userdata)
{
	struct cli *cli = userdata;
	char line[PIPE_BUF];
	int len;

	clear_bar(cli);
	len = snprintf(line, sizeof(line), "%s: %s%s: %s\n", cli->tool, level <= K3SUP_LOG_WARNING ? "warning: " : "", component, message);
	if (len >= (int)sizeof(line)) {
		len = sizeof(line) - 1;
		line[len - 1] = '\n';
	}
	write_line(STDERR_FILENO, line, (size_t)len);
}

k3sup_node *cli_node(struct cli *cli)
{
	k3sup_node *node = NULL;
	int r = k3sup_ctx_new(NULL, &cli->ctx);

	if (r < 0)
		exit(cli_fail(cli, CLI_FAILED, r, "cannot make a context: %s", k3sup_strerror(r)));
	if (cli->verbose)
		(void)k3sup_ctx_set_log(cli->ctx, K3SUP_LOG_DEBUG, on_log, cli);
	cli->node.struct_size = sizeof(cli->node);
	cli->node.flags =
		(cli->allow_group_writable ? K3SUP_NODE_ALLOW_GROUP_WRITABLE : 0) | (cli->node_is_container ? K3SUP_NODE_IS_CONTAINER : 0);
	r = k3sup_node_new(cli->ctx, &cli->node, &node);
	if (r == -EINVAL)
		exit(cli_fail(cli, CLI_USAGE, r, "--data-dir, --k3s and --state-dir are absolute paths inside the root"));
	if (r < 0)
		exit(cli_fail(cli, cli_exit_of(r, NULL), r, "%s: %s",
			r == K3SUP_E_FOREIGN_PROC ? (cli->node.proc ? cli->node.proc : "/proc") : (cli->node.root ? cli->node.root : "/"),
			k3sup_strerror(r)));
	return node;
}

/* One line, shorter than PIPE_BUF, and only if it fits: nobody's full pipe may stop an upgrade. */
static void write_event(int fd, const struct k3sup_progress *progress)
{
	char line[2048];
	FILE *out = fmemopen(line, sizeof(line), "w");
	long len;

	if (!out)
		return;
	fprintf(out, "{\"step\":\"%s\",\"percent\":%u,\"done\":%lld,\"total\":%lld,\"downtime_ms\":%lld,\"text\":", progress->step,
		progress->percent, (long long)progress->done, (long long)progress->total, (long long)progress->downtime_ms);
	cli_print_quoted(out, progress->text);
	fputs("}\n", out);
	len = ftell(out);
	if (fclose(out) == 0 && len > 0)
		write_line(fd, line, (size_t)len);
}

/* How much of the bar's text fits: a line that wraps cannot be cleared. */
static int text_room(int taken)
{
	struct winsize size;
	int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;

	if (columns > 100)
		columns = 100;
	return columns > taken ? columns - taken - 1 : 0;
}

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	static const char bar[] = "##############################";
	struct cli *cli = userdata;
	int filled = (int)(progress->percent * (sizeof(bar) - 1) / 100);

	if (cli->events_fd >= 0)
		write_event((int)cli->events_fd, progress);
	if (!cli->json && isatty(STDERR_FILENO)) {
		clear_bar(cli);
		fprintf(stderr, "[%.*s%*s] %3u%% %.*s", filled, bar, (int)sizeof(bar) - 1 - filled, "", progress->percent,
			text_room((int)sizeof(bar) + (int)strlen("[] 100%")), progress->text);
		cli->bar = true;
	}
	return 0;
}

static k3sup_op *volatile running;

static void on_signal(int signo)
{
	(void)signo;
	k3sup_op_cancel(running); /* allowed in a signal handler */
}

int cli_wait(struct cli *cli, k3sup_op *op, int64_t timeout_ms)
{
	struct sigaction action = {.sa_handler = on_signal};
	int r;

	signal(SIGPIPE, SIG_IGN);
	running = op;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	(void)k3sup_op_set_progress(op, on_progress, cli);
	r = k3sup_op_wait(op, timeout_ms);
	if (r == -EINPROGRESS) {
		/* Its own deadline should have ended it: the file system hangs. Nothing more can be waited for. */
		k3sup_op_cancel(op);
		r = k3sup_op_wait(op, 1000);
		if (r == -EINPROGRESS)
			_exit(cli_fail(cli, CLI_STOPPED, K3SUP_E_TIMEOUT, "out of time; a system call does not come back"));
	}
	running = NULL; /* the caller may give it back now */
	clear_bar(cli);
	return r;
}
