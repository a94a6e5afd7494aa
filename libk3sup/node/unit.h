/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services that start k3s, read from their files: systemd units here, OpenRC's init scripts in initscript.c, in one form. Nothing is executed and no manager is
 * asked, so that this works in any root, of a stopped node too. What the running manager has loaded may be older than its files.
 *
 * Evidence: each file and each directory on the way to it must be trusted (root.h), else the unit says so and nothing in it counts.
 */
#ifndef K3SUP_NODE_UNIT_H
#define K3SUP_NODE_UNIT_H

#include "base/strv.h"
#include "node/node.h"
#include "node/role.h"
#include "node/unittext.h"

enum k3sup__manager { K3SUP__MANAGER_SYSTEMD, K3SUP__MANAGER_OPENRC };

enum k3sup__unit_state {
	K3SUP__UNIT_LOADED,
	K3SUP__UNIT_MASKED,
	K3SUP__UNIT_BAD,       /* its manager refuses it, or it is more than can be understood here */
	K3SUP__UNIT_UNTRUSTED, /* no evidence */
};

struct k3sup__unit {
	enum k3sup__manager manager;
	enum k3sup__unit_state state;
	char *why;                  /* a sentence, unless it is loaded */
	char *name;                 /* "k3s.service", of an alias what it stands for; of OpenRC "k3s" */
	struct k3sup__strv aliases; /* other names of it */
	struct k3sup__strv files; /* the unit file or init script, then drop-ins, in the order in which they are read; paths as they are looked for */
	struct k3sup__strv env_files; /* those that are there */
	struct k3sup__strv notes;     /* sentences: what is odd, or could not be resolved and is therefore missing here */
	int64_t changed;              /* when the newest of all these files was written, seconds since 1970 */

	/* All of the following only if it is loaded. */
	char *target;            /* the file that it starts, absolute, inside the root (links not followed) */
	struct k3sup__strv argv; /* what that gets, argv[0] too: specifiers and variables resolved */
	struct k3sup__strv env;  /* what the unit sets. Holds secrets: never to be shown */
	bool env_known;          /* false: something that belongs to env could not be read, a note says what */
	enum k3sup__role role;   /* UNKNOWN: the target is not named k3s, or is not started as server or agent */
	char *directory;         /* where it works at the start, "/" if that is not said */
	char *root_directory;    /* RootDirectory= or RootImage=, NULL: none */
	char *user;              /* NULL: root */
	const char *type;        /* systemd's words, its defaults included ("simple"); OpenRC: NULL */
	const char *kill_mode;   /* "control-group", "mixed", "process", "none"; OpenRC: NULL */
	const char *restart;     /* "no", "always", "on-failure" ...; OpenRC: "always" with supervise-daemon, else "no" */
	int64_t restart_us;      /* the wait before that; -1: for ever */
	bool private_tmp;
	bool delegate;
	struct k3sup__strv before; /* ExecStartPre=, each as it is written */
	struct k3sup__assignments settings;

	/* OpenRC */
	char *supervisor;    /* NULL: start-stop-daemon */
	int64_t respawn_max; /* 0: without end */
	bool cgroup_cleanup; /* rc_cgroup_cleanup: a stop kills what else is in the cgroup */
};

struct k3sup__units {
	struct k3sup__unit *items;
	size_t count;
};

/*
 * All services that may start k3s: named k3s or k3s-NAME, whatever state they are in, but of the loaded ones only those with a role. Those of systemd first, by name. 0
 * also if there are none; negative only where nothing could be said (-ENOMEM, K3SUP_E_CANCELLED).
 */
int k3sup__units_read(k3sup_op *op, const k3sup_node *node, struct k3sup__units *ret) _must_check_;
void k3sup__units_clear(struct k3sup__units *units);

/* One unit of systemd, "k3s.service", whatever it starts. 0 with a unit in any state; -ENOENT without a sentence if there is none. */
int k3sup__unit_read(k3sup_op *op, const k3sup_node *node, const char *name, struct k3sup__unit *ret) _must_check_;
void k3sup__unit_clear(struct k3sup__unit *unit);

/* The last value of a setting that is not empty, as it is written; NULL if there is none ("Service", "TimeoutStopSec"). systemd only. */
const char *k3sup__unit_setting(const struct k3sup__unit *unit, const char *section, const char *key);

/* The server or agent of this argument list; what is no k3s has no role. program: its file. */
enum k3sup__role k3sup__role_of(const char *program, const struct k3sup__strv *argv);
bool k3sup__unit_is_named_k3s(const char *name); /* "k3s", "k3s-NAME", without suffix */

/* Neither arguments nor environment: both may hold a token. */
k3sup__json *k3sup__unit_json(const struct k3sup__unit *unit);

/* For the readers: the unit is not LOADED for this reason. Always 0, or -ENOMEM. */
int k3sup__unit_spoil(struct k3sup__unit *unit, enum k3sup__unit_state state, const char *fmt, ...) _printf_(3, 4);
int k3sup__unit_note(struct k3sup__unit *unit, const char *fmt, ...) _printf_(2, 3);

#endif
