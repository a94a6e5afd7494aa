/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network of the test's own: tests may run where there is none, and ports of the machine are none of their business.
 */
#ifndef K3SUP_TESTS_UNIT_LOOPBACK_H
#define K3SUP_TESTS_UNIT_LOOPBACK_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
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

/* A listening socket on loopback, clear of what a fake uses, and open behind its exec. address: NULL for 127.0.0.1. For a process of its own: ends it with 51. */
static inline int loopback_listen(const char *address, uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1, made = socket(AF_INET, SOCK_STREAM, 0), fd;

	if (address)
		(void)inet_pton(AF_INET, address, &at.sin_addr);
	(void)setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* The servers of the fake before it end a moment after it. */
	for (int i = 0; bind(made, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(made, 16) < 0; i++) {
		if (errno != EADDRINUSE || i > 10000)
			_exit(51);
		(void)usleep(5000);
	}
	fd = fcntl(made, F_DUPFD, 10);
	close(made);
	return fd;
}

#endif
