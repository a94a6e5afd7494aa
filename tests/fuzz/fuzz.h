/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. Each is one function that libFuzzer calls, or driver.c with the files of a corpus. A broken rule of a result is a crash, too.
 */
#ifndef K3SUP_TESTS_FUZZ_FUZZ_H
#define K3SUP_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
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

#endif
