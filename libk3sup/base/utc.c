/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utc.h"

#include <stdio.h>

#define DAY 86400
#define FIRST (-62135596800) /* 0001-01-01T00:00:00Z */
#define LAST 253402300799    /* 9999-12-31T23:59:59Z */

/*
 * Years are counted from March, so that the day that comes and goes is a year's last; 400 of them (an era) have 146,097 days, and 1970 began on day 719,468 after
 * the first of March of year 0.
 */
int64_t k3sup__utc_seconds(const struct tm *tm)
{
	int64_t year = (int64_t)tm->tm_year + 1900 - (tm->tm_mon < 2), era = (year >= 0 ? year : year - 399) / 400;
	int64_t of_era = year - era * 400, month = tm->tm_mon + (tm->tm_mon < 2 ? 10 : -2);
	int64_t day = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + tm->tm_mday - 1;

	return ((era * 146097 + day - 719468) * 24 + tm->tm_hour) * 3600 + tm->tm_min * 60 + tm->tm_sec;
}

void k3sup__utc_fields(int64_t seconds, struct tm *ret)
{
	int64_t days, rest, era, day, year, month;

	if (seconds < FIRST)
		seconds = FIRST;
	if (seconds > LAST)
		seconds = LAST;
	rest = (seconds % DAY + DAY) % DAY;
	days = (seconds - rest) / DAY + 719468;
	era = days / 146097;
	day = days % 146097;
	year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	day -= year * 365 + year / 4 - year / 100;
	month = (5 * day + 2) / 153;
	*ret = (struct tm){
		.tm_sec = (int)(rest % 60),
		.tm_min = (int)(rest / 60 % 60),
		.tm_hour = (int)(rest / 3600),
		.tm_mday = (int)(day - (153 * month + 2) / 5 + 1),
		.tm_mon = (int)(month < 10 ? month + 2 : month - 10),
		.tm_year = (int)(era * 400 + year + (month >= 10) - 1900),
	};
}

void k3sup__utc_text(int64_t seconds, char ret[static K3SUP__UTC_TEXT])
{
	struct tm tm;

	k3sup__utc_fields(seconds, &tm);
	/* The fields are in range; the compiler cannot know. */
	(void)snprintf(ret, K3SUP__UTC_TEXT, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)(tm.tm_year + 1900) % 10000,
		(unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
		(unsigned)tm.tm_sec % 100);
}

#define TOLERANCE DAY

bool k3sup__clock_can_be(int64_t now)
{
	return now >= (int64_t)K3SUP__BUILT - TOLERANCE;
}
