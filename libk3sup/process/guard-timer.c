/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start guard of systemd: a transient timer.
 */
#include "process/guard.h"

#include "base/strv.h"
#include "process/ask.h"
#include "process/commands.h"
#include "process/systemctl.h"

#define ANSWER_MS 30000

static int show(k3sup_op *op, const struct k3sup__service *service, const char *unit, const char *key, char **ret)
{
	const char *const args[] = {"show", "-p", key, "--", unit, NULL};
	struct k3sup__child_result result = {0};
	int r = k3sup__systemctl(op, &service->channel, args, &result);

	if (r >= 0 && result.exit_code != 0)
		r = k3sup__fail(op, K3SUP_E_SERVICE, "systemctl show %s: %.*s", unit, (int)strcspn(result.output, "\n"), result.output);
	if (r >= 0) {
		*ret = k3sup__property(result.output, key);
		r = *ret ? 0 : -ENOMEM;
	}
	k3sup__child_result_clear(&result);
	return r;
}

/* Is the timer there, and waits or starts k3s just now? */
static int is_armed(k3sup_op *op, const struct k3sup__service *service, const char *timer, bool *ret)
{
	_free_ char *state = NULL;
	int r = show(op, service, timer, "ActiveState", &state);

	*ret = state && k3sup__streq(state, "active");
	return r;
}

static int add_all(struct k3sup__strv *argv, const char *const *words)
{
	int r = 0;

	for (; r >= 0 && *words; words++)
		r = k3sup__strv_add_copy(argv, *words, strlen(*words));
	return r;
}

/* What systemd expands in a command line: `$$` is a dollar (systemd.service(5)). */
static char *escaped(const char *text)
{
	char *ret = malloc(2 * strlen(text) + 1), *at = ret;

	for (; ret && *text; text++) {
		if (*text == '$')
			*at++ = '$';
		*at++ = *text;
	}
	if (ret)
		*at = '\0';
	return ret;
}

/* The caller's start command, unless k3s runs by then. What it leaves running is k3s, and goes on when the command has ended. */
static int add_commands(const struct k3sup__commands *commands, struct k3sup__strv *argv)
{
	static const char path[] = "--setenv=" K3SUP__ASK_PATH;
	static const char *const words[] = {"--property=Type=oneshot", "--property=KillMode=process", path, "--setenv=K3SUP_ROOT=/",
		"/bin/sh", "-c", "/bin/sh -c \"$$1\" && exit; exec /bin/sh -c \"$$2\"", "sh", NULL};
	_free_ char *status = escaped(commands->status), *start = escaped(commands->start);
	const char *const rest[] = {status, start, NULL};
	int r = status && start ? add_all(argv, words) : -ENOMEM;

	return r < 0 ? r : add_all(argv, rest);
}

static int add_systemctl(k3sup_op *op, const struct k3sup__service *service, struct k3sup__strv *argv)
{
	const char *words[] = {NULL, "--no-block", "start", "--", service->name, NULL};
	int r = k3sup__systemctl_path(op, &service->channel, &words[0]);

	return r < 0 ? r : add_all(argv, words);
}

/* systemd's own timers are late by up to a minute unless they are told otherwise (systemd.timer(5), AccuracySec=). */
static int write_order(k3sup_op *op, const struct k3sup__service *service, const char *name, int64_t delay_ms, struct k3sup__strv *argv)
{
	static const char *const paths[] = {"/usr/bin/systemd-run", "/bin/systemd-run", "/run/current-system/sw/bin/systemd-run", NULL};
	_free_ char *active = k3sup__fmt("--on-active=%lldms", (long long)delay_ms), *unit = k3sup__fmt("--unit=%s", name);
	_free_ char *text = k3sup__fmt("--description=starts %s again, which k3sup has stopped", service->commands ? "k3s" : service->name);
	const char *words[] = {NULL, "--quiet", active, "--timer-property=AccuracySec=100ms", unit, text, NULL};
	int r = active && unit && text ? k3sup__channel_find(op, &service->channel, paths, &words[0]) : -ENOMEM;

	if (r >= 0)
		r = add_all(argv, words);
	if (r >= 0)
		r = service->commands ? add_commands(service->commands, argv) : add_systemctl(op, service, argv);
	return r == -ENOENT ? k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot be armed: there is no systemd-run", service->name) : r;
}

static int begin(k3sup_op *op, const struct k3sup__service *service, const char *name, int64_t delay_ms)
{
	_cleanup_(k3sup__strv_clear) struct k3sup__strv argv = {0};
	struct k3sup__child_result result = {0};
	int r = write_order(op, service, name, delay_ms, &argv);

	if (r >= 0)
		r = k3sup__channel_run(op, &service->channel, (const char *const *)argv.items, k3sup__deadline(ANSWER_MS), &result);
	if (r >= 0 && result.exit_code != 0)
		r = k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot be armed: %.*s", service->name,
			(int)strcspn(result.output, "\n"), result.output);
	k3sup__child_result_clear(&result);
	return r;
}

static int again(k3sup_op *op, const struct k3sup__service *service, const char *timer)
{
	/* One job: whatever becomes of us, it is done by systemd as a whole. */
	const char *const args[] = {"restart", "--", timer, NULL};

	/* systemd lets a unit, a timer too, start five times in ten seconds (DefaultStartLimitBurst=); a run that was cut and repeated at once needs more. */
	if (k3sup__systemctl_do(op, &service->channel, (const char *const[]){"reset-failed", "--", timer, NULL}) < 0)
		k3sup__op_forgive(op);
	return k3sup__systemctl_do(op, &service->channel, args);
}

static int arm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	_free_ char *name = k3sup__guard_name(service), *timer = name ? k3sup__fmt("%s.timer", name) : NULL;
	_free_ char *run = name ? k3sup__fmt("%s.service", name) : NULL;
	bool armed = false;
	int r = timer && run ? is_armed(op, service, timer, &armed) : -ENOMEM;

	if (r < 0)
		return r;
	if (armed)
		return again(op, service, timer);
	/* A start that failed once keeps its name until somebody has taken notice. */
	if (k3sup__systemctl_do(op, &service->channel, (const char *const[]){"reset-failed", "--", run, NULL}) < 0)
		k3sup__op_forgive(op);
	return begin(op, service, name, delay_ms);
}

/* Never, as far as systemd remembers: it does as long as the timer is there, whose service this is. */
static int has_run(k3sup_op *op, const struct k3sup__service *service, const char *run, bool *ret)
{
	_free_ char *when = NULL;
	int r = show(op, service, run, "InactiveExitTimestampMonotonic", &when);

	*ret = when && *when && !k3sup__streq(when, "0");
	return r;
}

static int rearm(k3sup_op *op, const struct k3sup__service *service, int64_t delay_ms)
{
	_free_ char *name = k3sup__guard_name(service), *timer = name ? k3sup__fmt("%s.timer", name) : NULL;
	_free_ char *run = name ? k3sup__fmt("%s.service", name) : NULL, *waits = NULL;
	bool fired = false;
	int r = timer && run ? show(op, service, timer, "SubState", &waits) : -ENOMEM;

	(void)delay_ms; /* of a transient timer that is there, systemd changes nothing */
	if (r < 0)
		return r;
	if (!k3sup__streq(waits, "waiting"))
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s does not wait any more: its time was over, or it was disarmed",
			service->name);
	r = again(op, service, timer);
	if (r < 0 && r != K3SUP_E_SERVICE)
		return r;
	if (r < 0) {
		k3sup__op_forgive(op);
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot begin its time anew", service->name);
	}
	/* Only now: its time may have been over between the look and the order. */
	r = has_run(op, service, run, &fired);
	if (r >= 0 && fired)
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s has started it: its time was over", service->name);
	return r;
}

static int disarm(k3sup_op *op, const struct k3sup__service *service)
{
	_free_ char *name = k3sup__guard_name(service), *timer = name ? k3sup__fmt("%s.timer", name) : NULL;
	bool armed = false;
	int r = timer ? is_armed(op, service, timer, &armed) : -ENOMEM;
	if (r < 0 || !armed)
		return r;
	r = k3sup__systemctl_do(op, &service->channel, (const char *const[]){"stop", "--", timer, NULL});
	return r < 0 ? r : 1;
}

const struct k3sup__guard_way k3sup__guard_timer = {.arm = arm, .rearm = rearm, .disarm = disarm};
