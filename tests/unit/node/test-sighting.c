/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"

#include "node/identify.h"
#include "node/node.h"

static k3sup_node *open_root(struct scratch *s)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	return node;
}

static int judge(struct scratch *s, const struct k3sup__sighting *sighting)
{
	k3sup__op_forgive(s->op);
	return k3sup__sighting_judge(s->op, sighting);
}

/* A server and an agent of one build: one k3s, unless their services say that they come from two files. */
static void services_say_whether_a_file_is_shared(void **state)
{
	struct scratch *s = *state;
	struct fake_spec server = {.root = s->path, .file = BIN1 "/k3s-server", .title = "k3s server"};
	struct fake_spec agent = {.root = s->path, .file = BIN1 "/k3s-agent", .title = "k3s agent"};
	k3sup_node *node = open_root(s);
	struct k3sup__sighting sighting;
	pid_t pids[2];

	fake_install_data(s->path, BIN1);
	pids[0] = fake_start(&server);
	pids[1] = fake_start(&agent);
	assert_int_equal(k3sup__identify_scan(s->op, node, NULL, &sighting), 0);
	assert_int_equal(sighting.count, 2);
	assert_int_equal(judge(s, &sighting), 0);
	sighting.candidates[0].target = strdup("/usr/local/bin/k3s");
	assert_int_equal(judge(s, &sighting), 0);
	sighting.candidates[1].target = strdup("/opt/bin/k3s");
	sighting.candidates[1].unit = strdup("k3s-agent.service");
	sighting.candidates[1].keeper = K3SUP__KEEPER_SYSTEMD;
	assert_int_equal(judge(s, &sighting), K3SUP_E_AMBIGUOUS);
	for (size_t i = 0; i < 2; i++) {
		k3sup__json *one = k3sup__json_element(k3sup__json_member(k3sup__op_evidence(s->op), "candidates"), i);

		assert_int_equal(k3sup__json_number(one, "pid", 0), k3sup__process_pid(sighting.candidates[i].process));
		assert_string_equal(k3sup__json_text(one, "asset_hash"), HASH1);
	}
	assert_sentence(s, "(agent, k3s-agent.service)");
	free(sighting.candidates[1].target);
	sighting.candidates[1].target = strdup("/usr/local/bin/k3s");
	assert_int_equal(judge(s, &sighting), 0);
	k3sup__sighting_clear(&sighting);
	k3sup_node_unref(node);
	fake_stop(pids[0]);
	fake_stop(pids[1]);
}

static void what_is_not_taken_care_of_has_a_name(void **state)
{
	struct scratch *s = *state;
	struct k3sup__sighting none = {0}, rootless = {.other = K3SUP__OTHER_ROOTLESS, .other_pid = 7},
			       rke2 = {.other = K3SUP__OTHER_RKE2, .other_pid = 8};

	assert_int_equal(judge(s, &none), K3SUP_E_NO_K3S);
	assert_int_equal(judge(s, &rootless), K3SUP_E_ROOTLESS);
	assert_sentence(s, "process 7 is a user's own (rootless)");
	assert_int_equal(judge(s, &rke2), K3SUP_E_RKE2);
	assert_sentence(s, "process 8 is rke2");
	assert_true(k3sup__is_no_k3s(K3SUP_E_NO_K3S) && k3sup__is_no_k3s(K3SUP_E_ROOTLESS) && k3sup__is_no_k3s(K3SUP_E_RKE2));
	assert_false(k3sup__is_no_k3s(K3SUP_E_AMBIGUOUS) || k3sup__is_no_k3s(0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(services_say_whether_a_file_is_shared),
		TEST(what_is_not_taken_care_of_has_a_name),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
