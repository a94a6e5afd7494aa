/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. Each is one function that libFuzzer calls, or driver.c with the files of a corpus. A broken rule of a result is a crash, too.
 */
#ifndef K3SUP_TESTS_FUZZ_FUZZ_H
#define K3SUP_TESTS_FUZZ_FUZZ_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RULE(expression) \
	do { \
		if (!(expression)) { \
			fprintf(stderr, "broken: %s\n", #expression); \
			abort(); \
		} \
	} while (0)

/* A file of these bytes, without a name. */
static inline int file_of(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	RULE(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size));
	return fd;
}

static char fuzz_where[64];

static inline void fuzz_remove(void)
{
	char command[80];

	snprintf(command, sizeof(command), "rm -rf %s", fuzz_where);
	(void)!system(command); /* NOLINT: it is our own directory */
}

/* A directory of our own, for those that read files by name; in memory where there is such a place. Gone at the end. */
static inline const char *fuzz_dir(void)
{
	if (!fuzz_where[0]) {
		strcpy(fuzz_where, access("/dev/shm", W_OK) == 0 ? "/dev/shm/k3sup-fuzz-XXXXXX" : "/tmp/k3sup-fuzz-XXXXXX");
		RULE(mkdtemp(fuzz_where) && atexit(fuzz_remove) == 0);
	}
	return fuzz_where;
}

/* Writes a file below it, 0600, its directories with it. */
static inline void fuzz_put(const char *name, const void *data, size_t size)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", fuzz_dir(), name);
	for (char *slash = strchr(path + strlen(fuzz_where) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0700);
		*slash = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	RULE(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size));
	close(fd);
}

#endif
