/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include <sys/wait.h>

#include "node/procscan.h"

/* text holds NULs, its last one does not count. */
#define ASSERT_COMMAND(text, command) assert_command(text, sizeof(text) - 1, command)

static void assert_command(const char *text, size_t len, enum k3sup__command expected)
{
	_free_ char *copy = malloc(len + 1);
	enum k3sup__command command;

	assert_non_null(copy);
	memcpy(copy, text, len + 1);
	command = k3sup__command_parse(copy, len);
	if (command != expected)
		fail_msg("\"%s\": %d", text, (int)command);
}

static void a_title_is_one_argument_with_blanks(void **state)
{
	(void)state;
	ASSERT_COMMAND("/usr/local/bin/k3s server\0\0\0\0\0\0", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("/usr/local/bin/k3s agent", K3SUP__COMMAND_AGENT);
	ASSERT_COMMAND("/usr/local/bin/k3s init\0\0", K3SUP__COMMAND_INIT);
	ASSERT_COMMAND("/usr/local/bin/k3s \0\0\0", K3SUP__COMMAND_NONE);
	ASSERT_COMMAND("k3s server", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("", K3SUP__COMMAND_NONE);
	ASSERT_COMMAND("\0\0\0", K3SUP__COMMAND_NONE);
}

static void arguments_are_divided_by_nul(void **state)
{
	(void)state;
	ASSERT_COMMAND("/usr/local/bin/k3s\0server\0--cluster-init\0", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("k3s\0kubectl\0get\0-l\0app=server\0", K3SUP__COMMAND_OTHER);
	ASSERT_COMMAND("k3s\0kubectl\0logs\0server\0", K3SUP__COMMAND_OTHER);
	ASSERT_COMMAND("k3s\0etcd-snapshot\0save\0--server\0https://x:6443\0", K3SUP__COMMAND_OTHER);
	ASSERT_COMMAND("supervise-daemon\0k3s\0--start\0/usr/local/bin/k3s\0--\0server\0", K3SUP__COMMAND_OTHER);
	ASSERT_COMMAND("zfs-driver\0--nodename=xx.k3s\0--plugin=agent\0", K3SUP__COMMAND_NONE);
}

static void global_flags_before_the_command_are_skipped(void **state)
{
	(void)state;
	ASSERT_COMMAND("k3s\0--debug\0server\0", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("k3s\0-d\0agent\0server\0", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("k3s\0--data-dir\0/x\0server\0", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("k3s\0--data-dir=/x\0agent\0", K3SUP__COMMAND_AGENT);
	ASSERT_COMMAND("k3s\0--log\0/tmp/l\0-l=/x\0--config\0/c\0-c=/c\0server\0", K3SUP__COMMAND_SERVER);
	ASSERT_COMMAND("k3s\0-d\0server\0", K3SUP__COMMAND_NONE);
	ASSERT_COMMAND("k3s --debug -d /x server", K3SUP__COMMAND_SERVER);
}

static void more_words_than_fit_are_not_read(void **state)
{
	char text[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 2 ? ' ' : '-';
	text[sizeof(text) - 1] = '\0';
	assert_command(text, sizeof(text) - 1, K3SUP__COMMAND_NONE);
}

static void a_process_that_is_gone_says_so(void **state)
{
	struct scratch *s = *state;
	enum k3sup__command command;
	char *text = NULL;
	struct stat st;
	uid_t uids[4];
	int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1, alive[2];
	pid_t pid;

	(void)s;
	assert_int_equal(pipe2(alive, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char byte;

		close(alive[1]);
		_exit(read(alive[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(alive[0]);
	assert_int_equal(k3sup__proc_open(proc, pid, &fd), 0);
	assert_int_equal(k3sup__proc_uids(fd, uids), 0);
	assert_int_equal(uids[0], getuid());
	assert_int_equal(uids[3], geteuid());
	assert_int_equal(k3sup__proc_stat(fd, "ns/pid", &st), 0);
	close(alive[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(k3sup__proc_uids(fd, uids), -ESRCH);
	assert_int_equal(k3sup__proc_stat(fd, "ns/pid", &st), -ESRCH);
	assert_int_equal(k3sup__proc_link(fd, "cwd", &text), -ESRCH);
	assert_int_equal(k3sup__proc_command(fd, &command), -ESRCH);
	close(fd);
	fd = -1;
	assert_int_equal(k3sup__proc_open(proc, pid, &fd), -ESRCH);
	assert_int_equal(fd, -1);
	close(proc);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_title_is_one_argument_with_blanks),
		TEST(arguments_are_divided_by_nul),
		TEST(global_flags_before_the_command_are_skipped),
		TEST(more_words_than_fit_are_not_read),
		TEST(a_process_that_is_gone_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
