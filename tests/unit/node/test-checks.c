/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/checks.h"

static void the_first_refusal_is_the_failure_and_all_are_listed(void **state)
{
	struct scratch *s = *state;
	struct k3sup__checks checks;
	k3sup__json *evidence = k3sup__json_object(), *list;

	k3sup__json_set_int(evidence, "free_bytes", 17);
	k3sup__checks_begin(&checks);
	k3sup__checks_add(&checks, "a", K3SUP__WARN, -EIO, NULL, "odd");
	k3sup__checks_add(&checks, "b", K3SUP__REFUSE, -ENOSPC, evidence, "%d bytes", 17);
	k3sup__checks_add(&checks, "c", K3SUP__REFUSE, -EROFS, k3sup__json_object(), "read-only");
	k3sup__checks_add(&checks, "d", K3SUP__ALLOWED, -EPERM, k3sup__json_object(), "allowed");
	assert_int_equal(k3sup__checks_judge(s->op, &checks), -ENOSPC);
	assert_int_equal(k3sup__json_number(k3sup__op_evidence(s->op), "free_bytes", 0), 17);
	assert_sentence(s, "17 bytes");
	k3sup__checks_clear(&checks);
	list = k3sup__json_member(k3sup__op_facts(s->op), "checks");
	assert_int_equal(k3sup__json_len(list), 4);
	assert_string_equal(k3sup__json_text(k3sup__json_element(list, 0), "decision"), "warn");
	assert_null(k3sup__json_text(k3sup__json_element(list, 0), "error"));
	assert_string_equal(k3sup__json_text(k3sup__json_element(list, 2), "error"), "EROFS");
	assert_string_equal(k3sup__json_text(k3sup__json_element(list, 3), "decision"), "allowed");
}

static void without_a_refusal_nothing_fails(void **state)
{
	struct scratch *s = *state;
	struct k3sup__checks checks;

	k3sup__checks_begin(&checks);
	k3sup__checks_add(&checks, "a", K3SUP__PASS, 0, NULL, "fine");
	assert_int_equal(k3sup__checks_judge(s->op, &checks), 0);
	k3sup__checks_clear(&checks);
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "checks")), 1);
}

static void a_lost_value_is_no_pass(void **state)
{
	struct scratch *s = *state;
	struct k3sup__checks checks;

	k3sup__checks_begin(&checks);
	k3sup__json_add(checks.list, NULL);
	assert_int_equal(k3sup__checks_judge(s->op, &checks), -ENOMEM);
	k3sup__checks_clear(&checks);
}

static void what_is_decided_again_gives_way(void **state)
{
	struct scratch *s = *state;
	struct k3sup__checks checks;
	k3sup__json *list;

	for (int i = 0; i < 2; i++) {
		k3sup__checks_begin(&checks);
		k3sup__checks_add(&checks, "b", i ? K3SUP__REFUSE : K3SUP__PASS, -EIO, NULL, "b");
		if (i == 0)
			k3sup__checks_add(&checks, "a", K3SUP__WARN, 0, NULL, "a");
		assert_int_equal(k3sup__checks_amend(s->op, &checks), i ? -EIO : 0);
		k3sup__checks_clear(&checks);
	}
	list = k3sup__json_member(k3sup__op_facts(s->op), "checks");
	assert_int_equal(k3sup__json_len(list), 2);
	assert_string_equal(k3sup__json_text(k3sup__json_element(list, 0), "name"), "a");
	assert_string_equal(k3sup__json_text(k3sup__json_element(list, 1), "decision"), "refuse");
	k3sup__checks_begin(&checks);
	k3sup__json_add(checks.list, NULL);
	assert_int_equal(k3sup__checks_amend(s->op, &checks), -ENOMEM);
	k3sup__checks_clear(&checks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_first_refusal_is_the_failure_and_all_are_listed),
		scratch_test(without_a_refusal_nothing_fails),
		scratch_test(a_lost_value_is_no_pass),
		scratch_test(what_is_decided_again_gives_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
