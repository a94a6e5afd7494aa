/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "node/said.h"

#define V "v1.30.4+k3s1"

/* A static program: what it finds wrong with where it runs is its exit status; else it says what it was made to say. */
static const char source[] =
	"#include <errno.h>\n#include <fcntl.h>\n#include <linux/capability.h>\n#include <stdio.h>\n#include <string.h>\n"
	"#include <sys/resource.h>\n#include <sys/stat.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n"
	"int main(int argc, char **argv, char **env) {\n"
	"	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};\n"
	"	struct __user_cap_data_struct d[2];\n"
	"	struct rlimit l;\n"
	"	if (argc != 2 || strcmp(argv[0], \"/k3s\") || strcmp(argv[1], \"--version\")) return 20;\n"
	"	if (env[0]) return 21;\n"
	"	if (syscall(SYS_capget, &h, d) || d[0].effective || d[1].effective || d[0].permitted || d[1].permitted) return 22;\n"
	"	if (access(\"/etc\", F_OK) == 0 || access(\"/proc\", F_OK) == 0 || access(\"/..\", W_OK) == 0) return 23;\n"
	"	if (open(\"/x\", O_CREAT | O_WRONLY, 0600) >= 0 || mkdir(\"/x\", 0700) == 0) return 24;\n"
	"	if (chroot(\"/\") == 0) return 25;\n"
	"	if (getrlimit(RLIMIT_FSIZE, &l) || l.rlim_max != 0) return 26;\n"
	"	for (int fd = 3; fd < 64; fd++) if (fcntl(fd, F_GETFD) >= 0) return 27;\n"
	"	if (read(0, &l, 1) != 0) return 28;\n"
	"	return SAYS;\n"
	"}\n";

static int make(struct scratch *s, const char *says)
{
	_free_ char *command = k3sup__fmt("cc -static -O1 -include stdio.h '-DSAYS=%s' -o %s/k3s %s/k3s.c", says, s->path, s->path);
	int fd = openat(s->fd, "k3s.c", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, source, strlen(source)), 0);
	close(fd);
	assert_int_equal(system(command), 0); /* NOLINT: a compiler is what tests have */
	fd = openat(s->fd, "k3s", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int ask(struct scratch *s, const char *says, const char *scanned, struct k3sup__build *build)
{
	int fd = make(s, says), r;

	k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__build_read_fd(s->op, fd, "k3s", K3SUP__BUILD_LENIENT | K3SUP__BUILD_SHA256, build), 0);
	(void)snprintf(build->version, sizeof(build->version), "%s", scanned);
	r = k3sup__said_ask(s->op, fd, "k3s", build);
	close(fd);
	return r;
}

static void it_runs_alone_and_says_its_version(void **state)
{
	struct scratch *s = *state;
	struct k3sup__build build;

	if (geteuid() != 0)
		skip();
	assert_int_equal(ask(s, "puts(\"k3s version " V " (0123abcd)\\ngo version go1.22.5\") < 0", V, &build), 0);
	assert_string_equal(build.said, V);
	/* Lines about other things may come before, and what its bytes do not say it may say. */
	assert_int_equal(ask(s, "puts(\"time=x level=info\\nk3s version " V "\") < 0", "", &build), 0);
	assert_string_equal(build.version, V);
}

static void what_it_says_must_be_what_is_written_in_it(void **state)
{
	static const struct {
		const char *says, *sentence;
	} all[] = {
		{"puts(\"k3s version v1.30.5+k3s1 (0123abcd)\") < 0", "says that it is v1.30.5+k3s1, but " V},
		{"puts(\"k3s version dev (HEAD)\") < 0", "no version"},
		{"puts(\"rke2 version " V "\") < 0", "no version"},
		{"0", "no version"},
		{"(puts(\"k3s version " V "\"), 3)", "exit status 3"},
		{"*(volatile int *)8", "signal 11"},
	};
	struct scratch *s = *state;
	struct k3sup__build build;

	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		assert_int_equal(ask(s, all[i].says, V, &build), K3SUP_E_VERSION_MISMATCH);
		assert_non_null(k3sup__json_text(k3sup__op_evidence(s->op), "said"));
		assert_sentence(s, all[i].sentence);
	}
}

static void only_the_bytes_that_were_verified_are_run(void **state)
{
	struct scratch *s = *state;
	struct k3sup__build build;
	int fd = make(s, "puts(\"k3s version " V "\") < 0");

	assert_int_equal(k3sup__build_read_fd(s->op, fd, "k3s", K3SUP__BUILD_LENIENT | K3SUP__BUILD_SHA256, &build), 0);
	build.sha256[0] = build.sha256[0] == '0' ? '1' : '0';
	assert_int_equal(k3sup__said_ask(s->op, fd, "k3s", &build), K3SUP_E_PAYLOAD_CHANGED);
	assert_string_equal(build.said, "");
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_runs_alone_and_says_its_version),
		TEST(what_it_says_must_be_what_is_written_in_it),
		TEST(only_the_bytes_that_were_verified_are_run),
	};

	if (getenv("K3SUP_TEST_VALGRIND"))
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
