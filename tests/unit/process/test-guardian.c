/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "base/outsider.h"
#include "process/guardian.h"

#define AT "run/k3sup/guard-k3s"

/* What it runs writes a line into a file of the scratch directory. */
struct post {
	struct scratch *s;
	k3sup_node *node;
	struct k3sup__channel channel;
	struct k3sup__guardian guardian;
	char *said[3];
	const char *down[4], *up[4], *env[2];
};

static void begin(struct post *p, struct scratch *s)
{
	*p = (struct post){.s = s, .node = open_node(s->ctx, s->path, NULL), .channel = K3SUP__CHANNEL_NONE};
	p->channel.host = &p->node->root;
	p->said[0] = k3sup__fmt("echo down $WORD >>%s/log; echo no such thing; exit 7", s->path);
	p->said[1] = k3sup__fmt("echo up $WORD >>%s/log", s->path);
	memcpy(p->down, (const char *const[]){"/bin/sh", "-c", p->said[0], NULL}, sizeof(p->down));
	memcpy(p->up, (const char *const[]){"/bin/sh", "-c", p->said[1], NULL}, sizeof(p->up));
	memcpy(p->env, (const char *const[]){"WORD=now", NULL}, sizeof(p->env));
	p->guardian = (struct k3sup__guardian){
		.node = p->node, .channel = &p->channel, .service = "k3s", .down = p->down, .up = p->up, .up_again = p->up, .env = p->env};
}

static void end(struct post *p)
{
	for (size_t i = 0; i < ELEMENTSOF(p->said); i++)
		free(p->said[i]);
	k3sup_node_unref(p->node);
}

static bool is_there(const struct post *p)
{
	return faccessat(p->s->fd, AT, F_OK, 0) == 0;
}

/* A guardian goes by itself; nobody but its name tells. */
static void await_gone(const struct post *p)
{
	for (int i = 0; is_there(p) && i < 6000; i++)
		pause_ms(10);
	assert_false(is_there(p));
}

static void assert_log(const struct post *p, const char *expected)
{
	assert_content(p->s->fd, "log", expected);
}

static void armed_rearmed_and_disarmed(void **state)
{
	struct post p;

	begin(&p, *state);
	assert_int_equal(k3sup__guardian_rearm(p.s->op, &p.guardian, 60000), K3SUP_E_GUARD);
	assert_sentence(p.s, "does not wait any more");
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), 0);
	assert_int_equal(k3sup__guardian_release(p.s->op, &p.guardian), 0);
	assert_false(is_there(&p));
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 60000), 0);
	assert_int_equal(stat_at(p.s->fd, AT).st_mode & 07777, 0600);
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 60000), 0);
	assert_int_equal(k3sup__guardian_rearm(p.s->op, &p.guardian, 60000), 0);
	assert_int_equal(k3sup__guardian_release(p.s->op, &p.guardian), 0);
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), 1);
	assert_false(is_there(&p));
	assert_int_equal(faccessat(p.s->fd, "log", F_OK, 0), -1);
	end(&p);
}

static void it_starts_what_is_owed(void **state)
{
	struct post p;

	begin(&p, *state);
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 10), 0);
	await_gone(&p);
	assert_log(&p, "up now\n");
	assert_int_equal(k3sup__guardian_rearm(p.s->op, &p.guardian, 10), K3SUP_E_GUARD);
	end(&p);
}

/* The start fails, try after try: that its time was over is told. */
static void too_late(void **state)
{
	struct post p;

	begin(&p, *state);
	free(p.said[1]);
	p.said[1] = k3sup__fmt("echo up >>%s/log; exit 1", p.s->path);
	p.up[2] = p.said[1];
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 1), 0);
	for (int i = 0; faccessat(p.s->fd, "log", F_OK, 0) < 0 && i < 6000; i++)
		pause_ms(10);
	assert_int_equal(k3sup__guardian_rearm(p.s->op, &p.guardian, 60000), K3SUP_E_GUARD);
	assert_sentence(p.s, "its time was over");
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), 0);
	await_gone(&p);
	end(&p);
}

static void orders(void **state)
{
	struct post p;

	begin(&p, *state);
	assert_int_equal(k3sup__guardian_order(p.s->op, &p.guardian, K3SUP__ORDER_START), 0);
	await_gone(&p); /* one that was made for this only */
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 60000), 0);
	assert_int_equal(k3sup__guardian_order(p.s->op, &p.guardian, K3SUP__ORDER_STOP), K3SUP_E_SERVICE);
	assert_sentence(p.s, "/bin/sh k3s: no such thing (exit status 7)");
	assert_int_equal(k3sup__guardian_order(p.s->op, &p.guardian, K3SUP__ORDER_RESTART), 0);
	assert_log(&p, "up now\ndown now\ndown now\nup now\n");
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), 1);
	end(&p);
}

/* ---- who answers ---- */

/* A listener at its name: another user's, or one that does not know its language. Returns its process. */
static pid_t impostor(const struct post *p, uid_t uid)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct k3sup__outsider_message message;
	const struct k3sup__outsider_answer answer = {.magic = K3SUP__OUTSIDER_MAGIC + 1};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ready[2];
	pid_t pid;
	char c;

	assert_int_equal(mkdirat(p->s->fd, "run", 0755), 0);
	assert_int_equal(mkdirat(p->s->fd, "run/k3sup", 0755), 0);
	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%s/" AT, p->s->path) < (int)sizeof(address.sun_path));
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (setuid(uid) < 0 || listen(fd, 4) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;) {
			int peer = accept(fd, NULL, NULL);

			if (recv(peer, &message, sizeof(message), 0) > 0)
				(void)!send(peer, &answer, sizeof(answer), MSG_NOSIGNAL);
			close(peer);
		}
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	close(fd);
	return pid;
}

static void nobody_else_is_believed(void **state)
{
	struct post p;
	pid_t pid;

	begin(&p, *state);
	pid = impostor(&p, 65534);
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 60000), K3SUP_E_GUARD);
	assert_sentence(p.s, "what answers for the start guard of k3s is none");
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), K3SUP_E_GUARD);
	k3sup__op_forgive(p.s->op);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* It has gone, its name is left: another one takes that. */
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), 0);
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 60000), 0);
	assert_int_equal(k3sup__guardian_disarm(p.s->op, &p.guardian), 1);
	end(&p);
}

static void another_release_is_not_understood(void **state)
{
	struct post p;
	pid_t pid;

	begin(&p, *state);
	pid = impostor(&p, 0);
	assert_int_equal(k3sup__guardian_rearm(p.s->op, &p.guardian, 60000), K3SUP_E_GUARD);
	assert_sentence(p.s, "another release's");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	end(&p);
}

static void a_place_of_others_is_refused(void **state)
{
	struct post p;

	begin(&p, *state);
	assert_int_equal(mkdirat(p.s->fd, "run", 0755), 0);
	assert_int_equal(mkdirat(p.s->fd, "run/k3sup", 0755), 0);
	assert_int_equal(fchmodat(p.s->fd, "run/k3sup", 0777, 0), 0);
	assert_int_equal(k3sup__guardian_arm(p.s->op, &p.guardian, 60000), K3SUP_E_UNTRUSTED);
	assert_sentence(p.s, "k3sup");
	assert_false(is_there(&p));
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(armed_rearmed_and_disarmed),
		scratch_test(it_starts_what_is_owed),
		scratch_test(too_late),
		scratch_test(orders),
		scratch_test(nobody_else_is_believed),
		scratch_test(another_release_is_not_understood),
		scratch_test(a_place_of_others_is_refused),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
