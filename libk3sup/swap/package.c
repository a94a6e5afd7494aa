/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/package.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#define MAX_TEXT ((size_t)64 << 20) /* of a database; Alpine's largest has some MB */
#define MAX_CLAIMS 8

#define DPKG_DIR "/var/lib/dpkg"

/* A path under which some package may list the file. */
struct claim {
	char *path;
	char *only; /* NULL, or the one package that counts */
	char *but;  /* NULL, or the one that does not */
};

struct claims {
	struct claim all[MAX_CLAIMS];
	size_t count;
};

static void claims_clear(struct claims *claims)
{
	for (size_t i = 0; i < claims->count; i++) {
		free(claims->all[i].path);
		free(claims->all[i].only);
		free(claims->all[i].but);
	}
	claims->count = 0;
}

static int claim_add(struct claims *claims, const char *path, const char *only, const char *but)
{
	struct claim *c = &claims->all[claims->count];

	if (claims->count == MAX_CLAIMS)
		return -E2BIG;
	*c = (struct claim){.path = strdup(path), .only = only ? strdup(only) : NULL, .but = but ? strdup(but) : NULL};
	claims->count++;
	return c->path && (c->only || !only) && (c->but || !but) ? 0 : -ENOMEM;
}

/* A missing file is an empty one: *ret stays NULL. */
static int read_inside(const k3sup_node *node, const char *path, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &node->root, path, 0, &place);

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && place.fd < 0))
		return 0;
	if (r < 0)
		return r;
	if (!S_ISREG(place.st.st_mode))
		return 0;
	return k3sup__read_file(place.dirfd, place.name, MAX_TEXT, ret, NULL);
}

static bool is_there(const k3sup_node *node, const char *path)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;

	return k3sup__root_find(NULL, &node->root, path, 0, &place) == 0 && place.fd >= 0;
}

/* Where /bin is a link to /usr/bin, packages from before that merge list the short form. */
static const char *short_form(const k3sup_node *node, const char *path)
{
	static const char *const merged[] = {"/usr/bin/", "/usr/sbin/", "/usr/lib/"};

	for (size_t i = 0; i < ELEMENTSOF(merged); i++) {
		_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
		_free_ char *link = strdup(merged[i] + strlen("/usr"));

		if (!k3sup__startswith(path, merged[i]) || !link)
			continue;
		link[strlen(link) - 1] = '\0';
		if (k3sup__root_find(NULL, &node->root, link, K3SUP__NOFOLLOW, &place) == 0 && place.fd >= 0 && S_ISLNK(place.st.st_mode))
			return path + strlen("/usr");
	}
	return NULL;
}

static char *next_line(char **text)
{
	return *text ? strsep(text, "\n") : NULL;
}

/* ---- dpkg ---- */

/* What diversions make of one form of the path: lines of three, from, to and by whom (":" is the administrator). */
static int claim_form(struct claims *claims, const char *path, const char *diversions)
{
	_free_ char *copy = strdup(diversions ? diversions : "");
	char *at = copy, *from, *to, *by;
	const char *only = NULL;
	int r = copy ? 0 : -ENOMEM;

	while (r >= 0 && (from = next_line(&at)) && (to = next_line(&at)) && (by = next_line(&at))) {
		if (k3sup__streq(from, path))
			only = by;
		else if (k3sup__streq(to, path))
			r = claim_add(claims, from, NULL, by);
	}
	return r < 0 ? r : claim_add(claims, path, only, NULL);
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *at = text; (at = strstr(at, line)); at += n)
		if ((at == text || at[-1] == '\n') && (at[n] == '\n' || at[n] == '\0'))
			return true;
	return false;
}

/* Is this the list of a package that has the file? */
static int list_claims(int dirfd, const char *name, const struct claims *claims, char **ret)
{
	_free_ char *package = strndup(name, strcspn(name, ":")), *text = NULL;
	int r = package ? k3sup__read_file(dirfd, name, MAX_TEXT, &text, NULL) : -ENOMEM;

	if (r < 0)
		return r;
	if (k3sup__endswith(package, ".list"))
		package[strlen(package) - strlen(".list")] = '\0';
	for (size_t i = 0; i < claims->count; i++) {
		const struct claim *c = &claims->all[i];

		if ((c->only && !k3sup__streq(c->only, package)) || (c->but && k3sup__streq(c->but, package)) || !has_line(text, c->path))
			continue;
		*ret = k3sup__fmt("the dpkg package %s", package);
		return *ret ? 1 : -ENOMEM;
	}
	return 0;
}

static int search_lists(k3sup_op *op, int dirfd, const struct claims *claims, char **ret)
{
	DIR *dir = fdopendir(dirfd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		k3sup__close(dirfd);
		return r;
	}
	while (r == 0 && (errno = 0, entry = readdir(dir))) {
		if (k3sup__endswith(entry->d_name, ".list"))
			r = list_claims(dirfd, entry->d_name, claims, ret);
		if (r == -ENOENT) /* dpkg is at work */
			r = 0;
		if (r == 0)
			r = k3sup__op_checkpoint(op);
	}
	if (r == 0 && errno)
		r = -errno;
	(void)closedir(dir);
	return r;
}

static int dpkg_has(k3sup_op *op, k3sup_node *node, const char *path, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_cleanup_(claims_clear) struct claims claims = {.count = 0};
	_free_ char *diversions = NULL;
	const char *other = short_form(node, path);
	int r = k3sup__root_find(NULL, &node->root, DPKG_DIR "/info", 0, &place), fd;

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && (place.fd < 0 || !S_ISDIR(place.st.st_mode))))
		return 0;
	if (r >= 0)
		r = read_inside(node, DPKG_DIR "/diversions", &diversions);
	if (r >= 0)
		r = claim_form(&claims, path, diversions);
	if (r >= 0 && other)
		r = claim_form(&claims, other, diversions);
	if (r < 0)
		return r;
	fd = k3sup__place_open(&place, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? fd : search_lists(op, fd, &claims, ret);
}

/* ---- apk ---- */

/* Lines "P:package", then "F:directory" without a slash in front, then "R:file" for each file in it. */
static int apk_has(k3sup_node *node, const char *path, char **ret)
{
	static const char *const databases[] = {"/lib/apk/db/installed", "/usr/lib/apk/db/installed"};

	for (size_t i = 0; i < ELEMENTSOF(databases); i++) {
		_free_ char *text = NULL;
		const char *package = "?", *dir = "", *slash = strrchr(path, '/'), *line;
		int r = read_inside(node, databases[i], &text);
		char *at = text;

		if (r < 0)
			return r;
		while ((line = next_line(&at))) {
			if (k3sup__startswith(line, "P:"))
				package = line + 2;
			else if (k3sup__startswith(line, "F:"))
				dir = line + 2;
			else if (k3sup__startswith(line, "R:") && k3sup__streq(line + 2, slash + 1) &&
				strlen(dir) + 1 == (size_t)(slash - path) && strncmp(dir, path + 1, strlen(dir)) == 0) {
				*ret = k3sup__fmt("the apk package %s", package);
				return *ret ? 1 : -ENOMEM;
			}
		}
	}
	return 0;
}

/* ---- rpm ---- */

static int rpm_may_have(k3sup_node *node, const char *path, char **ret)
{
	static const char *const databases[] = {"/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db",
		"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db", "/usr/lib/sysimage/rpm/Packages"};

	if (!k3sup__startswith(path, "/usr/") || k3sup__startswith(path, "/usr/local/") || is_there(node, DPKG_DIR "/status"))
		return 0;
	for (size_t i = 0; i < ELEMENTSOF(databases); i++)
		if (is_there(node, databases[i])) {
			*ret = strdup("an rpm package, as all below /usr but /usr/local here (the rpm database was not read)");
			return *ret ? 1 : -ENOMEM;
		}
	return 0;
}

int k3sup__package_of(k3sup_op *op, k3sup_node *node, const char *path, char **ret)
{
	int r = dpkg_has(op, node, path, ret);

	if (r == 0)
		r = apk_has(node, path, ret);
	if (r == 0)
		r = rpm_may_have(node, path, ret);
	return r;
}
