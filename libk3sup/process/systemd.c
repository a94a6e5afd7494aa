/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd, asked through the host's own systemctl: what it says is about the unit as it is loaded, drop-ins and all, whatever lies on disk by now.
 */
#include "process/systemctl.h"

#include "process/owner.h"

#include <signal.h>

#define ANSWER_MS 30000

static const char *const paths[] = {"/usr/bin/systemctl", "/bin/systemctl", "/run/current-system/sw/bin/systemctl", NULL};

int k3sup__systemctl_path(k3sup_op *op, const struct k3sup__channel *channel, const char **ret)
{
	int r = k3sup__channel_find(op, channel, paths, ret);

	return r == -ENOENT ? k3sup__fail(op, K3SUP_E_NO_SERVICE, "there is no systemctl on this node") : r;
}

int k3sup__systemctl(k3sup_op *op, const struct k3sup__channel *channel, const char *const *args, struct k3sup__child_result *ret)
{
	const char *argv[SYSTEMCTL_ARGS + 2] = {NULL};
	size_t n = 1;
	int r = k3sup__systemctl_path(op, channel, &argv[0]);

	if (r < 0)
		return r;
	for (; *args && n < ELEMENTSOF(argv) - 1; args++)
		argv[n++] = *args;
	r = k3sup__channel_run(op, channel, argv, k3sup__deadline(ANSWER_MS), ret);
	if (r >= 0 && ret->timed_out) {
		k3sup__child_result_clear(ret);
		return k3sup__fail(op, K3SUP_E_SERVICE, "systemctl %s did not answer within %d s", argv[1], ANSWER_MS / 1000);
	}
	return r;
}

int k3sup__systemctl_do(k3sup_op *op, const struct k3sup__channel *channel, const char *const *args)
{
	struct k3sup__child_result result = {0};
	int r = k3sup__systemctl(op, channel, args, &result);

	if (r >= 0 && result.exit_code != 0) {
		const char *what = args[0][0] == '-' ? args[1] : args[0];

		r = k3sup__fail(op, K3SUP_E_SERVICE, "systemctl %s: %.*s", what, (int)strcspn(result.output, "\n"), result.output);
	}
	k3sup__child_result_clear(&result);
	return r;
}

char *k3sup__property(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, key, len) == 0 && line[len] == '=')
			return strndup(line + len + 1, strcspn(line + len + 1, "\n"));
	return strdup("");
}

/* ---- looking ---- */

enum key {
	LOAD,
	ACTIVE,
	SUB,
	PID,
	RESTART,
	PREVENT,
	KILL,
	TYPE,
	ENABLED,
	RELOAD,
	JOB,
	RESULT,
	RESTARTS,
	EXIT_CODE,
	EXIT_STATUS,
	FRAGMENT,
	DROP_INS,
	N_KEYS
};

static const char *const keys[N_KEYS] = {
	[LOAD] = "LoadState",
	[ACTIVE] = "ActiveState",
	[SUB] = "SubState",
	[PID] = "MainPID",
	[RESTART] = "Restart",
	[PREVENT] = "RestartPreventExitStatus",
	[KILL] = "KillMode",
	[TYPE] = "Type",
	[ENABLED] = "UnitFileState",
	[RELOAD] = "NeedDaemonReload",
	[JOB] = "Job",
	[RESULT] = "Result",
	[RESTARTS] = "NRestarts",
	[EXIT_CODE] = "ExecMainCode",
	[EXIT_STATUS] = "ExecMainStatus",
	[FRAGMENT] = "FragmentPath",
	[DROP_INS] = "DropInPaths",
};

struct unit {
	char *value[N_KEYS]; /* "" for what this systemd does not know */
};

static void unit_clear(struct unit *u)
{
	for (size_t i = 0; i < N_KEYS; i++)
		free(u->value[i]);
}

static int unit_parse(const char *text, struct unit *u)
{
	for (size_t i = 0; i < N_KEYS; i++) {
		u->value[i] = k3sup__property(text, keys[i]);
		if (!u->value[i])
			return -ENOMEM;
	}
	return 0;
}

static bool is(const struct unit *u, enum key key, const char *value)
{
	return k3sup__streq(u->value[key], value);
}

static enum k3sup__service_state state_of(const struct unit *u)
{
	static const struct {
		const char *active;
		enum k3sup__service_state state;
	} states[] = {
		{"active", K3SUP__SERVICE_RUNNING},
		{"reloading", K3SUP__SERVICE_RUNNING},
		{"activating", K3SUP__SERVICE_STARTING},
		{"deactivating", K3SUP__SERVICE_STOPPING},
		{"inactive", K3SUP__SERVICE_STOPPED},
		{"failed", K3SUP__SERVICE_STOPPED},
	};

	/* Also dead-before-auto-restart and failed-before-auto-restart, since 254; those count as inactive and failed. */
	if (strstr(u->value[SUB], "auto-restart"))
		return K3SUP__SERVICE_PAUSED;
	for (size_t i = 0; i < ELEMENTSOF(states); i++)
		if (is(u, ACTIVE, states[i].active))
			return states[i].state == K3SUP__SERVICE_STOPPED && *u->value[JOB] && !is(u, JOB, "0") ? K3SUP__SERVICE_STARTING
													       : states[i].state;
	return K3SUP__SERVICE_UNKNOWN;
}

/* ExecMainCode= is si_code of waitid(2), 0 while nothing has ended. What was known of the last one stays known while the next one starts. */
static void take_exit(const struct unit *u, struct k3sup__service *s)
{
	const long code = strtol(u->value[EXIT_CODE], NULL, 10), status = strtol(u->value[EXIT_STATUS], NULL, 10);

	if (code == CLD_EXITED) {
		s->exit_code = (int)status;
		s->exit_signal = 0;
	} else if (code == CLD_KILLED || code == CLD_DUMPED) {
		s->exit_code = -1;
		s->exit_signal = (int)status;
	}
}

static k3sup__json *words(const char *text)
{
	k3sup__json *list = k3sup__json_array();

	while (*text) {
		size_t len = strcspn(text, " ");

		if (len)
			k3sup__json_add(list, k3sup__json_strn(text, len));
		text += len + (text[len] == ' ');
	}
	return list;
}

static k3sup__json *facts_of(const struct unit *u)
{
	k3sup__json *facts = k3sup__json_object();

	k3sup__json_set_str(facts, "active", u->value[ACTIVE]);
	k3sup__json_set_str(facts, "sub", u->value[SUB]);
	k3sup__json_set_str(facts, "load", u->value[LOAD]);
	k3sup__json_set_str(facts, "enabled", u->value[ENABLED]);
	k3sup__json_set_str(facts, "type", u->value[TYPE]);
	k3sup__json_set_str(facts, "restart", u->value[RESTART]);
	k3sup__json_set_str(facts, "kill_mode", u->value[KILL]);
	k3sup__json_set_str(facts, "result", u->value[RESULT]);
	k3sup__json_set_str(facts, "fragment", u->value[FRAGMENT]);
	k3sup__json_set(facts, "drop_ins", words(u->value[DROP_INS]));
	k3sup__json_set_bool(facts, "changed_on_disk", is(u, RELOAD, "yes"));
	if (*u->value[RESTARTS])
		k3sup__json_set_int(facts, "restarts", strtol(u->value[RESTARTS], NULL, 10));
	return facts;
}

static int take(const struct unit *u, struct k3sup__service *s)
{
	char *setting = k3sup__fmt("KillMode=%s", u->value[KILL]);

	if (!setting)
		return -ENOMEM;
	free(s->setting);
	s->setting = setting;
	k3sup__json_unref(s->facts);
	s->facts = facts_of(u);
	s->state = state_of(u);
	s->main_pid = (pid_t)strtol(u->value[PID], NULL, 10);
	/* k3s ends with 0 or with 1 on SIGTERM, depending on its age and on a race: only "always" covers both. */
	s->respawns = is(u, RESTART, "always") && !*u->value[PREVENT];
	s->masked = is(u, LOAD, "masked") || k3sup__startswith(u->value[ENABLED], "masked");
	s->gave_up = is(u, ACTIVE, "failed") && s->state == K3SUP__SERVICE_STOPPED;
	s->restarts = *u->value[RESTARTS] ? strtol(u->value[RESTARTS], NULL, 10) : -1;
	take_exit(u, s);
	if (s->exit_code >= 0)
		k3sup__json_set_int(s->facts, "exit_code", s->exit_code);
	else if (s->exit_signal > 0)
		k3sup__json_set_int(s->facts, "signal", s->exit_signal);
	s->takes_nothing = is(u, KILL, "none");
	s->takes_all = !s->takes_nothing && !is(u, KILL, "process");
	return 0;
}

static int look(k3sup_op *op, struct k3sup__service *service)
{
	const char *args[SYSTEMCTL_ARGS] = {"show", "--no-pager"};
	_cleanup_(unit_clear) struct unit unit = {0};
	struct k3sup__child_result result = {0};
	size_t n = 2;
	int r;

	for (size_t i = 0; i < N_KEYS; i++) {
		args[n++] = "-p";
		args[n++] = keys[i];
	}
	args[n++] = "--";
	args[n] = service->name;
	r = k3sup__systemctl(op, &service->channel, args, &result);
	if (r >= 0 && result.exit_code != 0)
		r = k3sup__fail(op, K3SUP_E_SERVICE, "systemctl show %s: %.*s", service->name, (int)strcspn(result.output, "\n"), result.output);
	if (r >= 0)
		r = unit_parse(result.output, &unit);
	k3sup__child_result_clear(&result);
	if (r >= 0 && k3sup__streq(unit.value[LOAD], "not-found"))
		r = k3sup__fail(op, K3SUP_E_NO_SERVICE, "systemd knows no %s", service->name);
	return r < 0 ? r : take(&unit, service);
}

/* ---- ordering ---- */

static int order(k3sup_op *op, const struct k3sup__service *service, enum k3sup__order order)
{
	static const char *const orders[] = {"stop", "start", "restart"};
	/* A start or restart of a Type=notify unit may never be answered (an agent without its server; --log). */
	const char *const args[] = {"--no-block", orders[order], "--", service->name, NULL};

	/* Its start limit (systemd.unit(5)) refuses those who ask by hand, too; a start that somebody wants is none of a loop's. */
	if (service->gave_up && order != K3SUP__ORDER_STOP) {
		int r = k3sup__systemctl_do(op, &service->channel, (const char *const[]){"reset-failed", "--", service->name, NULL});

		if (r < 0)
			return r;
	}
	return k3sup__systemctl_do(op, &service->channel, args);
}

const struct k3sup__service_manager k3sup__systemd = {
	.name = "systemd", .tells_end = true, .look = look, .order = order, .guard = &k3sup__guard_timer};

/* ---- owning ---- */

/* The next channel over which there is a systemd; from: the first kind to try. 1, 0 if there is none, -errno. */
static int next_channel(k3sup_op *op, k3sup_node *node, int from, struct k3sup__channel *ret)
{
	for (int kind = from; kind < K3SUP__N_CHANNELS; kind++) {
		int r = k3sup__channel_open(op, node, (enum k3sup__channel_kind)kind, ret);

		if (r < 0)
			return r;
		/* sd_booted(3). A chroot sees it only where the host's /run is mounted, too. */
		if (r == 0)
			continue;
		r = k3sup__channel_has_dir(op, ret, "/run/systemd/system");
		if (r > 0)
			return 1;
		k3sup__channel_clear(ret);
		if (r < 0)
			return r;
	}
	return 0;
}

int k3sup__systemd_open(k3sup_op *op, k3sup_node *node, struct k3sup__service *service)
{
	struct k3sup__channel channel = K3SUP__CHANNEL_NONE;
	int r = K3SUP_E_NO_SERVICE, n;

	for (int from = 0; (n = next_channel(op, node, from, &channel)) > 0; from = (int)channel.kind + 1) {
		k3sup__channel_clear(&service->channel);
		service->channel = channel;
		k3sup__op_forgive(op); /* why the channel before this one did not do */
		r = look(op, service);
		if (r >= 0 || r == -ENOMEM || k3sup__op_checkpoint(op) < 0)
			return r;
		k3sup__log(op, K3SUP_LOG_INFO, "systemd does not answer about %s (%s)", service->name, k3sup__channel_name(channel.kind));
	}
	return n < 0 ? n : r;
}

/* It is in no service. That matters only where systemd is this node's manager. */
static int in_none(k3sup_op *op, k3sup_node *node, pid_t pid, enum k3sup__keeper keeper)
{
	struct k3sup__channel channel = K3SUP__CHANNEL_NONE;
	int r = next_channel(op, node, 0, &channel);

	k3sup__channel_clear(&channel);
	if (r <= 0)
		return r;
	return k3sup__fail(op, K3SUP_E_NO_SERVICE, "process %d belongs to no service of systemd%s", (int)pid,
		keeper == K3SUP__KEEPER_USER ? ", but to a user's session" : "");
}

int k3sup__systemd_owns(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret)
{
	const pid_t pid = k3sup__process_pid(candidate->process);
	struct k3sup__cgroup group = {0};
	_free_ char *text = NULL;
	int r = k3sup__read_file(k3sup__process_dirfd(candidate->process), "cgroup", 65536, &text, NULL);

	if (r < 0)
		return r == -ENOMEM ? r : 0; /* a kernel without cgroups; or the process is gone */
	k3sup__cgroup_parse(text, &group);
	if (group.keeper == K3SUP__KEEPER_OPENRC)
		return 0;
	if (group.keeper != K3SUP__KEEPER_SYSTEMD)
		return in_none(op, node, pid, group.keeper);
	ret->name = strdup(group.unit);
	if (!ret->name)
		return -ENOMEM;
	r = k3sup__systemd_open(op, node, ret);
	if (r < 0)
		return r;
	/* Started by hand from within a service's cgroup; or the service has a start of its own between. */
	if (ret->main_pid != pid)
		return k3sup__fail(op, K3SUP_E_NO_SERVICE, "process %d is in %s, but not its main process (%d)", (int)pid, ret->name,
			(int)ret->main_pid);
	ret->manager = &k3sup__systemd;
	return 1;
}
