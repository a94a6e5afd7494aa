/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cgroup.h"

/* A piece of text that is not ended by NUL. */
struct piece {
	const char *text;
	size_t len;
};

static bool is(struct piece p, const char *word)
{
	return p.len == strlen(word) && memcmp(p.text, word, p.len) == 0;
}

static bool begins(struct piece p, const char *prefix)
{
	return p.len >= strlen(prefix) && memcmp(p.text, prefix, strlen(prefix)) == 0;
}

static bool ends(struct piece p, const char *suffix)
{
	size_t len = strlen(suffix);

	return p.len > len && memcmp(p.text + p.len - len, suffix, len) == 0;
}

/* Takes the next piece up to `end`, or up to where the text ends. */
static bool next(const char **at, const char *stop, char end, struct piece *ret)
{
	const char *found;

	if (*at >= stop)
		return false;
	found = memchr(*at, end, (size_t)(stop - *at));
	*ret = (struct piece){*at, (size_t)((found != NULL ? found : stop) - *at)};
	*at = found != NULL ? found + 1 : stop;
	return true;
}

/* The letters of unit names (systemd.unit(5)); it becomes a file's name. */
static bool take_name(struct piece p, struct k3sup__cgroup *ret)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";

	if (p.len == 0 || p.len >= sizeof(ret->unit) || p.text[0] == '.')
		return false;
	for (size_t i = 0; i < p.len; i++)
		if (strchr(letters, p.text[i]) == NULL || p.text[i] == '\0')
			return false;
	memcpy(ret->unit, p.text, p.len);
	ret->unit[p.len] = '\0';
	return true;
}

/* The first group below slices is the unit. */
static void read_path(struct piece path, struct k3sup__cgroup *ret)
{
	const char *at = path.text, *stop = path.text + path.len;
	bool user = false;
	struct piece p;

	while (next(&at, stop, '/', &p)) {
		if (p.len == 0 || is(p, ".."))
			continue;
		if (ends(p, ".slice")) {
			user = user || is(p, "user.slice");
			continue;
		}
		if (user)
			ret->keeper = K3SUP__KEEPER_USER;
		else if (ends(p, ".service") && take_name(p, ret))
			ret->keeper = K3SUP__KEEPER_SYSTEMD;
		else if (begins(p, "openrc.") && take_name((struct piece){p.text + strlen("openrc."), p.len - strlen("openrc.")}, ret))
			ret->keeper = K3SUP__KEEPER_OPENRC; /* OpenRC's rc-cgroup.sh, unified hierarchy: openrc.NAME, later rc/NAME */
		else if (is(p, "rc") && next(&at, stop, '/', &p) && take_name(p, ret))
			ret->keeper = K3SUP__KEEPER_OPENRC;
		return;
	}
}

/* The hierarchy that OpenRC names after itself: /NAME */
static void read_openrc(struct piece path, struct k3sup__cgroup *ret)
{
	const char *at = path.text, *stop = path.text + path.len;
	struct piece p;

	while (next(&at, stop, '/', &p)) {
		if (p.len == 0 || is(p, ".."))
			continue;
		if (take_name(p, ret))
			ret->keeper = K3SUP__KEEPER_OPENRC;
		return;
	}
}

void k3sup__cgroup_parse(const char *text, struct k3sup__cgroup *ret)
{
	const char *at = text, *stop = text + strlen(text);
	struct k3sup__cgroup unified = {0}, openrc = {0};
	struct piece line;

	*ret = (struct k3sup__cgroup){0};
	while (next(&at, stop, '\n', &line)) {
		const char *in = line.text, *line_end = line.text + line.len;
		struct piece number, controllers, path;

		if (!next(&in, line_end, ':', &number) || !next(&in, line_end, ':', &controllers))
			continue;
		path = (struct piece){in, (size_t)(line_end - in)};
		if (is(controllers, "name=systemd"))
			read_path(path, ret);
		else if (is(controllers, "name=openrc"))
			read_openrc(path, &openrc);
		else if (controllers.len == 0 && is(number, "0"))
			read_path(path, &unified);
	}
	if (ret->keeper == K3SUP__KEEPER_NONE)
		*ret = unified.keeper != K3SUP__KEEPER_NONE ? unified : openrc;
}

const char *k3sup__keeper_name(enum k3sup__keeper keeper)
{
	switch (keeper) {
	case K3SUP__KEEPER_SYSTEMD:
		return "systemd";
	case K3SUP__KEEPER_OPENRC:
		return "openrc";
	default:
		return NULL;
	}
}
