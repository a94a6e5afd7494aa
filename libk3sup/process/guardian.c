/* SPDX-License-Identifier: Apache-2.0 */
#include "process/guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/outsider.h"
#include "base/strv.h"
#include "process/owner.h"

#define DIRECTORY "/run/k3sup"
#define OURS (-10000)        /* codes from here on have said why */
#define ANSWER_MS 10000      /* to what is done at once */
#define CARRIED_OUT_MS 60000 /* a stop or start; it goes on after that */

static const struct k3sup__root *root_of(const struct k3sup__guardian *g)
{
	return g->channel->own.fd >= 0 ? &g->channel->own : g->channel->host;
}

/* ---- its socket ---- */

/* The place of its name. Nobody but root can have put something there. */
static int find(k3sup_op *op, const struct k3sup__guardian *g, unsigned make, struct k3sup__place *ret)
{
	_free_ char *path = k3sup__fmt("%s/guard-%s", DIRECTORY, g->service);

	return path ? k3sup__root_find(op, root_of(g), path, K3SUP__TRUSTED | K3SUP__NOFOLLOW | make, ret) : -ENOMEM;
}

/* A unix socket's address has room for about 100 bytes, so the way there is a descriptor. */
static int address_of(const struct k3sup__place *place, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	return snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", place->dirfd, place->name) < (int)sizeof(ret->sun_path)
		? 0
		: -ENAMETOOLONG;
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* 0 with a connection, -ENOENT if nobody is there. */
static int reach(k3sup_op *op, const struct k3sup__guardian *g, const struct k3sup__place *place, pid_t *ret_pid, int *ret_fd)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);
	struct sockaddr_un address;
	_close_ int fd = -1;
	int r;

	if (place->fd < 0)
		return -ENOENT;
	r = address_of(place, &address);
	if (r < 0 || (r = fd = new_socket()) < 0)
		return r;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno == ECONNREFUSED || errno == ENOENT)
			return -ENOENT;
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot be asked: %s", g->service, k3sup_strerror(-errno));
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
		return k3sup__fail(op, K3SUP_E_GUARD, "what answers for the start guard of %s is none", g->service);
	*ret_pid = peer.pid;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

static int send_message(int fd, const struct k3sup__outsider_message *message, int passed_fd)
{
	char space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(__alignof__(struct cmsghdr)))) = {0};
	struct iovec bytes = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message)};
	struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1};

	if (passed_fd >= 0) {
		struct cmsghdr *c;

		header.msg_control = space;
		header.msg_controllen = sizeof(space);
		c = CMSG_FIRSTHDR(&header);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &passed_fd, sizeof(int));
	}
	return sendmsg(fd, &header, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* 0 with an answer; -ENOENT: it ended before it read the message; -ETIMEDOUT; K3SUP_E_GUARD. */
static int ask(k3sup_op *op, const struct k3sup__guardian *g, int fd, enum k3sup__outsider_word word, int64_t value, int passed_fd,
	int64_t patience, struct k3sup__outsider_answer *ret)
{
	const struct k3sup__outsider_message message = {.magic = K3SUP__OUTSIDER_MAGIC, .word = word, .value = value};
	const int64_t deadline = k3sup__deadline(patience);
	struct pollfd answered = {.fd = fd, .events = POLLIN};
	int r = send_message(fd, &message, passed_fd);
	ssize_t n;

	if (r < 0)
		return r == -EPIPE || r == -ECONNRESET ? -ENOENT : r;
	do {
		int64_t left = deadline - k3sup__now_ms();

		r = poll(&answered, 1, left > 0 ? (int)left : 0);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	n = recv(fd, ret, sizeof(*ret), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return -ENOENT;
	if (n != (ssize_t)sizeof(*ret) || ret->magic != K3SUP__OUTSIDER_MAGIC)
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s is another release's and was not understood", g->service);
	ret->text[sizeof(ret->text) - 1] = '\0';
	return 0;
}

/* ---- making one ---- */

static int listen_at(const struct k3sup__place *place)
{
	struct sockaddr_un address;
	_close_ int fd = new_socket();
	int r = fd < 0 ? fd : address_of(place, &address);

	if (r < 0)
		return r;
	/* Nobody answered there: what is left of one that was killed. */
	if (place->fd >= 0 && unlinkat(place->dirfd, place->name, 0) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || fchmodat(place->dirfd, place->name, 0600, 0) < 0)
		return -errno;
	r = fd;
	fd = -1;
	return r;
}

static int begin(k3sup_op *op, const struct k3sup__guardian *g, const struct k3sup__place *place, int owner_fd, const struct k3sup__strv *groups)
{
	static const char *const none[] = {NULL};
	static const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	_close_ int listen_fd = listen_at(place), go = -1;
	struct k3sup__outsider_spec spec = {.name = "k3sup-guard",
		.listen_fd = listen_fd,
		.dirfd = place->dirfd,
		.file = place->name,
		.owner_fd = owner_fd,
		.root_fd = g->channel->kind == K3SUP__CHANNEL_CHROOT ? g->channel->host->fd : -1,
		.enter_fd = g->channel->enter_fd,
		.groups = groups->items ? (const char *const *)groups->items : none,
		.down = g->down,
		.up = g->up,
		.up_again = g->up_again,
		.env = g->env ? g->env : env};
	pid_t pid;
	int r = listen_fd < 0 ? listen_fd : k3sup__outsider_start(&spec, &pid, &go);

	if (r >= 0)
		r = k3sup__guardian_is_outside(op, g, pid);
	if (r >= 0 && send(go, "", 1, MSG_NOSIGNAL) < 0)
		r = -errno;
	return r;
}

/* A connection with the one that is there, or with a new one. */
static int reach_any(k3sup_op *op, const struct k3sup__guardian *g, int owner_fd, int *ret_fd)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	struct k3sup__strv groups = {0};
	pid_t pid;
	int r = find(op, g, K3SUP__MAKE_DIRS, &place);

	if (r >= 0)
		r = reach(op, g, &place, &pid, ret_fd);
	if (r >= 0)
		return k3sup__guardian_is_outside(op, g, pid);
	if (r != -ENOENT)
		return r;
	r = k3sup__guardian_possible(op, g->node);
	if (r >= 0)
		r = k3sup__guardian_groups(g->node, &groups);
	if (r >= 0)
		r = begin(op, g, &place, owner_fd, &groups);
	k3sup__strv_clear(&groups);
	if (r < 0)
		return r == K3SUP_E_CONFINED
			? r
			: k3sup__fail(op, K3SUP_E_GUARD, "a start guard of %s cannot be made: %s", g->service, k3sup_strerror(r));
	k3sup__place_clear(&place);
	r = find(op, g, K3SUP__MAKE_DIRS, &place);
	if (r >= 0)
		r = reach(op, g, &place, &pid, ret_fd);
	return r == -ENOENT ? k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s has gone", g->service) : r;
}

/* ---- what it is told ---- */

static int ourselves(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return fd < 0 ? -errno : fd;
}

int k3sup__guardian_arm(k3sup_op *op, const struct k3sup__guardian *g, int64_t delay_ms)
{
	_close_ int self = ourselves(), fd = -1;
	struct k3sup__outsider_answer answer;
	int r = self < 0 ? self : reach_any(op, g, self, &fd);

	if (r >= 0)
		r = ask(op, g, fd, K3SUP__OUTSIDER_ARM, delay_ms, self, ANSWER_MS, &answer);
	if (r >= 0)
		r = answer.result;
	return r >= 0 || r <= OURS ? r
				   : k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot be armed: %s", g->service, k3sup_strerror(r));
}

/* Tells the one that is there; -ENOENT if there is none. */
static int tell(k3sup_op *op, const struct k3sup__guardian *g, enum k3sup__outsider_word word, int64_t value, struct k3sup__outsider_answer *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_close_ int fd = -1;
	pid_t pid;
	int r = find(op, g, 0, &place);

	if (r >= 0)
		r = reach(op, g, &place, &pid, &fd);
	/* It may be starting k3s just now. */
	return r < 0 ? r : ask(op, g, fd, word, value, -1, word == K3SUP__OUTSIDER_DISARM ? CARRIED_OUT_MS : ANSWER_MS, ret);
}

int k3sup__guardian_rearm(k3sup_op *op, const struct k3sup__guardian *g, int64_t delay_ms)
{
	struct k3sup__outsider_answer answer;
	int r = tell(op, g, K3SUP__OUTSIDER_REARM, delay_ms, &answer);

	if (r >= 0 && answer.result >= 0)
		return 0;
	if (r >= 0 && answer.result == -EALREADY)
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s starts it: its time was over", g->service);
	if (r >= 0 || r == -ENOENT)
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s does not wait any more: its time was over, or it was disarmed",
			g->service);
	return r <= OURS
		? r
		: k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot begin its time anew: %s", g->service, k3sup_strerror(r));
}

int k3sup__guardian_release(k3sup_op *op, const struct k3sup__guardian *g)
{
	struct k3sup__outsider_answer answer;
	int r = tell(op, g, K3SUP__OUTSIDER_RELEASE, 0, &answer);

	return r == -ENOENT ? 0 : r;
}

int k3sup__guardian_disarm(k3sup_op *op, const struct k3sup__guardian *g)
{
	struct k3sup__outsider_answer answer;
	int r = tell(op, g, K3SUP__OUTSIDER_DISARM, 0, &answer);

	if (r == -ENOENT)
		return 0;
	if (r < 0 && r > OURS)
		return k3sup__fail(op, K3SUP_E_GUARD, "the start guard of %s cannot be disarmed: %s", g->service, k3sup_strerror(r));
	return r < 0 ? r : answer.result > 0;
}

int k3sup__guardian_order(k3sup_op *op, const struct k3sup__guardian *g, enum k3sup__order order)
{
	static const enum k3sup__outsider_word words[] = {
		[K3SUP__ORDER_STOP] = K3SUP__OUTSIDER_DOWN, [K3SUP__ORDER_START] = K3SUP__OUTSIDER_UP, [K3SUP__ORDER_RESTART] = K3SUP__OUTSIDER_BOTH};
	_close_ int self = ourselves(), fd = -1;
	struct k3sup__outsider_answer answer;
	int r = self < 0 ? self : reach_any(op, g, self, &fd);

	if (r >= 0)
		r = ask(op, g, fd, words[order], 0, -1, CARRIED_OUT_MS, &answer);
	if (r == -ETIMEDOUT)
		return 0; /* it goes on */
	if (r >= 0 && answer.status != 0)
		return k3sup__fail(op, K3SUP_E_SERVICE, "%s %s: %.*s (exit status %d)", order == K3SUP__ORDER_STOP ? g->down[0] : g->up[0],
			g->service, (int)strcspn(answer.text, "\n"), answer.text, (int)answer.status);
	return r >= 0 || r <= OURS ? r : k3sup__fail(op, K3SUP_E_SERVICE, "%s cannot be told: %s", g->service, k3sup_strerror(r));
}
