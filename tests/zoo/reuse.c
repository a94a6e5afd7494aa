/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse COUNT: a k3s is identified, ends, and its number is given to an innocent process: before the library takes hold of it, before it signals, or between its last look and the
 * signal. The innocent must live. The control does what kill(2) by number does, and must hit it.
 */
#include <inttypes.h>

#include "zoo.h"

#include "base/process.h"
#include "node/identify.h"
#include "node/node.h"
#include "process/signal.h"

int __real_k3sup__process_new(int proc_fd, pid_t pid, int dirfd, uint64_t start_time, k3sup_process **ret);
int __wrap_k3sup__process_new(int proc_fd, pid_t pid, int dirfd, uint64_t start_time, k3sup_process **ret);
int __real_k3sup__process_signal(const k3sup_process *process, int signo);
int __wrap_k3sup__process_signal(const k3sup_process *process, int signo);

enum moment { BEFORE_SIGNAL, BEFORE_HOLD, IN_SIGNAL, MOMENTS };

static enum moment moment;
static pid_t victim, innocent; /* the k3s; who gets its number */
static unsigned reuses;

/* The k3s ends, and somebody else gets its number. */
static void reuse(void)
{
	pid_t pid = victim;

	fake_stop(pid);
	for (int i = 0; i < 100 && innocent != pid; i++) {
		_free_ char *last = k3sup__fmt("%d", (int)pid - 1);
		int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(write(fd, last, strlen(last)), (ssize_t)strlen(last));
		close(fd);
		innocent = fork();
		if (innocent == 0)
			for (;;)
				pause();
		(void)setpgid(innocent, innocent); /* as fake_stop() wants it */
		if (innocent != pid) {
			(void)kill(innocent, SIGKILL);
			(void)waitpid(innocent, NULL, 0);
		}
	}
	assert_int_equal(innocent, pid);
	reuses++;
}

int __wrap_k3sup__process_new(int proc_fd, pid_t pid, int dirfd, uint64_t start_time, k3sup_process **ret)
{
	if (moment == BEFORE_HOLD && innocent == 0 && pid == victim)
		reuse();
	return __real_k3sup__process_new(proc_fd, pid, dirfd, start_time, ret);
}

int __wrap_k3sup__process_signal(const k3sup_process *process, int signo)
{
	if (moment == IN_SIGNAL && innocent == 0)
		reuse();
	return __real_k3sup__process_signal(process, signo);
}

/* Does it live? And then no more. */
static bool end_innocent(void)
{
	int status = 0;
	bool lives = waitpid(innocent, &status, WNOHANG) == 0;

	if (lives)
		fake_stop(innocent);
	innocent = 0;
	return lives;
}

/* true if the innocent lived. by_number: what others do. */
static bool play(k3sup_node *node, const struct fake_spec *spec, bool by_number)
{
	struct k3sup__sighting sighting;
	int r;

	victim = fake_start(spec);
	assert_int_equal(k3sup__identify_scan(NULL, node, NULL, &sighting), 0);
	assert_int_equal(sighting.count, moment == BEFORE_HOLD ? 0 : 1);
	if (moment == BEFORE_SIGNAL)
		reuse();
	if (by_number) {
		assert_int_equal(kill(victim, SIGKILL), 0);
		while (waitid(P_PID, (id_t)innocent, &(siginfo_t){0}, WEXITED | WNOWAIT) < 0)
			assert_int_equal(errno, EINTR);
	} else if (sighting.count == 1) {
		r = k3sup__signal_send(NULL, node, sighting.candidates[0].process, SIGKILL);
		assert_int_equal(r, 0); /* it had ended already */
	}
	k3sup__sighting_clear(&sighting);
	return end_innocent();
}

static int in_sandbox(unsigned count)
{
	struct fake_spec spec = {.root = "", .file = BIN1 "/k3s-server", .title = "/usr/local/bin/k3s server"};
	unsigned hit = 0, controls = 0, control_hit = 0;
	k3sup_node *node = NULL;
	k3sup_ctx *ctx = NULL;

	assert_int_equal(mount("zoo", "/var", "tmpfs", 0, "mode=755"), 0);
	fake_install_data("", BIN1);
	assert_int_equal(k3sup_ctx_new(NULL, &ctx), 0);
	assert_int_equal(k3sup_node_new(ctx, NULL, &node), 0);
	for (unsigned i = 0; i < count; i++) {
		moment = (enum moment)(i % MOMENTS);
		hit += !play(node, &spec, false);
	}
	moment = BEFORE_SIGNAL;
	for (; controls < 3; controls++)
		control_hit += !play(node, &spec, true);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	printf("reuse: %u forced, %u innocents hit; by number %u of %u\n", reuses - controls, hit, control_hit, controls);
	fflush(stdout);
	return hit == 0 && control_hit == controls && reuses - controls == count ? 0 : 1;
}

int main(int argc, char **argv)
{
	unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000;
	int r;

	sandbox_enter();
	if (fake_build(NULL) != 0)
		return 99;
	r = in_sandbox(count);
	(void)fake_remove(NULL);
	return r;
}
