/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who starts k3s, and may it be told to?
 */
#include "process/owner.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/procscan.h"
#include "node/warn.h"

void k3sup__service_clear(struct k3sup__service *service)
{
	k3sup__channel_clear(&service->channel);
	free(service->name);
	free(service->why);
	free(service->setting);
	k3sup__json_unref(service->facts);
	*service = K3SUP__SERVICE_NONE;
}

const char *k3sup__service_state_name(enum k3sup__service_state state)
{
	static const char *const names[] = {"unknown", "stopped", "paused", "stopping", "starting", "running"};

	return names[state];
}

k3sup__json *k3sup__service_json(const struct k3sup__service *service)
{
	k3sup__json *json = service->facts ? k3sup__json_copy(service->facts) : k3sup__json_object();

	if (service->manager) {
		k3sup__json_set_str(json, "manager", service->manager->name);
		if (!service->manager->able || service->can_start)
			k3sup__json_set_str(json, "channel", k3sup__channel_name(service->channel.kind));
		k3sup__json_set_str(json, "state", k3sup__service_state_name(service->state));
		k3sup__json_set_int(json, "main_pid", service->main_pid);
	} else {
		k3sup__json_set(json, "manager", k3sup__json_null());
		k3sup__json_set_str(json, "reason", service->why);
	}
	if (service->name)
		k3sup__json_set_str(json, "name", service->name);
	k3sup__json_set_bool(json, "respawns", service->respawns);
	return json;
}

/* ---- cgroups ---- */

/* The path in systemd's own hierarchy: the named one of version 1, also where version 2 is mounted beside it, else that of version 2. */
static const char *systemd_path(const char *text, size_t *ret_len)
{
	const char *found = NULL;

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!path)
			continue;
		if (k3sup__startswith(controllers, ":name=systemd:"))
			found = path + 1;
		else if (!found && k3sup__startswith(controllers, "::"))
			found = path + 1;
	}
	*ret_len = found ? strcspn(found, "\n") : 0;
	return found;
}

bool k3sup__cgroup_within(const char *text, const char *of, const char *unit)
{
	size_t len, of_len, unit_len = strlen(unit);
	const char *path = systemd_path(text, &len), *of_path = systemd_path(of, &of_len);

	for (size_t at = 0; path && of_path && at + unit_len <= of_len; at++) {
		size_t end = at + unit_len;

		if (at == 0 || of_path[at - 1] != '/' || memcmp(of_path + at, unit, unit_len) != 0 || (end < of_len && of_path[end] != '/'))
			continue;
		return len >= end && memcmp(path, of_path, end) == 0 && (len == end || path[end] == '/');
	}
	return false;
}

bool k3sup__cgroup_of_openrc(const char *text, const char *service)
{
	static const char *const before[] = {"", "openrc.", "rc/"};
	const size_t len = strlen(service);

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!path || !(k3sup__startswith(controllers, "::") || k3sup__startswith(controllers, ":name=openrc:")))
			continue;
		for (path++; k3sup__startswith(path, "/.."); path += 3)
			;
		for (size_t i = 0; *path == '/' && i < ELEMENTSOF(before); i++) {
			const char *at = k3sup__startswith(path + 1, before[i]) ? path + 1 + strlen(before[i]) : NULL;

			if (at && strncmp(at, service, len) == 0 && strchr("/\n", at[len]))
				return true;
		}
	}
	return false;
}

static bool has_line(const char *text, const char *line, size_t len)
{
	for (; text && *text; text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL)
		if (strcspn(text, "\n") == len && memcmp(line, text, len) == 0)
			return true;
	return false;
}

bool k3sup__cgroup_common(const char *a, const char *b, const char *of_1)
{
	for (const char *line = a; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		size_t len = strcspn(line, "\n");

		if (len <= 2 || (memcmp(line + len - 2, ":/", 2) == 0 && (!of_1 || has_line(of_1, line, len))))
			continue;
		if (has_line(b, line, len))
			return true;
	}
	return false;
}

static int cgroup_of(int proc_pid_fd, char **ret)
{
	int r = k3sup__read_file(proc_pid_fd, "cgroup", 65536, ret, NULL);

	return r == -ENOENT ? -ESRCH : r;
}

/* Is "/" that of a container, and not everywhere the hierarchy's? */
static bool is_in_a_namespace(const k3sup_node *node)
{
	struct stat ours, of_1;

	return fstatat(node->proc_fd, "self/ns/cgroup", &ours, 0) == 0 && fstatat(node->proc_fd, "1/ns/cgroup", &of_1, 0) == 0 &&
		(ours.st_dev != of_1.st_dev || ours.st_ino != of_1.st_ino);
}

static int shared_with(const k3sup_node *node, int proc_pid_fd)
{
	_free_ char *ours = NULL, *theirs = NULL, *of_1 = NULL;
	int r = k3sup__read_file(node->proc_fd, "self/cgroup", 65536, &ours, NULL);

	if (r >= 0 && is_in_a_namespace(node))
		r = k3sup__read_file(node->proc_fd, "1/cgroup", 65536, &of_1, NULL);
	if (r >= 0)
		r = cgroup_of(proc_pid_fd, &theirs);
	if (r == -ENOENT || r == -ESRCH) /* a kernel without control groups; or it is gone */
		return 0;
	return r < 0 ? r : k3sup__cgroup_common(ours, theirs, of_1);
}

int k3sup__cgroup_shared(k3sup_node *node, const k3sup_process *process)
{
	return shared_with(node, k3sup__process_dirfd(process));
}

int k3sup__cgroup_shared_with(const k3sup_node *node, pid_t pid)
{
	_close_ int dirfd = -1;
	int r = k3sup__proc_open(node->proc_fd, pid, &dirfd);

	return r < 0 ? r : shared_with(node, dirfd);
}

/* ---- is it told to end, does that end us? ---- */

/*
 * We ourselves, or one of our parents: in a container with the host's pid namespace the shim is one, which lives in k3s's cgroup (process model, 3.4) and whose end
 * is the container's.
 */
static int would_end_us(k3sup_node *node, const k3sup_process *process, const struct k3sup__service *service, bool *ret)
{
	_free_ char *theirs = NULL;
	pid_t at = getpid();
	int r = cgroup_of(k3sup__process_dirfd(process), &theirs);

	*ret = false;
	for (int n = 0; r >= 0 && n < 256 && at > 1 && !*ret; n++) {
		_close_ int dirfd = -1;
		_free_ char *ours = NULL;
		struct k3sup__stat stat;

		r = k3sup__proc_open(node->proc_fd, at, &dirfd);
		if (r >= 0)
			r = cgroup_of(dirfd, &ours);
		if (r >= 0)
			r = k3sup__stat_read(dirfd, &stat);
		if (r >= 0) {
			*ret = service->manager == &k3sup__openrc ? k3sup__cgroup_of_openrc(ours, service->name)
								  : k3sup__cgroup_within(ours, theirs, service->name);
			at = stat.ppid;
		}
	}
	return r == -ESRCH ? 0 : r;
}

/* ---- who owns it ---- */

/* Programs that start again what ends, by the kernel's 15 bytes of their names. */
static bool is_supervisor(const char *comm)
{
	static const char *const names[] = {"supervise-daemo", "runsv", "s6-supervise", "supervise", "supervisord", "dinit", "nosh", "shepherd"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (k3sup__streq(comm, names[i]))
			return true;
	return false;
}

/* Field 7 of /proc/PID/stat: the terminal; 0: none. 1 if it has one, 0, -errno. */
static int has_terminal(const k3sup_process *process)
{
	_free_ char *text = NULL;
	const char *close;
	long tty = 0;
	int r = k3sup__read_file(k3sup__process_dirfd(process), "stat", 4096, &text, NULL);

	if (r < 0)
		return r == -ENOENT || r == -ESRCH ? 0 : r;
	close = strrchr(text, ')');
	return close && sscanf(close + 1, " %*c %*d %*d %*d %ld", &tty) == 1 && tty != 0;
}

/* No manager that starts it again by itself owns it. Is there anything that says that it will, or will not, be started again? */
static int judge_parent(k3sup_node *node, const struct k3sup__candidate *c, struct k3sup__service *s)
{
	const int pid = (int)k3sup__process_pid(c->process);
	struct k3sup__stat stat = {.comm = ""};
	_close_ int dirfd = -1;
	int r;

	r = c->ppid > 0 ? k3sup__proc_open(node->proc_fd, c->ppid, &dirfd) : -ESRCH;
	if (r >= 0)
		r = k3sup__stat_read(dirfd, &stat);
	if (r < 0 && r != -ESRCH) /* an unknown parent must not look like one that starts it again */
		return r;
	/* The parent that is there counts, not what a script would start by now. */
	s->respawns = is_supervisor(stat.comm);
	if (s->respawns || s->why || s->manager)
		return 0;
	r = has_terminal(c->process);
	if (r < 0)
		return r;
	if (r > 0) {
		s->why = k3sup__fmt("process %d has a terminal: it was started by hand (from %s)", pid, stat.comm);
		return s->why ? 0 : -ENOMEM;
	}
	/* A supervisor that nobody here knows; most often process 1 itself. */
	s->respawns = true;
	return 0;
}

int k3sup__service_of(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, struct k3sup__service *ret)
{
	struct k3sup__service service = K3SUP__SERVICE_NONE;
	int r = k3sup__systemd_owns(op, node, candidate, &service);

	if (r == 0)
		r = k3sup__openrc_owns(op, node, candidate, &service);

	if (r < 0 && r != K3SUP_E_NO_SERVICE && r != K3SUP_E_SERVICE && r != K3SUP_E_UNTRUSTED && r != -EPERM && r != -EACCES && r != -ENOENT)
		goto out;
	if (r > 0 && service.manager == &k3sup__openrc)
		r = judge_parent(node, candidate, &service);
	else if (r <= 0) {
		const char *why = r < 0 ? k3sup__op_sentence(op) : NULL;

		if (why && !(service.why = strdup(why))) {
			r = -ENOMEM;
			goto out;
		}
		k3sup__op_forgive(op);
		r = judge_parent(node, candidate, &service);
		if (r >= 0 && !service.why && !(service.why = strdup("no service manager that could be asked owns it")))
			r = -ENOMEM;
	}
	if (r >= 0 && !service.facts)
		service.facts = k3sup__json_object();
out:
	if (r < 0) {
		k3sup__service_clear(&service);
		return r;
	}
	*ret = service;
	return 0;
}

/* ---- may it be done ---- */

static int admit_signal(k3sup_op *op, const struct k3sup__service *s, pid_t pid, bool explicitly)
{
	if (s->manager && s->masked)
		return k3sup__fail(op, K3SUP_E_SERVICE_MASKED, "%s is masked: once process %d has ended, nothing would start it again",
			s->name, (int)pid);
	if (s->manager && !s->respawns && !s->manager->respawner)
		return k3sup__fail(op, K3SUP_E_NOT_SUPERVISED,
			"%s has Restart=%s: once process %d has ended by a signal, nothing would start it again", s->name,
			k3sup__json_text(s->facts, "restart"), (int)pid);
	if (s->manager && !s->respawns)
		return k3sup__fail(op, K3SUP_E_NOT_SUPERVISED,
			"no supervise-daemon looks after %s: once process %d has ended, nothing would start it again", s->name, (int)pid);
	if (!s->respawns && !explicitly)
		return k3sup__fail(op, K3SUP_E_NOT_SUPERVISED, "nothing would start k3s again: %s", s->why);
	return 0;
}

int k3sup__service_admit(k3sup_op *op, k3sup_node *node, const struct k3sup__service *s, const k3sup_process *process, enum k3sup__how how,
	enum k3sup__how *ret)
{
	const pid_t pid = process ? k3sup__process_pid(process) : 0;
	bool ours = false;
	int r;

	if (how == K3SUP__HOW_SERVICE && !s->manager)
		return k3sup__fail(op, K3SUP_E_NO_SERVICE, "no service manager can be told to restart process %d: %s", (int)pid, s->why);
	*ret = how == K3SUP__HOW_SIGNAL || !s->manager || (how == K3SUP__HOW_AUTO && s->manager->respawner) ? K3SUP__HOW_SIGNAL : K3SUP__HOW_SERVICE;
	if (*ret == K3SUP__HOW_SIGNAL) {
		r = admit_signal(op, s, pid, how == K3SUP__HOW_SIGNAL);
		if (r < 0)
			return r;
	} else if (s->masked) {
		return k3sup__fail(op, K3SUP_E_SERVICE_MASKED, "%s is masked: its manager would not start it again", s->name);
	} else if (s->takes_nothing) {
		return k3sup__fail(op, K3SUP_E_SERVICE, "%s has %s: its manager would start a second k3s beside the first one", s->name, s->setting);
	} else if (s->manager->able) {
		r = s->manager->able(op, s);
		if (r < 0)
			return r;
	}
	/* What OpenRC does with a group, it does at a stop, and supervise-daemon's own start is none. */
	if (!s->takes_all || !process || (*ret == K3SUP__HOW_SIGNAL && s->manager->respawner))
		return 0;
	r = would_end_us(node, process, s, &ours);
	if (r < 0)
		return k3sup__fail(op, r, "cannot tell whether the end of %s would end this program: %s", s->name, k3sup_strerror(r));
	if (ours)
		return k3sup__fail(op, K3SUP_E_SERVICE_TAKES_US,
			"%s has %s, and this program runs in its cgroup: the restart would end it halfway", s->name, s->setting);
	k3sup__warn(op, "%s has %s: with k3s all containers of this node end, too", s->name, s->setting);
	return 0;
}
