/* SPDX-License-Identifier: Apache-2.0 */
#include "../loopback.h"
#include "scratch.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/process.h"
#include "base/sockets.h"

static int proc_fd;

static k3sup_process *handle_of(pid_t pid)
{
	_free_ char *name = k3sup__fmt("%d", (int)pid);
	k3sup_process *process = NULL;
	struct k3sup__stat stat;
	int fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__stat_read(fd, &stat), 0);
	assert_int_equal(k3sup__process_new(proc_fd, pid, fd, stat.start_time, &process), 0);
	return process;
}

static int listen_on(int family, const char *address, bool v6only, uint16_t *port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr *at = family == AF_INET ? (struct sockaddr *)&four : (struct sockaddr *)&six;
	socklen_t len = family == AF_INET ? sizeof(four) : sizeof(six);
	int only = v6only, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 && family == AF_INET6)
		return -1;
	assert_true(fd >= 0);
	assert_int_equal(inet_pton(family, address, family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr), 1);
	if (family == AF_INET6)
		assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only)), 0);
	if (bind(fd, at, len) < 0) {
		close(fd); /* no such address on this machine */
		return -1;
	}
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, at, &len), 0);
	*port = ntohs(family == AF_INET ? four.sin_port : six.sin6_port);
	return fd;
}

static const struct k3sup__listener *at_port(const struct k3sup__listeners *all, uint16_t port)
{
	const struct k3sup__listener *found = NULL;

	for (size_t i = 0; i < all->count; i++)
		if (all->items[i].port == port) {
			assert_null(found);
			found = &all->items[i];
		}
	return found;
}

static void each_address_is_one_to_connect_to(void **state)
{
	static const struct {
		int family;
		bool only;
		const char *address, *shown;
	} cases[] = {
		{AF_INET, false, "127.0.0.1", "127.0.0.1"},
		{AF_INET, false, "127.1.2.3", "127.1.2.3"},
		{AF_INET, false, "0.0.0.0", "127.0.0.1"},
		{AF_INET6, false, "::", "127.0.0.1"},
		{AF_INET6, true, "::1", "[::1]"},
	};
	k3sup_process *self = handle_of(getpid());

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char text[K3SUP__ADDRESS_TEXT];
		_free_ char *expected = NULL;
		struct k3sup__listeners all;
		const struct k3sup__listener *one;
		uint16_t port;
		int fd = listen_on(cases[i].family, cases[i].address, cases[i].only, &port), out, r;

		if (fd < 0)
			continue;
		assert_int_equal(k3sup__listeners_find(self, NULL, &all), 0);
		one = at_port(&all, port);
		assert_non_null(one);
		k3sup__listener_text(one, text);
		expected = k3sup__fmt("%s:%u", cases[i].shown, port);
		assert_string_equal(text, expected);
		out = k3sup__socket_near(proc_fd, self, strchr(text, '[') ? AF_INET6 : AF_INET);
		assert_true(out >= 0);
		r = k3sup__socket_connect(out, one);
		assert_true(r == 0 || r == -EINPROGRESS);
		assert_int_equal(poll(&(struct pollfd){.fd = out, .events = POLLOUT}, 1, 60000), 1);
		assert_int_equal(k3sup__socket_error(out), 0);
		close(out);
		close(fd);
		k3sup__listeners_clear(&all);
	}
	k3sup_process_unref(self);
}

/* Nobody listens there any more. */
static void what_is_closed_is_refused(void **state)
{
	k3sup_process *self = handle_of(getpid());
	struct k3sup__listeners all;
	uint16_t port;
	int fd = listen_on(AF_INET, "127.0.0.1", false, &port), out;

	(void)state;
	assert_int_equal(k3sup__listeners_find(self, NULL, &all), 0);
	close(fd);
	out = k3sup__socket_near(proc_fd, self, AF_INET);
	if (k3sup__socket_connect(out, at_port(&all, port)) == -EINPROGRESS) {
		assert_int_equal(poll(&(struct pollfd){.fd = out, .events = POLLOUT}, 1, 60000), 1);
		assert_int_equal(k3sup__socket_error(out), -ECONNREFUSED);
	}
	close(out);
	k3sup__listeners_clear(&all);
	k3sup_process_unref(self);
}

/* A child that holds a socket and tells its port; lives until it is killed. */
static pid_t child_that_listens(uint16_t *port)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		uint16_t mine;

		if (listen_on(AF_INET, "127.0.0.1", false, &mine) < 0 || write(fds[1], &mine, sizeof(mine)) != sizeof(mine))
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], port, sizeof(*port)), sizeof(*port));
	close(fds[0]);
	return pid;
}

static void only_a_processs_own_sockets_count(void **state)
{
	uint16_t port;
	pid_t pid = child_that_listens(&port);
	k3sup_process *self = handle_of(getpid()), *child = handle_of(pid);
	struct k3sup__listeners all;

	(void)state;
	assert_int_equal(k3sup__listeners_find(self, NULL, &all), 0);
	assert_null(at_port(&all, port));
	k3sup__listeners_clear(&all);
	assert_int_equal(k3sup__listeners_find(child, NULL, &all), 0);
	assert_non_null(at_port(&all, port));
	k3sup__listeners_clear(&all);
	assert_int_equal(k3sup__listeners_find(self, child, &all), 0);
	assert_non_null(at_port(&all, port));
	k3sup__listeners_clear(&all);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(k3sup__listeners_find(child, NULL, &all), -ESRCH);
	assert_int_equal(all.count, 0);
	assert_int_equal(k3sup__socket_near(proc_fd, child, AF_INET), -ESRCH);
	k3sup_process_unref(child);
	k3sup_process_unref(self);
}

/* Connections do not hide what listens, however many there are. */
static void a_crowd_of_connections_does_no_harm(void **state)
{
	k3sup_process *self = handle_of(getpid());
	struct k3sup__listeners all;
	int fds[64];
	uint16_t port;
	int fd = listen_on(AF_INET, "127.0.0.1", false, &port);

	(void)state;
	assert_int_equal(k3sup__listeners_find(self, NULL, &all), 0);
	for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
		fds[i] = k3sup__socket_near(proc_fd, self, AF_INET);
		assert_true(fds[i] >= 0);
		assert_true(k3sup__socket_connect(fds[i], at_port(&all, port)) != -EINVAL);
	}
	k3sup__listeners_clear(&all);
	assert_int_equal(k3sup__listeners_find(self, NULL, &all), 0);
	assert_non_null(at_port(&all, port));
	k3sup__listeners_clear(&all);
	for (size_t i = 0; i < ELEMENTSOF(fds); i++)
		close(fds[i]);
	close(fd);
	k3sup_process_unref(self);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(each_address_is_one_to_connect_to),
		scratch_test(what_is_closed_is_refused),
		scratch_test(only_a_processs_own_sockets_count),
		scratch_test(a_crowd_of_connections_does_no_harm),
	};
	int r;

	if (under_valgrind())
		return 77;
	own_network();
	proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	close(proc_fd);
	return r;
}
