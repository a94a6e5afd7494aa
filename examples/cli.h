/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs share: options with their environment twins, the one JSON line, events, the progress bar, exit statuses.
 */
#ifndef K3SUP_EXAMPLES_CLI_H
#define K3SUP_EXAMPLES_CLI_H

#include <k3sup.h>

#include <stdbool.h>
#include <stdio.h>

/* The exit statuses of all programs. They are a contract: scripts and Jobs decide by them. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1, /* unexpected */
	CLI_USAGE = 2,
	CLI_REFUSED = 3,     /* before anything was touched */
	CLI_NO_K3S = 4,      /* no k3s, or no single k3s of this node, can be named */
	CLI_BUSY = 5,        /* another run holds the lock */
	CLI_DOWN = 6,        /* the new k3s does not run and nothing runs */
	CLI_ROLLED_BACK = 7, /* the new k3s failed, the old one was put back and runs */
	CLI_STOPPED = 8,     /* cancelled or out of time; can be run again */
	CLI_PENDING = 9,     /* the answer is "not as expected" */
	CLI_UNPROVEN = 11,   /* k3s runs but is not proven */
};

enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_SECONDS, CLI_NUMBER, CLI_LIST, CLI_NAMES };

/* What an option that may be given several times collects; its environment twin separates by commas, CLI_NAMES on the command line, too. */
struct cli_list {
	const char *items[65]; /* ended by NULL */
	size_t count;
	bool given; /* on the command line: then the environment does not count */
};

/* One option of a program. value: bool *, const char **, int64_t * (milliseconds), int64_t *, struct cli_list *. */
struct cli_option {
	const char *name; /* without the dashes; its environment twin is K3SUP_NAME */
	enum cli_kind kind;
	void *value;
	const char *arg; /* how --help calls the argument */
	const char *help;
};

struct cli {
	const char *tool;
	const char *usage;                /* "[OPTION]... FILE" */
	const char *about;                /* one paragraph */
	const char *examples;             /* real ones */
	const struct cli_option *options; /* of this program; the common ones are known here */
	size_t n_options;

	/* common options */
	struct k3sup_node_opts node;
	bool json, allow_group_writable, node_is_container, verbose;
	int64_t events_fd, timeout_ms, wait_lock_ms;

	k3sup_ctx *ctx;
	bool bar; /* a progress bar is on the screen */
};

/* Reads the command line. Returns the index of the first operand; on --help and on errors the program ends here. */
int cli_parse(struct cli *cli, int argc, char **argv);
/* Makes context and node; the program ends here if that fails. */
k3sup_node *cli_node(struct cli *cli);
/* Waits for an operation, with progress, events, SIGTERM, SIGINT and SIGHUP (unless ignored). Returns its status, K3SUP_E_TIMEOUT if it had to be left behind. */
int cli_wait(struct cli *cli, k3sup_op *op, int64_t timeout_ms);
/* What a payload has to be: what the library would refuse with -EINVAL; the program ends here then. */
void cli_check_terms(struct cli *cli, const char *sha256, const char *sums, const char *signature, const char *key, const char *expect_version);
/* The words for K3SUP_RESTART_* and K3SUP_PROBE_*, by number; NULL at the end. */
extern const char *const cli_restarts[], *const cli_probes[];
/* Which of these words is it? -EINVAL if none. */
int cli_word(const char *word, const char *const *words, uint32_t *ret);
/* 0 of the command line means none; 0 in the library's options means the default. */
int64_t cli_explicit_ms(int64_t ms);
/* The three commands go with --restart commands, all of them: what the library would refuse with -EINVAL; the program ends here then. */
void cli_check_commands(struct cli *cli, bool wanted, const char *stop, const char *start, const char *status);
/* The exit status for an operation's status. result may be NULL. */
int cli_exit_of(int status, k3sup_doc *result);
/* Ends with the one JSON line (--json), or with the failure's sentence on stderr if there is one. Returns exit. */
int cli_finish(struct cli *cli, int exit, k3sup_op *op);
/* The same where there is no operation. */
int cli_fail(struct cli *cli, int exit, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Is all of stdout written? */
bool cli_flush(void);

/* A JSON string (which YAML takes, too), in quotes: UTF-8 as it is, without what a terminal would obey. */
void cli_print_quoted(FILE *out, const char *text);

/* Text at a path of a document, or fallback. */
const char *cli_text(k3sup_doc *doc, const char *path, const char *fallback);
int64_t cli_number(k3sup_doc *doc, const char *path, int64_t fallback);

#endif
