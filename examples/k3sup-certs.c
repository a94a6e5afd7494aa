/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup-certs: what is there, is it well, and would a prepared authority be taken? The forms of `k3s certificate check`, and what that does not see.
 */
#include "cli-certs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *output, *k3s_version;
static struct cli_list services, kubeconfigs;
static int64_t warn_days;
static bool wire;

static const struct cli_option check_options[] = {
	{"output", CLI_TEXT, &output, "FORM", "table, text, json, yaml (as k3s certificate check) or metrics"},
	{"service", CLI_NAMES, &services, "NAME", "only this service's, as k3s calls it; several with commas, or by giving it again"},
	{"kubeconfig", CLI_LIST, &kubeconfigs, "FILE", "look into this kubeconfig inside the root, too; may be repeated"},
	{"warn-days", CLI_NUMBER, &warn_days, "DAYS", "warn so early (default: what this k3s takes, 90 or 120)"},
	{"wire", CLI_FLAG, &wire, NULL, "also ask the running k3s which certificates it serves, and compare them with the files"},
	{"k3s-version", CLI_TEXT, &k3s_version, "V", "of the node's k3s, if its file shall not be read"},
};

static const char *restart = "auto", *probe = "auto", *health, *rotate_key, *stop_command, *start_command, *status_command, *before_write,
		  *before_stop;
static int64_t stable_ms = 20000, wait_lock_ms, guard_delay_ms = 30000, if_within = -1;
static bool dry_run;

static const struct cli_option rotate_options[] = {
	{"rotate-key", CLI_TEXT, &rotate_key, "KEY", "a name of yours for this rotation: under one key everything is replaced once"},
	{"if-within", CLI_NUMBER, &if_within, "DAYS", "only if a certificate ends within so many days"},
	{"service", CLI_NAMES, &services, "NAME", "only this service's, as k3s calls it; several with commas, or by giving it again"},
	{"dry-run", CLI_FLAG, &dry_run, NULL, "say what would be done; exits 9 if that is anything"},
	{"restart", CLI_TEXT, &restart, "auto|service|commands|none",
		"by its service manager, by these commands, or not at all: then k3s must not run (default auto)"},
	{"stop-command", CLI_TEXT, &stop_command, "CMD", "of --restart commands: stops k3s (for /bin/sh; with K3SUP_ROOT, K3SUP_PID)"},
	{"start-command", CLI_TEXT, &start_command, "CMD", "and starts it: returns then, and does nothing if it runs"},
	{"status-command", CLI_TEXT, &status_command, "CMD", "and ends with 0 if it runs, with 3 if it is stopped"},
	{"before-write", CLI_TEXT, &before_write, "CMD",
		"run this (for /bin/sh) when all is decided, before anything is written; if it does not end with 0: exit 3"},
	{"before-stop", CLI_TEXT, &before_stop, "CMD",
		"likewise before k3s is stopped (drain, quorum, snapshot); both are run again by a run that goes on"},
	{"guard-delay", CLI_SECONDS, &guard_delay_ms, "SECONDS",
		"when the start guard starts k3s if this program does not (default 30; 0: there is none)"},
	{"stable", CLI_SECONDS, &stable_ms, "SECONDS", "how long k3s must have stayed to count as running (default 20)"},
	{"probe", CLI_TEXT, &probe, "auto|kubelet|supervisor|apiserver|none",
		"how it is asked whether it is ready (default auto: what its role offers)"},
	{"health", CLI_TEXT, &health, "CMD", "and a command that must end with 0 (for /bin/sh; asked again each second until it does)"},
	{"wait-lock", CLI_SECONDS, &wait_lock_ms, "SECONDS", "how long to wait while another run holds the lock (default 0: exit 5)"},
};

#define SERVICES \
	"--service is one of admin, api-server, auth-proxy, cloud-controller, controller-manager, etcd, k3s-controller, k3s-server, " \
	"kube-proxy, " \
	"kubelet, scheduler and supervisor"

static struct cli cli = {.tool = "k3sup-certs", .timeout_ms = 900000};

static const struct form {
	const char *name;
	void (*print)(k3sup_doc *doc);
} forms[] = {
	{"table", print_table},
	{"text", print_text},
	{"json", print_json},
	{"yaml", print_yaml},
	{"metrics", print_metrics},
};

static const struct form *find_form(const char *name)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (strcmp(forms[i].name, name) == 0)
			return &forms[i];
	return NULL;
}

/* Waits, prints, ends. yes: the member that says whether all is well, or not. */
static int finish(int r, k3sup_op *op, const char *yes, bool well_if, void (*print)(k3sup_doc *doc))
{
	k3sup_doc *doc;

	if (r == 0)
		r = cli_wait(&cli, op, cli.timeout_ms);
	if (!op)
		return cli_fail(&cli, cli_exit_of(r, NULL), r, "%s", k3sup_strerror(r));
	doc = k3sup_op_result(op);
	if (r >= 0 && !cli.json)
		print(doc);
	if (r >= 0 && cli_flush())
		r = cli_finish(&cli, (cli_number(doc, yes, 0) != 0) == well_if ? CLI_OK : CLI_PENDING, op);
	else
		r = cli_finish(&cli, r < 0 ? cli_exit_of(r, doc) : CLI_FAILED, op);
	k3sup_op_unref(op);
	return r;
}

static int check(int argc, char **argv)
{
	struct k3sup_certs_check_opts opts = {.struct_size = sizeof(opts)};
	const struct form *form;
	k3sup_node *node;
	k3sup_op *op = NULL;
	int r;

	cli.usage = "check [OPTION]...";
	cli.about = "Looks at every certificate and key that k3s keeps on this node, and says what is wrong. Changes nothing.\n"
		    "Exits 9 when something needs action.";
	cli.examples = "  k3sup-certs check\n"
		       "  k3sup-certs check --output json | jq '.Certificates[] | select(.Status != \"OK\")'\n"
		       "  k3sup-certs check --output metrics >/var/lib/node_exporter/k3s-certs.prom\n"
		       "  k3sup-certs check --wire\n"
		       "  k3sup-certs check --kubeconfig /home/ci/.kube/config --json\n";
	cli.options = check_options;
	cli.n_options = sizeof(check_options) / sizeof(check_options[0]);
	r = cli_parse(&cli, argc, argv);
	if (r != argc)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "unexpected argument '%s'; see --help", argv[r]);
	form = find_form(output ? output : "table");
	if (!form)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--output is table, text, json, yaml or metrics, not '%s'", output);
	if (cli.json && output)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--json is an output of its own: leave --output away");
	if (warn_days > 36500)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--warn-days: %lld days are too many", (long long)warn_days);
	opts.services = services.count ? services.items : NULL;
	opts.kubeconfigs = kubeconfigs.count ? kubeconfigs.items : NULL;
	opts.k3s_version = k3s_version;
	opts.warn_days = (uint32_t)warn_days;
	opts.flags = wire ? K3SUP_CERTS_CHECK_WIRE : 0;
	node = cli_node(&cli);
	r = k3sup_certs_check(node, &opts, &op);
	if (r == -EINVAL)
		r = cli_fail(&cli, CLI_USAGE, r, SERVICES ", --kubeconfig an absolute path inside the root, --k3s-version a version");
	else
		r = finish(r, op, "/needs_action", false, form->print);
	k3sup_node_unref(node);
	return r;
}

/* The server directory of the node, as the caller sees it: where the data-dir is, a check says. Ends the program if there is none. */
static void find_server_dir(k3sup_node *node, char *path, size_t size)
{
	const char *const listener[] = {"k3s-server", NULL};
	struct k3sup_certs_check_opts opts = {.struct_size = sizeof(opts), .services = listener};
	k3sup_op *op = NULL;
	int n, r = k3sup_certs_check(node, &opts, &op);

	if (r == 0)
		r = cli_wait(&cli, op, cli.timeout_ms);
	if (r < 0)
		exit(op ? cli_finish(&cli, cli_exit_of(r, k3sup_op_result(op)), op)
			: cli_fail(&cli, cli_exit_of(r, NULL), r, "%s", k3sup_strerror(r)));
	n = snprintf(path, size, "%s%s/server", cli.node.root ? cli.node.root : "", cli_text(k3sup_op_result(op), "/data_dir/real", ""));
	k3sup_op_unref(op);
	if (n < 0 || (size_t)n >= size)
		exit(cli_fail(&cli, CLI_USAGE, -ENAMETOOLONG, "the data-dir's path is too long"));
}

static int ca_check(int argc, char **argv)
{
	struct k3sup_certs_ca_check_opts opts = {.struct_size = sizeof(opts)};
	char live[4096];
	k3sup_node *node;
	k3sup_op *op = NULL;
	int r;

	cli.usage = "ca-check [OPTION]... DIR";
	cli.about =
		"Says whether a server would take the authorities in DIR/tls, which k3s certificate rotate-ca --path DIR would send it.\n"
		"Compares them with those in use. Changes nothing. Exits 9 when it would not.";
	cli.examples = "  k3sup-certs ca-check /opt/new-ca\n"
		       "  k3sup-certs ca-check --data-dir /mnt/pool/k3s /opt/new-ca && k3s certificate rotate-ca --path /opt/new-ca\n";
	r = cli_parse(&cli, argc, argv);
	if (r != argc - 1)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "%s; see --help", r == argc ? "DIR is missing" : "one DIR, please");
	opts.dir = argv[r];
	opts.server_dir = live;
	node = cli_node(&cli);
	find_server_dir(node, live, sizeof(live));
	r = k3sup_certs_ca_check(cli.ctx, &opts, &op);
	r = finish(r, op, "/takes", true, print_ca_check);
	k3sup_node_unref(node);
	return r;
}

static int backups(int argc, char **argv)
{
	k3sup_node *node;
	k3sup_op *op = NULL;
	int r;

	cli.usage = "backups [OPTION]...";
	cli.about = "Lists the backups of leaf certificates: ours, newest first, each looked through; then those that k3s made, and what "
		    "can be\n"
		    "had back from them. Changes nothing.";
	cli.examples = "  k3sup-certs backups\n";
	r = cli_parse(&cli, argc, argv);
	if (r != argc)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "unexpected argument '%s'; see --help", argv[r]);
	node = cli_node(&cli);
	r = k3sup_certs_backups(node, NULL, &op);
	r = finish(r, op, "/ok", true, print_backups);
	k3sup_node_unref(node);
	return r;
}

static int restore(int argc, char **argv)
{
	struct k3sup_certs_restore_opts opts = {.struct_size = sizeof(opts)};
	k3sup_node *node;
	k3sup_op *op = NULL;
	int r;

	cli.usage = "restore [OPTION]... BACKUP";
	cli.about = "Makes the leaf certificates of one of our backups the live ones again, while k3s is stopped. What is live now is kept "
		    "first.\n"
		    "Refuses a backup that is not whole, or from before a change of authorities. Never touches authorities.";
	cli.examples = "  systemctl stop k3s && k3sup-certs restore tls-1795440003 && systemctl start k3s\n";
	r = cli_parse(&cli, argc, argv);
	if (r != argc - 1)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "%s; see --help", r == argc ? "BACKUP is missing" : "one BACKUP, please");
	opts.backup = argv[r];
	node = cli_node(&cli);
	r = k3sup_certs_restore(node, &opts, &op);
	if (r == -EINVAL)
		r = cli_fail(&cli, CLI_USAGE, r, "BACKUP is a name that k3sup-certs backups tells, not a path");
	else
		r = finish(r, op, "/ok", true, print_restored);
	k3sup_node_unref(node);
	return r;
}

static void print_rotated(k3sup_doc *doc)
{
	const char *kept = cli_text(doc, "/kept", NULL);

	if (dry_run && cli_number(doc, "/would_change", 0))
		printf("would stop k3s if it runs, and replace %lld files; see --json\n", (long long)k3sup_doc_len(doc, "/retires"));
	else if (cli_number(doc, "/left_stopped", 0))
		printf("retired: k3s was stopped by somebody else and is left so; its next start makes new certificates\n");
	else if (!cli_number(doc, "/changed", 0))
		printf("already so\n");
	else
		printf("rotated: %lld certificates are new%s, k3s was down for %.1f s\n", (long long)k3sup_doc_len(doc, "/renewed"),
			strcmp(cli_text(doc, "/issued_by", ""), "server") == 0 ? " (from its server; the keys are new, too)" : "",
			(double)cli_number(doc, "/downtime_ms", 0) / 1000);
	if (kept)
		printf("backup: %s\n", kept);
}

static int rotate(int argc, char **argv)
{
	struct k3sup_rotate_opts opts = {.struct_size = sizeof(opts)};
	k3sup_node *node;
	k3sup_op *op = NULL;
	k3sup_doc *doc;
	bool waits;
	int r;

	cli.usage = "rotate --rotate-key KEY|--if-within DAYS [OPTION]...";
	cli.about = "Stops k3s, keeps and retires its leaf certificates, starts it, and proves that it has made new ones and serves them.\n"
		    "Does only what is missing: the same key again does nothing; what was cut is finished by the same command. If this "
		    "program is\n"
		    "killed while k3s is stopped, a start guard starts it. A k3s that was stopped before is left so (exit 9). Exits 11 "
		    "when k3s runs\n"
		    "and its certificates are not proven.";
	cli.examples = "  k3sup-certs rotate --rotate-key 2026-11\n"
		       "  k3sup-certs rotate --if-within 60\n"
		       "  k3sup-certs rotate --if-within 60 --dry-run\n"
		       "  k3sup-certs rotate --root /host --rotate-key plan-7 --service kubelet --json\n";
	cli.options = rotate_options;
	cli.n_options = sizeof(rotate_options) / sizeof(rotate_options[0]);
	r = cli_parse(&cli, argc, argv);
	if (r != argc)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "unexpected argument '%s'; see --help", argv[r]);
	if ((!rotate_key || !*rotate_key) && if_within < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "give --rotate-key or --if-within: else each run would rotate once more");
	if (cli.timeout_ms == 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--timeout must be more than 0");
	if (cli_word(restart, cli_restarts, &opts.restart) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--restart is auto, service, commands or none, not '%s'", restart);
	cli_check_commands(&cli, opts.restart == K3SUP_RESTART_COMMANDS, stop_command, start_command, status_command);
	if (cli_word(probe, cli_probes, &opts.probe) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--probe is auto, kubelet, supervisor, apiserver or none, not '%s'", probe);
	if ((before_write && !*before_write) || (before_stop && !*before_stop))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--before-write and --before-stop are commands; an empty text is none");
	if (health && !*health)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--health is a command; an empty text is none");
	opts.flags = (if_within >= 0 ? K3SUP_ROTATE_IF_WITHIN : 0) | (dry_run ? K3SUP_ROTATE_DRY_RUN : 0);
	opts.if_within_days = if_within < 0 ? 0 : if_within > UINT32_MAX ? UINT32_MAX : (uint32_t)if_within;
	opts.stop_command = stop_command;
	opts.start_command = start_command;
	opts.status_command = status_command;
	opts.before_write = before_write;
	opts.before_stop = before_stop;
	opts.key = rotate_key;
	opts.services = services.count ? services.items : NULL;
	opts.health = health;
	opts.timeout_ms = cli.timeout_ms;
	opts.wait_lock_ms = wait_lock_ms;
	opts.stable_ms = cli_explicit_ms(stable_ms);
	opts.guard_delay_ms = cli_explicit_ms(guard_delay_ms);

	node = cli_node(&cli);
	r = k3sup_rotate(node, &opts, &op);
	if (r == -EINVAL)
		return cli_fail(&cli, CLI_USAGE, r, SERVICES ", --if-within at most 36500 days, --rotate-key at most 256 bytes");
	if (r == 0)
		r = cli_wait(&cli, op, cli.timeout_ms + 60000); /* it ends by its own deadline, or when k3s was started after it */
	if (!op)
		return cli_fail(&cli, cli_exit_of(r, NULL), r, "%s", k3sup_strerror(r));
	doc = k3sup_op_result(op);
	if (r >= 0 && !cli.json)
		print_rotated(doc);
	waits = cli_number(doc, "/left_stopped", 0) || (dry_run && cli_number(doc, "/would_change", 0));
	r = cli_finish(&cli, r >= 0 && waits ? CLI_PENDING : cli_exit_of(r, doc), op);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	return r;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {{"check", check}, {"rotate", rotate}, {"backups", backups}, {"restore", restore}, {"ca-check", ca_check}};
	int (*command)(int argc, char **argv) = NULL;
	int r;

	cli.usage = "check|rotate|backups|restore|ca-check [OPTION]...";
	cli.about = "Commands:\n"
		    "  check     every certificate and key on this node, and what is wrong with them\n"
		    "  rotate    new leaf certificates: stop, retire, start, prove\n"
		    "  backups   which leaf certificates were kept\n"
		    "  restore   make those of a backup the live ones again, while k3s is stopped\n"
		    "  ca-check  would a server take a prepared authority?\n"
		    "COMMAND --help tells more.";
	cli.examples = "  k3sup-certs check\n"
		       "  k3sup-certs rotate --if-within 60\n"
		       "  k3sup-certs ca-check /opt/new-ca\n";
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			command = commands[i].run;
	if (!command) {
		r = cli_parse(&cli, argc, argv);
		return cli_fail(&cli, CLI_USAGE, -EINVAL,
			r < argc ? "'%s' is no command; see --help" : "a command is missing%s; see --help", r < argc ? argv[r] : "");
	}
	r = command(argc - 1, argv + 1);
	k3sup_ctx_unref(cli.ctx);
	return r;
}
