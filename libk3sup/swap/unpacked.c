/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/unpack.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "node/version.h"
#include "swap/bytes.h"

#define SUMS ".sha256sums"
#define LINKS ".links"
#define LIST_MOST ((size_t)1 << 20)

struct looking {
	k3sup_op *op;
	struct k3sup__unpacked *found;
	int bin;
	bool quick;
	bool program; /* the one that all are links to is in the list */
};

void k3sup__unpacked_clear(struct k3sup__unpacked *unpacked)
{
	k3sup__place_clear(&unpacked->data);
	free(unpacked->path);
	free(unpacked->why);
	*unpacked = K3SUP__UNPACKED_EMPTY;
}

/* The first thing that is wrong will do. */
static _printf_(2, 3) int torn(struct k3sup__unpacked *u, const char *fmt, ...)
{
	va_list ap;
	int n = 0;

	u->form = K3SUP__UNPACKED_TORN;
	va_start(ap, fmt);
	if (u->why == NULL)
		n = vasprintf(&u->why, fmt, ap);
	va_end(ap);
	if (n < 0)
		u->why = NULL;
	return n < 0 ? -ENOMEM : 0;
}

static bool is_missing(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ELOOP;
}

/* What the disk does not give back is as lost as what it never got. */
static bool is_lost(int error)
{
	return error == -EIO || error == -EUCLEAN || error == -EBADMSG;
}

/* A name of a list, below the directory: no link on the way is followed. */
static int open_below(int dirfd, const char *name, int flags)
{
	int at = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC), r = at < 0 ? -errno : 0;

	while (r >= 0) {
		const char *slash = strchr(name, '/');
		_free_ char *part = slash != NULL ? strndup(name, (size_t)(slash - name)) : strdup(name);
		int next = -ENOMEM;

		if (part != NULL && (!*part || k3sup__streq(part, "..")))
			next = -ENOENT;
		else if (part != NULL && (next = openat(at, part, O_NOFOLLOW | O_CLOEXEC | (slash != NULL ? O_PATH | O_DIRECTORY : flags))) < 0)
			next = -errno;
		k3sup__close(at);
		r = at = next;
		if (slash == NULL)
			break;
		name = slash + 1;
	}
	return r;
}

static int look_at_file(struct looking *l, const char *name, const char *sha256)
{
	_close_ int fd = open_below(l->bin, name, O_RDONLY | O_NONBLOCK);
	char actual[K3SUP__SHA256_HEX];
	struct stat st;
	int r = 0;

	l->program |= k3sup__streq(name, "k3s") || k3sup__streq(name, "containerd");
	if (is_missing(fd) || is_lost(fd))
		return torn(l->found, "%s is missing", name);
	if (fd < 0 || fstat(fd, &st) < 0)
		return k3sup__fail(l->op, fd < 0 ? fd : -errno, "cannot look at %s of %s: %s", name, l->found->path,
			k3sup_strerror(fd < 0 ? fd : -errno));
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return torn(l->found, "%s is %s", name, S_ISREG(st.st_mode) ? "empty" : "not a file");
	l->found->files++;
	l->found->bytes += (uint64_t)st.st_size;
	if (l->quick)
		return 0;
	r = k3sup__bytes_digest(l->op, fd, name, actual);
	k3sup__op_progress(l->op, (int64_t)l->found->bytes, -1);
	if (is_lost(r)) {
		k3sup__op_forgive(l->op);
		return torn(l->found, "%s cannot be read (%s)", name, k3sup_strerror(r));
	}
	return r < 0 || k3sup__streq(actual, sha256) ? r : torn(l->found, "%s does not have the SHA-256 that its list says", name);
}

static int look_at_link(struct looking *l, const char *name, const char *target)
{
	_close_ int fd = open_below(l->bin, name, O_PATH);
	_free_ char *text = NULL;

	if (is_missing(fd))
		return torn(l->found, "the link %s is missing", name);
	if (fd < 0)
		return k3sup__fail(l->op, fd, "cannot look at %s of %s: %s", name, l->found->path, k3sup_strerror(fd));
	text = k3sup__link_text(fd);
	if (text == NULL && errno == ENOMEM)
		return -ENOMEM;
	return text != NULL && k3sup__streq(text, target) ? 0 : torn(l->found, "%s is not the link to %s that its list says", name, target);
}

/* "HEX  NAME" or "NAME TARGET", one a line; what a power cut makes of it has no such lines, or none at all. */
static int each_line(struct looking *l, const char *list, char *text, size_t len)
{
	char *save = NULL;
	unsigned lines = 0;
	int r = strlen(text) == len ? 0 : torn(l->found, "%s is damaged", list);

	for (char *line = strtok_r(text, "\n", &save); r >= 0 && l->found->why == NULL && line != NULL; line = strtok_r(NULL, "\n", &save)) {
		char *words = NULL, *first = strtok_r(line, " \t\r", &words), *second = strtok_r(NULL, " \t\r", &words);

		if (first == NULL)
			continue;
		if (second == NULL || strtok_r(NULL, " \t\r", &words) != NULL)
			return torn(l->found, "%s is damaged", list);
		if (list[1] == LINKS[1])
			r = look_at_link(l, first, second);
		else if (strlen(first) != K3SUP__SHA256_HEX - 1 || !k3sup__is_hex(first, K3SUP__SHA256_HEX - 1))
			return torn(l->found, "%s is damaged", list);
		else
			r = look_at_file(l, second, first);
		lines++;
		if (r >= 0)
			r = k3sup__op_checkpoint(l->op);
	}
	return r >= 0 && lines == 0 ? torn(l->found, "%s is empty", list) : r;
}

/* k3s's archives have lists since November 2020 (k3s #2349). */
static bool may_lack_lists(const struct k3sup__build *build)
{
	struct k3sup__version version;

	return k3sup__version_parse(build->version, strlen(build->version), &version) < 0 || (version.major == 1 && version.minor < 20);
}

static int look_at_list(struct looking *l, const struct k3sup__build *build, const char *list)
{
	_free_ char *text = NULL;
	size_t len;
	int r = k3sup__read_file(l->bin, list, LIST_MOST, &text, &len);

	if (r == -ENOENT && list[1] == SUMS[1] && may_lack_lists(build)) {
		l->found->form = K3SUP__UNPACKED_UNKNOWN;
		return 0;
	}
	if (is_missing(r))
		return torn(l->found, "%s is missing", list);
	if (is_lost(r) || r == -EFBIG)
		return torn(l->found, "%s cannot be read (%s)", list, k3sup_strerror(r));
	if (r < 0)
		return k3sup__fail(l->op, r, "cannot read %s of %s: %s", list, l->found->path, k3sup_strerror(r));
	return each_line(l, list, text, len);
}

static int look_inside(struct looking *l, const struct k3sup__build *build, int dirfd)
{
	struct k3sup__unpacked *u = l->found;
	_close_ int bin = open_below(dirfd, "bin", O_RDONLY | O_DIRECTORY);
	int r;

	if (is_missing(bin))
		return torn(u, "it has no bin");
	if (bin < 0)
		return k3sup__fail(l->op, bin, "cannot open %s/bin: %s", u->path, k3sup_strerror(bin));
	l->bin = bin;
	u->form = K3SUP__UNPACKED_WHOLE;
	r = look_at_list(l, build, SUMS);
	if (r < 0 || u->form != K3SUP__UNPACKED_WHOLE)
		return r;
	if (!l->program)
		return torn(u, SUMS " does not name k3s");
	return look_at_list(l, build, LINKS);
}

int k3sup__unpacked_look(k3sup_op *op, const k3sup_node *node, const char *data_dir, const struct k3sup__build *build, bool quick,
	struct k3sup__unpacked *ret)
{
	struct k3sup__unpacked u = K3SUP__UNPACKED_EMPTY;
	struct looking l = {.op = op, .found = &u, .bin = -1, .quick = quick};
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *data = k3sup__fmt("%s/data", data_dir);
	int r;

	memcpy(u.hash, build->asset_hash, sizeof(u.hash));
	u.path = k3sup__fmt("%s/data/%s", data_dir, build->asset_hash);
	r = u.path && data ? k3sup__root_find(op, &node->root, data, node->trust_flags, &u.data) : -ENOMEM;
	if (r >= 0 && u.data.fd >= 0)
		r = k3sup__root_find(op, &node->root, u.path, node->trust_flags, &place);
	if (r == -ENOENT)
		r = 0;
	if (r >= 0 && place.fd >= 0) {
		u.st = place.st;
		r = S_ISDIR(place.st.st_mode) ? look_inside(&l, build, place.fd) : torn(&u, "it is not a directory");
	}
	if (r < 0) {
		k3sup__unpacked_clear(&u);
		return r == -ENOMEM ? r : k3sup__fail(op, r, "cannot look at what is unpacked in %s: %s", data_dir, k3sup_strerror(r));
	}
	*ret = u;
	return 0;
}
