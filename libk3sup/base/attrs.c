/* SPDX-License-Identifier: Apache-2.0 */
#include "base/attrs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* An extended attribute's value; data is NULL if the file does not have it. */
struct value {
	char *data;
	size_t len;
};

/* Between the question for the size and the one for the data somebody may make it longer: then we ask again, but not for ever. */
#define TRIES 8

/* All names, each with its NUL. An empty list where the file system knows no attributes. */
static int list_names(int fd, struct value *ret)
{
	for (int i = 0; i < TRIES; i++) {
		ssize_t len = flistxattr(fd, NULL, 0);
		char *data;

		if (len < 0 && errno != ENOTSUP)
			return -errno;
		if (len < 0)
			len = 0;
		data = malloc((size_t)len + 1);
		if (!data)
			return -ENOMEM;
		if (len > 0)
			len = flistxattr(fd, data, (size_t)len);
		if (len >= 0) {
			*ret = (struct value){.data = data, .len = (size_t)len};
			return 0;
		}
		free(data);
		if (errno != ERANGE)
			return -errno;
	}
	return -EAGAIN;
}

static int get_value(int fd, const char *name, struct value *ret)
{
	*ret = (struct value){0};
	for (int i = 0; i < TRIES; i++) {
		ssize_t len = fgetxattr(fd, name, NULL, 0);
		char *data;

		if (len < 0)
			return errno == ENODATA || errno == ENOTSUP ? 0 : -errno;
		data = malloc((size_t)len + 1);
		if (!data)
			return -ENOMEM;
		len = fgetxattr(fd, name, data, (size_t)len);
		if (len >= 0) {
			*ret = (struct value){.data = data, .len = (size_t)len};
			return 0;
		}
		free(data);
		if (errno != ERANGE)
			return errno == ENODATA ? 0 : -errno;
	}
	return -EAGAIN;
}

static bool belongs_to_content(const char *name)
{
	return k3sup__streq(name, "security.ima") || k3sup__streq(name, "security.evm");
}

static int set_value(int from, int to, const char *name)
{
	struct value old, new = {0};
	int r;

	r = get_value(from, name, &old);
	if (r == 0)
		r = get_value(to, name, &new);
	/*
	 * What is there already is not set again: a label that the mount gives to every file (context=) cannot be set at all, and the kernel may
	 * have given the new file the right one.
	 */
	if (r == 0 && old.data && !(new.data &&new.len == old.len &&memcmp(new.data, old.data, old.len) == 0))
		r = fsetxattr(to, name, old.data, old.len, 0) < 0 ? -errno : 0;
	free(old.data);
	free(new.data);
	return r;
}

/* A label that the loaded policy does not know (EINVAL), or that this mount does not store, is not in force on the old file either. */
static bool is_idle_label(const char *name, int error)
{
	return k3sup__streq(name, "security.selinux") && (error == -EINVAL || error == -EOPNOTSUPP);
}

static int copy_xattrs(k3sup_op *op, int from, int to, const char *path)
{
	struct value names;
	int r = list_names(from, &names);

	if (r < 0)
		return k3sup__fail(op, r, "cannot list the extended attributes of %s: %s", path, k3sup_strerror(r));
	for (const char *name = names.data; r == 0 && name < names.data + names.len; name += strlen(name) + 1) {
		if (belongs_to_content(name))
			continue;
		r = set_value(from, to, name);
		if (is_idle_label(name, r)) {
			k3sup__log(op, K3SUP_LOG_WARNING, "the SELinux label of %s cannot be given to the new file: %s", path, k3sup_strerror(r));
			r = 0;
		}
		if (r < 0)
			(void)k3sup__fail(op, r, "cannot keep the extended attribute %s of %s: %s", name, path, k3sup_strerror(r));
	}
	free(names.data);
	return r;
}

static bool has(const struct value *names, const char *name)
{
	for (const char *at = names->data; at < names->data + names->len; at += strlen(at) + 1)
		if (k3sup__streq(at, name))
			return true;
	return false;
}

/* A directory's default ACL gives new files one that the old file does not have. Labels and the like, which the kernel gives, stay. */
static int drop_foreign_acl(int from, int to)
{
	static const char acl[] = "system.posix_acl_access";
	struct value old, new = {0};
	int r = list_names(from, &old);

	if (r < 0)
		return r;
	r = list_names(to, &new);
	if (r == 0 && has(&new, acl) && !has(&old, acl) && fremovexattr(to, acl) < 0)
		r = -errno;
	free(old.data);
	free(new.data);
	return r;
}

int k3sup__attrs_copy(k3sup_op *op, int from, int to, const char *path)
{
	struct stat st;
	int r;

	if (fstat(from, &st) < 0)
		return -errno;
	/* The owner first: a change of it clears capabilities. The mode last: a change of the owner or the ACL may change it. */
	if (fchown(to, st.st_uid, st.st_gid) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "cannot give the new %s to uid %u, gid %u: %s", path, (unsigned)st.st_uid, (unsigned)st.st_gid,
			k3sup_strerror(r));
	}
	r = drop_foreign_acl(from, to);
	if (r < 0)
		return k3sup__fail(op, r, "cannot remove the inherited ACL of the new %s: %s", path, k3sup_strerror(r));
	r = copy_xattrs(op, from, to, path);
	if (r < 0)
		return r;
	if (fchmod(to, st.st_mode & 01777) < 0) {
		r = -errno;
		return k3sup__fail(op, r, "cannot set the mode of the new %s: %s", path, k3sup_strerror(r));
	}
	return 0;
}

int k3sup__attrs_copy_label(int from, int to)
{
	static const char label[] = "security.selinux";
	struct value old, new = {0};
	int r = get_value(from, label, &old);

	if (r == 0)
		r = get_value(to, label, &new);
	if (r == 0 && old.data && !(new.data &&new.len == old.len &&memcmp(new.data, old.data, old.len) == 0)) {
		r = fsetxattr(to, label, old.data, old.len, 0) < 0 ? -errno : 1;
		r = is_idle_label(label, r) ? 0 : r;
	}
	free(old.data);
	free(new.data);
	return r;
}

static int look_at(int dirfd, const char *name, struct statx *ret)
{
	int flags = AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC | (name[0] == '\0' ? AT_EMPTY_PATH : 0);

	return statx(dirfd, name, flags, 0, ret) < 0 ? -errno : 0;
}

int k3sup__is_immutable(int dirfd, const char *name)
{
	struct statx stx;
	int r = look_at(dirfd, name, &stx);

	return r < 0 ? r : (stx.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
}

bool k3sup__is_mount_point(int dirfd, const char *name)
{
	struct statx stx;

	return look_at(dirfd, name, &stx) == 0 && (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}
