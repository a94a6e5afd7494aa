/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/journal.h"

/* ---- between the library and the kernel ---- */

static struct {
	char trace[64];    /* f sync of a file, d of a directory, r rename */
	int fail_sync;     /* the number of the fsync that fails */
	bool disk_is_full; /* a write takes one byte only */
	int cut_at, calls; /* the process ends instead of making this call */
} kernel;

static void call(const char *letter)
{
	if (++kernel.calls == kernel.cut_at)
		_exit(99);
	if (strlen(kernel.trace) + 1 < sizeof(kernel.trace))
		strcat(kernel.trace, letter);
}

int fsync(int fd)
{
	struct stat st;

	(void)fstat(fd, &st);
	call(S_ISDIR(st.st_mode) ? "d" : "f");
	if (kernel.fail_sync > 0 && --kernel.fail_sync == 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	call("r");
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

/* A cut within a write leaves half of it. */
ssize_t write(int fd, const void *data, size_t len)
{
	if (kernel.calls + 1 == kernel.cut_at)
		(void)syscall(SYS_write, fd, data, len / 2);
	call("");
	return syscall(SYS_write, fd, data, kernel.disk_is_full ? 1 : len);
}

int ftruncate(int fd, off_t len)
{
	call("");
#ifdef SYS_ftruncate64
	return (int)syscall(SYS_ftruncate64, fd, len);
#else
	return (int)syscall(SYS_ftruncate, fd, len);
#endif
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	return scratch_setup(state);
}

/* ---- helpers ---- */

static k3sup__json *make(const char *op, const char *event, int64_t number)
{
	k3sup__json *record = k3sup__json_object();

	k3sup__json_set_str(record, "op", op);
	k3sup__json_set_str(record, "event", event);
	k3sup__json_set_int(record, "n", number);
	return record;
}

static int append(struct scratch *s, const char *op, const char *event, int64_t number)
{
	return k3sup__journal_append(s->op, s->fd, make(op, event, number));
}

static k3sup__json *read_all(struct scratch *s, unsigned expect_damaged)
{
	k3sup__json *records = NULL;
	unsigned damaged = 77;

	assert_int_equal(k3sup__journal_read(s->op, s->fd, &records, &damaged), 0);
	assert_int_equal(damaged, expect_damaged);
	return records;
}

/* The numbers of all records, as "1 2 3". */
static void assert_numbers(struct scratch *s, unsigned expect_damaged, const char *expected)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *records = read_all(s, expect_damaged);
	char text[256] = "";

	for (size_t i = 0; i < k3sup__json_len(records); i++)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%lld", i ? " " : "",
			(long long)k3sup__json_number(k3sup__json_element(records, i), "n", -1));
	assert_string_equal(text, expected);
}

/* Bit by bit, to be independent of zlib. */
static uint32_t crc_of(const char *text, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= (uint8_t)text[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
	}
	return ~crc;
}

static void set_content(struct scratch *s, const char *text, size_t len)
{
	int fd = openat(s->fd, "journal", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(k3sup__write_full(fd, text, len), 0);
	close(fd);
}

static void set_size(struct scratch *s, off_t size)
{
	int fd = openat(s->fd, "journal", O_WRONLY | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* ---- tests ---- */

static void records_come_back_in_order_with_time_and_boot(void **state)
{
	struct scratch *s = *state;
	_cleanup_(k3sup__json_unrefp) k3sup__json *records = NULL;
	_free_ char *text = NULL;
	char crc[16];

	assert_numbers(s, 0, "");
	assert_int_equal(count_entries(s->fd), 0); /* to read makes nothing */
	assert_int_equal(append(s, "a", "open", 1), 0);
	assert_string_equal(kernel.trace, "fd");
	assert_int_equal(append(s, "a", "close", 2), 0);
	assert_numbers(s, 0, "1 2");
	records = read_all(s, 0);
	assert_true(k3sup__json_number(k3sup__json_element(records, 0), "at", 0) > 1700000000);
	assert_int_equal(strlen(k3sup__json_text(k3sup__json_element(records, 1), "boot_id")), 36);
	assert_int_equal(stat_at(s->fd, "journal").st_mode, S_IFREG | 0600);
	assert_int_equal(k3sup__read_file(s->fd, "journal", 4096, &text, NULL), 0);
	(void)snprintf(crc, sizeof(crc), "%08x ", crc_of(text + 9, strcspn(text, "\n") - 9));
	assert_memory_equal(text, crc, 9);
	assert_int_equal(text[9], '{');
}

static void a_torn_last_line_is_dropped_at_the_next_append(void **state)
{
	struct scratch *s = *state;
	_free_ char *text = NULL;
	size_t len, first;

	assert_int_equal(append(s, "a", "x", 1), 0);
	first = (size_t)stat_at(s->fd, "journal").st_size;
	assert_int_equal(append(s, "a", "x", 2), 0);
	assert_int_equal(k3sup__read_file(s->fd, "journal", 4096, &text, &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		set_content(s, text, cut);
		assert_numbers(s, 0, cut < first ? "" : "1");
		assert_int_equal(stat_at(s->fd, "journal").st_size, cut);
		assert_int_equal(append(s, "a", "x", 3), 0);
		assert_numbers(s, 0, cut < first ? "3" : "1 3");
	}
}

static void a_damaged_line_is_counted_and_the_others_are_read(void **state)
{
	struct scratch *s = *state;
	size_t len, first, second;
	_free_ char *text = NULL;

	assert_int_equal(append(s, "a", "x", 1), 0);
	first = (size_t)stat_at(s->fd, "journal").st_size;
	assert_int_equal(append(s, "a", "x", 2), 0);
	second = (size_t)stat_at(s->fd, "journal").st_size;
	assert_int_equal(append(s, "a", "x", 3), 0);
	assert_int_equal(k3sup__read_file(s->fd, "journal", 4096, &text, &len), 0);
	for (size_t i = first; i < second - 1; i++) {
		text[i] ^= 1;
		if (text[i] != '\n') {
			set_content(s, text, len);
			assert_numbers(s, 1, "1 3");
		}
		text[i] ^= 1;
	}
	assert_int_equal(append(s, "a", "x", 4), 0);
	assert_numbers(s, 1, "1 3 4");
	/* a checksum that is right over something that is no object; an empty line; zeros as some file systems leave them */
	set_content(s, "4c2f32b8 [1]\n", 13);
	assert_numbers(s, 1, "");
	set_content(s, "\n", 1);
	assert_numbers(s, 1, "");
	set_content(s, "\0\0\0\0\0\0\0\0\0\0\0\0\n", 13);
	assert_numbers(s, 1, "");
}

static int64_t open_number(const char *const *ops_and_events)
{
	k3sup__json *records = k3sup__json_array(), *entry;
	int64_t number;

	for (int64_t i = 1; *ops_and_events; ops_and_events += 2, i++)
		k3sup__json_add(records, make(ops_and_events[0], ops_and_events[1], i));
	entry = k3sup__journal_open_entry(records, NULL);
	number = entry ? k3sup__json_number(entry, "n", -1) : 0;
	k3sup__json_unref(records);
	return number;
}

static void the_newest_entry_that_was_not_closed_is_open(void **state)
{
	(void)state;
	assert_int_equal(open_number((const char *const[]){NULL}), 0);
	assert_int_equal(open_number((const char *const[]){"a", "open", "a", "step", NULL}), 1);
	assert_int_equal(open_number((const char *const[]){"a", "open", "a", "close", NULL}), 0);
	assert_int_equal(open_number((const char *const[]){"a", "open", "b", "open", NULL}), 2);
	assert_int_equal(open_number((const char *const[]){"a", "open", "b", "open", "b", "close", NULL}), 1);
	assert_int_equal(open_number((const char *const[]){"a", "open", "b", "close", NULL}), 1);
	assert_int_equal(open_number((const char *const[]){"a", "step", NULL}), 0);
}

static void entries_are_told_apart_by_their_verb(void **state)
{
	static const char *const verbs[] = {"upgrade", "rotate"};
	k3sup__json *records = k3sup__json_array();

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
		k3sup__json *record = make(verbs[i], "open", (int64_t)i);

		k3sup__json_set_str(record, "verb", verbs[i]);
		k3sup__json_add(records, record);
	}
	k3sup__json_add(records, make("neither", "open", 2));
	assert_int_equal(k3sup__json_number(k3sup__journal_open_entry(records, NULL), "n", -1), 2);
	for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
		assert_int_equal(k3sup__json_number(k3sup__journal_open_entry(records, verbs[i]), "n", -1), (int64_t)i);
	assert_null(k3sup__journal_open_entry(records, "swap"));
	k3sup__json_unref(records);
}

static void it_stays_small_and_keeps_what_is_open(void **state)
{
	struct scratch *s = *state;
	k3sup__json *records, *entry;
	bool rewritten = false;
	size_t count, open = 0;

	assert_int_equal(append(s, "closed", "open", 1), 0);
	assert_int_equal(append(s, "pending", "open", 2), 0);
	assert_int_equal(append(s, "closed", "close", 3), 0);
	assert_int_equal(append(s, "pending", "stopped", 4), 0);
	for (int64_t i = 5; i < 4000; i++) {
		off_t before = stat_at(s->fd, "journal").st_size, after;

		assert_int_equal(append(s, "other", "mark", i), 0);
		after = stat_at(s->fd, "journal").st_size;
		assert_true(after <= 256 * 1024);
		if (after < before) {
			assert_in_range(after, 120 * 1024, 130 * 1024);
			rewritten = true;
		}
	}
	assert_true(rewritten);
	records = read_all(s, 0);
	count = k3sup__json_len(records);
	assert_int_equal(k3sup__json_number(k3sup__json_element(records, count - 1), "n", 0), 3999);
	entry = k3sup__journal_open_entry(records, NULL);
	assert_int_equal(k3sup__json_number(entry, "n", 0), 2);
	for (size_t i = 0; i < count; i++) {
		k3sup__json *record = k3sup__json_element(records, i);

		assert_string_not_equal(k3sup__json_text(record, "op"), "closed");
		open += k3sup__streq(k3sup__json_text(record, "op"), "pending");
		if (i > 2) /* no holes among the newest */
			assert_int_equal(k3sup__json_number(record, "n", 0), k3sup__json_number(k3sup__json_element(records, i - 1), "n", 0) + 1);
	}
	assert_int_equal(open, 2);
	k3sup__json_unref(records);
	assert_int_equal(count_entries(s->fd), 1);
	assert_int_equal(stat_at(s->fd, "journal").st_mode, S_IFREG | 0600);
}

static void open_entries_are_bounded_too(void **state)
{
	struct scratch *s = *state;
	k3sup__json *records;
	char id[32];

	for (int64_t i = 0; i < 3000; i++) {
		(void)snprintf(id, sizeof(id), "%lld", (long long)i);
		assert_int_equal(append(s, id, "open", i), 0);
		assert_true(stat_at(s->fd, "journal").st_size <= 256 * 1024);
	}
	records = read_all(s, 0);
	assert_int_equal(k3sup__json_number(k3sup__journal_open_entry(records, NULL), "n", 0), 2999);
	k3sup__json_unref(records);
}

static void a_record_that_is_too_long_or_broken_is_refused(void **state)
{
	struct scratch *s = *state;
	k3sup__json *record = make("a", "x", 2);
	char *big = malloc(64 * 1024 + 1);

	assert_non_null(big);
	memset(big, 'x', 64 * 1024);
	big[64 * 1024] = '\0';
	assert_int_equal(append(s, "a", "x", 1), 0);
	k3sup__json_set_str(record, "big", big);
	assert_int_equal(k3sup__journal_append(s->op, s->fd, record), -EFBIG);
	record = make("a", "x", 2);
	k3sup__json_set(record, "lost", NULL);
	assert_int_equal(k3sup__journal_append(s->op, s->fd, record), -ENOMEM);
	assert_int_equal(k3sup__journal_append(s->op, s->fd, NULL), -ENOMEM);
	assert_numbers(s, 0, "1");
	big[60 * 1024] = '\0'; /* that much fits, again and again */
	for (int64_t i = 2; i < 12; i++) {
		record = make("a", "x", i);
		k3sup__json_set_str(record, "big", big);
		assert_int_equal(k3sup__journal_append(s->op, s->fd, record), 0);
	}
	assert_numbers(s, 0, "8 9 10 11");
	free(big);
}

static void a_journal_that_is_not_ours_alone_is_refused(void **state)
{
	struct scratch *s = *state;
	k3sup__json *records = NULL;
	unsigned damaged;

	put_file(s->fd, "canary", "precious", 0600);
	symlinkat("canary", s->fd, "journal");
	assert_int_equal(append(s, "a", "x", 1), K3SUP_E_STATE_DIR);
	assert_int_equal(k3sup__journal_read(s->op, s->fd, &records, &damaged), K3SUP_E_STATE_DIR);
	assert_content(s->fd, "canary", "precious");
	unlinkat(s->fd, "journal", 0);
	put_file(s->fd, "journal", "", 0622);
	assert_int_equal(append(s, "a", "x", 1), K3SUP_E_STATE_DIR);
	unlinkat(s->fd, "journal", 0);
	put_file(s->fd, "journal", "", 0600);
	set_size(s, 1 << 30);
	assert_int_equal(append(s, "a", "x", 1), K3SUP_E_STATE_DIR);
}

static void a_full_disk_loses_nothing(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(append(s, "a", "x", 1), 0);
	kernel.disk_is_full = true;
	assert_int_equal(append(s, "a", "x", 2), -ENOSPC);
	assert_sentence(s, "journal");
	kernel.disk_is_full = false;
	assert_numbers(s, 0, "1");
	assert_int_equal(append(s, "a", "x", 3), 0);
	assert_numbers(s, 0, "1 3");
}

static void a_sync_that_fails_is_a_failure(void **state)
{
	struct scratch *s = *state;

	for (int i = 1; i <= 2; i++) {
		kernel.fail_sync = i;
		assert_int_equal(append(s, "a", "x", i), -EIO);
	}
	assert_int_equal(append(s, "a", "x", 3), 0);
}

/* Ends a child at its call number n. False when there is no such call any more. */
static bool cut_append(struct scratch *s, int n, int64_t number)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		kernel.calls = 0;
		kernel.cut_at = n;
		_exit(append(s, "a", "x", number) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 99 || WEXITSTATUS(status) == 0));
	return WEXITSTATUS(status) == 99;
}

/* What was acknowledged is there after a cut at any call, and what was not is there whole or not at all. */
static int cut_anywhere(struct scratch *s, size_t base_len, const char *base)
{
	int points = 0;

	for (int n = 1;; n++) {
		k3sup__json *records, *last;
		bool cut;

		set_content(s, base, base_len);
		assert_int_equal(append(s, "a", "x", 100000), 0);
		cut = cut_append(s, n, 100001);
		assert_int_equal(append(s, "a", "x", 100002), 0);
		records = read_all(s, 0);
		last = k3sup__json_element(records, k3sup__json_len(records) - 1);
		assert_int_equal(k3sup__json_number(last, "n", 0), 100002);
		last = k3sup__json_element(records, k3sup__json_len(records) - 2);
		if (!cut)
			assert_int_equal(k3sup__json_number(last, "n", 0), 100001);
		if (k3sup__json_number(last, "n", 0) == 100001)
			last = k3sup__json_element(records, k3sup__json_len(records) - 3);
		assert_int_equal(k3sup__json_number(last, "n", 0), 100000);
		k3sup__json_unref(records);
		if (!cut)
			return points;
		points++;
	}
}

static void an_append_may_be_cut_at_any_call(void **state)
{
	struct scratch *s = *state;
	_free_ char *text = NULL;
	size_t len;

	if (under_valgrind())
		skip();
	assert_in_range(cut_anywhere(s, 0, ""), 3, 20);
	/* the file is rewritten by the append that is cut */
	unlinkat(s->fd, "journal", 0);
	for (int64_t i = 0; stat_at(s->fd, "journal").st_size < 256 * 1024 - 200; i++)
		assert_int_equal(append(s, "a", "x", i), 0);
	assert_int_equal(k3sup__read_file(s->fd, "journal", 1 << 20, &text, &len), 0);
	assert_in_range(cut_anywhere(s, len, text), 5, 40);
}

#define journal_test(fn) cmocka_unit_test_setup_teardown(fn, setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		journal_test(records_come_back_in_order_with_time_and_boot),
		journal_test(a_torn_last_line_is_dropped_at_the_next_append),
		journal_test(a_damaged_line_is_counted_and_the_others_are_read),
		journal_test(the_newest_entry_that_was_not_closed_is_open),
		journal_test(entries_are_told_apart_by_their_verb),
		journal_test(it_stays_small_and_keeps_what_is_open),
		journal_test(open_entries_are_bounded_too),
		journal_test(a_record_that_is_too_long_or_broken_is_refused),
		journal_test(a_journal_that_is_not_ours_alone_is_refused),
		journal_test(a_full_disk_loses_nothing),
		journal_test(a_sync_that_fails_is_a_failure),
		journal_test(an_append_may_be_cut_at_any_call),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
