/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unitof.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "node/initscript.h"
#include "node/procscan.h"

#define OPENRC_DAEMONS "/run/openrc/daemons"
#define MAX_RECORDS 1024 /* OpenRC's services and their daemons; a bound, since others than OpenRC can fill directories, too */

static bool is_shortage(int r)
{
	return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

/* A unit's file as it is meant by the node, without links on the way. */
static int take_target(const struct k3sup__vantage *view, const struct k3sup__unit *unit, struct k3sup__unitof *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r;

	if (unit->state != K3SUP__UNIT_LOADED || unit->role == K3SUP__ROLE_UNKNOWN || unit->target == NULL || unit->root_directory != NULL)
		return 0;
	ret->role = unit->role;
	r = k3sup__root_find(NULL, &view->node->root, unit->target, view->node->trust_flags, &place);
	if (r < 0 || place.fd < 0)
		return is_shortage(r) ? r : 0;
	ret->target = strdup(place.path);
	return ret->target != NULL ? 0 : -ENOMEM;
}

/* k3s@east.service is written as k3s@.service; what %i is in there does not matter to who vouches. */
static int read_template(const struct k3sup__vantage *view, const char *name, struct k3sup__unit *ret)
{
	const char *at = strchr(name, '@'), *dot = strrchr(name, '.');
	_free_ char *template = at != NULL && dot != NULL && at < dot ? k3sup__fmt("%.*s@%s", (int)(at - name), name, dot) : NULL;

	return template != NULL ? k3sup__unit_read(NULL, view->node, template, ret) : -ENOENT;
}

/*
 * The service's file is there, and only root could have written it. One that is masked, or more than can be understood here, still is root's word that there is such a
 * service.
 */
static int vouch(const struct k3sup__vantage *view, enum k3sup__keeper keeper, const char *name, struct k3sup__unitof *ret)
{
	struct k3sup__unit unit = {0};
	bool instance = false;
	int r = keeper == K3SUP__KEEPER_SYSTEMD ? k3sup__unit_read(NULL, view->node, name, &unit)
						: k3sup__initscript_read(NULL, view->node, name, &unit);

	if (r == -ENOENT && keeper == K3SUP__KEEPER_SYSTEMD) {
		r = read_template(view, name, &unit);
		instance = true;
	}
	if (r < 0)
		return is_shortage(r) ? r : 0;
	if (unit.state != K3SUP__UNIT_UNTRUSTED) {
		ret->keeper = keeper;
		ret->unit = strdup(name);
		r = ret->unit == NULL ? -ENOMEM : instance ? 0 : take_target(view, &unit, ret);
	}
	k3sup__unit_clear(&unit);
	return r;
}

/* ---- OpenRC ---- */

/* A small file that only root can write; *ret is NULL if there is none. */
static int read_trusted(const struct k3sup__vantage *view, const char *path, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &view->node->root, path, view->node->trust_flags, &place);
	_close_ int fd = -1;
	ssize_t n;

	*ret = NULL;
	if (r < 0 || place.fd < 0 || !S_ISREG(place.st.st_mode))
		return is_shortage(r) ? r : 0;
	fd = k3sup__place_open(&place, O_RDONLY);
	if (fd < 0)
		return is_shortage(fd) ? fd : 0;
	*ret = calloc(1, 4096);
	if (*ret == NULL)
		return -ENOMEM;
	n = k3sup__read_full(fd, *ret, 4095);
	if (n < 0) {
		free(*ret);
		*ret = NULL;
	}
	return 0;
}

/* The pid that is in the pid file which this record of a daemon names (a line "pidfile=PATH"); 0: none. */
static int record_pid(const struct k3sup__vantage *view, const char *record, pid_t *ret)
{
	_free_ char *text = NULL, *path = NULL, *number = NULL;
	const char *line;
	int r = read_trusted(view, record, &text);

	*ret = 0;
	if (r < 0 || text == NULL)
		return r;
	line = k3sup__startswith(text, "pidfile=") ? text : strstr(text, "\npidfile=");
	if (line == NULL)
		return 0;
	line = strchr(line, '=') + 1;
	path = strndup(line, strcspn(line, "\n"));
	if (path == NULL)
		return -ENOMEM;
	if (path[0] != '/')
		return 0;
	r = read_trusted(view, path, &number);
	if (number != NULL)
		*ret = (pid_t)strtol(number, NULL, 10);
	return r;
}

static int open_dir(const struct k3sup__vantage *view, const char *path, DIR **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &view->node->root, path, view->node->trust_flags, &place), fd = -1;

	*ret = NULL;
	if (r >= 0 && place.fd >= 0)
		fd = r = k3sup__place_open(&place, O_RDONLY | O_DIRECTORY);
	if (r < 0 || fd < 0)
		return is_shortage(r) ? r : 0;
	*ret = fdopendir(fd);
	if (*ret == NULL)
		(void)k3sup__close(fd);
	return 0;
}

/* Goes through the records of a service's daemons until one of them is fitting. */
static int each_record(const struct k3sup__vantage *view, const char *service,
	int (*fits)(const struct k3sup__vantage *, pid_t, pid_t, bool *), pid_t arg, pid_t *ret)
{
	_free_ char *dir = k3sup__fmt("%s/%s", OPENRC_DAEMONS, service);
	struct dirent *entry;
	bool found = false;
	DIR *records;
	int r = dir != NULL ? open_dir(view, dir, &records) : -ENOMEM;

	*ret = 0;
	if (r < 0 || records == NULL)
		return r;
	for (unsigned n = 0; r == 0 && !found && n < MAX_RECORDS && (entry = readdir(records)) != NULL; n++) {
		_free_ char *record = entry->d_name[0] != '.' ? k3sup__fmt("%s/%s", dir, entry->d_name) : NULL;

		if (entry->d_name[0] == '.')
			continue;
		r = record != NULL ? record_pid(view, record, ret) : -ENOMEM;
		if (r == 0 && *ret > 1)
			r = fits(view, *ret, arg, &found);
	}
	(void)closedir(records);
	if (!found)
		*ret = 0;
	return r;
}

static int is_this(const struct k3sup__vantage *view, pid_t pid, pid_t wanted, bool *ret)
{
	(void)view;
	*ret = pid == wanted;
	return 0;
}

static int service_names(const struct k3sup__vantage *view, const char *service, pid_t pid, bool *ret)
{
	pid_t found;
	int r = each_record(view, service, is_this, pid, &found);

	*ret = found != 0;
	return r;
}

/* The service whose daemon this is, by OpenRC's records of the daemons it started (librc: rc_service_daemon_set). */
static int find_service(const struct k3sup__vantage *view, pid_t pid, char **ret)
{
	struct dirent *entry;
	DIR *services;
	int r = open_dir(view, OPENRC_DAEMONS, &services);

	*ret = NULL;
	if (r < 0 || services == NULL)
		return r;
	for (unsigned n = 0; r == 0 && *ret == NULL && n < MAX_RECORDS && (entry = readdir(services)) != NULL; n++) {
		bool found = false;

		if (entry->d_name[0] != '.')
			r = service_names(view, entry->d_name, pid, &found);
		if (r == 0 && found && (*ret = strdup(entry->d_name)) == NULL)
			r = -ENOMEM;
	}
	(void)closedir(services);
	return r;
}

/* Is it OpenRC's supervise-daemon, run by root? */
static int is_supervisor(const struct k3sup__vantage *view, pid_t pid, bool *ret)
{
	_close_ int dirfd = -1;
	struct k3sup__stat stat;
	uid_t uids[4] = {1, 1, 1, 1};
	int r = k3sup__proc_open(view->node->proc_fd, pid, &dirfd);

	if (r == 0)
		r = k3sup__stat_read(dirfd, &stat);
	if (r == 0)
		r = k3sup__proc_uids(dirfd, uids);
	*ret = r == 0 && k3sup__startswith("supervise-daemon", stat.comm) && strlen(stat.comm) == 15 && uids[0] == 0 && uids[1] == 0;
	return is_shortage(r) ? r : 0;
}

static int runs(const struct k3sup__vantage *view, pid_t pid, pid_t unused, bool *ret)
{
	(void)unused;
	return is_supervisor(view, pid, ret);
}

int k3sup__openrc_daemon(const k3sup_node *node, const char *service, pid_t *ret)
{
	const struct k3sup__vantage view = {.node = node};

	return each_record(&view, service, runs, 0, ret);
}

static int of_openrc(const struct k3sup__vantage *view, const char *group, pid_t pid, pid_t ppid, struct k3sup__unitof *ret)
{
	_free_ char *service = NULL;
	bool supervised;
	int r = is_supervisor(view, ppid, &supervised);

	if (r == 0)
		r = find_service(view, supervised ? ppid : pid, &service);
	if (r == 0 && service != NULL)
		ret->main = true;
	else if (r == 0 && group != NULL && (service = strdup(group)) == NULL)
		r = -ENOMEM;
	if (r == 0 && service != NULL)
		r = vouch(view, K3SUP__KEEPER_OPENRC, service, ret);
	ret->main = ret->main && ret->unit != NULL;
	return r;
}

/* ---- both ---- */

int k3sup__unit_of(const struct k3sup__vantage *view, int dirfd, pid_t pid, pid_t ppid, struct k3sup__unitof *ret)
{
	_free_ char *text = NULL;
	struct k3sup__cgroup group = {0};
	int r = k3sup__read_file(dirfd, "cgroup", 65536, &text, NULL);

	*ret = (struct k3sup__unitof){0};
	if (r == -ESRCH || is_shortage(r))
		return r;
	if (r == 0) /* else a kernel without control groups */
		k3sup__cgroup_parse(text, &group);
	if (group.keeper != K3SUP__KEEPER_SYSTEMD)
		return of_openrc(view, group.keeper == K3SUP__KEEPER_OPENRC ? group.unit : NULL, pid, ppid, ret);
	r = vouch(view, K3SUP__KEEPER_SYSTEMD, group.unit, ret);
	ret->main = ret->unit != NULL && ppid == 1;
	return r;
}

void k3sup__unitof_clear(struct k3sup__unitof *unitof)
{
	free(unitof->unit);
	free(unitof->target);
	*unitof = (struct k3sup__unitof){0};
}
