/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/audit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/utc.h"

#define MOST_BYTES (4 * 1024 * 1024) /* a bundle of a thousand certificates */

static const char *const status_names[] = {"OK", "WARNING", "EXPIRED", "NOT YET VALID"};
static const char *const remedy_names[] = {[K3SUP__NOTE] = "note", [K3SUP__START] = "start", [K3SUP__ACT] = "act"};

int k3sup__audit_open(struct k3sup__audit *audit)
{
	audit->certificates = k3sup__json_array();
	audit->problems = k3sup__json_array();
	audit->unknown = k3sup__json_array();
	return k3sup__pki_new(&audit->pki);
}

void k3sup__audit_close(struct k3sup__audit *audit)
{
	for (size_t i = 0; i < K3SUP__N_CAS; i++) {
		k3sup__certs_clear(&audit->cas[i]);
		k3sup__certs_clear(&audit->agent_cas[i]);
	}
	for (size_t i = 0; i < audit->n_dirs; i++) {
		free(audit->dirs[i].name);
		k3sup__place_clear(&audit->dirs[i].place);
	}
	k3sup__json_unref(audit->certificates);
	k3sup__json_unref(audit->problems);
	k3sup__json_unref(audit->unknown);
	k3sup__pki_free(audit->pki);
}

/* ---- reading ---- */

/* Wider than k3s writes it: certificates 0644 (0600 on servers that joined), keys 0600, directories 0755. Narrower is fine. */
static void look_at_mode(struct k3sup__audit *audit, const char *path, const struct stat *st, mode_t forbidden)
{
	if (audit->prepared)
		return;
	if (!k3sup__trusted_owner(st))
		k3sup__audit_problem(audit, K3SUP__ACT, path, "owner", "it belongs to user %u", (unsigned)st->st_uid);
	if ((st->st_mode & forbidden) != 0)
		k3sup__audit_problem(
			audit, K3SUP__ACT, path, "mode", "its mode is %04o, wider than k3s writes it", (unsigned)(st->st_mode & 07777));
}

/* The directory of a file (dir ends with a slash). Each is walked to once: the rest is one openat(2) for a file. 0, -ENOENT and others of root_find. */
static int find_dir(struct k3sup__audit *audit, const char *dir, size_t len, const struct k3sup__place **ret)
{
	struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = NULL, *name = NULL;
	int r;

	for (size_t i = 0; i < audit->n_dirs; i++)
		if (strlen(audit->dirs[i].name) == len && strncmp(audit->dirs[i].name, dir, len) == 0) {
			*ret = &audit->dirs[i].place;
			return (*ret)->fd >= 0 ? 0 : -ENOENT;
		}
	if (audit->n_dirs == K3SUP__AUDIT_DIRS)
		return -EMFILE;
	name = k3sup__fmt("%.*s", (int)len, dir);
	path = k3sup__fmt(dir[0] == '/' ? "%.0s%s" : "%s/%s", audit->data_dir, name != NULL ? name : "");
	if (name == NULL || path == NULL)
		return -ENOMEM;
	r = k3sup__root_find(NULL, audit->root, path, 0, &place);
	if (r < 0 && r != -ENOENT && r != -ENOTDIR)
		return r;
	if (r == 0 && dir[0] != '/')
		look_at_mode(audit, name, &place.st, 022);
	audit->dirs[audit->n_dirs].name = name;
	audit->dirs[audit->n_dirs].place = r < 0 ? K3SUP__PLACE_NONE : place;
	*ret = &audit->dirs[audit->n_dirs++].place;
	name = NULL;
	return (*ret)->fd >= 0 ? 0 : -ENOENT;
}

/* A link is followed inside the root, by the walk that knows how. */
static int open_linked(struct k3sup__audit *audit, const char *path)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *whole = k3sup__fmt(path[0] == '/' ? "%.0s%s" : "%s/%s", audit->data_dir, path);
	int r = whole == NULL ? -ENOMEM : k3sup__root_find(NULL, audit->root, whole, 0, &place);

	return r < 0 ? r : k3sup__place_open(&place, O_RDONLY);
}

static int open_file(struct k3sup__audit *audit, const char *path)
{
	const struct k3sup__place *dir = NULL;
	const char *name = strrchr(path, '/') + 1;
	int fd, r = find_dir(audit, path, (size_t)(name - path), &dir);

	if (r < 0)
		return r;
	fd = openat(dir->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ELOOP)
		return open_linked(audit, path);
	return fd < 0 ? -errno : fd;
}

static int read_text(int fd, struct k3sup__cert_file *ret)
{
	ssize_t n;

	if (fstat(fd, &ret->st) < 0)
		return -errno;
	if (!S_ISREG(ret->st.st_mode))
		return -EISDIR;
	if (ret->st.st_size > MOST_BYTES)
		return -EFBIG;
	ret->text = malloc((size_t)ret->st.st_size + 1);
	if (ret->text == NULL)
		return -ENOMEM;
	n = k3sup__read_full(fd, ret->text, (size_t)ret->st.st_size);
	if (n < 0)
		return (int)n;
	ret->len = (size_t)n;
	ret->text[n] = '\0';
	return 1;
}

int k3sup__audit_read(struct k3sup__audit *audit, const char *path, struct k3sup__cert_file *ret)
{
	_close_ int fd = -1;
	int r = k3sup__op_checkpoint(audit->op);

	*ret = (struct k3sup__cert_file){0};
	if (r < 0)
		return r;
	fd = open_file(audit, path);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	r = fd < 0 ? fd : read_text(fd, ret);
	if (r == 1 || r == -ENOMEM)
		return r;
	k3sup__cert_file_clear(ret);
	k3sup__audit_problem(audit, K3SUP__ACT, path, "unreadable", r == -EISDIR ? "it is not a regular file" : "it cannot be read: %s",
		k3sup_strerror(r));
	return K3SUP_E_PARSE;
}

void k3sup__cert_file_clear(struct k3sup__cert_file *file)
{
	k3sup__secret_free(file->text, file->len);
	*file = (struct k3sup__cert_file){0};
}

static int damaged(struct k3sup__audit *audit, const char *path, enum k3sup__remedy remedy, const struct k3sup__cert_file *file, const char *why)
{
	k3sup__audit_problem(audit, remedy, path, file->len == 0 ? "empty" : "damaged", "%s", why != NULL ? why : "it holds too much");
	return K3SUP_E_PARSE;
}

int k3sup__audit_certs(struct k3sup__audit *audit, const char *path, enum k3sup__remedy if_damaged, struct k3sup__certs *ret)
{
	_cleanup_(k3sup__cert_file_clear) struct k3sup__cert_file file = {0};
	const char *why = NULL;
	int r = k3sup__audit_read(audit, path, &file);

	*ret = (struct k3sup__certs){0};
	if (r <= 0)
		return r;
	look_at_mode(audit, path, &file.st, 022);
	r = k3sup__certs_parse(audit->pki, file.text, file.len, ret, &why);
	if (r == 0)
		return 1;
	return r == -ENOMEM ? r : damaged(audit, path, if_damaged, &file, why);
}

int k3sup__audit_keys(struct k3sup__audit *audit, const char *path, enum k3sup__remedy if_damaged, struct k3sup__keys *ret)
{
	_cleanup_(k3sup__cert_file_clear) struct k3sup__cert_file file = {0};
	const char *why = NULL;
	int r = k3sup__audit_read(audit, path, &file);

	*ret = (struct k3sup__keys){0};
	if (r <= 0)
		return r;
	look_at_mode(audit, path, &file.st, 077);
	r = k3sup__keys_parse(audit->pki, file.text, file.len, ret, &why);
	if (r == 0)
		return 1;
	return r == -ENOMEM ? r : damaged(audit, path, if_damaged, &file, why);
}

/* ---- saying ---- */

void k3sup__audit_problem(struct k3sup__audit *audit, enum k3sup__remedy remedy, const char *path, const char *problem, const char *fmt, ...)
{
	k3sup__json *object = k3sup__json_object();
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k3sup__json_set_str(object, "path", path);
	k3sup__json_set_str(object, "problem", problem);
	k3sup__json_set_str(object, "remedy", remedy_names[remedy]);
	k3sup__json_set_str(object, "text", text);
	k3sup__json_add(audit->problems, object);
	audit->needs_action |= remedy != K3SUP__NOTE;
}

static size_t status_of(const struct k3sup__audit *audit, const struct k3sup__cert *cert, int64_t window)
{
	if (audit->now < cert->not_before)
		return 3;
	if (audit->now > cert->not_after)
		return 2;
	return cert->not_after < audit->now + window;
}

static int take_fact(const char *key, k3sup__json *value, void *arg)
{
	k3sup__json_set(arg, key, k3sup__json_ref(value));
	return 0;
}

/* A kubeconfig holds several users' certificates, one after the other: a position is one in the file, so that it names a row. */
static int64_t next_position(const struct k3sup__audit *audit, const char *path)
{
	size_t rows = k3sup__json_len(audit->certificates);
	const k3sup__json *last = rows > 0 ? k3sup__json_element(audit->certificates, rows - 1) : NULL;
	const char *before = last != NULL ? k3sup__json_text(last, "path") : NULL;

	return before != NULL && k3sup__streq(before, path) ? k3sup__json_number(last, "position", 0) + 1 : 0;
}

/* k3s's check takes its one window for all, also for the authorities behind a leaf: the status says what it would say. */
void k3sup__audit_rows(struct k3sup__audit *audit, const char *kind, const char *service, const char *path, const struct k3sup__certs *certs)
{
	int64_t first = next_position(audit, path);

	for (size_t i = 0; i < certs->count; i++) {
		const struct k3sup__cert *cert = &certs->list[i];
		k3sup__json *row = k3sup__json_object();
		size_t status = status_of(audit, cert, audit->window);
		char from[K3SUP__UTC_TEXT], until[K3SUP__UTC_TEXT];

		k3sup__utc_text(cert->not_before, from);
		k3sup__utc_text(cert->not_after, until);
		k3sup__json_set_str(row, "path", path);
		k3sup__json_set_int(row, "position", first + (int64_t)i);
		k3sup__json_set_str(row, "kind", kind);
		if (service != NULL)
			k3sup__json_set_str(row, "service", service);
		(void)k3sup__json_each(cert->facts, take_fact, row);
		k3sup__json_set_str(row, "not_before", from);
		k3sup__json_set_str(row, "not_after", until);
		k3sup__json_set_int(row, "residual_seconds", cert->not_after - audit->now);
		k3sup__json_set_str(row, "status", status_names[status]);
		k3sup__json_set_str(row, "sha256", cert->sha256);
		k3sup__json_add(audit->certificates, row);
		audit->counts[status]++;
	}
}

void k3sup__audit_dates(struct k3sup__audit *audit, const char *path, const struct k3sup__cert *cert, int64_t window, enum k3sup__remedy if_bad)
{
	size_t status = status_of(audit, cert, window);
	char when[K3SUP__UTC_TEXT];

	k3sup__utc_text(status == 3 ? cert->not_before : cert->not_after, when);
	if (status == 1)
		k3sup__audit_problem(audit, if_bad, path, "expiring", "it expires at %s, in %lld days", when,
			(long long)((cert->not_after - audit->now) / K3SUP__DAY));
	else if (status == 2)
		k3sup__audit_problem(audit, if_bad, path, "expired", "it expired at %s", when);
	else if (status == 3)
		k3sup__audit_problem(audit, if_bad == K3SUP__NOTE ? K3SUP__NOTE : K3SUP__ACT, path, "not-yet-valid",
			"it is not valid before %s; look at the clock", when);
}

bool k3sup__audit_lasts(const struct k3sup__audit *audit, const struct k3sup__cert *cert, int64_t window)
{
	return status_of(audit, cert, window) == 0;
}

bool k3sup__audit_wants(const struct k3sup__audit *audit, const char *service)
{
	if (audit->services == NULL)
		return true;
	for (const char *const *one = audit->services; *one != NULL; one++)
		if (k3sup__streq(*one, service))
			return true;
	return false;
}

/* ---- what nobody knows ---- */

static int look_for_unknown(struct k3sup__audit *audit, const char *dir_name, int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (dir == NULL) {
		r = -errno;
		(void)k3sup__close(fd);
		return r;
	}
	while (r == 0 && (entry = readdir(dir)) != NULL) {
		_free_ char *path = k3sup__fmt("%s%s", dir_name, entry->d_name);

		if (path == NULL)
			r = -ENOMEM;
		else if (!k3sup__cert_path_is_known(path))
			k3sup__json_add(audit->unknown, k3sup__json_str(path));
	}
	(void)closedir(dir);
	return r;
}

int k3sup__audit_unknown(struct k3sup__audit *audit)
{
	int r = 0;

	for (const char *const *name = k3sup__cert_dirs; r == 0 && *name != NULL; name++) {
		const struct k3sup__place *dir = NULL;
		int fd = find_dir(audit, *name, strlen(*name), &dir);

		if (fd == 0)
			fd = k3sup__place_open(dir, O_RDONLY | O_DIRECTORY);
		if (fd == -ENOENT)
			continue;
		r = fd < 0 ? fd : look_for_unknown(audit, *name, fd);
		if (r < 0 && r != -ENOMEM) {
			k3sup__audit_problem(audit, K3SUP__NOTE, *name, "unreadable", "it cannot be listed: %s", k3sup_strerror(r));
			r = 0;
		}
	}
	return r;
}
