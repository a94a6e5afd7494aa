/* SPDX-License-Identifier: Apache-2.0 */
#include "base/durable.h"

#include <fcntl.h>
#include <unistd.h>

/* Network file systems let a signal cut fsync(2) short. */
static int sync_fd(int fd)
{
	while (fsync(fd) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int k3sup__sync_dir(int dirfd)
{
	_close_ int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : sync_fd(fd);
}
