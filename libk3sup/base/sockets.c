/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sockets.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTENING 0x0a   /* TCP_LISTEN in /proc/net/tcp */
#define MOST_LINES 65536 /* of one table */

/* ---- whose sockets ---- */

struct inodes {
	uint64_t *items;
	size_t count, room;
};

static int add_inode(struct inodes *inodes, uint64_t inode)
{
	if (inodes->count == inodes->room) {
		size_t room = inodes->room ? inodes->room * 2 : 64;
		uint64_t *items = reallocarray(inodes->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		inodes->items = items;
		inodes->room = room;
	}
	inodes->items[inodes->count++] = inode;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool has_inode(const struct inodes *inodes, uint64_t inode)
{
	return inodes->count && bsearch(&inode, inodes->items, inodes->count, sizeof(inode), by_number);
}

static DIR *open_directory(int pid_fd, const char *name)
{
	int fd = openat(pid_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		k3sup__close(fd);
	return dir;
}

static void close_directory(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define _closedir_ _cleanup_(close_directory)

static int sockets_of(int pid_fd, struct inodes *inodes)
{
	_closedir_ DIR *dir = open_directory(pid_fd, "fd");
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (r == 0 && (entry = readdir(dir))) {
		char target[64];
		unsigned long long inode;
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (sscanf(target, "socket:[%llu]", &inode) == 1)
			r = add_inode(inodes, inode);
	}
	return r;
}

/* ---- where they listen ---- */

static int add_listener(struct k3sup__listeners *to, const uint32_t words[static 4], bool v6, unsigned port)
{
	struct k3sup__listener *items = reallocarray(to->items, to->count + 1, sizeof(*items)), *one;

	if (!items)
		return -ENOMEM;
	to->items = items;
	one = &items[to->count++];
	*one = (struct k3sup__listener){.port = (uint16_t)port, .address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
	/* The kernel prints each 32-bit word as a number of this machine. IPv4 is kept as the mapped address. */
	if (v6) {
		memcpy(&one->address.sin6_addr, words, 16);
	} else {
		memset(&one->address.sin6_addr.s6_addr[10], 0xff, 2);
		memcpy(&one->address.sin6_addr.s6_addr[12], words, 4);
	}
	/* What listens everywhere is asked on loopback. An IPv6 socket that does takes IPv4, too; loopback of IPv4 is always there. */
	if ((v6 && IN6_IS_ADDR_UNSPECIFIED(&one->address.sin6_addr)) || (!v6 && words[0] == 0))
		(void)inet_pton(AF_INET6, "::ffff:127.0.0.1", &one->address.sin6_addr);
	return 0;
}

static int read_line(const char *line, bool v6, const struct inodes *inodes, struct k3sup__listeners *to)
{
	uint32_t words[4] = {0};
	unsigned port, state;
	unsigned long long inode;
	int n;

	if (v6)
		n = sscanf(line, " %*d: %8x%8x%8x%8x:%x %*[0-9A-F:] %x %*s %*s %*s %*s %*s %llu", &words[0], &words[1], &words[2],
			&words[3], &port, &state, &inode);
	else
		n = sscanf(line, " %*d: %8x:%x %*[0-9A-F:] %x %*s %*s %*s %*s %*s %llu", &words[0], &port, &state, &inode);
	if (n != (v6 ? 7 : 4) || port > UINT16_MAX)
		return 0; /* the heading */
	if (state != LISTENING)
		return 1;
	return has_inode(inodes, inode) ? add_listener(to, words, v6, port) : 0;
}

/* The kernel lists those that listen first, so what follows them, thousands of connections on a busy node, need not be read. */
static int read_table(int pid_fd, const char *path, bool v6, const struct inodes *inodes, struct k3sup__listeners *to)
{
	int fd = openat(pid_fd, path, O_RDONLY | O_CLOEXEC), r = 0;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	_free_ char *line = NULL;
	size_t room = 0;

	if (!f) {
		r = -errno;
		k3sup__close(fd);
		return r == -ENOENT && v6 ? 0 : r; /* a kernel without IPv6 */
	}
	for (int n = 0; r == 0 && n < MOST_LINES && getline(&line, &room, f) >= 0; n++)
		r = read_line(line, v6, inodes, to);
	fclose(f);
	return r < 0 ? r : 0;
}

int k3sup__listeners_find(const k3sup_process *process, const k3sup_process *worker, struct k3sup__listeners *ret)
{
	int pid_fd = k3sup__process_dirfd(process), r;
	struct k3sup__listeners found = {0};
	struct inodes inodes = {0};

	r = sockets_of(pid_fd, &inodes);
	if (r == 0 && worker)
		r = sockets_of(k3sup__process_dirfd(worker), &inodes);
	if (inodes.count)
		qsort(inodes.items, inodes.count, sizeof(inodes.items[0]), by_number);
	if (r == 0)
		r = read_table(pid_fd, "net/tcp", false, &inodes, &found);
	if (r == 0)
		r = read_table(pid_fd, "net/tcp6", true, &inodes, &found);
	free(inodes.items);
	if (r < 0)
		k3sup__listeners_clear(&found);
	*ret = found;
	return r;
}

void k3sup__listeners_clear(struct k3sup__listeners *listeners)
{
	free(listeners->items);
	*listeners = (struct k3sup__listeners){0};
}

/* ---- sockets ---- */

static bool is_v4(const struct k3sup__listener *listener)
{
	return IN6_IS_ADDR_V4MAPPED(&listener->address.sin6_addr);
}

void k3sup__listener_text(const struct k3sup__listener *listener, char ret[static K3SUP__ADDRESS_TEXT])
{
	char text[INET6_ADDRSTRLEN] = "";

	if (is_v4(listener))
		(void)inet_ntop(AF_INET, &listener->address.sin6_addr.s6_addr[12], text, sizeof(text));
	else
		(void)inet_ntop(AF_INET6, &listener->address.sin6_addr, text, sizeof(text));
	snprintf(ret, K3SUP__ADDRESS_TEXT, is_v4(listener) ? "%s:%u" : "[%s]:%u", text, listener->port);
}

static int make_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

struct errand {
	int ns, family, result;
};

static void *make_socket_there(void *arg)
{
	struct errand *errand = arg;

	errand->result = setns(errand->ns, CLONE_NEWNET) < 0 ? -errno : make_socket(errand->family);
	return NULL;
}

/* A thread of its own enters the namespace: no thread of the host is ever there. */
static int make_socket_in(int ns, int family)
{
	struct errand errand = {.ns = ns, .family = family};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, make_socket_there, &errand);

	if (r != 0)
		return -r;
	(void)pthread_join(thread, NULL);
	return errand.result;
}

int k3sup__socket_near(int proc_fd, const k3sup_process *process, int family)
{
	_close_ int ns = openat(k3sup__process_dirfd(process), "ns/net", O_RDONLY | O_CLOEXEC);
	struct stat theirs, ours;

	if (ns < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (fstat(ns, &theirs) < 0 || fstatat(proc_fd, "thread-self/ns/net", &ours, 0) < 0)
		return -errno;
	if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
		return make_socket(family);
	return make_socket_in(ns, family);
}

int k3sup__socket_connect(int fd, const struct k3sup__listener *listener)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = listener->address.sin6_port};
	int r;

	memcpy(&v4.sin_addr, &listener->address.sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
	if (is_v4(listener))
		r = connect(fd, (const struct sockaddr *)&v4, sizeof(v4));
	else
		r = connect(fd, (const struct sockaddr *)&listener->address, sizeof(listener->address));
	return r < 0 ? -errno : 0;
}

int k3sup__socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}
