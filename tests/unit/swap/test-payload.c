/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where payloads come from: packed ones, ones that are written while they are read, and how much memory it takes.
 */
#include "authentic.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char sha[K3SUP__SHA256_HEX];

static void packed_payloads_are_unpacked(void **state)
{
	struct scratch *s = *state;
	struct call by_fd = {0};

	put_node(s);
	digest_of(s, "new", sha);
	sh(s, "gzip -k new && cat new.gz > loose && chmod 666 loose && head -c -1 new.gz > cut && (cat new.gz; echo) > more && gzip -c /bin/sh > sh");
	assert_taken(s, (struct call){.payload = "new.gz"}, "none", "");
	assert_taken(s, (struct call){.payload = "new.gz", .sha256 = sha, .expect_version = NEW}, "digest", "");
	assert_taken(s, (struct call){.payload = "loose", .sha256 = sha}, "digest", "");
	by_fd.fd = openat(s->fd, "new.gz", O_RDONLY | O_CLOEXEC);
	assert_taken(s, by_fd, "none", "");
	by_fd.sha256 = sha;
	assert_taken(s, by_fd, "digest", "");
	close(by_fd.fd);
	assert_refused(s, (struct call){.payload = "loose"}, K3SUP_E_UNTRUSTED, "loose");
	assert_refused(s, (struct call){.payload = "cut", .sha256 = sha}, K3SUP_E_PAYLOAD_TRUNCATED, "in the middle");
	assert_refused(s, (struct call){.payload = "more", .sha256 = sha}, K3SUP_E_GZIP, "behind the end");
	assert_refused(s, (struct call){.payload = "sh"}, K3SUP_E_PAYLOAD_NOT_K3S, "sh");
	/* The digest is never that of the packed bytes. */
	digest_of(s, "new.gz", sha);
	assert_refused(s, (struct call){.payload = "new.gz", .sha256 = sha}, K3SUP_E_DIGEST_MISMATCH, sha);
}

static void a_private_copy_leaves_nothing_behind(void **state)
{
	struct scratch *s = *state;

	put_node(s);
	digest_of(s, "new", sha);
	sh(s, "gzip -k new && chmod 666 new");
	assert_int_equal(swap(s, (struct call){.payload = "new.gz", .sha256 = sha}).status, 1);
	assert_int_equal(swap(s, (struct call){.payload = "new", .sha256 = sha}).status, 0);
	sh(s, "test -e var/lib/k3sup/lock && ! ls -A var/lib/k3sup | grep payload");
}

/* ---- somebody writes while it is read ---- */

struct flipper {
	int fd;
	unsigned char *good, *evil;
	size_t len;
	atomic_bool over;
	unsigned flips;
};

/* In place and in pieces, so that every mixture is seen. */
static void *flip(void *arg)
{
	struct flipper *f = arg;
	unsigned seed = 1;

	for (; !atomic_load(&f->over); f->flips++) {
		const unsigned char *from = f->flips % 2 ? f->good : f->evil;
		size_t half = f->len / 2;

		if (pwrite(f->fd, from, half, 0) < 0 || pwrite(f->fd, from + half, f->len - half, (off_t)half) < 0)
			break;
		seed = seed * 1664525u + 1013904223u;
		if (seed >> 28 == 0)
			usleep(seed >> 8 & 1023); /* not every run shall meet a mixture */
	}
	return NULL;
}

struct outcome {
	unsigned installed, mismatches, others;
};

static void run_beside(struct scratch *s, struct call call, unsigned runs, struct outcome *ret)
{
	_free_ char *old = in_scratch(s, "old"), *installed = in_scratch(s, "usr/local/bin/k3s"),
		    *backup = in_scratch(s, "usr/local/bin/k3s.k3sup-backup");

	for (unsigned i = 0; i < runs; i++) {
		struct answer a;

		put_k3s(s, "old", OLD, 0755);
		assert_int_equal(rename(old, installed), 0);
		(void)unlink(backup);
		a = swap(s, call);
		if (a.status >= 0) {
			assert_true(is_installed(s, NEW));
			assert_string_equal(a.authenticated, "digest");
			ret->installed++;
			continue;
		}
		assert_true(is_installed(s, OLD));
		if (a.status == K3SUP_E_DIGEST_MISMATCH)
			ret->mismatches++;
		else
			ret->others++;
	}
}

/* mode: who may write decides whether a private copy is made or the file itself is read three times. */
static void nothing_unverified_gets_in(struct scratch *s, mode_t mode)
{
	unsigned runs = getenv("K3SUP_TEST_FULL") ? 5000 : 300;
	struct flipper f = {0};
	struct outcome outcome = {0};
	pthread_t thread;

	if (getenv("K3SUP_TEST_VALGRIND"))
		runs = 10;
	put_node(s);
	digest_of(s, "new", sha);
	f.good = make_k3s(NEW, &f.len);
	f.evil = make_k3s(EVIL, &f.len);
	f.fd = openat(s->fd, "new", O_WRONLY | O_CLOEXEC);
	assert_int_equal(fchmod(f.fd, mode), 0);
	assert_int_equal(pthread_create(&thread, NULL, flip, &f), 0);
	run_beside(s, (struct call){.payload = "new", .sha256 = sha}, runs, &outcome);
	atomic_store(&f.over, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	print_message("%u runs, %u flips: %u installed, %u of another digest, %u other refusals\n", runs, f.flips, outcome.installed,
		outcome.mismatches, outcome.others);
	assert_true(f.flips > 10);
	if (!getenv("K3SUP_TEST_VALGRIND"))
		assert_true(outcome.mismatches + outcome.others > 0);
	close(f.fd);
	free(f.good);
	free(f.evil);
}

/* In memory: a disk's journal would make the writer wait for our fsync, and so always meet the same moment. */
static int quick_setup(void **state)
{
	const char *before = getenv("TMPDIR");
	_free_ char *kept = before ? strdup(before) : NULL;
	int r;

	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 1);
	r = scratch_setup(state);
	(void)(kept ? setenv("TMPDIR", kept, 1) : unsetenv("TMPDIR"));
	return r;
}

static void nothing_unverified_gets_in_from_what_others_write(void **state)
{
	nothing_unverified_gets_in(*state, 0666);
}

static void nothing_unverified_gets_in_from_what_root_writes(void **state)
{
	nothing_unverified_gets_in(*state, 0644);
}

/* The control: without a digest the same writer gets its bytes in. */
static void control_without_a_digest_anything_gets_in(void **state)
{
	struct scratch *s = *state;

	put_node(s);
	put_k3s(s, "new", EVIL, 0755);
	assert_int_equal(swap(s, (struct call){.payload = "new"}).status, 1);
	assert_true(is_installed(s, EVIL));
}

/* ---- memory ---- */

/* The most memory that a process of its own took for one swap, in KiB. */
static long peak_of(struct scratch *s, struct call call)
{
	struct rusage usage;
	int status;
	pid_t pid;

	put_k3s(s, "usr/local/bin/k3s", OLD, 0755);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct k3sup_ctx_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_CTX_INLINE};

		_exit(k3sup_ctx_new(&opts, &s->ctx) == 0 && swap(s, call).status == 1 ? 0 : 1);
	}
	assert_int_equal(wait4(pid, &status, 0, &usage), pid);
	assert_int_equal(status, 0);
	return usage.ru_maxrss;
}

static void put_big(struct scratch *s, const char *name, unsigned mib)
{
	put_k3s(s, name, NEW, 0755);
	/* Text, so that packing is quick and its ratio that of other files. */
	sh(s, "seq 1 9999999 | head -c %uM >>%s; gzip -1 -k %s; cp %s %s.loose; chmod 666 %s.loose; sha256sum <%s | head -c 64 >%s.sha",
		mib, name, name, name, name, name, name, name);
}

static void memory_does_not_depend_on_the_size(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	(void)state;
	skip(); /* a sanitizer's own memory is counted */
#else
	static const char *const forms[] = {"", ".loose", ".gz"};
	struct scratch *s = *state;

	if (getenv("K3SUP_TEST_VALGRIND"))
		skip();
	put_node(s);
	put_big(s, "small", 7);
	put_big(s, "big", 70);
	for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
		long peak[2];

		for (int big = 0; big < 2; big++) {
			_free_ char *name = k3sup__fmt("%s%s", big ? "big" : "small", forms[i]), *hex = NULL;

			assert_int_equal(k3sup__read_file(s->fd, big ? "big.sha" : "small.sha", 100, &hex, NULL), 0);
			peak[big] = peak_of(s, (struct call){.payload = name, .sha256 = hex});
		}
		print_message("peak memory for 7 and 70 MiB%s: %ld and %ld KiB\n", forms[i], peak[0], peak[1]);
		assert_true(labs(peak[1] - peak[0]) <= 1024);
	}
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(memory_does_not_depend_on_the_size), /* first: what earlier tests took would be counted */
		scratch_test(packed_payloads_are_unpacked),
		scratch_test(a_private_copy_leaves_nothing_behind),
		cmocka_unit_test_setup_teardown(nothing_unverified_gets_in_from_what_others_write, quick_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(nothing_unverified_gets_in_from_what_root_writes, quick_setup, scratch_teardown),
		scratch_test(control_without_a_digest_anything_gets_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
