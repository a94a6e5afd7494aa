/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forked.h"
#include "base/outsider.h"

/*
 * Everything below runs in a copy of a process that may have had other threads in the middle of anything: only async-signal-safe functions, no memory from the heap, and no
 * return. All signals are blocked but those that cannot be.
 */

enum { SLOT_STDIN, SLOT_STDOUT, SLOT_STDERR, SLOT_SOCKET, SLOT_LISTEN, SLOT_DIR, SLOT_OWNER, SLOT_ROOT, SLOT_ENTER, N_SLOTS };

#define PEER_MS 5000       /* how long a connection may be silent */
#define FIRST_PAUSE_MS 500 /* a stop that is under way makes a start fail; it takes a moment */
#define PAUSE_MS 3000
#define MOST_TRIES 100

struct life {
	const struct k3sup__outsider_spec *spec;
	int timer;
	int64_t delay; /* ms, from the last time that it was armed, or the end of an order */
	bool owned;    /* its owner is watched */
	bool armed;
	bool fired; /* its time was over; what is still armed then is the next try */
	unsigned tries;
	int status; /* of the last program */
	struct k3sup__outsider_answer answer;
};

static _Noreturn void give_up(int code)
{
	(void)!send(SLOT_SOCKET, &code, sizeof(code), MSG_NOSIGNAL);
	_exit(1);
}

static _Noreturn void end(const struct life *l)
{
	/* In this order: who finds the name no more starts another one, and who is connected hears the end. */
	(void)unlinkat(SLOT_DIR, l->spec->file, 0);
	_exit(0);
}

/* ---- becoming it ---- */

static void write_to(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, text, len);
	close(fd);
}

/* As process 1 has them, whose services these are; what a container or a login has of its own is not for them. */
static void take_limits(void)
{
	char score[16];
	int fd = open("/proc/1/oom_score_adj", O_RDONLY | O_CLOEXEC), nice;
	ssize_t n = fd >= 0 ? read(fd, score, sizeof(score)) : -1;

	if (fd >= 0)
		close(fd);
	if (n > 0)
		write_to("/proc/self/oom_score_adj", score, (size_t)n);
	for (int what = 0; what < (int)RLIM_NLIMITS; what++) {
		struct rlimit limit;

		if (prlimit(1, (enum __rlimit_resource)what, NULL, &limit) == 0)
			(void)prlimit(0, (enum __rlimit_resource)what, &limit, NULL);
	}
	errno = 0;
	nice = getpriority(PRIO_PROCESS, 1);
	if (errno == 0)
		(void)setpriority(PRIO_PROCESS, 0, nice);
}

static int settle(const struct k3sup__outsider_spec *spec, int null_fd, int socket_fd)
{
	const int wanted[N_SLOTS] = {null_fd, null_fd, null_fd, socket_fd, spec->listen_fd, spec->dirfd, spec->owner_fd, spec->root_fd,
		spec->enter_fd > 0 ? spec->enter_fd : -1};
	int r;

	(void)prctl(PR_SET_NAME, spec->name);
	k3sup__forked_default_signals();
	r = k3sup__forked_arrange(wanted, N_SLOTS);
	if (r >= 0)
		r = k3sup__forked_close_from(N_SLOTS);
	if (r >= 0 && spec->enter_fd > 0)
		r = k3sup__forked_enter(SLOT_ENTER);
	if (r < 0)
		return r;
	if (spec->root_fd >= 0 && (fchdir(SLOT_ROOT) < 0 || chroot(".") < 0))
		return -errno;
	if (chdir("/") < 0)
		return -errno;
	umask(022);
	close(SLOT_ROOT);
	close(SLOT_ENTER);
	for (const char *const *group = spec->groups; *group; group++)
		write_to(*group, "0", 1);
	take_limits();
	/* Here, and not by who made the socket: from now on its other ends see this process's number. */
	return listen(SLOT_LISTEN, 16) < 0 ? -errno : 0;
}

/* ---- running a program ---- */

static _Noreturn void program(const struct life *l, const char *const *argv, int output)
{
	sigset_t none;

	setsid();
	if (dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
		_exit(127);
	for (int fd = SLOT_SOCKET; fd < N_SLOTS; fd++)
		close(fd);
	if (k3sup__forked_close_from(N_SLOTS) < 0)
		_exit(127);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(argv[0], (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)l->spec->env);
	_exit(127);
}

/* What it says first is kept, the rest is read so that it can go on. Is there more to read? */
static bool listen_to(struct life *l, int fd, size_t *len)
{
	char more[512];
	const size_t room = sizeof(l->answer.text) - 1 - *len;
	ssize_t n = room > 0 ? read(fd, l->answer.text + *len, room) : read(fd, more, sizeof(more));

	if (n > 0 && room > 0)
		*len += (size_t)n;
	l->answer.text[*len] = '\0';
	return n > 0 && room > 0;
}

/* Its children may hold the pipe for ever, and write, so its own end counts. */
static void attend(struct life *l, int pidfd, int output)
{
	struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = output, .events = POLLIN}};
	size_t len = 0;

	for (;;) {
		if (poll(fds, ELEMENTSOF(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			break;
		if (fds[1].revents & POLLIN)
			(void)listen_to(l, output, &len);
		else if (fds[1].revents)
			fds[1].fd = -1; /* nobody holds its other end */
	}
	while (listen_to(l, output, &len))
		;
}

static int run(struct life *l, const char *const *argv)
{
	siginfo_t info = {0};
	int pipe_fds[2], pidfd = -1;
	pid_t pid;

	l->answer.text[0] = '\0';
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return 126;
	(void)fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	pid = k3sup__forked_clone(SIGCHLD, &pidfd);
	if (pid == 0)
		program(l, argv, pipe_fds[1]);
	close(pipe_fds[1]);
	if (pid > 0)
		attend(l, pidfd, pipe_fds[0]);
	close(pipe_fds[0]);
	if (pid < 0)
		return 126;
	close(pidfd);
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | __WALL) < 0 && errno == EINTR)
		;
	return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

/* ---- time ---- */

static void begin_time(struct life *l, int64_t ms)
{
	const struct itimerspec at = {.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * 1000000) + (ms == 0)}};

	(void)timerfd_settime(l->timer, 0, &at, NULL);
}

static void stop_time(struct life *l)
{
	const struct itimerspec never = {.it_value = {0}};

	(void)timerfd_settime(l->timer, 0, &never, NULL);
}

/* The start that is owed. A try fails as long as the stop is still under way; and where something it needs would have to be started first, the next one goes without. */
static void pay(struct life *l)
{
	l->fired = true;
	l->owned = false;
	stop_time(l);
	l->status = run(l, l->tries % 2 == 0 ? l->spec->up : l->spec->up_again);
	if (l->status == 0 || ++l->tries >= MOST_TRIES)
		end(l);
	begin_time(l, l->tries < 10 ? FIRST_PAUSE_MS : PAUSE_MS);
}

/* ---- messages ---- */

static int arm(struct life *l, int64_t ms, int owner)
{
	if (owner < 0 || ms < 0)
		return -EINVAL;
	dup2(owner, SLOT_OWNER);
	l->owned = l->armed = true;
	l->fired = false;
	l->tries = 0;
	begin_time(l, l->delay = ms);
	return 0;
}

static bool is_order(uint32_t word)
{
	return word == K3SUP__OUTSIDER_DOWN || word == K3SUP__OUTSIDER_UP || word == K3SUP__OUTSIDER_BOTH;
}

static int order(struct life *l, uint32_t word)
{
	if (word != K3SUP__OUTSIDER_UP)
		l->status = run(l, l->spec->down);
	if (word != K3SUP__OUTSIDER_DOWN)
		l->status = run(l, l->spec->up);
	/* A stop may have taken longer. */
	if (l->armed && !l->fired)
		begin_time(l, l->delay);
	return 0;
}

static int carry_out(struct life *l, const struct k3sup__outsider_message *m, int owner)
{
	if (is_order(m->word))
		return order(l, m->word);
	switch (m->word) {
	case K3SUP__OUTSIDER_ARM:
		return arm(l, m->value, owner);
	case K3SUP__OUTSIDER_REARM:
	case K3SUP__OUTSIDER_RELEASE:
		if (!l->armed || l->fired)
			return l->fired ? -EALREADY : -ENOENT;
		if (m->word == K3SUP__OUTSIDER_REARM)
			begin_time(l, l->delay = m->value);
		else
			l->owned = false;
		return 0;
	case K3SUP__OUTSIDER_DISARM:
		return l->armed && !l->fired;
	default:
		return -EINVAL;
	}
}

static bool take_message(int fd, struct k3sup__outsider_message *message, int *owner)
{
	char space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(__alignof__(struct cmsghdr))));
	struct iovec bytes = {.iov_base = message, .iov_len = sizeof(*message)};
	struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct pollfd said = {.fd = fd, .events = POLLIN};
	struct cmsghdr *c;
	ssize_t n;

	if (poll(&said, 1, PEER_MS) <= 0)
		return false;
	n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	c = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(sizeof(int)))
		memcpy(owner, CMSG_DATA(c), sizeof(int));
	return n == (ssize_t)sizeof(*message) && message->magic == K3SUP__OUTSIDER_MAGIC;
}

static void serve(struct life *l)
{
	struct k3sup__outsider_message message;
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);
	int fd = accept4(SLOT_LISTEN, NULL, NULL, SOCK_CLOEXEC), owner = -1;
	bool over = false;

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid() && take_message(fd, &message, &owner)) {
		l->status = 0;
		l->answer.text[0] = '\0';
		l->answer.magic = K3SUP__OUTSIDER_MAGIC;
		l->answer.pid = getpid();
		l->answer.result = carry_out(l, &message, owner);
		l->answer.status = l->status;
		over = message.word == K3SUP__OUTSIDER_DISARM || (!l->armed && is_order(message.word));
		if (over)
			(void)unlinkat(SLOT_DIR, l->spec->file, 0); /* before the answer: who has it finds no name */
		(void)!send(fd, &l->answer, sizeof(l->answer), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	if (owner >= 0)
		close(owner);
	close(fd);
	if (over)
		_exit(0);
}

_Noreturn void k3sup__outsider_live(const struct k3sup__outsider_spec *spec, int null_fd, int socket_fd)
{
	struct life l = {.spec = spec, .timer = -1, .owned = true};
	const int self = getpid();
	char go;
	int r = settle(spec, null_fd, socket_fd);

	if (r >= 0 && (l.timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)) < 0)
		r = -errno;
	if (r < 0)
		give_up(r);
	if (send(SLOT_SOCKET, &self, sizeof(self), MSG_NOSIGNAL) < 0 || recv(SLOT_SOCKET, &go, sizeof(go), 0) != (ssize_t)sizeof(go))
		end(&l); /* whoever started it has died, or does not want it here */
	close(SLOT_SOCKET);
	for (;;) {
		struct pollfd fds[] = {{.fd = l.owned ? SLOT_OWNER : -1, .events = POLLIN}, {.fd = l.timer, .events = POLLIN},
			{.fd = SLOT_LISTEN, .events = POLLIN}};

		if (poll(fds, ELEMENTSOF(fds), -1) < 0)
			continue; /* SIGSTOP and SIGCONT */
		/* What its owner still said counts, so that comes first. */
		if (fds[2].revents)
			serve(&l);
		else if (l.armed && (fds[0].revents || fds[1].revents))
			pay(&l);
		else if (fds[0].revents)
			end(&l);
	}
}
