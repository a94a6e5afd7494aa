/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include "certs/removable.h"

/* As if these had been read. */
static int ask(struct tree *t, const char *first, const char *second)
{
	struct k3sup_node node = {.trust_flags = K3SUP__TRUSTED};
	struct k3sup__certs_where where = {.data_dir = strdup(""), .source = "option", .server = true};
	struct k3sup__live live = {.op = t->s->op, .node = &node, .where = &where};
	int r;

	assert_int_equal(k3sup__root_open(t->s->op, t->s->path, &node.root), 0);
	live.files.list[live.files.count++].path = strdup(first);
	live.files.list[live.files.count++].path = strdup(second);
	r = k3sup__live_removable(&live);
	k3sup__op_forgive(t->s->op);
	k3sup__live_clear(&live);
	k3sup__root_close(&node.root);
	k3sup__certs_where_clear(&where);
	return r;
}

static void set_flags(struct tree *t, const char *path, int flags)
{
	int fd = openat(t->s->fd, path, O_RDONLY | O_CLOEXEC), old = 0;

	assert_true(fd >= 0);
	if (ioctl(fd, FS_IOC_GETFLAGS, &old) < 0 ||
		(old = (old & ~(FS_IMMUTABLE_FL | FS_APPEND_FL)) | flags, ioctl(fd, FS_IOC_SETFLAGS, &old)) < 0) {
		close(fd);
		print_message("needs a file system with chattr\n");
		skip();
	}
	close(fd);
}

static void immutable_files_and_directories_are_seen(void **state)
{
	static const char *const paths[] = {"server/tls/client-admin.crt", "server/tls", "agent/client-kubelet.key"};
	struct tree *t = *state;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int immutable, append;

		set_flags(t, paths[i], FS_IMMUTABLE_FL);
		immutable = ask(t, "server/tls/client-admin.crt", "agent/client-kubelet.key");
		set_flags(t, paths[i], FS_APPEND_FL);
		append = ask(t, "server/tls/client-admin.crt", "agent/client-kubelet.key");
		set_flags(t, paths[i], 0);
		assert_int_equal(immutable, K3SUP_E_TARGET_IMMUTABLE);
		assert_int_equal(append, K3SUP_E_TARGET_IMMUTABLE);
	}
	assert_int_equal(ask(t, "server/tls/client-admin.crt", "agent/client-kubelet.key"), 0);
}

/* Between two reads somebody may have taken one away: that is no reason. */
static void what_is_gone_is_gone(void **state)
{
	struct tree *t = *state;

	assert_int_equal(ask(t, "server/tls/none.crt", "server/tls/etcd/none.key"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(immutable_files_and_directories_are_seen),
		tree_test(what_is_gone_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
