/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options structs grow: a caller that was built with an older, smaller struct and one that was built with a newer, bigger one must both be understood,
 * and a newer one that uses what this library does not know must be refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <k3sup.h>

static k3sup_ctx *ctx;
static k3sup_node *node;

static int ctx_new(const void *opts)
{
	k3sup_ctx *made = NULL;
	int r = k3sup_ctx_new(opts, &made);

	k3sup_ctx_unref(made);
	return r;
}

static int node_new(const void *opts)
{
	k3sup_node *made = NULL;
	int r = k3sup_node_new(ctx, opts, &made);

	k3sup_node_unref(made);
	return r;
}

static int policy_check(const void *opts)
{
	k3sup_doc *doc = NULL;
	int r = k3sup_policy_check(opts, &doc);

	k3sup_doc_unref(doc);
	return r;
}

/* No step of an operation runs before its context is driven, so a verb may be called on this machine's own node. */
#define VERB(name, subject) \
	static int call_##name(const void *opts) \
	{ \
		k3sup_op *op = NULL; \
		int r = k3sup_##name(subject, opts, &op); \
\
		k3sup_op_unref(op); \
		return r; \
	}

VERB(build_read, ctx)
VERB(identify, node)
VERB(signal, node)
VERB(wait_exit, node)
VERB(service, node)
VERB(wait_running, node)
VERB(swap, node)
VERB(stage, node)
VERB(unpack, node)
VERB(swap_rollback, node)
VERB(swap_backups, node)
VERB(upgrade, node)
VERB(state, node)
VERB(certs_check, node)
VERB(certs_retire, node)
VERB(rotate, node)
VERB(certs_restore, node)
VERB(certs_backups, node)
VERB(certs_ca_check, ctx)

static const struct kind {
	const char *name;
	size_t size;
	int (*call)(const void *opts);
} kinds[] = {
	{"k3sup_ctx_opts", sizeof(struct k3sup_ctx_opts), ctx_new},
	{"k3sup_node_opts", sizeof(struct k3sup_node_opts), node_new},
	{"k3sup_build_read_opts", sizeof(struct k3sup_build_read_opts), call_build_read},
	{"k3sup_policy_opts", sizeof(struct k3sup_policy_opts), policy_check},
	{"k3sup_identify_opts", sizeof(struct k3sup_identify_opts), call_identify},
	{"k3sup_signal_opts", sizeof(struct k3sup_signal_opts), call_signal},
	{"k3sup_wait_exit_opts", sizeof(struct k3sup_wait_exit_opts), call_wait_exit},
	{"k3sup_service_opts", sizeof(struct k3sup_service_opts), call_service},
	{"k3sup_wait_running_opts", sizeof(struct k3sup_wait_running_opts), call_wait_running},
	{"k3sup_swap_opts", sizeof(struct k3sup_swap_opts), call_swap},
	{"k3sup_stage_opts", sizeof(struct k3sup_stage_opts), call_stage},
	{"k3sup_unpack_opts", sizeof(struct k3sup_unpack_opts), call_unpack},
	{"k3sup_swap_rollback_opts", sizeof(struct k3sup_swap_rollback_opts), call_swap_rollback},
	{"k3sup_swap_backups_opts", sizeof(struct k3sup_swap_backups_opts), call_swap_backups},
	{"k3sup_upgrade_opts", sizeof(struct k3sup_upgrade_opts), call_upgrade},
	{"k3sup_state_opts", sizeof(struct k3sup_state_opts), call_state},
	{"k3sup_certs_check_opts", sizeof(struct k3sup_certs_check_opts), call_certs_check},
	{"k3sup_certs_retire_opts", sizeof(struct k3sup_certs_retire_opts), call_certs_retire},
	{"k3sup_rotate_opts", sizeof(struct k3sup_rotate_opts), call_rotate},
	{"k3sup_certs_restore_opts", sizeof(struct k3sup_certs_restore_opts), call_certs_restore},
	{"k3sup_certs_backups_opts", sizeof(struct k3sup_certs_backups_opts), call_certs_backups},
	{"k3sup_certs_ca_check_opts", sizeof(struct k3sup_certs_ca_check_opts), call_certs_ca_check},
};
#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* Where a struct ends, memory ends: who reads on is killed. */
static char *page_end;

static int setup(void **unused)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) < 0)
		return -1;
	page_end = pages + page;
	return k3sup_ctx_new(NULL, &ctx) < 0 || k3sup_node_new(ctx, NULL, &node) < 0 ? -1 : 0;
}

static int teardown(void **unused)
{
	(void)unused;
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return 0;
}

/* A call with a struct of `size` bytes, all zero but its size, its flags and its last byte. */
static int call(const struct kind *kind, size_t size, uint32_t flags, char last)
{
	const uint32_t struct_size = (uint32_t)size;
	char *opts = page_end - size;

	memset(opts, 0, size);
	opts[size - 1] = last;
	if (size >= 4)
		memcpy(opts, &struct_size, sizeof(struct_size));
	if (size >= 8 && flags)
		memcpy(opts + 4, &flags, sizeof(flags));
	return kind->call(opts);
}

/* What is wrong with how this kind of options is taken; NULL if nothing is. */
static const char *complaint(const struct kind *kind)
{
	const int as_built = call(kind, kind->size, 0, 0);
	const int old = call(kind, 8, 0, 0);
	const int newer = call(kind, kind->size + 8, 0, 0);
	const int much_newer = call(kind, kind->size + 1024, 0, 0);

	if (as_built == -E2BIG)
		return "its own size is refused";
	if (newer != as_built || much_newer != as_built)
		return "a bigger struct that uses nothing new is not taken like its own";
	if (call(kind, kind->size + 8, 0, 1) != -E2BIG || call(kind, kind->size + 1, 0, 1) != -E2BIG || call(kind, kind->size + 1024, 0, 1) != -E2BIG)
		return "a bigger struct that uses something new is not refused with -E2BIG";
	/* Fields lie on boundaries of 4 bytes, pointers and 64-bit numbers on 8: this cuts at the end of fields only. */
	for (size_t size = 8; size < kind->size; size += 8)
		if (call(kind, size, 0, 0) != old || old != as_built)
			return "an older struct is not taken as one whose later fields are zero";
	if (call(kind, 4, 0, 0) != -EINVAL || call(kind, 7, 0, 0) != -EINVAL)
		return "a struct without room for its flags is not refused";
	if (call(kind, kind->size, 0x40000000u, 0) != -EINVAL)
		return "an unknown flag is not refused";
	return NULL;
}

/* The same in a process of its own, since the library may read what it must not. */
static const char *complaint_or_death(const struct kind *kind)
{
	static char text[200];
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *found;

		signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on with the next test, here */
		found = complaint(kind);
		if (found && write(fds[1], found, strlen(found)) < 0)
			_exit(2);
		_exit(0);
	}
	close(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	text[n > 0 ? n : 0] = '\0';
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		return "memory behind the struct is read";
	return text[0] ? text : NULL;
}

static void callers_of_every_age_are_understood(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < N_KINDS; i++) {
		const char *found = complaint(&kinds[i]);

		if (found)
			fail_msg("struct %s: %s", kinds[i].name, found);
	}
}

/* null, unless the struct must say something */
static void null_stands_for_the_defaults(void **unused)
{
	(void)unused;
	for (size_t i = 0; i < N_KINDS; i++)
		assert_int_equal(kinds[i].call(NULL), call(&kinds[i], kinds[i].size, 0, 0));
}

/* Three ways to get it wrong, on a struct of 16 bytes. */
struct sample {
	uint32_t struct_size;
	uint32_t flags;
	uint64_t value;
};

static int read_always_all(const void *opts)
{
	struct sample sample;

	memcpy(&sample, opts, sizeof(sample));
	if (sample.struct_size < 8 || sample.flags)
		return -EINVAL;
	for (size_t i = sizeof(sample); i < sample.struct_size; i++)
		if (((const char *)opts)[i])
			return -E2BIG;
	return 0;
}

static int never_look_at_the_tail(const void *opts)
{
	const struct sample *sample = opts;

	return sample->struct_size < 8 || sample->flags ? -EINVAL : 0;
}

static int want_the_exact_size(const void *opts)
{
	const struct sample *sample = opts;

	if (sample->struct_size < sizeof(*sample))
		return -EINVAL;
	return sample->struct_size > sizeof(*sample) ? -E2BIG : 0;
}

static void control_finds_a_library_that_gets_it_wrong(void **unused)
{
	static const struct kind wrong[] = {
		{"reads on", sizeof(struct sample), read_always_all},
		{"ignores the tail", sizeof(struct sample), never_look_at_the_tail},
		{"knows one size", sizeof(struct sample), want_the_exact_size},
	};

	(void)unused;
	assert_string_equal(complaint_or_death(&wrong[0]), "memory behind the struct is read");
	assert_string_equal(complaint_or_death(&wrong[1]), "a bigger struct that uses something new is not refused with -E2BIG");
	assert_string_equal(complaint_or_death(&wrong[2]), "a bigger struct that uses nothing new is not taken like its own");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(callers_of_every_age_are_understood),
		cmocka_unit_test(null_stands_for_the_defaults),
		cmocka_unit_test(control_finds_a_library_that_gets_it_wrong),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
