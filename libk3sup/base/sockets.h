/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process listens, seen from outside: the sockets among its descriptors are looked up in the table of its network namespace. So an answer from such a
 * socket is this process's answer and nobody else's who was quicker to take the port.
 */
#ifndef K3SUP_BASE_SOCKETS_H
#define K3SUP_BASE_SOCKETS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/process.h"

struct k3sup__listener {
	struct sockaddr_in6 address; /* where to connect to: of a socket that listens everywhere, the loopback address */
	uint16_t port;
};

struct k3sup__listeners {
	struct k3sup__listener *items;
	size_t count;
};

/*
 * The TCP sockets that this process or its worker (NULL: it has none) listens on. For work functions: /proc is read. -ESRCH if one is gone, -EACCES without the right
 * to look at its descriptors.
 */
int k3sup__listeners_find(const k3sup_process *process, const k3sup_process *worker, struct k3sup__listeners *ret) _must_check_;
void k3sup__listeners_clear(struct k3sup__listeners *listeners);
/* "127.0.0.1:6443", "[::1]:6443"; ret holds it. */
#define K3SUP__ADDRESS_TEXT 64
void k3sup__listener_text(const struct k3sup__listener *listener, char ret[static K3SUP__ADDRESS_TEXT]);

/* A TCP socket of the process's network namespace that does not block; a privileged pod that has no hostNetwork is in another one than k3s. The descriptor or -errno. */
int k3sup__socket_near(int proc_fd, const k3sup_process *process, int family) _must_check_;
/* Begins to connect. 0 connected, -EINPROGRESS, or why not. */
int k3sup__socket_connect(int fd, const struct k3sup__listener *listener) _must_check_;
/* What came of it, once the socket can be written. */
int k3sup__socket_error(int fd) _must_check_;

#endif
