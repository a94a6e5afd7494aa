/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into one program: its clock of deadlines goes faster, or is ahead. K3SUP_TEST_CLOCK is "RATE AHEAD_SECONDS". What day it is says K3SUP_TEST_TIME, in seconds
 * since 1970, if it is set. Others, and the kernel, keep the true time.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>

static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_settime)(int, int, const struct itimerspec *, struct itimerspec *);
static int64_t begin, ahead, rate = 1;

static int64_t of(const struct timespec *at)
{
	return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
}

static struct timespec at(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

__attribute__((constructor)) static void set(void)
{
	const char *text = getenv("K3SUP_TEST_CLOCK");
	struct timespec now;
	long long faster = 1, seconds = 0;

	real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	real_settime = (int (*)(int, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT, "timerfd_settime");
	if (!text || sscanf(text, "%lld %lld", &faster, &seconds) != 2 || real_gettime(CLOCK_BOOTTIME, &now) < 0)
		abort();
	begin = of(&now);
	rate = faster;
	ahead = seconds * 1000000000;
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
	int r = real_gettime ? real_gettime(id, ret) : -1;

	if (r == 0 && id == CLOCK_BOOTTIME)
		*ret = at(begin + (of(ret) - begin) * rate + ahead);
	return r;
}

/* The library's only timer by this clock has the next deadline as a time of day. */
int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	struct itimerspec theirs = *new;

	if ((flags & TFD_TIMER_ABSTIME) && of(&new->it_value) != 0)
		theirs.it_value = at(begin + (of(&new->it_value) - ahead - begin) / rate);
	return real_settime(fd, flags, &theirs, old);
}

time_t time(time_t *ret)
{
	const char *text = getenv("K3SUP_TEST_TIME");
	struct timespec now = {0};

	if (text)
		now.tv_sec = (time_t)atoll(text);
	else if (real_gettime)
		(void)real_gettime(CLOCK_REALTIME, &now);
	if (ret)
		*ret = now.tv_sec;
	return now.tv_sec;
}
