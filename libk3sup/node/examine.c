/* SPDX-License-Identifier: Apache-2.0 */
#include "node/examine.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "node/datadir.h"
#include "node/known.h"
#include "node/procscan.h"
#include "node/unitof.h"

void k3sup__candidate_clear(struct k3sup__candidate *c)
{
	k3sup_process_unref(c->process);
	k3sup_process_unref(c->worker);
	free(c->exe);
	free(c->unit);
	free(c->target);
	free(c->data_dir);
	*c = (struct k3sup__candidate){0};
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool name_fits(const struct k3sup__vantage *view, const char *comm)
{
	static const char *const names[] = {"k3s-server", "k3s-agent", "exe", "rke2"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (k3sup__streq(comm, names[i]))
			return true;
	return k3sup__vantage_is_file_name(view, comm);
}

/* Drops it: 0 so that the scan goes on. */
static int drop(struct k3sup__look *look, const char *reason)
{
	(void)snprintf(look->reason, sizeof(look->reason), "%s", reason);
	return 0;
}

/*
 * A user's own k3s (k3s-rootless.service): the program that a wrapper unpacked, below the user's systemd, or with a user namespace of its own as its second and third
 * process have it. Any user can look like that; it only gives "no k3s of this node runs" another name.
 */
static int note_rootless(const struct k3sup__vantage *view, struct k3sup__look *look)
{
	_free_ char *exe = NULL, *text = NULL;
	struct k3sup__cgroup group = {0};
	struct stat theirs, ours;

	if (k3sup__proc_link(look->dirfd, "exe", &exe) < 0 || !k3sup__program_is_inner(exe))
		return 0;
	if (k3sup__read_file(look->dirfd, "cgroup", 65536, &text, NULL) == 0)
		k3sup__cgroup_parse(text, &group);
	if (group.keeper == K3SUP__KEEPER_USER)
		look->other = K3SUP__OTHER_ROOTLESS;
	else if (k3sup__proc_stat(look->dirfd, "ns/user", &theirs) == 0 &&
		k3sup__proc_stat(view->node->proc_fd, "self/ns/user", &ours) == 0 && !same_inode(&theirs, &ours))
		look->other = K3SUP__OTHER_ROOTLESS;
	return 0;
}

static int check_owner(const struct k3sup__vantage *view, struct k3sup__look *look, bool *ret_ours)
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
			return note_rootless(view, look);
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
	ret->foreign = !ret->own_mnt && !(view->init_known && same_inode(&mnt, &view->init));
	if (!ret->in_root && ret->foreign)
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
static int read_installed(const struct k3sup__vantage *view, struct k3sup__look *look, const struct k3sup__program *program)
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
	r = k3sup__known_read(view->node->known, fd, program->path, &build);
	if (r < 0 && r != K3SUP_E_PAYLOAD_CHANGED)
		return r;
	/* A wrapper that is damaged is no image: it tries to unpack. */
	look->found.unpacking = build.names_archive;
	look->found.image = !build.names_archive;
	return 0;
}

/* What it is by name, or, where the name does not tell, by title. */
static int judge_title(const struct k3sup__vantage *view, const struct k3sup__stand *stand, struct k3sup__look *look, bool installed)
{
	struct k3sup__candidate *c = &look->found;
	enum k3sup__command command = K3SUP__COMMAND_NONE;
	bool in_server, told = k3sup__streq(c->comm, "k3s-server") || k3sup__streq(c->comm, "k3s-agent");
	int r = read_cwd(view, stand, look, &in_server);

	/* Its arguments are in its own memory, which may answer never: not where they decide nothing, and not of a process that nobody vouches for. */
	if (r == 0 && (!told || installed) && !look->dependent)
		r = k3sup__proc_command(look->dirfd, &command);
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
		c->role = in_server ? K3SUP__ROLE_SERVER : look->unit_role;
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

static int fill_candidate(const struct k3sup__vantage *view, struct k3sup__look *look, struct k3sup__program *program)
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
		return read_installed(view, look, program);
	return 0;
}

/* The wrapper may unpack below the default directory although k3s works elsewhere, so that one says nothing. */
static void take_exe_data_dir(struct k3sup__look *look, struct k3sup__program *program)
{
	if (look->found.data_dir == NULL && program->data_dir != NULL && !k3sup__streq(program->data_dir, K3SUP__DEFAULT_DATA_DIR)) {
		look->found.data_dir = program->data_dir;
		program->data_dir = NULL;
	}
}

/* What its service manager says of it; in a foreign mount namespace that decides. */
static int ask_unit(const struct k3sup__vantage *view, const struct k3sup__stand *stand, struct k3sup__look *look, bool *ret_ok)
{
	_cleanup_(k3sup__unitof_clear) struct k3sup__unitof unitof = {0};
	struct k3sup__candidate *c = &look->found;
	int r = k3sup__unit_of(view, look->dirfd, look->pid, look->stat.ppid, &unitof);

	*ret_ok = r == 0 && (!stand->foreign || unitof.unit != NULL);
	if (r < 0)
		return r;
	c->keeper = unitof.keeper;
	c->unit = unitof.unit;
	c->unit_main = unitof.main;
	c->target = unitof.target;
	look->unit_role = unitof.role;
	unitof.unit = unitof.target = NULL;
	look->dependent = stand->foreign && !c->unit_main;
	if (*ret_ok)
		return 0;
	if (k3sup__is_rights(view->init_error))
		return view->init_error; /* it may be process 1's mount namespace */
	return drop(look, "it is in another mount namespace, and no service of the node is its own");
}

/* rke2 is not unpacked, and its file is named after it. */
static int examine_rke2(struct k3sup__look *look, const struct k3sup__program *program)
{
	if (k3sup__endswith(program->path != NULL ? program->path : "", "/rke2") && !program->deleted) {
		look->other = K3SUP__OTHER_RKE2;
		return drop(look, "it is rke2");
	}
	return 0;
}

static int examine_named(const struct k3sup__vantage *view, struct k3sup__look *look)
{
	struct k3sup__program program = {.form = K3SUP__FORM_NONE};
	struct k3sup__stand stand;
	bool ok;
	int r = check_owner(view, look, &ok);

	if (r < 0 || !ok)
		return r;
	r = check_stand(view, look, &stand, &ok);
	if (r < 0 || !ok)
		return r;
	r = k3sup__program_read(view, &stand, look->dirfd, &program);
	if (r == 0 && k3sup__streq(look->stat.comm, "rke2")) {
		r = examine_rke2(look, &program);
	} else if (r == 0 && program.form == K3SUP__FORM_NONE) {
		r = drop(look, program.reason);
	} else if (r == 0) {
		bool installed = program.form == K3SUP__FORM_INSTALLED;

		r = ask_unit(view, &stand, look, &ok);
		if (r == 0 && ok)
			r = fill_candidate(view, look, &program);
		if (r == 0 && ok)
			r = judge_title(view, &stand, look, installed);
		if (r == 0 && ok)
			take_exe_data_dir(look, &program);
	}
	k3sup__program_clear(&program);
	return r;
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
		int seen;

		k3sup__candidate_clear(&look->found);
		look->accepted = look->weak = look->dependent = false;
		look->other = K3SUP__OTHER_NONE;
		look->reason[0] = '\0';
		if (look->stat.state == 'Z' || look->stat.state == 'X')
			return 0;
		/* Its program is called as k3s's is, and it is another of its commands: kubectl, containerd, etcd-snapshot. */
		r = name_fits(view, look->stat.comm) ? examine_named(view, look) : 0;
		if (r < 0 && r != -ESRCH && !k3sup__is_rights(r))
			return r;
		seen = k3sup__stat_read(look->dirfd, &after);
		if (seen < 0)
			return seen;
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
