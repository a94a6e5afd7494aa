/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a self-extracting k3s does to its data-dir, and nothing else, in some twenty system calls: for tests that strike at each of them, or run it a thousand times. "/unpacker", which it reads
 * in its root, says as what it unpacks, and what goes wrong:
 *
 *   HASH          all is well
 *   HASH full     it says that there is no room, and tidies up
 *   HASH torn     what it makes is not what its list says
 *   HASH dies     it unpacks, and what it would execute then is ended by SIGILL
 *   HASH killed   it ends half-way, and leaves that
 *   HASH slow     it never comes to an end
 *   HASH nothing  it says that all is well, and has made nothing
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT "the program\n"
#define SUMS "221dd9a75970db077b86f8a4b7a3ea9645dad8c532e27f8cae0fbd940674fa0f  k3s\n"
#define LINKS "containerd k3s\nk3s-server k3s\n"

static char *at(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		abort();
	va_end(ap);
	return text;
}

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
	int fd = open(at("%s/%s", dir, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		exit(1);
	close(fd);
}

static void tidy(const char *temp)
{
	static const char *const names[] = {"k3s", ".sha256sums", ".links", "containerd", "k3s-server"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(at("%s/bin/%s", temp, names[i]));
	rmdir(at("%s/bin", temp));
	rmdir(temp);
}

static void unpack(const char *data, const char *hash, const char *mode)
{
	char *dir = at("%s/%s", data, hash), *temp = at("%s-tmp", dir), *bin = at("%s/bin", temp), *current = at("%s/current", data);

	tidy(temp);
	mkdir(temp, 0755);
	mkdir(bin, 0755);
	put(bin, "k3s", strcmp(mode, "torn") == 0 ? "the pro" : TEXT, 0755);
	while (strcmp(mode, "slow") == 0)
		pause();
	if (strcmp(mode, "killed") == 0)
		raise(SIGKILL);
	if (strcmp(mode, "full") == 0) {
		fprintf(stderr, "extracting data: error writing to %s/k3s: no space left on device\n", bin);
		tidy(temp);
		exit(1);
	}
	put(bin, ".sha256sums", SUMS, 0644);
	put(bin, ".links", LINKS, 0644);
	if (symlink("k3s", at("%s/containerd", bin)) < 0 || symlink("k3s", at("%s/k3s-server", bin)) < 0 || rename(temp, dir) < 0)
		exit(1);
	(void)rename(current, at("%s/previous", data));
	if (symlink(dir, current) < 0)
		exit(1);
}

int main(int argc, char **argv)
{
	const char *root = getenv("K3S_DATA_DIR");
	char text[128] = "", hash[65], mode[16] = "", *data;
	struct stat st;
	int fd = open("/unpacker", O_RDONLY | O_CLOEXEC);

	if (argc != 4 || strcmp(argv[1], "kubectl") != 0 || !root || read(fd, text, sizeof(text) - 1) < 64 ||
		sscanf(text, "%64s %15s", hash, mode) < 1)
		return 2;
	close(fd);
	if (strcmp(mode, "nothing") == 0)
		return 0;
	data = at("%s/data", root);
	for (char *slash = strchr(data + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(data, 0755);
		*slash = '/';
	}
	mkdir(data, 0755);
	fd = open(at("%s/.lock", data), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return 1;
	if (stat(at("%s/%s", data, hash), &st) < 0)
		unpack(data, hash, mode);
	if (strcmp(mode, "dies") == 0)
		raise(SIGILL);
	puts("Client Version: v0.0.0");
	return 0;
}
