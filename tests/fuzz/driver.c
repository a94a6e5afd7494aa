/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls a fuzz target once for each file of the directories it is given, where there is no libFuzzer.
 */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

static void run(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;

	RULE(fd >= 0 && fstat(fd, &st) == 0 && st.st_size <= 1 << 20);
	data = malloc((size_t)st.st_size + 1);
	RULE(data && read(fd, data, (size_t)st.st_size) == st.st_size);
	close(fd);
	printf("%s\n", name); /* the last one is the one that crashed */
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *entry;

		RULE(dir);
		while ((entry = readdir(dir)))
			if (entry->d_name[0] != '.') {
				run(dirfd(dir), entry->d_name);
				count++;
			}
		closedir(dir);
	}
	printf("%u inputs\n", count);
	return count > 0 ? 0 : 1;
}
