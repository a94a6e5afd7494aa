/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network of the test's own: tests may run where there is none, and ports of the machine are none of their business.
 */
#ifndef K3SUP_TESTS_UNIT_LOOPBACK_H
#define K3SUP_TESTS_UNIT_LOOPBACK_H

#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int loopback_up(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &lo);

	if (fd >= 0)
		close(fd);
	return r;
}

/* For who may: others use what there is. */
static inline void own_network(void)
{
	if (unshare(CLONE_NEWNET) == 0 && loopback_up() < 0)
		_exit(50);
}

#endif
