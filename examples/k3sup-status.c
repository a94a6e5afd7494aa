/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup-status: what is the state of this node? The smallest complete use of the library: context, node, one verb, its document.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *payload, *expect, *output, *mark, *marked;
static const char *sha256, *sums, *signature, *key, *expect_version;

static const struct cli_option options[] = {
	{"payload", CLI_TEXT, &payload, "FILE", "compare the node with this k3s file"},
	{"sha256", CLI_TEXT, &sha256, "HEX", "the SHA-256 that the payload must have (of what comes out of it, if it is a gzip file)"},
	{"sums", CLI_TEXT, &sums, "FILE", "a list as k3s publishes them (sha256sum-amd64.txt); it has to name k3s for this architecture once"},
	{"signature", CLI_TEXT, &signature, "FILE", "a signature of the list, or without a list of the payload (Ed25519: of its 32-byte SHA-256)"},
	{"key", CLI_TEXT, &key, "PEM", "the public key for it: Ed25519, ECDSA or RSA"},
	{"expect-version", CLI_TEXT, &expect_version, "VERSION", "the version that the payload must be, v1.30.4+k3s1 or v1.30.4-k3s1"},
	{"expect", CLI_TEXT, &expect, "STATE,...", "exit 9 unless the state is one of these"},
	{"output", CLI_TEXT, &output, "text|json|metrics", "json is the same as --json; metrics is Prometheus' text form"},
	{"mark", CLI_TEXT, &mark, "KEY", "remember that a step of your own is done; nothing else is done"},
	{"marked", CLI_TEXT, &marked, "KEY", "is it? exit 9 if not; says whether the node was booted since"},
};

static void print_build(const char *what, k3sup_doc *doc, const char *path)
{
	k3sup_doc *part = NULL;

	if (k3sup_doc_get(doc, path, &part) == 0 && k3sup_doc_len(part, "") > 0)
		printf("%-11s %s  %s  build %.12s\n", what, cli_text(part, "/path", cli_text(part, "/exe", "?")),
			cli_text(part, "/version", "unknown version"), cli_text(part, "/asset_hash", "unknown"));
	else
		printf("%-11s none\n", what);
	k3sup_doc_unref(part);
}

static void print(k3sup_doc *doc)
{
	printf("%-11s %s\n", "state", cli_text(doc, "/state", "?"));
	print_build("installed", doc, "/installed");
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/stale"); i++) {
		char path[32];

		snprintf(path, sizeof(path), "/stale/%lld", (long long)i);
		print_build("stale", doc, path);
	}
	print_build("running", doc, "/running");
	if (cli_number(doc, "/running/pid", 0))
		printf("%-11s pid %lld, %s\n", "", (long long)cli_number(doc, "/running/pid", 0), cli_text(doc, "/running/role", "unknown role"));
	if (payload)
		print_build("wanted", doc, "/wanted");
	if (strcmp(cli_text(doc, "/authenticated", "none"), "none") != 0)
		printf("%-11s by %s\n", "", cli_text(doc, "/authenticated", ""));
	print_build("backup", doc, "/backup");
	printf("%-11s %s (%s)\n", "data-dir", cli_text(doc, "/data_dir/path", "?"), cli_text(doc, "/data_dir/source", "?"));
	if (cli_text(doc, "/service/name", NULL))
		printf("%-11s %s  %s%s\n", "service", cli_text(doc, "/service/name", "?"), cli_text(doc, "/service/fragment", "?"),
			cli_number(doc, "/service/changed_since_start", 0) ? "  (changed since k3s was started)" : "");
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/flags"); i++) {
		char path[32];

		snprintf(path, sizeof(path), "/flags/%lld", (long long)i);
		printf("%-11s %s\n", "flag", cli_text(doc, path, "?"));
	}
	printf("%-11s %s\n", "next", cli_text(doc, "/next", "?"));
}

/* ---- as metrics ---- */

static void label(const char *name, const char *value, bool first)
{
	printf("%s%s=\"", first ? "" : ",", name);
	for (; *value; value++)
		if (*value == '\n')
			fputs("\\n", stdout);
		else
			printf(*value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
	putchar('"');
}

static void family(const char *name, const char *help)
{
	printf("# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

static void build_info(const char *what, k3sup_doc *doc, const char *path)
{
	k3sup_doc *part = NULL;

	if (k3sup_doc_get(doc, path, &part) == 0 && k3sup_doc_len(part, "") > 0) {
		fputs("k3sup_build_info{", stdout);
		label("build", what, true);
		label("version", cli_text(part, "/version", ""), false);
		label("commit", cli_text(part, "/commit", ""), false);
		label("asset_hash", cli_text(part, "/asset_hash", ""), false);
		puts("} 1");
	}
	k3sup_doc_unref(part);
}

static bool has_flag(k3sup_doc *doc, const char *flag)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/flags"); i++) {
		char path[32];

		snprintf(path, sizeof(path), "/flags/%lld", (long long)i);
		if (strcmp(cli_text(doc, path, ""), flag) == 0)
			return true;
	}
	return false;
}

static void print_metrics(k3sup_doc *doc)
{
	family("k3sup_state", "The state of this node's k3s, as k3sup-status says it.");
	fputs("k3sup_state{", stdout);
	label("state", cli_text(doc, "/state", ""), true);
	puts("} 1");
	family("k3sup_build_info", "The k3s that is installed, that runs, and that is kept to go back to.");
	build_info("installed", doc, "/installed");
	build_info("running", doc, "/running");
	build_info("backup", doc, "/backup");
	family("k3sup_restart_pending", "1 if the running k3s is not the installed build.");
	printf("k3sup_restart_pending %d\n", has_flag(doc, "restart-pending"));
	family("k3sup_service_failed", "1 if no k3s runs, and systemd starts none any more.");
	printf("k3sup_service_failed %d\n", has_flag(doc, "service-failed"));
	family("k3sup_failed_builds", "How many builds failed on this node and are refused.");
	printf("k3sup_failed_builds %lld\n", (long long)(k3sup_doc_len(doc, "/failed") > 0 ? k3sup_doc_len(doc, "/failed") : 0));
	if (cli_text(doc, "/last/result", NULL)) {
		family("k3sup_last_result_timestamp_seconds", "When the last run ended that had something to do, and how.");
		fputs("k3sup_last_result_timestamp_seconds{", stdout);
		label("verb", cli_text(doc, "/last/verb", ""), true);
		label("result", cli_text(doc, "/last/result", ""), false);
		printf("} %lld\n", (long long)cli_number(doc, "/last/at", 0));
	}
	if (cli_number(doc, "/data_dir/bytes", -1) >= 0) {
		family("k3sup_data_dir_bytes", "What the builds unpacked in the data-dir take.");
		printf("k3sup_data_dir_bytes %lld\n", (long long)cli_number(doc, "/data_dir/bytes", 0));
	}
}

/* ---- marks ---- */

static int do_mark(struct cli *cli)
{
	const char *key_of = mark ? mark : marked;
	k3sup_node *node = cli_node(cli);
	int r = mark ? k3sup_node_mark(node, mark) : 0, is = r < 0 ? r : k3sup_node_marked(node, key_of);
	int exit = is > 0 ? CLI_OK : CLI_PENDING;

	if (is < 0) {
		exit = cli_fail(cli, is == -EINVAL ? CLI_USAGE : cli_exit_of(is, NULL), is, "the mark '%s': %s", key_of,
			is == -EINVAL ? "1 to 200 printable characters, no blanks" : k3sup_strerror(is));
	} else if (cli->json) {
		printf("{\"schema\":1,\"tool\":\"k3sup-status\",\"exit\":%d,\"ok\":true,\"changed\":%s,\"mark\":{\"key\":", exit,
			r > 0 ? "true" : "false");
		cli_print_quoted(stdout, key_of);
		printf(",\"marked\":%s%s}}\n", is > 0 ? "true" : "false",
			is == K3SUP_MARKED                   ? ",\"boot\":\"this\""
				: is == K3SUP_MARKED_EARLIER ? ",\"boot\":\"earlier\""
							     : "");
	} else {
		puts(is == K3SUP_MARKED ? "marked in this boot" : is ? "marked in an earlier boot" : "not marked");
	}
	k3sup_node_unref(node);
	k3sup_ctx_unref(cli->ctx);
	return cli_flush() ? exit : CLI_FAILED;
}

static bool is_listed(const char *list, const char *word)
{
	for (size_t n = strlen(word); list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL)
		if (strncmp(list, word, n) == 0 && (list[n] == ',' || list[n] == '\0'))
			return true;
	return false;
}

/* The first word that is no state, or NULL. A list that no state can ever meet is a mistake. */
static const char *unknown_state(const char *list)
{
	static const char *const states[] = {"absent", "ambiguous", "interrupted", "rotation-pending", "not-running", "starting",
		"restart-pending", "degraded", "outdated", "rolled-back", "current"};

	for (size_t i; list; list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL) {
		size_t n = strcspn(list, ",");

		for (i = 0; i < sizeof(states) / sizeof(states[0]); i++)
			if (strlen(states[i]) == n && strncmp(list, states[i], n) == 0)
				break;
		if (i == sizeof(states) / sizeof(states[0]))
			return list;
	}
	return NULL;
}

static int exit_of(int status, k3sup_doc *doc)
{
	const char *state = cli_text(doc, "/state", "");

	if (status < 0)
		return cli_exit_of(status, doc);
	if (expect)
		return is_listed(expect, state) ? CLI_OK : CLI_PENDING;
	return strcmp(state, "absent") == 0 || strcmp(state, "ambiguous") == 0 ? CLI_NO_K3S : CLI_OK;
}

int main(int argc, char **argv)
{
	struct cli cli = {
		.tool = "k3sup-status",
		.usage = "[OPTION]...",
		.about =
			"Says in which state this node's k3s is: absent, ambiguous, interrupted, rotation-pending, not-running, starting,\n"
			"restart-pending, degraded, outdated, rolled-back or current. Changes nothing and may run at any time.",
		.examples = "  k3sup-status\n"
			    "  k3sup-status --payload /opt/k3s --expect current\n"
			    "  k3sup-status --payload /opt/k3s --sums /opt/sha256sum-amd64.txt --expect current\n"
			    "  k3sup-status --output metrics > /var/lib/node_exporter/k3sup.prom\n"
			    "  k3sup-status --marked firewall-v2 || { open_ports && k3sup-status --mark firewall-v2; }\n"
			    "  k3sup-status --root /host --json | jq -r .state\n",
		.options = options,
		.n_options = sizeof(options) / sizeof(options[0]),
		.timeout_ms = 900000,
	};
	struct k3sup_state_opts opts = {.struct_size = sizeof(opts)};
	k3sup_node *node;
	k3sup_op *op = NULL;
	int r;

	r = cli_parse(&cli, argc, argv);
	if (r != argc)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "unexpected argument '%s'; see --help", argv[r]);
	if (output && strcmp(output, "text") != 0 && strcmp(output, "json") != 0 && strcmp(output, "metrics") != 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--output is text, json or metrics, not '%s'", output);
	if (cli.json && output && strcmp(output, "metrics") == 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--json and --output metrics exclude each other");
	if ((mark || marked) && (payload || expect || output || (mark && marked)))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--mark and --marked go with nothing else");
	if (unknown_state(expect))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--expect: '%s' is not a state", unknown_state(expect));
	cli.json |= output && strcmp(output, "json") == 0;
	cli_check_terms(&cli, sha256, sums, signature, key, expect_version);
	if (!payload && (sha256 || sums || signature || expect_version))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--sha256, --sums, --signature and --expect-version are about a --payload");
	if (mark || marked)
		return do_mark(&cli);
	opts.payload = payload;
	opts.sha256 = sha256;
	opts.sums = sums;
	opts.signature = signature;
	opts.key = key;
	opts.expect_version = expect_version;

	node = cli_node(&cli);
	r = k3sup_state(node, &opts, &op);
	if (r == 0)
		r = cli_wait(&cli, op, cli.timeout_ms);
	if (!op)
		return cli_fail(&cli, cli_exit_of(r, NULL), r, "%s", k3sup_strerror(r));
	if (r >= 0 && output && strcmp(output, "metrics") == 0)
		print_metrics(k3sup_op_result(op));
	else if (r >= 0 && !cli.json)
		print(k3sup_op_result(op));
	r = cli_finish(&cli, exit_of(r, k3sup_op_result(op)), op);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(cli.ctx);
	return r;
}
