/* SPDX-License-Identifier: Apache-2.0 */
#include "base/given.h"

#include <fcntl.h>
#include <unistd.h>

static int fail(k3sup_op *op, const struct k3sup__given *given, int r)
{
	if (r == -ENOMEM || r == K3SUP_E_UNTRUSTED)
		return k3sup__fail(op, r, "%s in %s cannot be used: %s", given->what, given->path, k3sup_strerror(r));
	return k3sup__fail(op, given->code, "%s in %s cannot be read: %s", given->what, given->path, k3sup_strerror(r));
}

static char *absolute(const char *path)
{
	_free_ char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);

	if (path[0] == '/')
		return strdup(path);
	return cwd != NULL ? k3sup__fmt("%s/%s", cwd, path) : NULL;
}

static int open_given(k3sup_op *op, const struct k3sup__given *given)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_cleanup_(k3sup__root_close) struct k3sup__root root = {.fd = -1};
	_free_ char *whole = absolute(given->path);
	int r;

	if (whole == NULL)
		return -errno;
	r = k3sup__root_open(op, "/", &root);
	if (r >= 0)
		r = k3sup__root_find(op, &root, whole, given->flags, &place);
	if (r < 0)
		return r;
	if (place.fd < 0)
		return -ENOENT;
	if (!S_ISREG(place.st.st_mode))
		return S_ISDIR(place.st.st_mode) ? -EISDIR : -EINVAL;
	return k3sup__place_open(&place, O_RDONLY);
}

int k3sup__given_read(k3sup_op *op, const struct k3sup__given *given, char **ret_bytes, size_t *ret_len)
{
	_close_ int fd = open_given(op, given);
	_free_ char *bytes = NULL;
	ssize_t n;

	if (fd < 0)
		return fail(op, given, fd);
	bytes = malloc(given->max + 2);
	if (bytes == NULL)
		return -ENOMEM;
	n = k3sup__read_full(fd, bytes, given->max + 1);
	if (n < 0)
		return fail(op, given, (int)n);
	bytes[n] = '\0';
	*ret_bytes = bytes;
	*ret_len = (size_t)n;
	bytes = NULL;
	return 0;
}
