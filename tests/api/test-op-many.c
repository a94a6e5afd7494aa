/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many operations at once cost memory, not descriptors.
 */
#include "api.h"

#include <sys/resource.h>

enum { MANY = 500, FEW_DESCRIPTORS = 64 };

struct many {
	k3sup_op *ops[MANY];
	size_t fds; /* with all of them pending */
};

static void begin_many(struct host *h, struct many *m)
{
	for (int i = 0; i < MANY; i++)
		m->ops[i] = i % 2 ? read_build(h->ctx, h->file) : wait_exit(h->node, h->process, i % 4 ? 100 + i : 0);
	assert_int_equal(k3sup_op_wait(m->ops[0], 0), -EINPROGRESS);
	m->fds = count_fds();
}

static void assert_many(struct many *m)
{
	for (int i = 0; i < MANY; i++) {
		int expected = i % 2 ? K3SUP_E_PAYLOAD_NOT_K3S : i % 4 ? K3SUP_E_TIMEOUT : 1;
		int status = k3sup_op_wait(m->ops[i], LONG);

		if (status != expected)
			fail_msg("operation %d ended with %s", i, k3sup_error_name(status));
		k3sup_op_unref(m->ops[i]);
	}
}

static void many_with(uint32_t flags)
{
	struct rlimit before, few;
	struct many *m = calloc(1, sizeof(*m));
	struct host h = {0};
	size_t fds;

	assert_non_null(m);
	host_setup(&h, flags);
	k3sup_op_unref(read_build(h.ctx, h.file));
	fds = count_fds();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = FEW_DESCRIPTORS;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	begin_many(&h, m);
	assert_in_range(m->fds, fds, fds + 8); /* those of the one piece of work that runs, wherever it is just now */
	for (int i = 2; i < MANY; i += 4)
		assert_int_equal(k3sup_op_wait(m->ops[i], LONG), K3SUP_E_TIMEOUT);
	end_k3s(h.pid);
	assert_many(m);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	host_teardown(&h);
	free(m);
}

static void five_hundred_operations_fit_into_few_descriptors(void **state)
{
	(void)state;
	many_with(0);
}

static void five_hundred_operations_fit_into_few_descriptors_inline(void **state)
{
	(void)state;
	many_with(K3SUP_CTX_INLINE);
}

static void five_hundred_operations_can_be_left_behind(void **state)
{
	struct many *m = calloc(1, sizeof(*m));
	struct host h = {0};
	size_t fds = count_fds();

	(void)state;
	assert_non_null(m);
	host_setup(&h, 0);
	begin_many(&h, m);
	for (int i = 0; i < MANY; i++)
		k3sup_op_unref(m->ops[i]);
	host_teardown(&h);
	assert_int_equal(count_fds(), fds);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(five_hundred_operations_fit_into_few_descriptors),
		cmocka_unit_test(five_hundred_operations_fit_into_few_descriptors_inline),
		cmocka_unit_test(five_hundred_operations_can_be_left_behind),
	};

	return cmocka_run_group_tests_name("op-many", tests, NULL, NULL);
}
