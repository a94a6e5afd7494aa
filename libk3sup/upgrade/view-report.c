/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was seen in one look, in the words of the document: the state, what to do next, and the facts themselves.
 */
#include "upgrade/view.h"

#include "upgrade/failed.h"
#include "upgrade/usage.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

/* ---- judging ---- */

const char *k3sup__view_state(const struct k3sup__view *v)
{
	if (v->running_error == K3SUP_E_AMBIGUOUS || v->installed_error == K3SUP_E_TARGET_AMBIGUOUS)
		return "ambiguous";
	if (v->installed.fd < 0 && v->sighting.count == 0)
		return "absent";
	if (v->leftovers > 0 && !v->holder && !v->at_work) /* with a holder they are at work, not left over */
		return "interrupted";
	if (v->rotation && !v->holder)
		return "rotation-pending";
	if (v->sighting.count == 0)
		return "not-running";
	if (v->unpacking)
		return "starting";
	if (v->installed.fd < 0)
		return "degraded";
	if (v->pending)
		return "restart-pending";
	if (v->not_ready)
		return "starting";
	if (v->same < 0 && k3sup__failed_back_to(v->failed, &v->build))
		return "rolled-back";
	return v->same == 0 ? "outdated" : "current";
}

static bool gave_up(const k3sup__json *said)
{
	int64_t is = 0;

	return k3sup__json_as_i64(k3sup__json_member(said, "gave_up"), &is) && is;
}

static bool is_paused(const k3sup__json *said)
{
	const char *state = k3sup__json_text(said, "state");

	return state && k3sup__streq(state, "paused");
}

/* The unit whose manager says that of it. NULL: there is none. */
static const struct k3sup__unit *unit_that(const struct k3sup__view *v, bool (*is)(const k3sup__json *said))
{
	for (size_t i = 0; i < v->units.count; i++)
		if (is(k3sup__json_member(v->managed, v->units.items[i].name)))
			return &v->units.items[i];
	return NULL;
}

/* Of a k3s that does not run. NULL: nothing that is not said by the state. */
static k3sup__json *next_of_unit(const struct k3sup__view *v)
{
	const struct k3sup__unit *failed = unit_that(v, gave_up), *unit = failed ? failed : unit_that(v, is_paused);
	const k3sup__json *said = unit ? k3sup__json_member(v->managed, unit->name) : NULL;
	const int by = (int)k3sup__json_number(said, "signal", 0), code = (int)k3sup__json_number(said, "exit_code", 0);

	if (!unit)
		return NULL;
	if (!failed)
		return k3sup__json_fmt(
			"wait: systemd is about to start %s again, which ended with %s %d; its log tells why: journalctl -u %s", unit->name,
			by ? "signal" : "status", by ? by : code, unit->name);
	return k3sup__json_fmt("mend %s, which failed (%s %d) and is started no more; its log tells why: journalctl -u %s. Then systemctl "
			       "reset-failed %s, and systemctl start %s",
		unit->name, by ? "signal" : "status", by ? by : code, unit->name, unit->name, unit->name);
}

static const char *next_step(const struct k3sup__view *v, const char *state)
{
	static const struct {
		const char *state, *next;
	} steps[] = {
		{"absent", "install k3s; nothing of it was found on this node"},
		{"ambiguous", "name the k3s file with --k3s, or end the process that does not belong here; the evidence lists them"},
		{"interrupted", "run k3sup-upgrade once more with the same file; it finishes what was cut"},
		{"rotation-pending", "run what has begun it once more, k3sup-upgrade --rotate-certs with the same file, or k3sup-certs rotate with the same key; certificates were retired, and that new ones are served was not proven; where that has failed twice, with another key"},
		{"not-running", "start k3s with its service manager and look at its log"},
		{"starting", "wait until k3s has unpacked itself, then look again"},
		{"degraded", "put the k3s file back; the running k3s could not be started again"},
		{"restart-pending", "run k3sup-upgrade with the installed file, or restart k3s; it still runs another build than the installed one"},
		{"outdated", "run k3sup-upgrade with this payload"},
		{"rolled-back", "take another build than the one that failed here, or find out why and run k3sup-upgrade with --retry-failed"},
	};

	if (v->holder)
		return "wait for the run that holds the lock";
	if (v->open_entry && k3sup__streq(state, "not-running"))
		return "run k3sup-upgrade once more with the same file, since an earlier run was cut; where k3s stays away, start it with "
		       "its service manager and look at its log";
	if (v->failed_before && k3sup__streq(state, "outdated"))
		return "take another payload, since this one failed here before, or find out why and run k3sup-upgrade with --retry-failed";
	if (v->not_ready && !v->unpacking && k3sup__streq(state, "starting"))
		return "wait until k3s is ready, then run k3sup-upgrade once more; an earlier run ended before it was";
	for (size_t i = 0; i < ELEMENTSOF(steps); i++)
		if (k3sup__streq(steps[i].state, state))
			return steps[i].next;
	return v->open_entry ? "run k3sup-upgrade once more; an earlier run was cut before it could prove the running k3s" : "nothing to do";
}

/* ---- reporting ---- */

static k3sup__json *flags_json(const struct k3sup__view *v)
{
	k3sup__json *flags = k3sup__json_array();

	if (v->pending && !v->unpacking && v->running_error == 0)
		k3sup__json_add(flags, k3sup__json_str("restart-pending"));
	if (v->same == 0)
		k3sup__json_add(flags, k3sup__json_str("outdated"));
	if (v->leftovers > 0)
		k3sup__json_add(flags, k3sup__json_str("leftovers"));
	if (v->open_entry)
		k3sup__json_add(flags, k3sup__json_str("open-operation"));
	if (v->holder)
		k3sup__json_add(flags, k3sup__json_str("busy"));
	if (v->rotation)
		k3sup__json_add(flags, k3sup__json_str("rotation-open"));
	if (k3sup__failed_back_to(v->failed, &v->build))
		k3sup__json_add(flags, k3sup__json_str("rolled-back"));
	if (v->images_kept)
		k3sup__json_add(flags, k3sup__json_str("images-kept"));
	if (v->damaged || v->journal_error == K3SUP_E_STATE_DIR)
		k3sup__json_add(flags, k3sup__json_str("journal-damaged"));
	if (v->installed.fd >= 0 && !v->build.wrapper && !v->build.version[0])
		k3sup__json_add(flags, k3sup__json_str("installed-unknown"));
	if (unit_that(v, gave_up))
		k3sup__json_add(flags, k3sup__json_str("service-failed"));
	return flags;
}

/* The version of what runs: from the installed file if it is that build, else read from the running program itself, which is there even when it was unlinked. */
static void add_build(k3sup_op *op, const struct k3sup__view *v, const struct k3sup__candidate *c, k3sup__json *running)
{
	struct k3sup__build build = v->build;
	_close_ int fd = -1;

	if (!k3sup__view_runs_installed(v, c)) {
		fd = openat(k3sup__process_dirfd(c->process), "exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0 || k3sup__build_read_fd(op, fd, "the running program", K3SUP__BUILD_LENIENT, &build) < 0) {
			k3sup__op_forgive(op);
			return;
		}
	}
	if (build.version[0])
		k3sup__json_set_str(running, "version", build.version);
	if (build.commit[0])
		k3sup__json_set_str(running, "commit", build.commit);
}

static k3sup__json *running_json(k3sup_op *op, const struct k3sup__view *v, const struct k3sup__candidate *c)
{
	k3sup__json *running = k3sup__candidate_json(c);

	add_build(op, v, c, running);
	if (v->installed.fd >= 0 && !c->unpacking)
		k3sup__json_set_bool(running, "is_installed_build", k3sup__view_runs_installed(v, c));
	return running;
}

static k3sup__json *installed_json(const struct k3sup__view *v)
{
	k3sup__json *installed;

	if (v->installed.fd < 0)
		return k3sup__json_null();
	installed = k3sup__build_json(&v->build);
	k3sup__json_set_str(installed, "path", v->installed.path);
	return installed;
}

static k3sup__json *backup_json(k3sup_op *op, const struct k3sup__view *v)
{
	_free_ char *name = v->installed.fd >= 0 ? k3sup__swap_backup_name(v->installed.name) : NULL;
	_close_ int fd = name ? openat(v->installed.dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	struct k3sup__build build;
	k3sup__json *backup;

	if (fd < 0 || k3sup__build_read_fd(op, fd, name, K3SUP__BUILD_LENIENT, &build) < 0) {
		k3sup__op_forgive(op);
		return k3sup__json_null();
	}
	backup = k3sup__build_json(&build);
	k3sup__json_set(backup, "path", k3sup__json_fmt("%.*s%s", (int)(v->installed.name - v->installed.path), v->installed.path, name));
	return backup;
}

/* The service that the running k3s belongs to, or the only one there is. */
static const struct k3sup__unit *service_of(const struct k3sup__view *v)
{
	const struct k3sup__unit *only = NULL;
	const char *name = v->running_error == 0 ? v->sighting.candidates[0].unit : NULL;
	size_t count = 0;

	for (size_t i = 0; i < v->units.count; i++) {
		const struct k3sup__unit *unit = &v->units.items[i];

		if (name && (k3sup__streq(unit->name, name) || k3sup__strv_has(&unit->aliases, name)))
			return unit;
		if (unit->state != K3SUP__UNIT_LOADED)
			continue;
		only = unit;
		count++;
	}
	return count == 1 && !name ? only : NULL;
}

/* When a process began, in seconds since 1970. */
static int64_t began(const struct k3sup__candidate *c)
{
	int64_t ms = (int64_t)k3sup__process_start_time(c->process) * 1000 / sysconf(_SC_CLK_TCK);

	return (int64_t)time(NULL) - (k3sup__now_ms() - ms) / 1000;
}

static k3sup__json *service_json(const struct k3sup__view *v, const struct k3sup__unit *unit)
{
	static const char *const members[] = {"state", "gave_up", "active", "sub", "result", "restarts", "exit_code", "signal"};
	k3sup__json *service = k3sup__unit_json(unit);
	const k3sup__json *said = k3sup__json_member(v->managed, unit->name);

	for (size_t i = 0; said && i < ELEMENTSOF(members); i++)
		if (k3sup__json_member(said, members[i]))
			k3sup__json_set(service, members[i], k3sup__json_copy(k3sup__json_member(said, members[i])));

	/* It may have started before systemd was told of the change, too; that it is older is all that can be seen here. */
	if (v->running_error == 0 && unit == service_of(v))
		k3sup__json_set_bool(service, "changed_since_start", unit->changed > began(&v->sighting.candidates[0]) + 1);
	return service;
}

static void report_units(k3sup__json *facts, const struct k3sup__view *v)
{
	const struct k3sup__unit *unit = service_of(v);
	k3sup__json *units = k3sup__json_array();

	for (size_t i = 0; i < v->units.count; i++)
		k3sup__json_add(units, service_json(v, &v->units.items[i]));
	k3sup__json_set(facts, "service", unit ? service_json(v, unit) : k3sup__json_null());
	k3sup__json_set(facts, "units", units);
}

/* How the last run on this node ended that had something to do. */
static k3sup__json *last_json(const struct k3sup__view *v)
{
	for (size_t i = k3sup__json_len(v->records); i-- > 0;) {
		const k3sup__json *record = k3sup__json_element(v->records, i);
		const char *event = k3sup__json_text(record, "event"), *reason = k3sup__json_text(record, "reason");
		k3sup__json *last;

		if (!event || !reason || !k3sup__streq(event, "close"))
			continue;
		last = k3sup__json_object();
		k3sup__json_set_str(last, "verb", k3sup__json_text(record, "verb"));
		k3sup__json_set_str(last, "result", reason);
		k3sup__json_set_int(last, "at", k3sup__json_number(record, "at", 0));
		return last;
	}
	return NULL;
}

static k3sup__json *where_json(k3sup_node *node, const struct k3sup__view *v)
{
	k3sup__json *where = k3sup__data_dir_json(&v->data_dir);
	int64_t bytes = k3sup__data_bytes(node, v->data_dir.path);

	if (bytes >= 0)
		k3sup__json_set_int(where, "bytes", bytes);
	return where;
}

void k3sup__view_report(k3sup_op *op, k3sup_node *node, const struct k3sup__view *v)
{
	k3sup__json *facts = k3sup__op_facts(op), *about = k3sup__json_object(), *processes = k3sup__json_array(), *last = last_json(v);
	const char *state = k3sup__view_state(v);
	k3sup__json *next = v->holder || !k3sup__streq(state, "not-running") ? NULL : next_of_unit(v);

	k3sup__json_set_str(about, "root", node->root.path);
	k3sup__json_set_str(about, "proc", node->proc_path);
	k3sup__json_set(facts, "node", about);
	k3sup__json_set_str(facts, "state", state);
	k3sup__json_set(facts, "flags", flags_json(v));
	k3sup__json_set(facts, "next", next ? next : k3sup__json_str(next_step(v, state)));
	k3sup__json_set(facts, "data_dir", where_json(node, v));
	if (last)
		k3sup__json_set(facts, "last", last);
	report_units(facts, v);
	k3sup__json_set(facts, "installed", installed_json(v));
	k3sup__stale_report(op, node, v);
	for (size_t i = 0; i < v->sighting.count; i++)
		k3sup__json_add(processes, running_json(op, v, &v->sighting.candidates[i]));
	k3sup__json_set(facts, "running", v->running_error == 0 ? k3sup__json_copy(k3sup__json_element(processes, 0)) : k3sup__json_null());
	k3sup__json_set(facts, "processes", processes);
	if (!k3sup__json_member(facts, "backup"))
		k3sup__json_set(facts, "backup", backup_json(op, v));
	if (k3sup__json_len(v->failed) > 0)
		k3sup__json_set(facts, "failed", k3sup__json_copy(v->failed));
	k3sup__json_set(facts, "lock", v->holder ? k3sup__json_ref(v->holder) : k3sup__json_null());
	if (v->installed_error < 0) {
		k3sup__json *evidence = k3sup__json_object();

		k3sup__json_set_str(evidence, "installed_error", k3sup_error_name(v->installed_error));
		if (v->files)
			k3sup__json_set(evidence, "installed", k3sup__json_ref(v->files));
		k3sup__json_set(facts, "evidence", evidence);
	}
	if (v->sighting.passed_over)
		k3sup__json_set(facts, "passed_over", k3sup__json_ref(v->sighting.passed_over));
}
