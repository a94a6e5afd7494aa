/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include "base/utc.h"

/* Every day of the years 1 to 9999 goes there and back; libc agrees where its time_t is wide enough. */
static void every_day_goes_there_and_back(void **state)
{
	int64_t day = -719162;

	(void)state;
	for (; day <= 2932896; day++) {
		int64_t seconds = day * 86400 + (day % 86400 + 86400) % 86400, back;
		struct tm tm, libc;
		time_t t = (time_t)seconds;

		k3sup__utc_fields(seconds, &tm);
		back = k3sup__utc_seconds(&tm);
		if (back != seconds)
			fail_msg("day %lld", (long long)day);
		if (sizeof(t) == 8 &&
			(gmtime_r(&t, &libc) == NULL || libc.tm_year != tm.tm_year || libc.tm_mon != tm.tm_mon || libc.tm_mday != tm.tm_mday ||
				libc.tm_hour != tm.tm_hour || libc.tm_min != tm.tm_min || libc.tm_sec != tm.tm_sec))
			fail_msg("day %lld: not as libc has it", (long long)day);
	}
}

static void texts(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00Z"},
		{-1, "1969-12-31T23:59:59Z"},
		{951782399, "2000-02-28T23:59:59Z"},
		{951782400, "2000-02-29T00:00:00Z"},
		{2147483648, "2038-01-19T03:14:08Z"},
		{4955119200, "2127-01-08T22:00:00Z"},
		{253402300799, "9999-12-31T23:59:59Z"},
		{INT64_MAX, "9999-12-31T23:59:59Z"},
		{INT64_MIN, "0001-01-01T00:00:00Z"},
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char text[K3SUP__UTC_TEXT];

		k3sup__utc_text(cases[i].seconds, text);
		assert_string_equal(text, cases[i].text);
	}
}

/* The library was built before this test ran, and after this was written. */
static void no_clock_is_right_that_shows_a_time_before_the_build(void **state)
{
	(void)state;
	assert_true(k3sup__clock_can_be((int64_t)time(NULL)));
	assert_true(k3sup__clock_can_be(INT64_MAX));
	assert_false(k3sup__clock_can_be(1577836800)); /* 2020, as a board without a battery may say */
	assert_false(k3sup__clock_can_be(0));
	assert_false(k3sup__clock_can_be(-1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_day_goes_there_and_back),
		cmocka_unit_test(texts),
		cmocka_unit_test(no_clock_is_right_that_shows_a_time_before_the_build),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
