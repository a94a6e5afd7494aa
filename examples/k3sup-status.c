/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3sup-status: what is the state of this node? The smallest complete use of the library: context, node, one verb, its document.
 */
#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *payload, *expect, *output;
static const char *sha256, *sums, *signature, *key, *expect_version;

static const struct cli_option options[] = {
	{"payload", CLI_TEXT, &payload, "FILE", "compare the node with this k3s file"},
	{"sha256", CLI_TEXT, &sha256, "HEX", "the SHA-256 that the payload must have (of what comes out of it, if it is a gzip file)"},
	{"sums", CLI_TEXT, &sums, "FILE", "a list as k3s publishes them (sha256sum-amd64.txt); it has to name k3s for this architecture once"},
	{"signature", CLI_TEXT, &signature, "FILE", "a signature of the list, or without a list of the payload (Ed25519: of its 32-byte SHA-256)"},
	{"key", CLI_TEXT, &key, "PEM", "the public key for it: Ed25519, ECDSA or RSA"},
	{"expect-version", CLI_TEXT, &expect_version, "VERSION", "the version that the payload must be, v1.30.4+k3s1 or v1.30.4-k3s1"},
	{"expect", CLI_TEXT, &expect, "STATE,...", "exit 9 unless the state is one of these"},
	{"output", CLI_TEXT, &output, "text|json", "json is the same as --json"},
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
		.about = "Says in which state this node's k3s is: absent, ambiguous, interrupted, not-running, starting, degraded,\n"
			 "restart-pending, outdated or current. Changes nothing and may run at any time.",
		.examples = "  k3sup-status\n"
			    "  k3sup-status --payload /opt/k3s --expect current\n"
			    "  k3sup-status --payload /opt/k3s --sums /opt/sha256sum-amd64.txt --expect current\n"
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
	if (output && strcmp(output, "text") != 0 && strcmp(output, "json") != 0)
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--output is text or json, not '%s'", output);
	if (unknown_state(expect))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--expect: '%s' is not a state", unknown_state(expect));
	cli.json |= output && strcmp(output, "json") == 0;
	cli_check_terms(&cli, sha256, sums, signature, key, expect_version);
	if (!payload && (sha256 || sums || signature || expect_version))
		return cli_fail(&cli, CLI_USAGE, -EINVAL, "--sha256, --sums, --signature and --expect-version are about a --payload");
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
	if (r >= 0 && !cli.json)
		print(k3sup_op_result(op));
	r = cli_finish(&cli, exit_of(r, k3sup_op_result(op)), op);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(cli.ctx);
	return r;
}
