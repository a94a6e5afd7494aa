/* SPDX-License-Identifier: Apache-2.0 */
#include "node/procscan.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/process.h"

#define MAX_TITLE 4096
#define MAX_WORDS 64

static int gone(int code)
{
	return code == -ENOENT ? -ESRCH : code;
}

int k3sup__proc_open(int proc_fd, pid_t pid, int *ret_dirfd)
{
	char name[16];
	int fd;

	(void)snprintf(name, sizeof(name), "%d", (int)pid);
	fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return gone(-errno);
	*ret_dirfd = fd;
	return 0;
}

int k3sup__proc_uids(int dirfd, uid_t ret[static 4])
{
	_free_ char *text = NULL;
	unsigned long uids[4];
	const char *line;
	int r = k3sup__read_file(dirfd, "status", 65536, &text, NULL);

	if (r < 0)
		return gone(r);
	line = strstr(text, "\nUid:"); /* the name before it has its line ends escaped */
	if (line == NULL || sscanf(line, "\nUid: %lu %lu %lu %lu", &uids[0], &uids[1], &uids[2], &uids[3]) != 4)
		return -EIO;
	for (size_t i = 0; i < 4; i++)
		ret[i] = (uid_t)uids[i];
	return 0;
}

int k3sup__proc_stat(int dirfd, const char *link, struct stat *ret)
{
	return fstatat(dirfd, link, ret, 0) < 0 ? gone(-errno) : 0;
}

int k3sup__proc_exe(int proc_fd, pid_t pid, char *text)
{
	char name[24];
	ssize_t len;

	(void)snprintf(name, sizeof(name), "%d/exe", (int)pid);
	len = readlinkat(proc_fd, name, text, K3SUP__LINK_MAX - 1);
	if (len < 0)
		return gone(-errno);
	text[len] = '\0';
	return 0;
}

int k3sup__proc_link(int dirfd, const char *link, char **ret)
{
	_free_ char *text = malloc(K3SUP__LINK_MAX);
	ssize_t len;

	if (text == NULL)
		return -ENOMEM;
	len = readlinkat(dirfd, link, text, K3SUP__LINK_MAX - 1);
	if (len < 0)
		return gone(-errno);
	text[len] = '\0';
	*ret = strdup(text);
	return *ret != NULL ? 0 : -ENOMEM;
}

/* An argument list is divided by NUL. A title, as k3s writes it, is one argument with blanks in it, and NULs up to the length of what was there before. */
static size_t split(char *text, size_t len, const char *words[static MAX_WORDS])
{
	const char *first_end = memchr(text, '\0', len);
	bool one = first_end == NULL;
	size_t count = 0;

	if (first_end != NULL) {
		size_t i = (size_t)(first_end - text);

		while (i < len && text[i] == '\0')
			i++;
		one = i == len;
	}
	for (size_t i = 0; i < len && count < MAX_WORDS;) {
		size_t start;

		while (i < len && (text[i] == '\0' || (one && text[i] == ' ')))
			i++;
		start = i;
		while (i < len && text[i] != '\0' && !(one && text[i] == ' '))
			i++;
		if (i == start)
			break;
		text[i] = '\0'; /* at most text[len], which is there */
		words[count++] = text + start;
	}
	return count;
}

/* Global flags that take their value from the next argument (k3s pkg/cli/cmds). */
static bool takes_value(const char *flag)
{
	static const char *const flags[] = {"-d", "--data-dir", "-l", "--log", "-c", "--config"};

	for (size_t i = 0; i < ELEMENTSOF(flags); i++)
		if (k3sup__streq(flag, flags[i]))
			return true;
	return false;
}

static enum k3sup__command name_command(const char *word)
{
	if (k3sup__streq(word, "server"))
		return K3SUP__COMMAND_SERVER;
	if (k3sup__streq(word, "agent"))
		return K3SUP__COMMAND_AGENT;
	return k3sup__streq(word, "init") ? K3SUP__COMMAND_INIT : K3SUP__COMMAND_OTHER;
}

enum k3sup__command k3sup__command_parse(char *text, size_t len)
{
	const char *words[MAX_WORDS];
	size_t count = split(text, len, words), i = 1;

	while (i < count && words[i][0] == '-')
		i += takes_value(words[i]) ? 2 : 1;
	return i < count ? name_command(words[i]) : K3SUP__COMMAND_NONE;
}

int k3sup__proc_command(int dirfd, enum k3sup__command *ret)
{
	char text[MAX_TITLE + 1] = {0};
	ssize_t n;
	_close_ int fd = openat(dirfd, "cmdline", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return gone(-errno);
	n = read(fd, text, MAX_TITLE);
	if (n < 0)
		return gone(-errno);
	*ret = k3sup__command_parse(text, (size_t)n);
	return 0;
}

int k3sup__proc_child(int proc_fd, pid_t parent, pid_t *ret)
{
	int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = dir != NULL ? 0 : -errno;

	*ret = 0;
	if (dir == NULL && fd >= 0)
		(void)k3sup__close(fd);
	while (r == 0 && *ret == 0 && (entry = readdir(dir)) != NULL) {
		const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		struct k3sup__stat stat;
		_close_ int dirfd = -1;

		if (pid <= 0 || k3sup__proc_open(proc_fd, pid, &dirfd) < 0)
			continue;
		if (k3sup__stat_read(dirfd, &stat) == 0 && stat.ppid == parent && stat.state != 'Z')
			*ret = pid;
	}
	if (dir != NULL)
		(void)closedir(dir);
	return r;
}
