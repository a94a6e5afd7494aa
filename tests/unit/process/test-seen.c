/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/ops.h"
#include "../base/scratch.h"

#include "process/seen.h"

#define H1 "00a0e67e514b81bf6f5b1dd7a7d5cf74be778def4c8ba4cba27672741d99a49c"
#define H2 "91c5255cd9e1a0963458722d37dec9477c99a25602c838b553f2cb852bde4dde"

static struct k3sup__sighting sight(struct k3sup__candidate *c, k3sup_process *process, const char *hash, bool unpacking)
{
	*c = (struct k3sup__candidate){.process = process, .unpacking = unpacking};
	memcpy(c->asset_hash, hash, sizeof(c->asset_hash));
	return (struct k3sup__sighting){.candidates = c, .count = 1};
}

static void take(struct k3sup__seen *seen, const struct k3sup__want *want, k3sup_process *process, const char *hash, bool unpacking)
{
	struct k3sup__candidate c;
	struct k3sup__sighting sighting = sight(&c, process, hash, unpacking);

	k3sup__seen_take(seen, want, &sighting);
}

static struct k3sup__want want_of(const char *hash)
{
	struct k3sup__want want = {.count = 1};

	memcpy(want.asset_hash, hash, sizeof(want.asset_hash));
	return want;
}

static void only_the_wanted_one_is_watched(void **state)
{
	struct k3sup__want want = want_of(H1);
	struct k3sup__seen seen = {0};
	pid_t pid;
	k3sup_process *process = start_process(&pid);

	(void)state;
	take(&seen, &want, process, H2, false);
	assert_null(k3sup__seen_youngest(&seen)->process);
	take(&seen, &want, process, H1, false);
	take(&seen, &want, process, H1, false);
	assert_ptr_equal(k3sup__seen_youngest(&seen)->process, process);
	assert_int_equal(seen.starts, 1);
	want.previous[0] = process;
	take(&seen, &want, process, H1, false);
	assert_null(k3sup__seen_youngest(&seen)->process);
	end_process(pid);
	k3sup_process_unref(process);
	k3sup__seen_clear(&seen);
}

/* A look is old when it is used: who has ended since and was counted is not one more start, nor one more end. */
static void an_end_counts_once(void **state)
{
	struct scratch *s = *state;
	struct k3sup__want want = want_of(H1);
	struct k3sup__seen seen = {0};
	pid_t pid;
	k3sup_process *process = start_process(&pid);

	take(&seen, &want, process, H1, false);
	end_process(pid);
	assert_int_equal(k3sup__seen_drop_ended(s->op, &seen), 1);
	take(&seen, &want, process, H1, false);
	assert_int_equal(k3sup__seen_drop_ended(s->op, &seen), 0);
	take(&seen, &want, process, H1, true);
	assert_int_equal(k3sup__seen_drop_ended(s->op, &seen), 0);
	assert_int_equal(seen.deaths.count, 1);
	assert_int_equal(seen.starts, 1);
	k3sup_process_unref(process);
	k3sup__seen_clear(&seen);
}

/* Its time to stay begins when it has unpacked, and it was started once. */
static void unpacking_is_no_staying(void **state)
{
	struct scratch *s = *state;
	struct k3sup__want want = want_of(H1);
	struct k3sup__seen seen = {0};
	pid_t pid;
	k3sup_process *process = start_process(&pid);
	int64_t before;

	take(&seen, &want, process, H2, true);
	assert_null(k3sup__seen_youngest(&seen)->process);
	assert_int_equal(seen.starts, 1);
	before = k3sup__now_ms();
	take(&seen, &want, process, H1, false);
	assert_true(k3sup__seen_youngest(&seen)->from >= before);
	assert_int_equal(seen.starts, 1);
	end_process(pid);
	assert_int_equal(k3sup__seen_drop_ended(s->op, &seen), 1);
	k3sup_process_unref(process);
	k3sup__seen_clear(&seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_wanted_one_is_watched),
		scratch_test(an_end_counts_once),
		scratch_test(unpacking_is_no_staying),
	};

	if (under_valgrind())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
