/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "node/procscan.h"
#include "process/commands.h"
#include "process/guard.h"

/* Where our root is the node's: its guardian's name is in /run of the sandbox's own. */
struct post {
	struct scratch *s;
	k3sup_node *node;
	struct k3sup__service service;
	char *status, *start;
	struct k3sup__commands commands;
};

static char a_stop[] = "true";

static void begin(struct post *p, struct scratch *s, const char *status, const char *start)
{
	*p = (struct post){
		.s = s, .node = open_node(s->ctx, "/", NULL), .status = strdup(status), .start = k3sup__fmt("cd %s && { %s; }", s->path, start)};
	p->commands = (struct k3sup__commands){a_stop, p->start, p->status};
	assert_int_equal(k3sup__commands_own(s->op, p->node, &p->commands, NULL, &p->service), 0);
	assert_true(p->service.manager == &k3sup__by_commands && p->service.channel.host);
}

static void end(struct post *p)
{
	k3sup__service_clear(&p->service);
	k3sup_node_unref(p->node);
	free(p->status);
	free(p->start);
}

static void await(const struct post *p, const char *file)
{
	for (int i = 0; faccessat(p->s->fd, file, F_OK, 0) < 0 && i < 6000; i++)
		pause_ms(10);
	assert_int_equal(faccessat(p->s->fd, file, F_OK, 0), 0);
}

static uint64_t start_time_of(pid_t pid)
{
	_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), dirfd = -1;
	struct k3sup__stat stat;

	assert_int_equal(k3sup__proc_open(proc, pid, &dirfd), 0);
	assert_int_equal(k3sup__stat_read(dirfd, &stat), 0);
	return stat.start_time;
}

/* The start command in the environment that it has with us, since the status command does not say that k3s runs. */
static void it_starts(void **state)
{
	struct post p;

	begin(&p, *state, "exit 3", "echo \"$K3SUP_ROOT $HOME\" >out.new && mv out.new out");
	assert_int_equal(k3sup__guard_possible(p.s->op, &p.service), 0);
	assert_int_equal(k3sup__guard_arm(p.s->op, &p.service, 1), 0);
	await(&p, "out");
	assert_content(p.s->fd, "out", "/ \n");
	end(&p);
}

static void it_asks_first(void **state)
{
	struct post p;

	begin(&p, *state, "exit 0", "touch started");
	assert_int_equal(k3sup__guard_arm(p.s->op, &p.service, 1), 0);
	for (int i = 0; k3sup__guard_rearm(p.s->op, &p.service, 1) >= 0 && i < 6000; i++) /* until its time is over */
		pause_ms(10);
	k3sup__op_forgive(p.s->op);
	assert_true(k3sup__guard_disarm(p.s->op, &p.service) >= 0); /* waits for the end of what it has begun; 0: it had gone by itself */
	assert_int_equal(faccessat(p.s->fd, "started", F_OK, 0), -1);
	end(&p);
}

/* That the old one runs says nothing while it is ending, so its status is not asked before it has ended; its number alone is not it. */
static void it_waits_for_the_end_of_the_old_one(void **state)
{
	for (int stranger = 0; stranger < 2; stranger++) {
		struct post p;
		pid_t pid = fork();

		if (pid == 0)
			for (;;)
				pause();
		begin(&p, *state, "exit 3", "touch started");
		p.service.main_pid = pid;
		p.service.main_start = start_time_of(pid) + (uint64_t)stranger;
		assert_int_equal(k3sup__guard_arm(p.s->op, &p.service, 1), 0);
		if (!stranger) {
			pause_ms(700); /* its first try is over */
			assert_int_equal(faccessat(p.s->fd, "started", F_OK, 0), -1);
			kill(pid, SIGKILL); /* not waited for: one that has ended, and nobody has taken notice */
		}
		await(&p, "started");
		if (stranger)
			kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		assert_int_equal(unlinkat(p.s->fd, "started", 0), 0);
		end(&p);
	}
}

static void armed_and_disarmed(void **state)
{
	struct post p;

	begin(&p, *state, "exit 3", "touch started");
	assert_int_equal(k3sup__guard_arm(p.s->op, &p.service, 60000), 0);
	assert_int_equal(k3sup__guard_rearm(p.s->op, &p.service, 60000), 0);
	assert_int_equal(k3sup__guard_release(p.s->op, &p.service), 0);
	assert_int_equal(k3sup__guard_disarm(p.s->op, &p.service), 1);
	assert_int_equal(k3sup__guard_disarm(p.s->op, &p.service), 0);
	assert_int_equal(faccessat(p.s->fd, "started", F_OK, 0), -1);
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(it_starts),
		scratch_test(it_asks_first),
		scratch_test(it_waits_for_the_end_of_the_old_one),
		scratch_test(armed_and_disarmed),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	if (mount("run", "/run", "tmpfs", 0, "mode=0755") < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
