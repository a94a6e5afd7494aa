/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- output ---- */

/* How many bytes the character here takes; 0 if it is no UTF-8: too long a form, a surrogate, more than Unicode has. */
static size_t utf8_bytes(const unsigned char *c)
{
	size_t n = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] >= 0x90))
		return 0;
	return n;
}

void cli_print_quoted(FILE *out, const char *text)
{
	size_t n;

	putc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c += n ? n : 1) {
		const bool c1 = c[0] == 0xc2 && c[1] < 0xa0;

		n = utf8_bytes(c);
		if (*c == '"' || *c == '\\')
			putc('\\', out);
		if (n == 0 || *c < 0x20 || *c == 0x7f || c1)
			fprintf(out, "\\u%04x", n == 2 ? c[1] : *c); /* controls; bytes that are no UTF-8 as Latin-1: always valid */
		else
			fwrite(c, 1, n, out);
	}
	putc('"', out);
}

bool cli_flush(void)
{
	return fflush(stdout) == 0 && !ferror(stdout); /* an earlier piece may not have gone out, and the last one have */
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

/* Only if somebody reads: while k3s is stopped nothing may wait for a full pipe, whose reader may be a container. */
static void write_line(int fd, const char *line, size_t len)
{
	if (poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 0) > 0)
		if (write(fd, line, len) < 0)
			return; /* the reader went away: what is said here is a courtesy */
}

static void clear_bar(struct cli *cli)
{
	static const char clear[] = "\r\033[K";

	if (cli->bar)
		write_line(STDERR_FILENO, clear, strlen(clear));
	cli->bar = false;
}

/* What others have chosen (an argument, a name) must not move a terminal's cursor. */
static void print_plain(FILE *out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		fprintf(out, *c < 0x20 || *c == 0x7f ? "\\x%02x" : "%c", *c);
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
		fprintf(stderr, "%s: ", cli->tool);
		print_plain(stderr, text);
		fputc('\n', stderr);
		return exit;
	}
	printf("{\"schema\":1,\"tool\":\"%s\",\"exit\":%d,\"ok\":false,\"changed\":false,\"error\":{\"code\":%d,\"name\":\"%s\","
	       "\"message\":",
		cli->tool, exit, code, k3sup_error_name(code));
	cli_print_quoted(stdout, text);
	printf(",\"evidence\":{}}}\n");
	return cli_flush() ? exit : CLI_FAILED;
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
		return cli_flush() ? exit : CLI_FAILED;
	}
	if (error)
		fprintf(stderr, "%s: %s (%s)\n", cli->tool, cli_text(error, "/message", k3sup_strerror(status)), k3sup_error_name(status));
	return cli_flush() ? exit : CLI_FAILED;
}

static bool is_refusal(int status)
{
	return status == K3SUP_E_UNSUPPORTED || status == K3SUP_E_CONFINED ||
		(status <= K3SUP_E_NO_SERVICE && status >= K3SUP_E_SERVICE_TAKES_US) || (status <= K3SUP_E_RUNNING && status >= K3SUP_E_CLOCK) ||
		(status <= K3SUP_E_UNPACK && status >= K3SUP_E_TORN) || status == K3SUP_E_HOOK || status == K3SUP_E_FAILED_BEFORE ||
		(status <= K3SUP_E_POLICY_DOWNGRADE && status >= K3SUP_E_POLICY_BUILD_DATE) ||
		(status <= K3SUP_E_ROOT && status > K3SUP_E_NO_K3S) || status == K3SUP_E_REFUSED_PID || status == -ENOSPC ||
		status == -EDQUOT || status == -EROFS || status == -EACCES || status == -EPERM || status == -ENOTDIR;
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
		return changed ? CLI_DOWN : CLI_NO_K3S;
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
		char line[512];
		int len = snprintf(line, sizeof(line), "\r\033[K[%.*s%*s] %3u%% %.*s", filled, bar, (int)sizeof(bar) - 1 - filled, "",
			progress->percent, text_room((int)sizeof(bar) + (int)strlen("[] 100%")), progress->text);

		write_line(STDERR_FILENO, line, len < (int)sizeof(line) ? (size_t)len : sizeof(line) - 1);
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
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};
	int r;

	signal(SIGPIPE, SIG_IGN);
	running = op;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction old;

		/* What the caller has ignored (nohup) stays so. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
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
