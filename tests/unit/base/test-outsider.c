/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/outsider.h"

#define NET_MS 60000 /* a safety net */

/* Its programs are scripts that write a line into a file; the second one fails as long as there is a file "bad". */
struct yard {
	char *top;
	int dirfd;
	pid_t pid;
	int owner; /* its process ends with the last descriptor of its stdin */
	int owner_fd;
};

static char *in(const struct yard *y, const char *name)
{
	char *path = k3sup__fmt("%s/%s", y->top, name);

	assert_non_null(path);
	return path;
}

static struct sockaddr_un address(const struct yard *y)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	assert_true(snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/socket", y->dirfd) < (int)sizeof(a.sun_path));
	return a;
}

static void begin(struct yard *y)
{
	static const char *const none[] = {NULL}, *const env[] = {"PATH=/usr/bin:/bin", NULL};
	_free_ char *log = in(y, "log"), *bad = in(y, "bad"), *up_text = k3sup__fmt("echo up >>%s; echo said; [ ! -e %s ]", log, bad),
		    *down_text = k3sup__fmt("echo down >>%s; sleep 0.2", log),
		    *again_text = k3sup__fmt("echo again >>%s; [ ! -e %s ]", log, bad);
	const char *down[] = {"/bin/sh", "-c", down_text, NULL}, *up[] = {"/bin/sh", "-c", up_text, NULL},
		   *again[] = {"/bin/sh", "-c", again_text, NULL};
	struct k3sup__outsider_spec spec = {.name = "k3sup-test",
		.dirfd = y->dirfd,
		.file = "socket",
		.owner_fd = y->owner_fd,
		.root_fd = -1,
		.groups = none,
		.down = down,
		.up = up,
		.up_again = again,
		.env = env};
	struct sockaddr_un a = address(y);
	int fd = -1;

	spec.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(spec.listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(k3sup__outsider_start(&spec, &y->pid, &fd), 0);
	assert_int_equal(send(fd, "", 1, MSG_NOSIGNAL), 1);
	close(fd);
	close(spec.listen_fd);
}

/* What it answers; a result of -ECONNREFUSED: nobody is there. */
static struct k3sup__outsider_answer tell(const struct yard *y, uint32_t word, int64_t value, int passed)
{
	struct k3sup__outsider_message message = {.magic = K3SUP__OUTSIDER_MAGIC, .word = word, .value = value};
	struct k3sup__outsider_answer answer = {.result = -ECONNREFUSED};
	char space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(__alignof__(struct cmsghdr)))) = {0};
	struct iovec bytes = {.iov_base = &message, .iov_len = sizeof(message)};
	struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};
	struct sockaddr_un a = address(y);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (passed >= 0) {
		header.msg_control = space;
		header.msg_controllen = sizeof(space);
		*CMSG_FIRSTHDR(&header) = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&header)), &passed, sizeof(int));
	}
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && sendmsg(fd, &header, MSG_NOSIGNAL) > 0) {
		assert_int_equal(recv(fd, &answer, sizeof(answer), 0), sizeof(answer));
		assert_int_equal(answer.magic, K3SUP__OUTSIDER_MAGIC);
	}
	close(fd);
	return answer;
}

static void assert_gone(const struct yard *y)
{
	int fd = (int)syscall(SYS_pidfd_open, y->pid, 0);
	struct pollfd end = {.fd = fd, .events = POLLIN};

	if (fd >= 0)
		assert_int_equal(poll(&end, 1, NET_MS), 1);
	close(fd);
	assert_int_equal(faccessat(y->dirfd, "socket", F_OK, 0), -1);
}

static void assert_log(const struct yard *y, const char *expected)
{
	_free_ char *text = NULL;
	int r = k3sup__read_file(y->dirfd, "log", 65536, &text, NULL);

	if (r == -ENOENT)
		assert_string_equal(expected, "");
	else
		assert_string_equal(text, expected);
}

static int set_up(void **state)
{
	struct yard *y = calloc(1, sizeof(*y));
	int pipe_fds[2];
	char c;

	assert_non_null(y);
	y->top = strdup("/tmp/k3sup-outsider-XXXXXX");
	assert_non_null(mkdtemp(y->top));
	y->dirfd = open(y->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(pipe(pipe_fds), 0);
	y->owner = fork();
	if (y->owner == 0) {
		close(pipe_fds[1]);
		_exit(read(pipe_fds[0], &c, 1) < 0);
	}
	close(pipe_fds[0]);
	(void)fcntl(pipe_fds[1], F_SETFD, FD_CLOEXEC);
	y->owner_fd = (int)syscall(SYS_pidfd_open, y->owner, 0);
	assert_true(y->owner_fd >= 0);
	*state = y;
	begin(y);
	return 0;
}

static int tear_down(void **state)
{
	struct yard *y = *state;
	_free_ char *remove = k3sup__fmt("rm -rf %s", y->top);

	kill(y->owner, SIGKILL);
	(void)tell(y, K3SUP__OUTSIDER_DISARM, 0, -1);
	assert_int_equal(system(remove), 0);
	close(y->dirfd);
	close(y->owner_fd);
	free(y->top);
	free(y);
	return 0;
}

static void carries_out_orders(void **state)
{
	struct yard *y = *state;
	struct k3sup__outsider_answer answer;

	assert_int_equal(tell(y, K3SUP__OUTSIDER_REARM, 1000, -1).result, -ENOENT);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 1000, -1).result, -EINVAL);
	assert_int_equal(tell(y, 99, 0, -1).result, -EINVAL);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 60000, y->owner_fd).result, 0);
	answer = tell(y, K3SUP__OUTSIDER_DOWN, 0, -1);
	assert_int_equal(answer.result, 0);
	assert_int_equal(answer.status, 0);
	assert_int_equal(answer.pid, y->pid);
	assert_log(y, "down\n");
	answer = tell(y, K3SUP__OUTSIDER_BOTH, 0, -1);
	assert_int_equal(answer.status, 0);
	assert_string_equal(answer.text, "said\n");
	assert_log(y, "down\ndown\nup\n");
	assert_int_equal(tell(y, K3SUP__OUTSIDER_DISARM, 0, -1).result, 1);
	assert_gone(y);
}

static void without_being_armed_it_carries_out_one(void **state)
{
	struct yard *y = *state;

	assert_int_equal(close(openat(y->dirfd, "bad", O_CREAT | O_WRONLY, 0644)), 0);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_UP, 0, -1).status, 1);
	assert_gone(y);
	assert_log(y, "up\n");
}

static void an_armed_one_pays_when_its_time_is_over(void **state)
{
	struct yard *y = *state;

	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 60000, y->owner_fd).result, 0);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_REARM, 10, -1).result, 0);
	assert_gone(y);
	assert_log(y, "up\n");
}

static void an_armed_one_pays_when_its_owner_ends(void **state)
{
	struct yard *y = *state;

	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 60000, y->owner_fd).result, 0);
	kill(y->owner, SIGKILL);
	assert_gone(y);
	assert_log(y, "up\n");
}

/* An order that was begun is carried out before that. */
static void even_in_the_middle_of_an_order(void **state)
{
	struct yard *y = *state;

	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 60000, y->owner_fd).result, 0);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_REARM, 1, -1).result, 0);
	(void)tell(y, K3SUP__OUTSIDER_DOWN, 0, -1); /* it may have been too late for that */
	assert_gone(y);
	kill(y->owner, SIGKILL);
}

static void a_released_one_waits_for_its_time(void **state)
{
	struct yard *y = *state;

	assert_int_equal(tell(y, K3SUP__OUTSIDER_RELEASE, 0, -1).result, -ENOENT);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 60000, y->owner_fd).result, 0);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_RELEASE, 0, -1).result, 0);
	kill(y->owner, SIGKILL);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_DISARM, 0, -1).result, 1);
	assert_gone(y);
	assert_log(y, "");
}

static void one_that_is_not_armed_goes_with_its_owner(void **state)
{
	struct yard *y = *state;

	kill(y->owner, SIGKILL);
	assert_gone(y);
	assert_log(y, "");
}

/* It does not give up, tries the other way, and takes orders meanwhile. */
static void a_start_that_fails_is_tried_again(void **state)
{
	struct yard *y = *state;
	_free_ char *text = NULL;

	assert_int_equal(close(openat(y->dirfd, "bad", O_CREAT | O_WRONLY, 0644)), 0);
	assert_int_equal(tell(y, K3SUP__OUTSIDER_ARM, 1, y->owner_fd).result, 0);
	do {
		free(text);
		text = NULL;
	} while (k3sup__read_file(y->dirfd, "log", 65536, &text, NULL) < 0 || !strstr(text, "up\nagain\n"));
	assert_int_equal(tell(y, K3SUP__OUTSIDER_REARM, 1000, -1).result, -EALREADY);
	assert_int_equal(unlinkat(y->dirfd, "bad", 0), 0);
	assert_gone(y);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(carries_out_orders, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_being_armed_it_carries_out_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_armed_one_pays_when_its_time_is_over, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_armed_one_pays_when_its_owner_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(even_in_the_middle_of_an_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_released_one_waits_for_its_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_that_is_not_armed_goes_with_its_owner, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_start_that_fails_is_tried_again, set_up, tear_down),
	};

	if (under_valgrind())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
