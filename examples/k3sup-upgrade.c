/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup-upgrade: make the running k3s be the build in FILE, or the backup again. Safe to repeat, safe to cut.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *restart = "auto", *probe = "auto", *health, *before_write, *before_stop, *rollback = "auto";
static const char *sha256, *sums, *signature, *key, *expect_version, *server_version;
static const char *stop_command, *start_command, *status_command, *rotate_key;
static int64_t stable_ms = 20000, wait_lock_ms, keep_backups = 1, guard_delay_ms = 30000;
static struct cli_list images;
static bool check, dry_run, retry_failed, run_version, no_unpack_ahead, rollback_now, rotate_certs;
static bool allow_downgrade, allow_skip_minor, allow_package_owned;

static const struct cli_option options[] = {
	{"check", CLI_FLAG, &check, NULL, "decide only: say all that an upgrade would be refused for; change nothing"},
	{"dry-run", CLI_FLAG, &dry_run, NULL, "the same, and say each step; exit 9 if something would be changed"},
	{"rollback-now", CLI_FLAG, &rollback_now, NULL, "no FILE: go back to the backup, which must be what it was when it was kept (or have --sha256)"},
	{"sha256", CLI_TEXT, &sha256, "HEX", "the SHA-256 that FILE must have (of what comes out of it, if it is a gzip file)"},
	{"sums", CLI_TEXT, &sums, "FILE", "a list as k3s publishes them (sha256sum-amd64.txt); it has to name k3s for this architecture once"},
	{"signature", CLI_TEXT, &signature, "FILE", "a signature of the list, or without a list of FILE (Ed25519: of its 32-byte SHA-256)"},
	{"key", CLI_TEXT, &key, "PEM", "the public key for it: Ed25519, ECDSA or RSA"},
	{"expect-version", CLI_TEXT, &expect_version, "VERSION", "the version that FILE must be, v1.30.4+k3s1 or v1.30.4-k3s1"},
	{"server-version", CLI_TEXT, &server_version, "VERSION",
		"the version of this agent's server: an agent must not be newer (default: only a warning)"},
	{"run-version", CLI_FLAG, &run_version, NULL, "also run a sealed copy of FILE with --version, confined; it must say what is written in it"},
	{"images", CLI_LIST, &images, "FILE",
		"put this image tarball into agent/images before the restart (repeatable); with --sums it has to be listed"},
	{"rotate-certs", CLI_FLAG, &rotate_certs, NULL, "and new leaf certificates, in the same restart: stop, retire, swap, start, prove both"},
	{"rotate-key", CLI_TEXT, &rotate_key, "KEY",
		"a name of yours for this rotation: under one key everything is replaced once (default: FILE's SHA-256)"},
	{"restart", CLI_TEXT, &restart, "auto|service|signal|commands|none",
		"by its service manager, by SIGTERM, by these commands, or not at all (default auto)"},
	{"stop-command", CLI_TEXT, &stop_command, "CMD", "of --restart commands: stops k3s (for /bin/sh; with K3SUP_ROOT, K3SUP_PID)"},
	{"start-command", CLI_TEXT, &start_command, "CMD", "and starts it: returns then, and does nothing if it runs"},
	{"status-command", CLI_TEXT, &status_command, "CMD", "and ends with 0 if it runs, with 3 if it is stopped"},
	{"guard-delay", CLI_SECONDS, &guard_delay_ms, "SECONDS",
		"where k3s is stopped: it is started then, whatever has become of this program (default 30; 0: no guard)"},
	{"stable", CLI_SECONDS, &stable_ms, "SECONDS", "how long the new k3s must have stayed to count as proven (default 20)"},
	{"probe", CLI_TEXT, &probe, "auto|kubelet|supervisor|apiserver|none",
		"how it is asked whether it is ready (default auto: what its role offers)"},
	{"health", CLI_TEXT, &health, "CMD", "and a command that must end with 0 (for /bin/sh; asked again each second until it does)"},
	{"before-write", CLI_TEXT, &before_write, "CMD",
		"run this (for /bin/sh) when all is decided, before anything is written; if it does not end with 0: exit 3"},
	{"no-unpack-ahead", CLI_FLAG, &no_unpack_ahead, NULL,
		"let the new k3s unpack itself at its start; else FILE is executed for that while the old one runs"},
	{"before-stop", CLI_TEXT, &before_stop,
		"CMD", "likewise when all is staged, before the swap and the restart (drain, quorum, snapshot); both are run again by a second run"},
	{"rollback", CLI_TEXT, &rollback, "auto|always|never",
		"put the build before back if the new one ends again and again (exit 7): where that is safe, always, never (default auto)"},
	{"retry-failed", CLI_FLAG, &retry_failed, NULL, "also a FILE that has failed on this node before"},
	{"allow-downgrade", CLI_FLAG, &allow_downgrade, NULL, "an older build, pre-release or packaging; lowers the floor, too"},
	{"allow-skip-minor", CLI_FLAG, &allow_skip_minor, NULL, "skip minor versions"},
	{"allow-package-owned", CLI_FLAG, &allow_package_owned, NULL, "replace a file that belongs to a package"},
	{"keep-backups", CLI_NUMBER, &keep_backups, "N", "how many builds that were installed before are kept beside the new one (default 1)"},
	{"wait-lock", CLI_SECONDS, &wait_lock_ms, "SECONDS", "how long to wait while another run holds the lock (default 0: exit 5)"},
};

static const char *const rollbacks[] = {[K3SUP_ROLLBACK_AUTO] = "auto", [K3SUP_ROLLBACK_ALWAYS] = "always", [K3SUP_ROLLBACK_NEVER] = "never", NULL};

/* What the library would refuse with -EINVAL; the program ends here then. */
static void check_images(struct cli *cli)
{
	for (size_t i = 0; i < images.count; i++) {
		const char *slash = strrchr(images.items[i], '/'), *name = slash ? slash + 1 : images.items[i];

		if (!*name || *name == '.')
			exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--images: '%s' is not the name of a file, or begins with a dot", images.items[i]));
		for (size_t j = 0; j < i; j++) {
			const char *other = strrchr(images.items[j], '/');

			if (strcmp(other ? other + 1 : images.items[j], name) == 0)
				exit(cli_fail(cli, CLI_USAGE, -EINVAL, "--images: two files of the name '%s'", name));
		}
	}
}

/* Of --check: what would be done. */
static void print_images(k3sup_doc *doc)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/images"); i++) {
		k3sup_doc *one = NULL;
		char path[32];

		snprintf(path, sizeof(path), "/images/%lld", (long long)i);
		if (k3sup_doc_get(doc, path, &one) == 0)
			printf("%-8s %-20s %s, %lld bytes\n",
				strcmp(cli_text(one, "/action", ""), "none") == 0 ? "already" : cli_text(one, "/action", "?"), "images",
				cli_text(one, "/path", "?"), (long long)cli_number(one, "/size", 0));
		k3sup_doc_unref(one);
	}
}

static void print(k3sup_doc *doc)
{
	const char *version = cli_text(doc, "/wanted/version", "the payload's build");

	if (!cli_number(doc, "/changed", 0))
		printf("already so: %s is %s%s\n", cli_text(doc, "/installed/path", "k3s"), version,
			cli_number(doc, "/running/pid", 0) ? " and runs" : "");
	else if (cli_number(doc, "/running/pid", 0))
		printf("%s: %s is %s and runs as process %lld, k3s was down for %.1f s\n", rollback_now ? "rolled back" : "upgraded",
			cli_text(doc, "/installed/path", "k3s"), version, (long long)cli_number(doc, "/running/pid", 0),
			(double)cli_number(doc, "/downtime_ms", 0) / 1000);
	else
		printf("%s: %s is %s\n", rollback_now ? "put back" : "replaced", cli_text(doc, "/installed/path", "k3s"), version);
	if (k3sup_doc_len(doc, "/images") > 0)
		printf("images: %lld in %s/agent/images\n", (long long)k3sup_doc_len(doc, "/images"), cli_text(doc, "/data_dir/path", "?"));
	if (rotate_certs && cli_number(doc, "/left_stopped", 0))
		printf("certificates: retired; k3s was stopped by somebody else and is left so, its next start makes new ones\n");
	else if (k3sup_doc_len(doc, "/renewed") > 0)
		printf("certificates: %lld are new\n", (long long)k3sup_doc_len(doc, "/renewed"));
	if (cli_text(doc, "/kept", NULL))
		printf("backup of certificates: %s\n", cli_text(doc, "/kept", ""));
	if (cli_text(doc, "/backup/path", NULL))
		printf("backup: %s\n", cli_text(doc, "/backup/path", ""));
	if (strcmp(cli_text(doc, "/authenticated", "none"), "none") != 0)
		printf("authenticated by %s\n", cli_text(doc, "/authenticated", ""));
}

static void print_checks(k3sup_doc *doc)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/checks"); i++) {
		k3sup_doc *one = NULL;
		char path[32];

		snprintf(path, sizeof(path), "/checks/%lld", (long long)i);
		if (k3sup_doc_get(doc, path, &one) == 0)
			printf("%-8s %-20s %s\n", cli_text(one, "/decision", "?"), cli_text(one, "/name", "?"), cli_text(one, "/text", "?"));
		k3sup_doc_unref(one);
	}
}

static void print_plan(k3sup_doc *doc)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/plan"); i++) {
		k3sup_doc *one = NULL;
		char path[32];

		snprintf(path, sizeof(path), "/plan/%lld", (long long)i);
		if (k3sup_doc_get(doc, path, &one) == 0)
			printf("%-8s %-20s %s\n", "would", cli_text(one, "/step", "?"), cli_text(one, "/text", "?"));
		k3sup_doc_unref(one);
	}
	if (k3sup_doc_len(doc, "/plan") == 0)
		puts("nothing would be done: the goal holds");
}

static uint32_t flags(void)
{
	return (check ? K3SUP_UPGRADE_CHECK : 0) | (dry_run ? K3SUP_UPGRADE_DRY_RUN : 0) | (retry_failed ? K3SUP_UPGRADE_RETRY_FAILED : 0) |
		(rollback_now ? K3SUP_UPGRADE_ROLLBACK : 0) | (run_version ? K3SUP_UPGRADE_RUN_VERSION : 0) |
		(rotate_certs ? K3SUP_UPGRADE_ROTATE_CERTS : 0) | (no_unpack_ahead ? K3SUP_UPGRADE_NO_UNPACK_AHEAD : 0) |
		(allow_downgrade ? K3SUP_UPGRADE_ALLOW_DOWNGRADE : 0) | (allow_skip_minor ? K3SUP_UPGRADE_ALLOW_SKIP_MINOR : 0) |
		(allow_package_owned ? K3SUP_UPGRADE_ALLOW_PACKAGE_OWNED : 0);
}

int main(int argc, char **argv)
{
	struct cli cli = {
		.tool = "k3sup-upgrade",
		.usage = "[OPTION]... FILE | --rollback-now",
		.about = "Makes the running k3s of this node be the build in FILE: replaces the installed file, tells k3s to end, waits "
			 "until its\n"
			 "supervisor has started the new one, and proves that it is the wanted build and stays. Does only what is missing; "
			 "whatever\n"
			 "cuts it, one more run reaches the goal.",
		.examples = "  k3sup-upgrade /opt/k3s\n"
			    "  k3sup-upgrade --check /opt/k3s\n"
			    "  k3sup-upgrade --dry-run /opt/k3s\n"
			    "  k3sup-upgrade --root /host --wait-lock 60 --json /opt/k3s\n"
			    "  k3sup-upgrade --sums /opt/sha256sum-amd64.txt --expect-version v1.31.2+k3s1 /opt/k3s\n"
			    "  k3sup-upgrade --sums sha256sum-amd64.txt --signature sha256sum-amd64.txt.sig --key /etc/k3s.pem k3s.gz\n"
			    "  k3sup-upgrade --sums sha256sum-amd64.txt --images k3s-airgap-images-amd64.tar.zst k3s\n"
			    "  k3sup-upgrade --rotate-certs /opt/k3s\n"
			    "  k3sup-upgrade --rotate-certs --rotate-key 2026-11 --dry-run /opt/k3s\n"
			    "  k3sup-upgrade --before-stop 'kubectl drain \"$(hostname)\" --ignore-daemonsets' /opt/k3s\n"
			    "  k3sup-upgrade --restart commands --stop-command 'sv down k3s' --start-command 'sv up k3s' --status-command "
			    "'sv status k3s' /opt/k3s\n"
			    "  k3sup-upgrade --rollback-now\n"
			    "  k3sup-upgrade --k3s /usr/local/bin/k3s --restart none ./k3s\n",
		.options = options,
		.n_options = sizeof(options) / sizeof(options[0]),
		.timeout_ms = 900000,
	};
	struct k3sup_upgrade_opts opts = {.struct_size = sizeof(opts)};
	k3sup_node *node;
	k3sup_op *op = NULL;
	int32_t order;
	bool waits;
	int r = cli_parse(&cli, argc, argv);

	if (rollback_now && r != argc)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--rollback-now takes no FILE: the backup is beside the installed one");
	if (!rollback_now && r != argc - 1)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, r == argc ? "which FILE? see --help" : "one FILE, please; see --help");
	opts.payload = argv[r]; /* NULL behind the last */
	opts.flags = flags();
	opts.timeout_ms = cli.timeout_ms;
	opts.stable_ms = cli_explicit_ms(stable_ms);
	opts.wait_lock_ms = wait_lock_ms;
	opts.sha256 = sha256;
	opts.sums = sums;
	opts.signature = signature;
	opts.key = key;
	opts.expect_version = expect_version;
	opts.server_version = server_version;
	opts.health = health;
	opts.guard_delay_ms = cli_explicit_ms(guard_delay_ms);
	opts.stop_command = stop_command;
	opts.start_command = start_command;
	opts.status_command = status_command;
	opts.images = images.items;
	opts.rotate_key = rotate_key;
	opts.before_write = before_write;
	opts.before_stop = before_stop;
	opts.keep_backups = rollback_now ? 0 : (uint32_t)keep_backups;
	if (server_version && k3sup_version_compare(server_version, server_version, &order) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--server-version: '%s' is not a version", server_version);
	if (cli.timeout_ms == 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--timeout must be more than 0");
	if (keep_backups < 1 || keep_backups > UINT32_MAX)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--keep-backups: at least 1");
	if (cli_word(restart, cli_restarts, &opts.restart) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--restart is auto, service, signal, commands or none, not '%s'", restart);
	cli_check_commands(&cli, opts.restart == K3SUP_RESTART_COMMANDS, stop_command, start_command, status_command);
	if (cli_word(probe, cli_probes, &opts.probe) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--probe is auto, kubelet, supervisor, apiserver or none, not '%s'", probe);
	if (cli_word(rollback, rollbacks, &opts.rollback) < 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--rollback is auto, always or never, not '%s'", rollback);
	if (health && !*health)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--health is a command; an empty text is none");
	if ((before_write && !*before_write) || (before_stop && !*before_stop))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--before-write and --before-stop are commands; an empty text is none");
	if (rollback_now && (sums || signature || images.count || server_version || run_version || keep_backups != 1))
		return cli_fail(&cli, CLI_USAGE,
			-EINVAL, "--sums, --signature, --images, --server-version, --run-version and --keep-backups go with FILE; of a backup --sha256 and --expect-version can be said");
	if (rotate_key && (!rotate_certs || !*rotate_key || strlen(rotate_key) > 256))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--rotate-key goes with --rotate-certs, and has 1 to 256 bytes");
	if (rotate_certs && rollback_now)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--rotate-certs goes with FILE; with --rollback-now use k3sup-certs rotate");
	cli_check_terms(&cli, sha256, sums, signature, key, expect_version);
	check_images(&cli);
	if (opts.payload && !*opts.payload)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "FILE is empty; see --help");

	node = cli_node(&cli);
	r = k3sup_upgrade(node, &opts, &op);
	if (r == 0)
		r = cli_wait(&cli, op, cli.timeout_ms + 30000); /* it ends by its own deadline; more is a hanging file system */
	if (!op)
		return cli_fail(&cli, cli_exit_of(r, NULL), r, "%s", k3sup_strerror(r));
	if ((check || dry_run) && !cli.json) {
		print_images(k3sup_op_result(op));
		print_checks(k3sup_op_result(op));
		print_plan(k3sup_op_result(op));
	} else if (r >= 0 && !cli.json) {
		print(k3sup_op_result(op));
	}
	waits = (dry_run && r > 0) || (r >= 0 && cli_number(k3sup_op_result(op), "/left_stopped", 0));
	r = cli_finish(&cli, waits ? CLI_PENDING : cli_exit_of(r, k3sup_op_result(op)), op);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(cli.ctx);
	return r;
}
