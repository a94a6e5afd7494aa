/* SPDX-License-Identifier: Apache-2.0 */
#include "base/root.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/durable.h"

/* As many as the kernel follows in one lookup (MAXSYMLINKS). */
#define MAX_LINKS 40

/*
 * A directory on the way. The stack of them is what ".." goes back on: the kernel's ".." would be wherever a directory was moved to
 * meanwhile, outside the root, too.
 */
struct level {
	int fd;        /* O_PATH */
	size_t length; /* of walk.path up to here */
	struct stat st;
};

struct walk {
	k3sup_op *op;
	unsigned flags;
	struct level *levels; /* levels[0] is the root, its fd is borrowed */
	size_t depth;         /* at least 1 */
	char *rest;           /* what is still to be walked; owned */
	char *at;             /* points into rest */
	char *path;           /* of the directory on top of the stack, "" for the root */
	unsigned links;
};

/* One component, cut out of walk.rest. */
struct component {
	char *name;
	bool more;  /* others follow */
	bool slash; /* it must be a directory */
};

static struct level *top(struct walk *w)
{
	return &w->levels[w->depth - 1];
}

static void pop(struct walk *w)
{
	struct level *level = top(w);

	if (w->depth == 1) /* ".." of the root is the root */
		return;
	k3sup__close(level->fd);
	w->depth--;
	w->path[top(w)->length] = '\0';
}

static int append_path(struct walk *w, const char *name)
{
	char *path = k3sup__fmt("%s/%s", w->path, name);

	if (!path)
		return -ENOMEM;
	free(w->path);
	w->path = path;
	return 0;
}

/* Takes the descriptor over, also when it fails. */
static int push(struct walk *w, const char *name, int fd, const struct stat *st)
{
	struct level *levels = reallocarray(w->levels, w->depth + 1, sizeof(*levels));

	if (levels)
		w->levels = levels;
	if (!levels || append_path(w, name) < 0) {
		k3sup__close(fd);
		return -ENOMEM;
	}
	w->levels[w->depth++] = (struct level){.fd = fd, .length = strlen(w->path), .st = *st};
	return 0;
}

/* path: of the directory on top; name: of the entry in it, NULL for the directory itself */
static int untrusted(struct walk *w, const char *name, const struct stat *st)
{
	_free_ char *path = k3sup__fmt("%s%s%s", w->path, name ? "/" : "", name ? name : "");
	k3sup__json *evidence = k3sup__op_evidence(w->op);
	unsigned mode = st->st_mode & 07777u;

	if (!path)
		return -ENOMEM;
	k3sup__json_set_str(evidence, "path", path);
	k3sup__json_set_int(evidence, "uid", st->st_uid);
	k3sup__json_set_int(evidence, "gid", st->st_gid);
	k3sup__json_set(evidence, "mode", k3sup__json_fmt("%04o", mode));
	if (!k3sup__trusted_owner(st))
		return k3sup__fail(w->op, K3SUP_E_UNTRUSTED, "%s belongs to uid %u (mode %04o), who could change it", path,
			(unsigned)st->st_uid, mode);
	return k3sup__fail(w->op, K3SUP_E_UNTRUSTED, "%s (mode %04o, uid %u, gid %u) can be written by %s", path, mode,
		(unsigned)st->st_uid, (unsigned)st->st_gid, mode & S_IWOTH ? "everybody" : "its group");
}

/*
 * Can this component be passed through? In a sticky directory of root's nobody else can rename or remove what is root's; the entry itself
 * is checked next.
 */
static int check_passing(struct walk *w, const char *name, const struct stat *st)
{
	if (!(w->flags & K3SUP__TRUSTED) || k3sup__trusted(st, w->flags & K3SUP__ALLOW_GROUP))
		return 0;
	if (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) && k3sup__trusted_owner(st))
		return 0;
	return untrusted(w, name, st);
}

/* Is the object at the end, or the directory that would get it, above suspicion? */
static int check_end(struct walk *w, const char *name, const struct stat *st)
{
	if (!(w->flags & K3SUP__TRUSTED) || (w->flags & K3SUP__PARENTS_ONLY) || k3sup__trusted(st, w->flags & K3SUP__ALLOW_GROUP))
		return 0;
	if (!name && w->depth == 1) /* the root is trusted as given */
		return 0;
	return untrusted(w, name, st);
}

static int make_dir(struct walk *w, const char *name)
{
	int dirfd = top(w)->fd, r = 0;
	_close_ int fd = -1;
	struct stat st;

	if (mkdirat(dirfd, name, 0755) < 0) {
		if (errno == EEXIST) /* somebody was faster */
			return 0;
		r = -errno;
		return k3sup__fail(w->op, r, "cannot make the directory %s/%s: %s", w->path, name, k3sup_strerror(r));
	}
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* the host's umask may have narrowed it, and is not ours to change: it belongs to all threads */
	if (fd < 0 || fstat(fd, &st) < 0 || ((st.st_mode & 0777) != 0755 && fchmod(fd, 0755) < 0))
		r = -errno;
	if (r == 0)
		r = k3sup__sync_dir(fd);
	if (r == 0)
		r = k3sup__sync_dir(dirfd);
	if (r < 0)
		return k3sup__fail(w->op, r, "cannot make the directory %s/%s durable: %s", w->path, name, k3sup_strerror(r));
	return 0;
}

char *k3sup__link_text(int fd)
{
	char *text = malloc(PATH_MAX); /* no file system stores a longer one */
	ssize_t len;

	if (!text)
		return NULL;
	len = readlinkat(fd, "", text, PATH_MAX);
	if (len > 0 && len < PATH_MAX) {
		text[len] = '\0';
		return text;
	}
	if (len >= 0)
		errno = len == 0 ? ENOENT : ENAMETOOLONG;
	free(text);
	return NULL;
}

/* The link's text comes before what is left of the path. */
static int follow(struct walk *w, const struct component *c, int fd)
{
	_free_ char *text = NULL;
	struct statfs fs;
	char *rest;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	/*
	 * Links of procfs lead where their text does not say: into other roots, to open files. The few that are honest are not
	 * worth the risk.
	 */
	if ((uint32_t)fs.f_type == PROC_SUPER_MAGIC)
		return k3sup__fail(w->op, K3SUP_E_ESCAPE, "%s/%s is a link of procfs, which can lead out of the node's root", w->path, c->name);
	if (++w->links > MAX_LINKS)
		return k3sup__fail(w->op, -ELOOP, "too many symbolic links, the last one is %s/%s", w->path, c->name);
	text = k3sup__link_text(fd);
	if (!text)
		return -errno;
	rest = k3sup__fmt("%s%s%s", text, c->slash || c->more ? "/" : "", w->at);
	if (!rest)
		return -ENOMEM;
	while (text[0] == '/' && w->depth > 1)
		pop(w);
	free(w->rest);
	w->rest = w->at = rest;
	return 0;
}

/*
 * O_PATH | O_NOFOLLOW: whatever the name is at this instant is held, and fstat() of the descriptor decides what it was; a swap of the name
 * later changes nothing. O_DIRECTORY comes first because only with it O_PATH triggers an automount (without, the empty directory below the
 * mount would be walked).
 */
static int open_entry(int dirfd, const char *name, struct stat *st)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOTDIR)
		fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, st) < 0) {
		int r = -errno;

		k3sup__close(fd);
		return r;
	}
	return fd;
}

/* The path ends with this entry (fd: taken over, -1 if it is missing) of the directory on top. */
static int end_at(struct walk *w, const char *name, int fd, const struct stat *st, struct k3sup__place *ret)
{
	ret->fd = fd;
	if (fd >= 0)
		ret->st = *st;
	ret->dirfd = fcntl(top(w)->fd, F_DUPFD_CLOEXEC, 0);
	if (ret->dirfd < 0)
		return -errno;
	ret->path = k3sup__fmt("%s/%s", w->path, name);
	if (!ret->path)
		return -ENOMEM;
	ret->name = strrchr(ret->path, '/') + 1;
	ret->links = w->links;
	if (fd >= 0)
		return check_end(w, name, st);
	/* Who may write the directory could put something there before us. */
	return check_end(w, NULL, &top(w)->st);
}

/* The path ends with the directory on top of the stack. */
static int end_at_top(struct walk *w, struct k3sup__place *ret)
{
	struct level *level = top(w), *parent = w->depth > 1 ? level - 1 : level;
	static const char root_path[] = "/\0."; /* the name must point into the path */
	int r;

	r = check_end(w, NULL, &level->st); /* while its sentence still has the path */
	if (r < 0)
		return r;
	ret->st = level->st;
	ret->fd = fcntl(level->fd, F_DUPFD_CLOEXEC, 0);
	ret->dirfd = fcntl(parent->fd, F_DUPFD_CLOEXEC, 0);
	if (ret->fd < 0 || ret->dirfd < 0)
		return -errno;
	ret->links = w->links;
	if (w->depth > 1) {
		ret->path = w->path;
		w->path = NULL;
		ret->name = strrchr(ret->path, '/') + 1;
	} else {
		ret->path = malloc(sizeof(root_path));
		if (!ret->path)
			return -ENOMEM;
		memcpy(ret->path, root_path, sizeof(root_path));
		ret->name = ret->path + 2;
	}
	return 0;
}

/* 1: the path ends here; 0: the directory was made, look again */
static int missing(struct walk *w, const struct component *c, struct k3sup__place *ret)
{
	int r;

	if (c->more && (w->flags & K3SUP__MAKE_DIRS))
		return make_dir(w, c->name);
	if (c->more || c->slash)
		return -ENOENT;
	r = end_at(w, c->name, -1, NULL, ret);
	return r < 0 ? r : 1;
}

/* One component. 1: the path ends here; 0: go on; or an error */
static int step(struct walk *w, const struct component *c, struct k3sup__place *ret)
{
	_close_ int fd = -1;
	struct stat st;
	bool link;
	int r;

	if (strlen(c->name) > NAME_MAX)
		return k3sup__fail(w->op, -ENAMETOOLONG, "a name in %s is longer than %d bytes", *w->path ? w->path : "/", NAME_MAX);
	fd = open_entry(top(w)->fd, c->name, &st);
	if (fd == -ENOENT) {
		r = missing(w, c, ret);
		if (r != 0)
			return r;
		fd = open_entry(top(w)->fd, c->name, &st);
	}
	if (fd < 0)
		return k3sup__fail(w->op, fd, "cannot open %s/%s: %s", w->path, c->name, k3sup_strerror(fd));
	link = S_ISLNK(st.st_mode) && (c->more || c->slash || !(w->flags & K3SUP__NOFOLLOW));
	r = c->more || link ? check_passing(w, c->name, &st) : 0; /* the last one is checked at the end, by a stricter rule */
	if (r < 0)
		return r;
	if (link)
		return follow(w, c, fd);
	if (S_ISDIR(st.st_mode)) {
		r = push(w, c->name, fd, &st);
		fd = -1;
		return r;
	}
	if (c->more || c->slash)
		return k3sup__fail(w->op, -ENOTDIR, "%s/%s is no directory", w->path, c->name);
	r = end_at(w, c->name, fd, &st, ret);
	fd = -1;
	return r < 0 ? r : 1;
}

/* false at the end of the path */
static bool next(struct walk *w, struct component *c)
{
	char *end;

	w->at += strspn(w->at, "/");
	if (*w->at == '\0')
		return false;
	end = strchrnul(w->at, '/');
	*c = (struct component){.name = w->at, .slash = *end == '/'};
	w->at = end + strspn(end, "/");
	c->more = *w->at != '\0';
	*end = '\0';
	return true;
}

static int walk(struct walk *w, struct k3sup__place *ret)
{
	struct component c;

	while (next(w, &c)) {
		int r = 0;

		if (k3sup__streq(c.name, ".."))
			pop(w);
		else if (!k3sup__streq(c.name, "."))
			r = step(w, &c, ret);
		if (r < 0)
			return r;
		if (r > 0)
			return 0;
	}
	return end_at_top(w, ret);
}

int k3sup__root_find(k3sup_op *op, const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret)
{
	struct walk w = {.op = op, .flags = flags, .depth = 1};
	struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = -ENOMEM;

	if (path[0] != '/')
		return k3sup__fail(op, -EINVAL, "the path \"%s\" inside the node's root is not absolute", path);
	if (strlen(path) >= PATH_MAX)
		return k3sup__fail(op, -ENAMETOOLONG, "a path inside the node's root is longer than %d bytes", PATH_MAX - 1);
	w.levels = calloc(1, sizeof(*w.levels));
	w.rest = w.at = strdup(path);
	w.path = strdup("");
	if (w.levels && w.rest && w.path) {
		w.levels[0].fd = root->fd;
		r = fstat(root->fd, &w.levels[0].st) < 0 ? -errno : walk(&w, &place);
	}
	while (w.levels && w.depth > 1)
		k3sup__close(w.levels[--w.depth].fd);
	free(w.levels);
	free(w.rest);
	free(w.path);
	if (r < 0)
		k3sup__place_clear(&place);
	else
		*ret = place;
	return r;
}
