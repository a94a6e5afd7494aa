/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <endian.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#include "base/attrs.h"

#define ACL "system.posix_acl_access"
#define DEFAULT_ACL "system.posix_acl_default"

/* The form of an ACL in an attribute (linux/posix_acl_xattr.h): a version, then entries of tag, permissions and id. */
struct acl {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} entry[5];
};

/* rwx for the owner and for user 1234, r-x for the group, a mask of rwx, r-x for others */
static struct acl make_acl(void)
{
	struct acl acl = {.version = htole32(2)};
	const uint16_t tags[] = {0x01, 0x02, 0x04, 0x10, 0x20}, perms[] = {7, 7, 5, 7, 5};

	for (size_t i = 0; i < 5; i++) {
		acl.entry[i].tag = htole16(tags[i]);
		acl.entry[i].perm = htole16(perms[i]);
		acl.entry[i].id = htole32(i == 1 ? 1234 : UINT32_MAX);
	}
	return acl;
}

struct pair {
	int from, to;
};

static int make(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static struct pair make_pair(int from_dir, int to_dir)
{
	return (struct pair){.from = make(from_dir, "from"), .to = make(to_dir, "to")};
}

static void close_pair(struct pair p)
{
	close(p.from);
	close(p.to);
}

static void assert_same_value(struct pair p, const char *name)
{
	char a[4096], b[4096];
	ssize_t len = fgetxattr(p.from, name, a, sizeof(a));

	if (len < 0)
		fail_msg("the old file has no %s", name);
	assert_int_equal(fgetxattr(p.to, name, b, sizeof(b)), len);
	assert_memory_equal(a, b, (size_t)len);
}

static void owner_mode_and_attributes_are_kept(void **state)
{
	/* vfs_cap_data of revision 2: cap_net_bind_service, effective */
	static const uint8_t caps[20] = {1, 0, 0, 2, 0, 4};
	struct scratch *s = *state;
	struct acl acl = make_acl();
	char big[1500];
	struct stat st;
	struct pair p;

	need_root();
	p = make_pair(s->fd, s->fd);
	memset(big, 'x', sizeof(big));
	assert_int_equal(fchown(p.from, 1001, 1002), 0);
	assert_int_equal(fchmod(p.from, 01751), 0);
	assert_int_equal(fsetxattr(p.from, ACL, &acl, sizeof(acl), 0), 0);
	assert_int_equal(fsetxattr(p.from, "user.empty", "", 0, 0), 0);
	assert_int_equal(fsetxattr(p.from, "user.big", big, sizeof(big), 0), 0);
	assert_int_equal(fsetxattr(p.from, "trusted.k3sup", "t\0t", 3, 0), 0);
	assert_int_equal(fsetxattr(p.from, "security.capability", caps, sizeof(caps), 0), 0);
	assert_int_equal(fsetxattr(p.from, "security.selinux", "system_u:object_r:bin_t:s0", 27, 0), 0);
	assert_int_equal(k3sup__attrs_copy(s->op, p.from, p.to, "k3s"), 0);
	for (const char *const *name =
			(const char *const[]){ACL, "user.empty", "user.big", "trusted.k3sup", "security.capability", "security.selinux", NULL};
		*name; name++)
		assert_same_value(p, *name);
	assert_int_equal(fstat(p.to, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 01775); /* what an ACL shows: its owner, its mask, its others */
	assert_int_equal(st.st_uid, 1001);
	assert_int_equal(st.st_gid, 1002);
	close_pair(p);
}

static void trust_in_the_old_content_is_not_handed_on(void **state)
{
	struct scratch *s = *state;
	struct stat st;
	struct pair p;
	char byte[8];

	need_root();
	p = make_pair(s->fd, s->fd);
	assert_int_equal(fchmod(p.from, 06755), 0);
	assert_int_equal(fsetxattr(p.from, "security.ima", "\1digest", 7, 0), 0);
	assert_int_equal(k3sup__attrs_copy(s->op, p.from, p.to, "k3s"), 0);
	assert_int_equal(fstat(p.to, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	assert_int_equal(fgetxattr(p.to, "security.ima", byte, sizeof(byte)), -1);
	assert_int_equal(errno, ENODATA);
	close_pair(p);
}

static void an_acl_of_the_directory_does_not_stick_to_the_new_file(void **state)
{
	struct scratch *s = *state;
	struct acl acl = make_acl();
	struct pair p = {.from = make(s->fd, "from")};
	struct stat st;

	if (fsetxattr(s->fd, DEFAULT_ACL, &acl, sizeof(acl), 0) < 0)
		skip();
	p.to = make(s->fd, "to");
	assert_true(fgetxattr(p.to, ACL, NULL, 0) > 0);
	assert_int_equal(fchmod(p.from, 0755), 0);
	assert_int_equal(k3sup__attrs_copy(s->op, p.from, p.to, "k3s"), 0);
	assert_int_equal(fgetxattr(p.to, ACL, NULL, 0), -1);
	assert_int_equal(fstat(p.to, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	close_pair(p);
}

/* ramfs knows no extended attributes. The mount is seen by this process alone. */
static int mount_ramfs(struct scratch *s)
{
	char path[80];
	int fd;

	need_root();
	(void)snprintf(path, sizeof(path), "%s/ram", s->path);
	if (mkdir(path, 0755) < 0 || mount("ramfs", path, "ramfs", 0, NULL) < 0)
		skip();
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(umount2(path, MNT_DETACH), 0); /* lives on as long as it is open */
	return fd;
}

static void what_cannot_be_kept_is_named(void **state)
{
	struct scratch *s = *state;
	int ram = mount_ramfs(s);
	struct pair p = make_pair(s->fd, ram);

	assert_int_equal(fsetxattr(p.from, "user.keep", "me", 2, 0), 0);
	assert_int_equal(k3sup__attrs_copy(s->op, p.from, p.to, "k3s"), -EOPNOTSUPP);
	assert_sentence(s, "user.keep of k3s");
	close_pair(p);
	close(ram);
}

static void a_label_that_is_not_in_force_is_no_obstacle(void **state)
{
	struct scratch *s = *state;
	int ram = mount_ramfs(s);
	struct pair p = make_pair(s->fd, ram);

	assert_int_equal(fsetxattr(p.from, "security.selinux", "system_u:object_r:bin_t:s0", 27, 0), 0);
	assert_int_equal(k3sup__attrs_copy(s->op, p.from, p.to, "k3s"), 0);
	close_pair(p);
	close(ram);
}

static void a_file_system_without_attributes_is_fine(void **state)
{
	struct scratch *s = *state;
	int ram = mount_ramfs(s);
	struct pair p = make_pair(ram, s->fd);
	struct stat st;

	assert_int_equal(fchmod(p.from, 0711), 0);
	assert_int_equal(k3sup__attrs_copy(s->op, p.from, p.to, "k3s"), 0);
	assert_int_equal(fstat(p.to, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0711);
	close_pair(p);
	close(ram);
}

static int own_mounts(void **state)
{
	(void)state;
	if (geteuid() == 0 && (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0))
		print_message("no mount namespace of our own\n");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(owner_mode_and_attributes_are_kept),
		scratch_test(trust_in_the_old_content_is_not_handed_on),
		scratch_test(an_acl_of_the_directory_does_not_stick_to_the_new_file),
		scratch_test(what_cannot_be_kept_is_named),
		scratch_test(a_label_that_is_not_in_force_is_no_obstacle),
		scratch_test(a_file_system_without_attributes_is_fine),
	};

	return cmocka_run_group_tests_name("attrs", tests, own_mounts, NULL);
}
