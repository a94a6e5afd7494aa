/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "process/health.h"

static void what_the_command_says(void **state)
{
	static const struct {
		const char *command;
		int r;
		const char *says;
	} cases[] = {
		{"exit 0", 0, NULL},
		{"exit 3", K3SUP_E_NOT_READY, "ended with status 3"},
		{"kill -9 $$", K3SUP_E_NOT_READY, "ended by signal 9"},
		{"no-such-command-anywhere 2>/dev/null", K3SUP_E_NOT_READY, "ended with status 127"},
		/* a clean environment */
		{"[ \"$K3SUP_PID\" = 4711 ] && [ -d \"$K3SUP_ROOT\" ] && [ -z \"$HOME$LD_LIBRARY_PATH\" ]", 0, NULL},
	};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		k3sup__json *answer = NULL;

		assert_int_equal(k3sup__health_ask(s->op, node, cases[i].command, 4711, k3sup__deadline(LONG), &answer), cases[i].r);
		assert_non_null(answer);
		if (cases[i].says)
			assert_non_null(strstr(k3sup__op_sentence(s->op), cases[i].says));
		k3sup__op_forgive(s->op);
		k3sup__json_unref(answer);
	}
	k3sup_node_unref(node);
}

static void what_it_prints_is_bounded(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup__json *answer = NULL;

	assert_int_equal(k3sup__health_ask(s->op, node, "echo no; echo why >&2; exit 1", 1, k3sup__deadline(LONG), &answer), K3SUP_E_NOT_READY);
	assert_string_equal(k3sup__json_text(answer, "output"), "no\nwhy\n");
	k3sup__json_unref(answer);
	k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__health_ask(s->op, node, "head -c 100000 /dev/zero | tr '\\0' x", 1, k3sup__deadline(LONG), &answer), 0);
	assert_int_equal(strlen(k3sup__json_text(answer, "output")), 1024);
	k3sup__json_unref(answer);
	k3sup_node_unref(node);
}

/* The time is over: it is asked all the same, once, and one that hangs is not waited for. */
static void at_least_once(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup__json *answer = NULL;

	assert_int_equal(k3sup__health_ask(s->op, node, "exit 0", 1, k3sup__deadline(0), &answer), 0);
	k3sup__json_unref(answer);
	assert_int_equal(k3sup__health_ask(s->op, node, "sleep 600", 1, k3sup__deadline(0), &answer), K3SUP_E_NOT_READY);
	assert_non_null(strstr(k3sup__op_sentence(s->op), "had not ended in time"));
	k3sup__op_forgive(s->op);
	k3sup__json_unref(answer);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(what_the_command_says),
		scratch_test(what_it_prints_is_bounded),
		scratch_test(at_least_once),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
