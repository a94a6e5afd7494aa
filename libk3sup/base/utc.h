/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calendar in 64 bits: libc's functions end in 2038 where time_t has 32 bits, and k3s makes certificates that are valid for a hundred years.
 */
#ifndef K3SUP_BASE_UTC_H
#define K3SUP_BASE_UTC_H

#include <time.h>

#include "base/util.h"

/* Seconds since 1970 of a time in UTC, in gmtime(3)'s fields (tm_wday and tm_yday do not count). */
int64_t k3sup__utc_seconds(const struct tm *tm);
/* The other way round, for years 1 to 9999; others are taken for the nearest of them. */
void k3sup__utc_fields(int64_t seconds, struct tm *ret);

#define K3SUP__UTC_TEXT 21 /* 2026-11-23T12:00:00Z and NUL */
void k3sup__utc_text(int64_t seconds, char ret[static K3SUP__UTC_TEXT]);

/* Could it be this time now (seconds since 1970)? Not before this library was built; a day is granted for clocks that differ. */
bool k3sup__clock_can_be(int64_t now);

#endif
