/* SPDX-License-Identifier: Apache-2.0 */
#include "node/program.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/procscan.h"

#define DELETED " (deleted)"

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* The installed files' names first, then what a k3s unpacks. */
static void fill_names(struct k3sup__vantage *view)
{
	const char *places[K3SUP__PLACES];
	size_t n = 0;

	k3sup__installed_places(view->node, places);
	if (view->installed != NULL && view->installed->name != NULL)
		view->names[n++] = view->installed->name;
	for (size_t i = 0; places[i] != NULL; i++)
		view->names[n++] = last_part(places[i]);
	view->names[n++] = "k3s";
}

bool k3sup__vantage_is_near(const struct k3sup__vantage *view, const char *text)
{
	const char *name = last_part(text);
	size_t len = strlen(name);

	if (k3sup__endswith(name, DELETED))
		len -= strlen(DELETED);
	for (size_t i = 0; view->names[i] != NULL; i++)
		if (strncmp(name, view->names[i], len) == 0 && view->names[i][len] == '\0')
			return true;
	return (len == strlen("containerd") && memcmp(name, "containerd", len) == 0) || (len == strlen("rke2") && memcmp(name, "rke2", len) == 0);
}

bool k3sup__vantage_is_file_name(const struct k3sup__vantage *view, const char *comm)
{
	for (size_t i = 0; view->names[i] != NULL; i++)
		if (strncmp(comm, view->names[i], 15) == 0) /* the kernel keeps so many */
			return true;
	return false;
}

int k3sup__vantage_open(const k3sup_node *node, const struct k3sup__place *installed, struct k3sup__vantage *ret)
{
	char link[32];
	_close_ int init = -1;
	int r;

	*ret = (struct k3sup__vantage){.node = node, .installed = installed};
	(void)snprintf(link, sizeof(link), "self/fd/%d", node->root.fd);
	r = k3sup__proc_stat(node->proc_fd, "self/root", &ret->root);
	if (r == 0)
		r = k3sup__proc_stat(node->proc_fd, "self/ns/mnt", &ret->mnt);
	if (r == 0)
		r = k3sup__proc_stat(node->proc_fd, "self/ns/pid", &ret->pid_ns);
	if (r == 0)
		r = k3sup__proc_link(node->proc_fd, link, &ret->prefix);
	if (r < 0)
		return r;
	ret->own_root = ret->root.st_dev == node->root.dev && ret->root.st_ino == node->root.ino;
	if (ret->own_root || k3sup__streq(ret->prefix, "/"))
		ret->prefix[0] = '\0';
	ret->init_error = k3sup__proc_open(node->proc_fd, 1, &init);
	if (ret->init_error == 0)
		ret->init_error = k3sup__proc_stat(init, "ns/mnt", &ret->init);
	ret->init_known = ret->init_error == 0;
	fill_names(ret);
	return 0;
}

void k3sup__vantage_close(struct k3sup__vantage *view)
{
	free(view->prefix);
	*view = (struct k3sup__vantage){0};
}

/*
 * procfs shows a path from the reader's root where that is an ancestor of it, else from the root of the mount namespace it is in. So for a process outside of our own
 * container, whose root is a bind mount here (/host in a pod), the text is already a path inside the node's root; for one that merely was chrooted there it begins with
 * the root's own path.
 */
char *k3sup__vantage_path(const struct k3sup__vantage *view, const struct k3sup__stand *stand, const char *text, unsigned index)
{
	size_t len = strlen(view->prefix);
	bool below = strncmp(text, view->prefix, len) == 0 && text[len] == '/';
	bool whole = stand->in_root && len > 0 && text[0] == '/';
	const char *readings[3];
	unsigned n = 0;

	errno = 0;
	if (whole && !stand->own_mnt)
		readings[n++] = text;
	if (below)
		readings[n++] = text + len;
	if (whole && stand->own_mnt)
		readings[n++] = text;
	return index < n ? strdup(readings[index]) : NULL;
}

/* Does the path end in data/<H>/bin/{k3s,containerd}? Then where <H> begins in it. (containerd: the one real file of the 2021 releases.) */
static const char *find_hash(const char *path)
{
	static const char *const tails[] = {"/bin/k3s", "/bin/containerd"};
	size_t len = strlen(path);

	for (size_t i = 0; i < ELEMENTSOF(tails); i++) {
		size_t tail = strlen(tails[i]), head = strlen("/data/");
		const char *hash;

		if (len < head + K3SUP__H_LEN + tail || !k3sup__endswith(path, tails[i]))
			continue;
		hash = path + len - tail - K3SUP__H_LEN;
		if (k3sup__is_hex(hash, K3SUP__H_LEN) && memcmp(hash - head, "/data/", head) == 0)
			return hash;
	}
	return NULL;
}

bool k3sup__program_is_inner(const char *path)
{
	size_t len = strlen(path), tail = strlen(DELETED);
	_free_ char *copy = k3sup__endswith(path, DELETED) ? strndup(path, len - tail) : NULL;

	return find_hash(copy != NULL ? copy : path) != NULL;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* 0: the path leads to the program, trusted all the way. Else why not. */
static int check_path(const struct k3sup__vantage *view, const char *path, const struct stat *st)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = k3sup__root_find(NULL, &view->node->root, path, view->node->trust_flags, &place);

	if (r < 0)
		return r;
	return place.fd >= 0 && same_inode(&place.st, st) ? 0 : -ENOENT;
}

static bool is_installed(const struct k3sup__vantage *view, const struct k3sup__program *program)
{
	const char *places[K3SUP__PLACES];

	if (view->installed != NULL && view->installed->path != NULL) {
		if (program->deleted && k3sup__streq(program->path, view->installed->path))
			return true;
		if (!program->deleted && view->installed->fd >= 0 && same_inode(&view->installed->st, &program->st))
			return true;
	}
	/* There may be several installed files, or (deleted) none any more. */
	k3sup__installed_places(view->node, places);
	for (size_t i = 0; places[i] != NULL; i++)
		if (program->deleted ? k3sup__streq(program->path, places[i]) : check_path(view, places[i], &program->st) == 0)
			return true;
	return false;
}

static int classify(const struct k3sup__vantage *view, struct k3sup__program *program)
{
	const char *hash = find_hash(program->path);
	int r = program->deleted ? 0 : check_path(view, program->path, &program->st);

	if (program->deleted && !k3sup__trusted(&program->st, (view->node->trust_flags & K3SUP__ALLOW_GROUP) != 0))
		r = K3SUP_E_UNTRUSTED;
	if (r == K3SUP_E_UNTRUSTED && (hash != NULL || is_installed(view, program)))
		program->reason = "somebody else than root could change its program";
	else if (r == 0 && hash == NULL && is_installed(view, program))
		program->form = K3SUP__FORM_INSTALLED;
	if (r < 0 || hash == NULL)
		return r == -ENOMEM || r == -EMFILE || r == -ENFILE ? r : 0;
	program->form = K3SUP__FORM_INNER;
	memcpy(program->asset_hash, hash, K3SUP__H_LEN);
	program->data_dir = hash - program->path > (ptrdiff_t)strlen("/data/")
		? strndup(program->path, (size_t)(hash - program->path) - strlen("/data/"))
		: strdup("/");
	return program->data_dir != NULL ? 0 : -ENOMEM;
}

int k3sup__program_read(const struct k3sup__vantage *view, const struct k3sup__stand *stand, int dirfd, struct k3sup__program *ret)
{
	_close_ int fd = openat(dirfd, "exe", O_PATH | O_CLOEXEC);
	_free_ char *text = NULL;
	int r;

	*ret = (struct k3sup__program){.form = K3SUP__FORM_NONE, .reason = "its program is not a k3s inside the node's root"};
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (fstat(fd, &ret->st) < 0)
		return -errno;
	r = k3sup__proc_link(dirfd, "exe", &text);
	if (r < 0)
		return r;
	if (!S_ISREG(ret->st.st_mode))
		return 0;
	ret->deleted = k3sup__endswith(text, DELETED);
	if (ret->deleted)
		text[strlen(text) - strlen(DELETED)] = '\0';
	for (unsigned i = 0; r == 0 && ret->form == K3SUP__FORM_NONE; i++) {
		char *path = k3sup__vantage_path(view, stand, text, i);

		if (path == NULL)
			return -errno;
		free(ret->path);
		ret->path = path;
		r = classify(view, ret);
	}
	return r;
}

void k3sup__program_clear(struct k3sup__program *program)
{
	free(program->path);
	free(program->data_dir);
	*program = (struct k3sup__program){0};
}
