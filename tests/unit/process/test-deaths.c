/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/ops.h"

#include "process/deaths.h"

static void put_one(struct k3sup__deaths *deaths, int64_t lived_ms, bool reap)
{
	pid_t pid;
	k3sup_process *process = start_process(&pid);
	siginfo_t info;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	if (reap)
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	k3sup__deaths_add(deaths, process, lived_ms);
	k3sup_process_unref(process);
}

static void the_last_ones_are_told_with_their_ends(void **state)
{
	struct k3sup__deaths deaths = {0};
	char text[K3SUP__DEATH_TEXT];
	k3sup__json *json;

	(void)state;
	k3sup__deaths_text(&deaths, text);
	assert_string_equal(text, "how the last one ended cannot be seen");
	for (int i = 0; i < K3SUP__MOST_DEATHS + 2; i++)
		put_one(&deaths, i - 1, true);
	put_one(&deaths, 77, false); /* a zombie: also kernels that tell only of those can say how it ended */
	assert_int_equal(deaths.count, K3SUP__MOST_DEATHS + 3);
	k3sup__deaths_text(&deaths, text);
	assert_string_equal(text, "the last one ended by signal 9");
	json = k3sup__deaths_json(&deaths);
	assert_int_equal(k3sup__json_len(json), K3SUP__MOST_DEATHS);
	assert_int_equal(k3sup__json_number(k3sup__json_element(json, 0), "lived_ms", -1), 2);
	assert_int_equal(k3sup__json_number(k3sup__json_element(json, K3SUP__MOST_DEATHS - 1), "lived_ms", -1), 77);
	assert_int_equal(k3sup__json_number(k3sup__json_element(json, K3SUP__MOST_DEATHS - 1), "signal", -1), SIGKILL);
	k3sup__json_unref(json);
	k3sup__deaths_clear(&deaths);
	assert_int_equal(deaths.count, 0);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void one_that_lives_has_no_end(void **state)
{
	pid_t pid;
	k3sup_process *process = start_process(&pid);
	int status = 0;

	(void)state;
	assert_int_equal(k3sup__process_exit_status(process, &status), -ENODATA);
	end_process(pid);
	if (k3sup__process_exit_status(process, &status) == 0) /* Linux 6.15 */
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	k3sup_process_unref(process);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_last_ones_are_told_with_their_ends, setup_inline, teardown),
		cmocka_unit_test_setup_teardown(one_that_lives_has_no_end, setup_inline, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
