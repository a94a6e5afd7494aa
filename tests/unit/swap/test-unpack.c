/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data/<H>: what counts as whole, who uses it, what is put aside, and how a payload unpacks itself, well and badly. The payload is tests/unpacker.c.
 */
#include "../rooms.h"

#include <sys/file.h>
#include <sys/xattr.h>

#include "swap/swap.h"
#include "swap/unpack.h"

#define DATA DATA_DIR "/data"
#define MADE DATA "/" HASH2
#define ASIDE MADE ".k3sup-torn"
#define TEMP MADE "-tmp"
#define OLD_LABEL "system_u:object_r:container_runtime_exec_t:s0"

static int build_all(void **state)
{
	_free_ char *command = NULL;
	int r = rooms_build(state);

	if (r != 0)
		return r;
	command = k3sup__fmt("cc -static -O1 -D_GNU_SOURCE -o %s/unpacker %s", fake_program, UNPACKER);
	return system(command); /* NOLINT: a compiler is what tests have */
}

static void store(const struct scratch *s, const char *path, const char *text, mode_t mode)
{
	_free_ char *whole = below(s, path), *dir = strdup(whole);

	*strrchr(dir, '/') = '\0';
	make_dirs(dir);
	put_file(AT_FDCWD, whole, text, mode);
}

static bool is_there(const struct scratch *s, const char *path)
{
	return stat_below(s, path).st_nlink > 0;
}

static void behave(const struct scratch *s, const char *mode)
{
	_free_ char *text = k3sup__fmt(HASH2 " %s\n", mode);

	store(s, "/unpacker", text, 0644);
}

static void put_payload(const struct scratch *s, const char *mode)
{
	put_wrapper(s, INSTALLED, 1);
	install_program("unpacker", s->path, PAYLOAD, WRAPPER(HASH2, V2), NULL);
	behave(s, mode);
}

/* As the payload makes it. */
static void put_made(const struct scratch *s, const char *path)
{
	_free_ char *bin = k3sup__fmt("%s/bin", path), *k3s = k3sup__fmt("%s/k3s", bin);
	static const char *const links[] = {"containerd", "k3s-server", NULL};

	install_program("fake", s->path, k3s, "", links);
	fake_list(s->path, bin, links);
}

/* In data/<H>/bin. */
static void run_shell(const struct scratch *s, const char *script)
{
	_free_ char *command = k3sup__fmt("cd %s" MADE "/bin && %s", s->path, script);

	assert_int_equal(system(command), 0); /* NOLINT: a shell is what tests have */
}

static k3sup_op *run_verb(const struct scratch *s, k3sup_node *node, const char *payload, int64_t timeout_ms, int expected)
{
	_free_ char *whole = payload ? below(s, payload) : NULL;
	struct k3sup_unpack_opts opts = {.struct_size = sizeof(opts), .payload = whole, .timeout_ms = timeout_ms};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup_unpack(node, &opts, &op), 0);
	assert_status(op, expected);
	return op;
}

static void unpack_as(const struct scratch *s, const char *mode, int expected, const char *says)
{
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	behave(s, mode);
	op = run_verb(s, node, PAYLOAD, 0, expected);
	if (says)
		assert_says(op, says);
	assert_int_equal(result_number(op, "/changed"), expected > 0);
	assert_false(is_there(s, TEMP));
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

/* ---- doing ---- */

static void it_unpacks_itself_once(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_payload(s, "");
	op = run_verb(s, node, PAYLOAD, 0, 1);
	assert_string_equal(result_text(op, "/unpacked/action"), "unpack");
	assert_string_equal(result_text(op, "/unpacked/path"), MADE);
	assert_string_equal(result_text(op, "/unpacked/current/now"), MADE);
	assert_string_equal(result_text(op, "/data_dir/path"), DATA_DIR);
	assert_int_equal(result_number(op, "/unpacked/files"), 1);
	assert_int_equal(result_number(op, "/unpacked/checked"), 1);
	k3sup_op_unref(op);
	assert_true(is_there(s, MADE "/bin/k3s"));
	op = run_verb(s, node, PAYLOAD, 0, 0);
	assert_string_equal(result_text(op, "/unpacked/action"), "none");
	k3sup_op_unref(op);
	/* And as the installed one: that file itself is executed. */
	install_program("unpacker", s->path, INSTALLED, WRAPPER(HASH2, V2), NULL);
	k3sup_op_unref(run_verb(s, node, NULL, 0, 0));
	run_shell(s, "cd ../.. && rm -r " HASH2);
	op = run_verb(s, node, NULL, 0, 1);
	assert_string_equal(result_text(op, "/wanted/path"), INSTALLED);
	k3sup_op_unref(op);
	assert_true(is_content(s, INSTALLED, 2));
	k3sup_node_unref(node);
}

static void each_failure_is_told_and_leaves_nothing(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node;

	put_payload(s, "");
	unpack_as(s, "full", K3SUP_E_DATA_DIR_SPACE, "no room");
	unpack_as(s, "torn", K3SUP_E_UNPACK, "torn (k3s does not have the SHA-256");
	assert_false(is_there(s, MADE));
	assert_false(is_there(s, ASIDE));
	unpack_as(s, "killed", K3SUP_E_UNPACK, "signal 9");
	unpack_as(s, "nothing", K3SUP_E_UNPACK, "did not make");
	assert_false(is_there(s, MADE));
	node = open_node(s->ctx, s->path, NULL);
	behave(s, "slow");
	k3sup_op_unref(run_verb(s, node, PAYLOAD, 1500, K3SUP_E_TIMEOUT));
	assert_false(is_there(s, TEMP));
	k3sup_node_unref(node);
	/* What it unpacked is whole; but it is of no use on this machine. */
	unpack_as(s, "dies", K3SUP_E_UNPACK, "signal 4");
	assert_true(is_there(s, MADE));
}

/* Nobody could write these bytes, or they are the right ones, or they are not executed. */
static void an_untrusted_payload_is_not_executed(void **state)
{
	struct scratch *s = *state;
	_free_ char *path = below(s, PAYLOAD);
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup_unpack_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_UNPACK_PAYLOAD_FD};
	struct k3sup__build build;
	k3sup_op *op = NULL;

	put_payload(s, "");
	assert_int_equal(chmod(path, 0777), 0);
	k3sup_op_unref(run_verb(s, node, PAYLOAD, 0, K3SUP_E_UNTRUSTED));
	opts.payload_fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(k3sup_unpack(node, &opts, &op), 0);
	assert_status(op, K3SUP_E_UNTRUSTED);
	assert_says(op, "not executed");
	k3sup_op_unref(op);
	assert_false(is_there(s, MADE));
	assert_int_equal(k3sup__build_read_fd(s->op, opts.payload_fd, "it", K3SUP__BUILD_SHA256, &build), 0);
	opts.sha256 = build.sha256;
	assert_int_equal(k3sup_unpack(node, &opts, &op), 0);
	assert_status(op, 1);
	k3sup_op_unref(op);
	assert_true(is_there(s, MADE));
	close(opts.payload_fd);
	k3sup_node_unref(node);
}

static void what_has_no_archive_is_skipped(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_payload(s, "");
	install_program("image2", s->path, PAYLOAD, "", NULL);
	op = run_verb(s, node, PAYLOAD, 0, 0);
	assert_string_equal(result_text(op, "/unpacked/action"), "skip");
	k3sup_op_unref(op);
	install_program("unpacker", s->path, PAYLOAD, "embed/" HASH2 ".tar.zst ", NULL);
	op = run_verb(s, node, PAYLOAD, 0, 0);
	assert_string_equal(result_text(op, "/unpacked/action"), "skip");
	assert_non_null(strstr(result_text(op, "/unpacked/reason"), "version"));
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static void bad_options_are_refused(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;
	struct k3sup_unpack_opts all[] = {
		{.reserved = "x"},
		{.reserved2 = 1},
		{.reserved3 = "x"},
		{.flags = 2},
		{.sha256 = "abc"},
		{.key = "/k"},
		{.payload = ""},
	};

	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		all[i].struct_size = sizeof(all[i]);
		assert_int_equal(k3sup_unpack(node, &all[i], &op), -EINVAL);
	}
	assert_int_equal(k3sup_unpack(NULL, NULL, &op), -EINVAL);
	assert_int_equal(k3sup_unpack(node, NULL, NULL), -EINVAL);
	k3sup_node_unref(node);
}

/* ---- looking ---- */

static enum k3sup__unpacked_form look(struct scratch *s, const char *version, bool quick, const char *why)
{
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__build build = {.asset_hash = HASH2};
	struct k3sup__unpacked u = K3SUP__UNPACKED_EMPTY;
	enum k3sup__unpacked_form form;

	(void)snprintf(build.version, sizeof(build.version), "%s", version);
	assert_int_equal(k3sup__unpacked_look(s->op, node, DATA_DIR, &build, quick, &u), 0);
	form = u.form;
	if (why && (!u.why || !strstr(u.why, why)))
		fail_msg("\"%s\" does not say \"%s\"", u.why ? u.why : "(nothing)", why);
	k3sup__unpacked_clear(&u);
	k3sup_node_unref(node);
	return form;
}

static void whole_is_what_its_lists_say(void **state)
{
	struct scratch *s = *state;
	static const struct {
		const char *script, *why;
		bool quick; /* seen without reading the files, too */
	} all[] = {
		{"rm k3s", "k3s is missing", true},
		{": >k3s", "k3s is empty", true},
		{"truncate -s -1 k3s", "SHA-256", false},
		{"printf x | dd of=k3s bs=1 seek=100 conv=notrunc 2>/dev/null", "SHA-256", false},
		{"rm k3s && mkdir k3s", "not a file", true},
		{"cp k3s x && ln -sf x k3s", "k3s is missing", true}, /* a link is never what a list of files means */
		{"rm .sha256sums", ".sha256sums is missing", true},
		{": >.sha256sums", ".sha256sums is empty", true},
		{"truncate -s 0 .sha256sums; truncate -s 100 .sha256sums", ".sha256sums is damaged", true},
		{"sed -i s/k3s/k3x/ .sha256sums", "k3x is missing", true},
		{"echo $(cut -c 2- .sha256sums) >.sha256sums", ".sha256sums is damaged", true},
		{"sed -i 's|  k3s|  ../bin/k3s|' .sha256sums", "../bin/k3s is missing", true},
		{"echo x >y; sha256sum y >.sha256sums", "does not name k3s", true},
		{"echo one >>.sha256sums", "damaged", true},
		{"rm .links", ".links is missing", true},
		{": >.links", ".links is empty", true},
		{"rm k3s-server", "the link k3s-server is missing", true},
		{"ln -sf x k3s-server", "not the link to k3s", true},
		{"rm k3s-server && cp k3s k3s-server", "not the link to k3s", true},
		{"cd .. && mv bin x", "it has no bin", true},
		{"cd .. && mv bin x && ln -s x bin", "it has no bin", true},
		{"cd ../.. && rm -r " HASH2 " && echo x >" HASH2, "not a directory", true},
	};

	assert_int_equal(look(s, V2, false, NULL), K3SUP__UNPACKED_NONE);
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		_free_ char *clean = k3sup__fmt("rm -rf %s" MADE, s->path);

		assert_int_equal(system(clean), 0); /* NOLINT */
		put_made(s, MADE);
		run_shell(s, "mkdir -p aux && echo x >aux/x.sh && sha256sum aux/x.sh ./aux/x.sh >>.sha256sums");
		assert_int_equal(look(s, V2, false, NULL), K3SUP__UNPACKED_WHOLE);
		run_shell(s, all[i].script);
		assert_int_equal(look(s, V2, false, all[i].why), K3SUP__UNPACKED_TORN);
		assert_int_equal(look(s, V2, true, NULL), all[i].quick ? K3SUP__UNPACKED_TORN : K3SUP__UNPACKED_WHOLE);
	}
}

static void old_releases_have_no_lists(void **state)
{
	struct scratch *s = *state;

	put_made(s, MADE);
	run_shell(s, "rm .sha256sums .links");
	assert_int_equal(look(s, "v1.19.3+k3s1", false, NULL), K3SUP__UNPACKED_UNKNOWN);
	assert_int_equal(look(s, "v1.20.4+k3s1", false, ".sha256sums is missing"), K3SUP__UNPACKED_TORN);
}

/* ---- torn ones ---- */

static void a_torn_one_is_put_aside(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op;

	put_payload(s, "");
	put_made(s, MADE);
	run_shell(s, ": >k3s");
	store(s, ASIDE "/bin/left", "of a cut run", 0644);
	op = run_verb(s, node, PAYLOAD, 0, 1);
	assert_string_equal(result_text(op, "/unpacked/torn/0/path"), MADE);
	assert_string_equal(result_text(op, "/unpacked/torn/0/why"), "k3s is empty");
	assert_int_equal(result_number(op, "/unpacked/torn/0/put_aside"), 1);
	k3sup_op_unref(op);
	assert_false(is_there(s, ASIDE));
	/* What a run that was cut had put aside goes, too, when there is a whole one. */
	store(s, ASIDE "/bin/left", "of a cut run", 0644);
	op = run_verb(s, node, PAYLOAD, 0, 1);
	assert_string_equal(result_text(op, "/unpacked/action"), "none");
	k3sup_op_unref(op);
	assert_false(is_there(s, ASIDE));
	k3sup_node_unref(node);
}

static void what_was_put_aside_comes_back_on_failure(void **state)
{
	struct scratch *s = *state;

	put_payload(s, "");
	put_made(s, MADE);
	run_shell(s, ": >k3s");
	unpack_as(s, "full", K3SUP_E_DATA_DIR_SPACE, NULL);
	assert_true(is_there(s, MADE "/bin/k3s-server"));
	assert_false(is_there(s, ASIDE));
	/* Also what a run that was cut had put aside. */
	run_shell(s, "cd ../.. && mv " HASH2 " " HASH2 ".k3sup-torn");
	unpack_as(s, "nothing", K3SUP_E_UNPACK, NULL);
	assert_true(is_there(s, MADE "/bin/k3s-server"));
	assert_false(is_there(s, ASIDE));
}

static pid_t start_shim(const struct scratch *s, const char *path)
{
	_free_ char *whole = below(s, path);
	pid_t pid = fork();

	if (pid == 0) {
		execl(whole, whole, "1000", NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	for (int i = 0; i < 2000; i++) {
		_free_ char *link = k3sup__fmt("/proc/%d/exe", (int)pid);
		struct stat a, b = stat_below(s, path);

		if (stat(link, &a) == 0 && a.st_ino == b.st_ino)
			return pid;
		pause_ms(10);
	}
	fail_msg("%s does not run", whole);
	return -1;
}

/* By its name, and where it was bound elsewhere and renamed before: by the file. */
static void one_that_is_used_is_left_alone(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *shim = NULL;
	k3sup_op *op;
	pid_t pid;

	put_payload(s, "");
	put_made(s, MADE);
	run_shell(s, "cp /bin/sleep shim && rm .sha256sums && mkdir -p ../../../elsewhere && ln shim ../../../elsewhere/shim");
	for (int i = 0; i < 2; i++) {
		pid = start_shim(s, i ? DATA_DIR "/elsewhere/shim" : MADE "/bin/shim");
		op = run_verb(s, node, PAYLOAD, 0, K3SUP_E_TORN);
		shim = k3sup__fmt("process %d runs a program of it", (int)pid);
		assert_says(op, shim);
		assert_int_equal(number_of(k3sup_op_error(op), "/evidence/torn/0/put_aside"), 0);
		k3sup_op_unref(op);
		free(shim);
		shim = NULL;
		assert_true(is_there(s, MADE "/bin/shim"));
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	k3sup_op_unref(run_verb(s, node, PAYLOAD, 0, 1));
	k3sup_node_unref(node);
}

/* A link that somebody made by hand is his. */
static void what_k3s_did_not_make_is_left_alone(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);

	put_payload(s, "");
	put_made(s, MADE);
	run_shell(s, ": >k3s && cd ../.. && mv " HASH2 " mine && ln -s mine " HASH2);
	k3sup_op_unref(run_verb(s, node, PAYLOAD, 0, K3SUP_E_TORN));
	assert_true(is_there(s, DATA "/mine/bin/k3s-server"));
	k3sup_node_unref(node);
}

/* Nothing is put aside while a k3s unpacks: it holds the lock. */
static void k3ss_lock_is_waited_for(void **state)
{
	struct scratch *s = *state;
	_free_ char *path = below(s, DATA "/.lock");
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	int fd;

	put_payload(s, "");
	put_made(s, MADE);
	run_shell(s, ": >k3s");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	k3sup_op_unref(run_verb(s, node, PAYLOAD, 700, K3SUP_E_TIMEOUT));
	assert_true(is_there(s, MADE "/bin/k3s"));
	close(fd);
	k3sup_op_unref(run_verb(s, node, PAYLOAD, 0, 1));
	k3sup_node_unref(node);
}

static void the_default_data_dir_counts_too(void **state)
{
	struct scratch *s = *state;
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path, .data_dir = "/srv/k3s"};
	k3sup_node *node = NULL;
	k3sup_op *op;

	put_payload(s, "");
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	put_made(s, MADE);
	op = run_verb(s, node, PAYLOAD, 0, 0);
	assert_string_equal(result_text(op, "/unpacked/path"), MADE);
	k3sup_op_unref(op);
	run_shell(s, ": >k3s");
	op = run_verb(s, node, PAYLOAD, 0, 1);
	assert_string_equal(result_text(op, "/unpacked/torn/0/path"), MADE);
	assert_string_equal(result_text(op, "/unpacked/path"), "/srv/k3s/data/" HASH2);
	k3sup_op_unref(op);
	assert_false(is_there(s, MADE));
	k3sup_node_unref(node);
}

/* ---- labels ---- */

static bool label(const struct scratch *s, const char *path, const char *text)
{
	_free_ char *whole = below(s, path);

	return setxattr(whole, "security.selinux", text, strlen(text) + 1, 0) == 0;
}

static void labels_are_those_of_the_running_build(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *payload = below(s, PAYLOAD), *made = below(s, MADE "/bin/k3s");
	struct k3sup__build build;
	struct k3sup__unpack want = {.shown = "it", .build = &build, .data_dir = DATA_DIR, .like = DATA "/" HASH1};
	char text[64] = "";
	bool refuse;

	put_payload(s, "");
	put_made(s, DATA "/" HASH1);
	if (!label(s, DATA "/" HASH1 "/bin/k3s", OLD_LABEL)) {
		print_message("labels cannot be set here: %s\n", strerror(errno));
		k3sup_node_unref(node);
		return;
	}
	want.fd = open(payload, O_RDONLY | O_CLOEXEC);
	assert_int_equal(k3sup__build_read_fd(s->op, want.fd, "it", 0, &build), 0);
	assert_int_equal(k3sup__unpack_run(s->op, node, &want, &refuse), 1);
	assert_int_equal(k3sup__json_number(k3sup__json_member(k3sup__op_facts(s->op), "unpacked"), "relabelled", 0), 1);
	assert_true(getxattr(made, "security.selinux", text, sizeof(text)) > 0);
	assert_string_equal(text, OLD_LABEL);
	close(want.fd);
	k3sup_node_unref(node);
}

/* A failure of ours to execute it says nothing about k3s. */
static void what_cannot_be_executed_here_is_no_refusal(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *payload = below(s, PAYLOAD);
	struct k3sup__build build;
	struct k3sup__unpack want = {.shown = "it", .build = &build, .data_dir = DATA_DIR};
	bool refuse = true;

	put_payload(s, "");
	want.fd = open(payload, O_RDONLY | O_CLOEXEC);
	assert_int_equal(k3sup__build_read_fd(s->op, want.fd, "it", 0, &build), 0);
	assert_int_equal(fchmod(want.fd, 0644), 0);
	assert_int_equal(k3sup__unpack_run(s->op, node, &want, &refuse), -EACCES);
	assert_false(refuse);
	assert_sentence(s, "cannot run");
	close(want.fd);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(it_unpacks_itself_once),
		scratch_test(each_failure_is_told_and_leaves_nothing),
		scratch_test(an_untrusted_payload_is_not_executed),
		scratch_test(what_has_no_archive_is_skipped),
		scratch_test(bad_options_are_refused),
		scratch_test(whole_is_what_its_lists_say),
		scratch_test(old_releases_have_no_lists),
		scratch_test(a_torn_one_is_put_aside),
		scratch_test(what_was_put_aside_comes_back_on_failure),
		scratch_test(one_that_is_used_is_left_alone),
		scratch_test(what_k3s_did_not_make_is_left_alone),
		scratch_test(k3ss_lock_is_waited_for),
		scratch_test(the_default_data_dir_counts_too),
		scratch_test(labels_are_those_of_the_running_build),
		scratch_test(what_cannot_be_executed_here_is_no_refusal),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, build_all, fake_remove);
}
