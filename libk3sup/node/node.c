/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/lock.h"
#include "node/known.h"

#define RETRY_LOCK_MS 100
#define DEFAULT_ROOT "/"
#define DEFAULT_PROC "/proc"

static void node_free(k3sup_node *node)
{
	k3sup__root_close(&node->root);
	node->lock_fd = k3sup__lock_give(node->lock_fd);
	node->proc_fd = k3sup__close(node->proc_fd);
	(void)pthread_mutex_destroy(&node->mutex);
	k3sup__known_free(node->known);
	free(node->proc_path);
	free(node->data_dir);
	free(node->k3s);
	free(node->state_dir);
	free(node);
}

static void node_drop(void *arg)
{
	k3sup_node *node = arg;

	if (--node->refs == 0)
		node_free(node);
}

/*
 * "NSpid" lists our pids from the namespace of whoever mounted this proc down to our own. One number: the mount is of our own namespace. More: of an ancestor's, where
 * the same number names another process. In any other namespace's mount we do not appear at all, and "self" leads nowhere.
 */
static bool shows_our_namespace(const char *status)
{
	const char *line = strstr(status, "\nNSpid:");
	char *end;
	long pid;

	if (line == NULL) /* a kernel without pid namespaces */
		return true;
	pid = strtol(line + strlen("\nNSpid:"), &end, 10);
	return *end == '\n' && pid == (long)getpid();
}

static int check_proc(int proc_fd)
{
	_free_ char *status = NULL;
	struct statfs fs;
	int r;

	if (fstatfs(proc_fd, &fs) < 0)
		return -errno;
	if (fs.f_type != PROC_SUPER_MAGIC)
		return K3SUP_E_FOREIGN_PROC;
	r = k3sup__read_file(proc_fd, "self/status", 65536, &status, NULL);
	if (r == -ENOENT || r == -ESRCH)
		return K3SUP_E_FOREIGN_PROC;
	if (r < 0)
		return r;
	return shows_our_namespace(status) ? 0 : K3SUP_E_FOREIGN_PROC;
}

/* A path inside the root, or nothing. */
static int take_path(const char *path, char **ret)
{
	if (path == NULL)
		return 0;
	if (path[0] != '/')
		return -EINVAL;
	*ret = strdup(path);
	return *ret != NULL ? 0 : -ENOMEM;
}

static int fill(k3sup_node *node, const struct k3sup_node_opts *o)
{
	int r = take_path(o->data_dir, &node->data_dir);

	if (r == 0)
		r = take_path(o->k3s, &node->k3s);
	if (r == 0)
		r = take_path(o->state_dir != NULL ? o->state_dir : K3SUP__STATE_DIR, &node->state_dir);
	if (r < 0)
		return r;
	r = k3sup__root_open(NULL, o->root != NULL ? o->root : DEFAULT_ROOT, &node->root);
	if (r < 0)
		return r;
	node->proc_path = strdup(o->proc != NULL ? o->proc : DEFAULT_PROC);
	if (node->proc_path == NULL)
		return -ENOMEM;
	node->proc_fd = open(node->proc_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (node->proc_fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? K3SUP_E_FOREIGN_PROC : -errno;
	return check_proc(node->proc_fd);
}

int k3sup_node_new(k3sup_ctx *ctx, const struct k3sup_node_opts *opts, k3sup_node **ret_node)
{
	struct k3sup_node_opts o;
	k3sup_node *node;
	int r;

	if (ctx == NULL || ret_node == NULL)
		return -EINVAL;
	r = k3sup__opts(opts, &o, sizeof(o), K3SUP_NODE_ALLOW_GROUP_WRITABLE | K3SUP_NODE_IS_CONTAINER);
	if (r < 0)
		return r;
	if (o.reserved != NULL)
		return -EINVAL;
	node = calloc(1, sizeof(*node));
	if (node == NULL)
		return -ENOMEM;
	node->root.fd = node->proc_fd = node->lock_fd = -1;
	node->users = node->refs = 1;
	node->trust_flags = K3SUP__TRUSTED | ((o.flags & K3SUP_NODE_ALLOW_GROUP_WRITABLE) != 0 ? K3SUP__ALLOW_GROUP : 0);
	node->is_container = (o.flags & K3SUP_NODE_IS_CONTAINER) != 0;
	(void)pthread_mutex_init(&node->mutex, NULL); /* with default attributes it cannot fail in glibc and musl */
	node->known = k3sup__known_new();
	r = node->known != NULL ? fill(node, &o) : -ENOMEM;
	if (r < 0) {
		node_free(node);
		return r;
	}
	node->ctx = k3sup_ctx_ref(ctx);
	*ret_node = node;
	return 0;
}

k3sup_node *k3sup_node_ref(k3sup_node *node)
{
	if (node != NULL) {
		node->users++;
		node->refs++;
	}
	return node;
}

k3sup_node *k3sup_node_unref(k3sup_node *node)
{
	k3sup_ctx *ctx;

	if (node == NULL)
		return NULL;
	ctx = --node->users == 0 ? node->ctx : NULL;
	if (node->users == 0) {
		(void)pthread_mutex_lock(&node->mutex);
		node->lock_kept = false;
		if (node->turn == NULL)
			node->lock_fd = k3sup__lock_give(node->lock_fd);
		(void)pthread_mutex_unlock(&node->mutex);
	}
	node_drop(node);
	/* Last: the end of the context ends operations, which give back the node. */
	k3sup_ctx_unref(ctx);
	return NULL;
}

int k3sup_node_lock(k3sup_node *node)
{
	int r = 0;

	if (node == NULL)
		return -EINVAL;
	(void)pthread_mutex_lock(&node->mutex);
	if (!node->lock_kept) {
		if (node->lock_fd < 0)
			r = k3sup__lock_take(NULL, &node->root, node->trust_flags, &node->lock_fd);
		if (r == 0) {
			node->lock_kept = true;
			r = 1;
		}
	}
	(void)pthread_mutex_unlock(&node->mutex);
	return r;
}

int k3sup_node_unlock(k3sup_node *node)
{
	int r = 0;

	if (node == NULL)
		return -EINVAL;
	(void)pthread_mutex_lock(&node->mutex);
	if (node->lock_kept && node->turn != NULL) {
		r = -EBUSY;
	} else if (node->lock_kept) {
		node->lock_kept = false;
		node->lock_fd = k3sup__lock_give(node->lock_fd);
		r = 1;
	}
	(void)pthread_mutex_unlock(&node->mutex);
	return r;
}

int k3sup__node_op_new(k3sup_node *node, const struct k3sup__op_class *class, int64_t deadline, k3sup_op **ret_op)
{
	struct k3sup__node_state *state;
	k3sup_op *op;
	int r = k3sup__op_new(node->ctx, class, deadline, &op);

	if (r < 0)
		return r;
	state = k3sup__op_state(op);
	state->node = node;
	node->refs++;
	k3sup__op_on_end(op, node_drop, node);
	*ret_op = op;
	return 0;
}

k3sup_node *k3sup__op_node(k3sup_op *op)
{
	const struct k3sup__node_state *state = k3sup__op_state(op);

	return state->node;
}

int k3sup__node_take_turn(k3sup_op *op, k3sup_node *node)
{
	bool other;
	int r = 0;

	(void)pthread_mutex_lock(&node->mutex);
	other = node->turn != NULL && node->turn != op;
	if (!other && node->lock_fd < 0)
		r = k3sup__lock_take(op, &node->root, node->trust_flags, &node->lock_fd);
	if (!other && r == 0)
		node->turn = op;
	(void)pthread_mutex_unlock(&node->mutex);
	if (other)
		return k3sup__fail(op, K3SUP_E_BUSY, "another operation on this handle is changing the node");
	return r;
}

void k3sup__node_give_turn(k3sup_op *op, k3sup_node *node)
{
	(void)pthread_mutex_lock(&node->mutex);
	if (node->turn == op) {
		node->turn = NULL;
		if (!node->lock_kept)
			node->lock_fd = k3sup__lock_give(node->lock_fd);
	}
	(void)pthread_mutex_unlock(&node->mutex);
}

int k3sup__node_await_turn(k3sup_op *op, int64_t deadline)
{
	int64_t now = k3sup__now_ms(), next = now + RETRY_LOCK_MS;

	if (k3sup__op_work_result(op) != K3SUP_E_BUSY || now >= deadline)
		return 0;
	k3sup__op_forgive(op);
	return k3sup__op_sleep(op, next < deadline ? next : deadline);
}

int k3sup__node_turn_step(k3sup_op *op, int64_t deadline, const struct k3sup__step *plan, size_t steps, int (*work)(k3sup_op *op))
{
	int r;

	if (k3sup__op_woke(op) == K3SUP__WOKE_WORK) {
		r = k3sup__node_await_turn(op, deadline);
		return r ? r : k3sup__op_work_result(op);
	}
	if (k3sup__op_woke(op) == K3SUP__WOKE_START && plan) {
		k3sup__op_plan(op, plan, steps);
		k3sup__op_begin(op, "lock", "taking the node's lock");
	}
	return k3sup__op_work(op, work);
}

bool k3sup__node_has_lock(k3sup_node *node)
{
	bool has;

	(void)pthread_mutex_lock(&node->mutex);
	has = node->lock_fd >= 0;
	(void)pthread_mutex_unlock(&node->mutex);
	return has;
}

bool k3sup__node_serves_another(k3sup_node *node, const k3sup_op *op)
{
	bool does;

	(void)pthread_mutex_lock(&node->mutex);
	does = node->turn != NULL && node->turn != op;
	(void)pthread_mutex_unlock(&node->mutex);
	return does;
}

/* statx(2) tells it from Linux 5.8 on only. */
int k3sup__node_mount_of(const k3sup_node *node, int fd, long *ret)
{
	_free_ char *path = k3sup__fmt("self/fdinfo/%d", fd), *text = NULL;
	const char *line;
	int r = path ? k3sup__read_file(node->proc_fd, path, 65536, &text, NULL) : -ENOMEM;

	if (r < 0)
		return r;
	line = strstr(text, "mnt_id:");
	if (!line)
		return -ENODATA;
	*ret = strtol(line + strlen("mnt_id:"), NULL, 10);
	return 0;
}

/* ---- whose processes ---- */

#define FIRST_PID_NAMESPACE 0xEFFFFFFCu /* PROC_PID_INIT_INO of the kernel's, the same since 3.8 */

static bool is_root_of(const k3sup_node *node, int dirfd, const char *path)
{
	struct stat st;

	return fstatat(dirfd, path, &st, 0) == 0 && st.st_dev == node->root.dev && st.st_ino == node->root.ino;
}

/* A directory of the same mount as the one above it holds files of those whose processes we see: a tree that was made here, or that k3s was chrooted into. */
static int shares_mount_above(const k3sup_node *node)
{
	_close_ int above = openat(node->root.fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	long own, other;
	int r = above < 0 ? -errno : k3sup__node_mount_of(node, node->root.fd, &own);

	if (r == 0)
		r = k3sup__node_mount_of(node, above, &other);
	if (r < 0)
		return r == -ENODATA ? 0 : r;
	return own == other;
}

int k3sup__node_sees_processes(k3sup_node *node, bool found)
{
	struct stat ns;
	bool seen;

	(void)pthread_mutex_lock(&node->mutex);
	seen = node->k3s_seen |= found;
	(void)pthread_mutex_unlock(&node->mutex);
	if (seen || is_root_of(node, AT_FDCWD, "/") || is_root_of(node, node->proc_fd, "1/root") ||
		(fstatat(node->proc_fd, "self/ns/pid", &ns, 0) == 0 && ns.st_ino == FIRST_PID_NAMESPACE))
		return 1;
	return shares_mount_above(node);
}

int k3sup__node_fail_unseen(k3sup_op *op, const k3sup_node *node)
{
	return k3sup__fail(op,
		K3SUP_E_FOREIGN_PROC, "no k3s can be seen, and %s does not show the processes of the node in %s: a pod needs the host's pid namespace (hostPID: true)",
		node->proc_path, node->root.path);
}
