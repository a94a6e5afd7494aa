/* SPDX-License-Identifier: Apache-2.0 */
#include "node/known.h"

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define FINE_MS 100    /* times are those of the last tick, which are at least 100 a second */
#define COARSE_MS 2000 /* file systems that count seconds */
#define FILES 4

struct k3sup__known {
	pthread_mutex_t mutex;
	struct {
		struct stat st; /* st_ino 0: free */
		struct k3sup__build build;
	} file[FILES];
	size_t next;
};

struct k3sup__known *k3sup__known_new(void)
{
	struct k3sup__known *known = calloc(1, sizeof(*known));

	if (known != NULL)
		(void)pthread_mutex_init(&known->mutex, NULL); /* with default attributes it cannot fail in glibc and musl */
	return known;
}

void k3sup__known_free(struct k3sup__known *known)
{
	if (known != NULL)
		(void)pthread_mutex_destroy(&known->mutex);
	free(known);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int64_t ms_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

/* A change sets the change time, which nobody can set back; within the same tick to the same value. */
static bool is_settled(const struct stat *st)
{
	struct timespec now;
	int64_t needed = st->st_ctim.tv_nsec == 0 ? COARSE_MS : FINE_MS;

	return clock_gettime(CLOCK_REALTIME, &now) == 0 && ms_of(&now) - ms_of(&st->st_ctim) > needed;
}

static bool recall(struct k3sup__known *known, const struct stat *st, struct k3sup__build *ret)
{
	bool found = false;

	pthread_mutex_lock(&known->mutex);
	for (size_t i = 0; i < FILES && !found; i++)
		if (known->file[i].st.st_ino != 0 && same_file(&known->file[i].st, st)) {
			*ret = known->file[i].build;
			found = true;
		}
	pthread_mutex_unlock(&known->mutex);
	return found;
}

static void remember(struct k3sup__known *known, const struct stat *st, const struct k3sup__build *build)
{
	pthread_mutex_lock(&known->mutex);
	known->file[known->next].st = *st;
	known->file[known->next].build = *build;
	known->next = (known->next + 1) % FILES;
	pthread_mutex_unlock(&known->mutex);
}

int k3sup__known_read(struct k3sup__known *known, int fd, const char *shown, struct k3sup__build *ret)
{
	struct stat before, after;
	bool settled;
	int r;

	if (fstat(fd, &before) < 0)
		return -errno;
	if (recall(known, &before, ret))
		return 0;
	settled = is_settled(&before);
	r = k3sup__build_read_fd(NULL, fd, shown, K3SUP__BUILD_LENIENT, ret);
	if (r == 0 && settled && before.st_ino != 0 && fstat(fd, &after) == 0 && same_file(&before, &after))
		remember(known, &before, ret);
	return r;
}
