/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include <sys/file.h>

#include "process/guard.h"
#include "process/openrc.h"

#define SUPERVISED "#!/sbin/openrc-run\nsupervisor=supervise-daemon\nname=k3s\ncommand=" INSTALLED "\ncommand_args=server\n"
#define ALONE "#!/sbin/openrc-run\nname=k3s\ncommand=" INSTALLED "\ncommand_args=server\ncommand_background=yes\npidfile=/run/k3s.pid\n"

/* A root that OpenRC has booted, with this script of k3s's. */
static void put_script(const struct scratch *s, const char *text)
{
	_free_ char *path = below(s, "/etc/init.d/k3s");

	write_text(s->path, "/run/openrc/softlevel", "default\n");
	write_text(s->path, "/etc/init.d/k3s", text);
	assert_int_equal(chmod(path, 0755), 0);
}

static struct k3sup__service open_service(struct scratch *s, k3sup_node *node, int expected)
{
	struct k3sup__service service = K3SUP__SERVICE_NONE;

	service.name = strdup("k3s");
	assert_non_null(service.name);
	assert_int_equal(k3sup__openrc_open(s->op, node, &service), expected);
	return service;
}

static void refused(struct scratch *s, k3sup_node *node, int code)
{
	struct k3sup__service service = open_service(s, node, code);

	k3sup__service_clear(&service);
	k3sup__op_forgive(s->op);
}

static void who_is_not_there(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *script = below(s, "/etc/init.d/k3s");

	assert_int_equal(k3sup__openrc_booted(node), 0);
	refused(s, node, K3SUP_E_NO_SERVICE);
	put_script(s, SUPERVISED);
	assert_int_equal(k3sup__openrc_booted(node), 1);
	assert_int_equal(chmod(script, 0777), 0); /* anybody could have written it */
	refused(s, node, K3SUP_E_NO_SERVICE);
	assert_int_equal(unlink(script), 0);
	refused(s, node, K3SUP_E_NO_SERVICE);
	k3sup_node_unref(node);
}

static void what_the_script_says(void **state)
{
	static const struct {
		const char *script, *conf;
		bool supervised, takes_all;
	} cases[] = {
		{SUPERVISED, "", true, false},
		{SUPERVISED, "rc_cgroup_cleanup=yes\n", true, true},
		{ALONE, "", false, false},
	};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct k3sup__service service;

		put_script(s, cases[i].script);
		write_text(s->path, "/etc/conf.d/k3s", cases[i].conf);
		service = open_service(s, node, 0);
		assert_ptr_equal(service.manager, &k3sup__openrc);
		assert_true(service.state == K3SUP__SERVICE_STOPPED && service.main_pid == 0 && service.keeper_pid == 0);
		assert_true(service.supervised == cases[i].supervised && service.respawns == cases[i].supervised);
		assert_true(service.takes_all == cases[i].takes_all);
		k3sup__service_clear(&service);
	}
	k3sup_node_unref(node);
}

/* Some rc-service works on it for as long as the lock is held, not for as long as its file is there. */
static void somebody_works_on_it(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *path = below(s, "/run/openrc/exclusive/k3s");
	struct k3sup__service service;
	int fd;

	put_script(s, SUPERVISED);
	write_text(s->path, "/run/openrc/exclusive/k3s", "");
	service = open_service(s, node, 0);
	assert_int_equal(service.state, K3SUP__SERVICE_STOPPED);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(service.manager->look(s->op, &service), 0);
	assert_int_equal(service.state, K3SUP__SERVICE_STARTING);
	close(fd);
	assert_int_equal(service.manager->look(s->op, &service), 0);
	assert_int_equal(service.state, K3SUP__SERVICE_STOPPED);
	k3sup__service_clear(&service);
	k3sup_node_unref(node);
}

/* Without OpenRC's programs, or with those of others, nothing is ordered and nothing is guarded. */
static void without_its_programs(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *program = below(s, "/sbin/openrc-run");
	struct k3sup__service service;

	put_script(s, SUPERVISED);
	service = open_service(s, node, 0);
	assert_int_equal(service.manager->order(s->op, &service, K3SUP__ORDER_STOP), K3SUP_E_NO_SERVICE);
	assert_non_null(strstr(k3sup__op_sentence(s->op), "there is no openrc-run"));
	k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__guard_arm(s->op, &service, 1000), K3SUP_E_NO_SERVICE);
	k3sup__op_forgive(s->op);
	fake_install(s->path, "/sbin/openrc-run", "", NULL);
	fake_install(s->path, "/sbin/supervise-daemon", "", NULL);
	fake_install(s->path, "/sbin/rc-service", "", NULL);
	assert_int_equal(chown(program, 65534, 65534), 0);
	assert_int_equal(k3sup__guard_arm(s->op, &service, 1000), K3SUP_E_UNTRUSTED);
	k3sup__op_forgive(s->op);
	k3sup__service_clear(&service);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(who_is_not_there),
		scratch_test(what_the_script_says),
		scratch_test(somebody_works_on_it),
		scratch_test(without_its_programs),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
