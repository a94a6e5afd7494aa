/* SPDX-License-Identifier: Apache-2.0 */
#include "node/examine.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/procscan.h"

#define DEFAULT_DATA_DIR "/var/lib/rancher/k3s"

void k3sup__candidate_clear(struct k3sup__candidate *c)
{
	k3sup_process_unref(c->process);
	free(c->exe);
	free(c->data_dir);
	*c = (struct k3sup__candidate){0};
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool name_fits(const char *comm)
{
	static const char *const names[] = {"k3s-server", "k3s-agent", "exe", "k3s"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (k3sup__streq(comm, names[i]))
			return true;
	return false;
}

/* Drops it: 0 so that the scan goes on. */
static int drop(struct k3sup__look *look, const char *reason)
{
	(void)snprintf(look->reason, sizeof(look->reason), "%s", reason);
	return 0;
}

static int check_owner(struct k3sup__look *look, bool *ret_ours)
{
	uid_t me = geteuid(), uids[4];
	int r = k3sup__proc_uids(look->dirfd, uids);

	*ret_ours = false;
	if (r < 0)
		return r;
	for (size_t i = 0; i < 4; i++)
		if (uids[i] != me) {
			if (me != 0 && uids[0] == 0 && uids[1] == 0)
				return -EPERM; /* root's: we could not tell what it is */
			(void)snprintf(look->reason, sizeof(look->reason), "it runs with uid %u", (unsigned)uids[i]);
			return 0;
		}
	*ret_ours = true;
	return 0;
}

/* Namespaces and root directory. */
static int check_stand(const struct k3sup__vantage *view, struct k3sup__look *look, struct k3sup__stand *ret, bool *ret_ok)
{
	const struct k3sup__root *root = &view->node->root;
	struct stat pid_ns, mnt, dir;
	int r = k3sup__proc_stat(look->dirfd, "ns/pid", &pid_ns);

	*ret_ok = false;
	if (r == 0)
		r = k3sup__proc_stat(look->dirfd, "ns/mnt", &mnt);
	if (r == 0)
		r = k3sup__proc_stat(look->dirfd, "root", &dir);
	if (r < 0)
		return r;
	if (!same_inode(&pid_ns, &view->pid_ns))
		return drop(look, "it is in another pid namespace");
	ret->in_root = dir.st_dev == root->dev && dir.st_ino == root->ino;
	ret->own_mnt = same_inode(&mnt, &view->mnt);
	if (!ret->in_root && !ret->own_mnt && !(view->init_known && same_inode(&mnt, &view->init)))
		return drop(look, "it is in another mount namespace and has another root directory");
	if (!ret->in_root && (view->own_root || !same_inode(&dir, &view->root)))
		return drop(look, "its root directory is not the node's");
	*ret_ok = true;
	return 0;
}

/* The data-dir a server works in: it changes to <data-dir>/server when it starts. */
static int read_cwd(const struct k3sup__vantage *view, const struct k3sup__stand *stand, struct k3sup__look *look, bool *ret_server)
{
	_free_ char *text = NULL;
	char *path;
	int r = k3sup__proc_link(look->dirfd, "cwd", &text);

	*ret_server = false;
	if (r < 0)
		return r;
	path = k3sup__vantage_path(view, stand, text, 0);
	if (path == NULL)
		return -errno;
	if (!k3sup__endswith(path, "/server") || strlen(path) == strlen("/server")) {
		free(path);
		return 0;
	}
	path[strlen(path) - strlen("/server")] = '\0';
	free(look->found.data_dir);
	look->found.data_dir = path;
	*ret_server = true;
	return 0;
}

/* The installed file as a running program: a wrapper that unpacks, or an image that has no wrapper? */
static int read_installed(struct k3sup__look *look, const struct k3sup__program *program)
{
	_close_ int fd = openat(look->dirfd, "exe", O_RDONLY | O_CLOEXEC);
	struct k3sup__build build;
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!same_inode(&st, &program->st))
		return -ESRCH; /* it executed something else meanwhile: the caller looks again */
	r = k3sup__build_read_fd(NULL, fd, program->path, K3SUP__BUILD_LENIENT, &build);
	if (r < 0 && r != K3SUP_E_PAYLOAD_CHANGED)
		return r;
	look->found.unpacking = build.wrapper;
	look->found.image = !build.wrapper;
	return 0;
}

/* What it is by name, or, where the name does not tell, by title. */
static int judge_title(const struct k3sup__vantage *view, const struct k3sup__stand *stand, struct k3sup__look *look, bool installed)
{
	struct k3sup__candidate *c = &look->found;
	enum k3sup__command command;
	bool in_server;
	int r = read_cwd(view, stand, look, &in_server);

	if (r == 0)
		r = k3sup__proc_command(look->dirfd, &command, NULL);
	if (r < 0)
		return r;
	look->accepted = true;
	if (k3sup__streq(c->comm, "k3s-server")) {
		c->role = K3SUP__ROLE_SERVER;
	} else if (k3sup__streq(c->comm, "k3s-agent")) {
		c->role = K3SUP__ROLE_AGENT;
	} else if (command == K3SUP__COMMAND_SERVER || command == K3SUP__COMMAND_AGENT) {
		/* Some releases of 2024 title a server "k3s agent". */
		c->role = in_server || command == K3SUP__COMMAND_SERVER ? K3SUP__ROLE_SERVER : K3SUP__ROLE_AGENT;
	} else {
		look->weak = true;
		c->role = in_server ? K3SUP__ROLE_SERVER : K3SUP__ROLE_UNKNOWN;
		if (command == K3SUP__COMMAND_OTHER || (command == K3SUP__COMMAND_INIT && k3sup__streq(c->comm, "exe"))) {
			look->accepted = false;
			return drop(look, "its command is neither server nor agent");
		}
	}
	if (installed && c->unpacking && command != K3SUP__COMMAND_SERVER && command != K3SUP__COMMAND_AGENT) {
		look->accepted = false;
		return drop(look, "it is the wrapper with a command that is neither server nor agent");
	}
	if (c->role != K3SUP__ROLE_SERVER && c->data_dir != NULL) {
		free(c->data_dir); /* somebody stood in a directory of that name */
		c->data_dir = NULL;
	}
	return 0;
}

static int fill_candidate(struct k3sup__look *look, struct k3sup__program *program)
{
	struct k3sup__candidate *c = &look->found;

	memcpy(c->comm, look->stat.comm, sizeof(c->comm));
	c->ppid = look->stat.ppid;
	memcpy(c->asset_hash, program->asset_hash, sizeof(c->asset_hash));
	c->exe_deleted = program->deleted;
	c->exe_dev = program->st.st_dev;
	c->exe_ino = program->st.st_ino;
	c->exe = program->path;
	program->path = NULL;
	if (program->form == K3SUP__FORM_INSTALLED)
		return read_installed(look, program);
	return 0;
}

/* The wrapper may unpack below the default directory although k3s works elsewhere, so that one says nothing. */
static void take_exe_data_dir(struct k3sup__look *look, struct k3sup__program *program)
{
	if (look->found.data_dir == NULL && program->data_dir != NULL && !k3sup__streq(program->data_dir, DEFAULT_DATA_DIR)) {
		look->found.data_dir = program->data_dir;
		program->data_dir = NULL;
	}
}

static int examine_named(const struct k3sup__vantage *view, struct k3sup__look *look)
{
	struct k3sup__program program = {.form = K3SUP__FORM_NONE};
	struct k3sup__stand stand;
	bool ok;
	int r = check_owner(look, &ok);

	if (r < 0 || !ok)
		return r;
	r = check_stand(view, look, &stand, &ok);
	if (r < 0 || !ok)
		return r;
	r = k3sup__program_read(view, &stand, look->dirfd, &program);
	if (r == 0 && program.form == K3SUP__FORM_NONE) {
		r = drop(look, program.reason);
	} else if (r == 0) {
		bool installed = program.form == K3SUP__FORM_INSTALLED;

		r = fill_candidate(look, &program);
		if (r == 0)
			r = judge_title(view, &stand, look, installed);
		if (r == 0)
			take_exe_data_dir(look, &program);
	}
	k3sup__program_clear(&program);
	return r;
}

/* Another name: worth a line where the title speaks of k3s. Not that of a container's process, whose memory may be made to answer never. */
static int examine_other(const struct k3sup__vantage *view, struct k3sup__look *look)
{
	enum k3sup__command command;
	struct k3sup__stand stand;
	bool ok, near = false;
	int r;

	r = check_owner(look, &ok);
	if (r == 0 && ok)
		r = check_stand(view, look, &stand, &ok);
	look->reason[0] = '\0';
	if (r == 0 && ok)
		r = k3sup__proc_command(look->dirfd, &command, &near);
	if (r == 0 && near)
		return drop(look, "its name is not one of k3s");
	return k3sup__is_rights(r) ? 0 : r;
}

void k3sup__look_clear(struct k3sup__look *look)
{
	k3sup__candidate_clear(&look->found);
	look->dirfd = k3sup__close(look->dirfd);
}

/* Looks again when it executed another program meanwhile: the wrapper becomes the program inside. */
int k3sup__examine(const struct k3sup__vantage *view, struct k3sup__look *look)
{
	int r = k3sup__stat_read(look->dirfd, &look->stat);

	for (int again = 0; r == 0; again++) {
		struct k3sup__stat after;

		k3sup__candidate_clear(&look->found);
		look->accepted = look->weak = false;
		look->reason[0] = '\0';
		if (look->stat.state == 'Z' || look->stat.state == 'X')
			return 0;
		r = name_fits(look->stat.comm) ? examine_named(view, look) : examine_other(view, look);
		if (r < 0 && r != -ESRCH && !k3sup__is_rights(r))
			return r;
		if (k3sup__stat_read(look->dirfd, &after) < 0)
			return -ESRCH;
		if ((r == -ESRCH || !k3sup__streq(after.comm, look->stat.comm)) && again < 3) {
			look->stat = after;
			r = 0;
			continue;
		}
		look->stat = after;
		if (k3sup__is_rights(r))
			look->denied = r;
		return k3sup__is_rights(r) ? 0 : r;
	}
	return r;
}
