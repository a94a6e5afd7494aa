/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup-upgrade: make the running k3s be the build in FILE. Safe to repeat, safe to cut.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *restart = "auto";
static int64_t stable_ms = 20000, wait_lock_ms;

static const struct cli_option options[] = {
	{"restart", CLI_TEXT, &restart, "auto|signal|none", "how k3s is restarted; none: only the file is replaced (default auto)"},
	{"stable", CLI_SECONDS, &stable_ms, "SECONDS", "how long the new k3s must have stayed to count as proven (default 20)"},
	{"wait-lock", CLI_SECONDS, &wait_lock_ms, "SECONDS", "how long to wait while another run holds the lock (default 0: exit 5)"},
};

static int restart_of(const char *word, uint32_t *ret)
{
	static const char *const words[] = {[K3SUP_RESTART_AUTO] = "auto", [K3SUP_RESTART_SIGNAL] = "signal", [K3SUP_RESTART_NONE] = "none"};

	for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i], word) == 0) {
			*ret = i;
			return 0;
		}
	return -EINVAL;
}

/* 0 of the command line means none; 0 in the library's options means the default. */
static int64_t explicit_ms(int64_t ms)
{
	return ms == 0 ? -1 : ms;
}

static void print(k3sup_doc *doc)
{
	const char *version = cli_text(doc, "/wanted/version", "the payload's build");

	if (!cli_number(doc, "/changed", 0))
		printf("already so: %s is %s%s\n", cli_text(doc, "/installed/path", "k3s"), version,
		       cli_number(doc, "/running/pid", 0) ? " and runs" : "");
	else if (cli_number(doc, "/running/pid", 0))
		printf("upgraded: %s is %s and runs as process %lld, k3s was down for %.1f s\n", cli_text(doc, "/installed/path", "k3s"), version,
		       (long long)cli_number(doc, "/running/pid", 0), (double)cli_number(doc, "/downtime_ms", 0) / 1000);
	else
		printf("replaced: %s is %s\n", cli_text(doc, "/installed/path", "k3s"), version);
	if (cli_text(doc, "/backup/path", NULL))
		printf("backup: %s\n", cli_text(doc, "/backup/path", ""));
}

int main(int argc, char **argv)
{
	struct cli cli = {
		.tool = "k3sup-upgrade",
		.usage = "[OPTION]... FILE",
		.about = "Makes the running k3s of this node be the build in FILE: replaces the installed file, tells k3s to end, waits until its\n"
			 "supervisor has started the new one, and proves that it is the wanted build and stays. Does only what is missing; whatever\n"
			 "cuts it, one more run reaches the goal.",
		.examples = "  k3sup-upgrade /opt/k3s\n"
			    "  k3sup-upgrade --root /host --wait-lock 60 --json /opt/k3s\n"
			    "  k3sup-upgrade --k3s /usr/local/bin/k3s --restart none ./k3s\n",
		.options = options,
		.n_options = sizeof(options) / sizeof(options[0]),
		.timeout_ms = 900000,
	};
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts)};
	k3sup_node *node;
	k3sup_op *op = NULL;
	int r = cli_parse(&cli, argc, argv);

	if (r != argc - 1)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, r == argc ? "which FILE? see --help" : "one FILE, please; see --help");
	opts.payload = argv[r];
	opts.timeout_ms = cli.timeout_ms;
	opts.stable_ms = explicit_ms(stable_ms);
	opts.wait_lock_ms = wait_lock_ms;
	if (cli.timeout_ms == 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--timeout must be more than 0");
	if (restart_of(restart, &opts.restart) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--restart is auto, signal or none, not '%s'", restart);
	if (!*opts.payload)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "FILE is empty; see --help");

	node = cli_node(&cli);
	r = k3sup_upgrade(node, &opts, &op);
	if (r == 0)
		r = cli_wait(&cli, op, cli.timeout_ms + 30000); /* it ends by its own deadline; more is a hanging file system */
	if (!op)
		return cli_fail(&cli, cli_exit_of(r, NULL), r, "%s", k3sup_strerror(r));
	if (r >= 0 && !cli.json)
		print(k3sup_op_result(op));
	r = cli_finish(&cli, cli_exit_of(r, k3sup_op_result(op)), op);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(cli.ctx);
	return r;
}
