/* SPDX-License-Identifier: Apache-2.0 */
#include "base/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/durable.h"
#include "base/lock.h"
#include "base/process.h"

#define MAX_SIZE (256 * 1024)        /* past this the file is rewritten */
#define KEEP_SIZE (MAX_SIZE / 2)     /* of the newest records */
#define OPEN_SIZE (MAX_SIZE / 4 * 3) /* with those of open entries: room is left, so that not every append has to rewrite */
#define MAX_LINE (64 * 1024)         /* of one record */
#define SANE_SIZE (4 * MAX_SIZE)     /* a larger file is not what we wrote */
#define CRC_LEN (sizeof("01234567 ") - 1)

struct line {
	const char *text;    /* into book.text */
	size_t len;          /* with the line's end */
	k3sup__json *record; /* NULL: damaged */
	const char *op;      /* of the record, NULL if it has none */
	const char *event;
	bool keep;
};

struct book {
	char *text; /* whole lines only */
	size_t len;
	off_t size; /* of the file, with a torn last line */
	struct line *lines;
	size_t count;
};

static void book_clear(struct book *book)
{
	for (size_t i = 0; i < book->count; i++)
		k3sup__json_unref(book->lines[i].record);
	free(book->lines);
	free(book->text);
}

/* ---- reading ---- */

/* A last line without an end is what a cut left of an append that nobody was told of. */
static int book_load(k3sup_op *op, int fd, struct book *book)
{
	struct stat st;
	ssize_t len;
	char *end;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > SANE_SIZE)
		return k3sup__fail(op, K3SUP_E_STATE_DIR, "the journal has %lld bytes, far more than we would write", (long long)st.st_size);
	book->text = malloc((size_t)st.st_size + 1);
	if (!book->text)
		return -ENOMEM;
	len = k3sup__pread_full(fd, book->text, (size_t)st.st_size, 0);
	if (len < 0)
		return k3sup__fail(op, (int)len, "cannot read the journal: %s", k3sup_strerror((int)len));
	end = memrchr(book->text, '\n', (size_t)len);
	book->len = end ? (size_t)(end - book->text) + 1 : 0;
	book->size = st.st_size;
	return 0;
}

/* NULL if it is damaged; -ENOMEM apart, since a record that cannot be read for want of memory is no damage. */
static int parse_line(const char *text, size_t len, k3sup__json **ret)
{
	char crc[CRC_LEN + 1];
	int r;

	*ret = NULL;
	if (len <= CRC_LEN || !k3sup__is_hex(text, CRC_LEN - 1))
		return 0;
	text += CRC_LEN;
	len -= CRC_LEN;
	(void)snprintf(crc, sizeof(crc), "%08lx ", crc32(0, (const Bytef *)text, (uInt)len));
	if (memcmp(crc, text - CRC_LEN, CRC_LEN) != 0)
		return 0;
	r = k3sup__json_parse(text, len, ret);
	if (r == 0 && !k3sup__json_is_object(*ret)) {
		k3sup__json_unref(*ret);
		*ret = NULL;
	}
	return r == -ENOMEM ? r : 0;
}

static int book_parse(struct book *book)
{
	size_t count = 0;

	for (size_t i = 0; i < book->len; i++)
		count += book->text[i] == '\n';
	book->lines = calloc(count + 1, sizeof(*book->lines));
	if (!book->lines)
		return -ENOMEM;
	for (const char *at = book->text; book->count < count; book->count++) {
		struct line *line = &book->lines[book->count];
		int r;

		line->text = at;
		line->len = (size_t)((char *)memchr(at, '\n', book->len - (size_t)(at - book->text)) - at) + 1;
		r = parse_line(at, line->len - 1, &line->record);
		if (r < 0)
			return r;
		line->op = k3sup__json_text(line->record, "op");
		line->event = k3sup__json_text(line->record, "event");
		at += line->len;
	}
	return 0;
}

int k3sup__journal_read(k3sup_op *op, int dirfd, k3sup__json **ret_records, unsigned *ret_damaged)
{
	_close_ int fd = k3sup__state_file_open(op, dirfd, K3SUP__JOURNAL_NAME, O_RDONLY);
	k3sup__json *records = k3sup__json_array();
	struct book book = {0};
	unsigned damaged = 0;
	int r = fd == -ENOENT ? 0 : fd;

	if (fd >= 0) {
		r = book_load(op, fd, &book);
		if (r == 0)
			r = book_parse(&book);
	}
	for (size_t i = 0; r == 0 && i < book.count; i++) {
		if (book.lines[i].record)
			k3sup__json_add(records, k3sup__json_ref(book.lines[i].record));
		else
			damaged++;
	}
	book_clear(&book);
	if (r >= 0 && k3sup__json_broken(records))
		r = -ENOMEM;
	if (r < 0) {
		k3sup__json_unref(records);
		return r;
	}
	if (damaged)
		k3sup__log(op, K3SUP_LOG_WARNING, "%u lines of the journal are damaged", damaged);
	*ret_records = records;
	*ret_damaged = damaged;
	return 0;
}

static bool is_event(const k3sup__json *record, const char *event, const char *id)
{
	const char *its_event = k3sup__json_text(record, "event"), *its_id = k3sup__json_text(record, "op");

	return its_event && its_id && k3sup__streq(its_event, event) && (!id || k3sup__streq(its_id, id));
}

k3sup__json *k3sup__journal_open_entry(const k3sup__json *records, const char *verb)
{
	for (size_t i = k3sup__json_len(records); i-- > 0;) {
		k3sup__json *record = k3sup__json_element(records, i);
		const char *its_verb = k3sup__json_text(record, "verb");
		bool closed = false;

		if (!is_event(record, "open", NULL) || (verb && (!its_verb || !k3sup__streq(its_verb, verb))))
			continue;
		for (size_t j = 0; j < k3sup__json_len(records) && !closed; j++)
			closed = is_event(k3sup__json_element(records, j), "close", k3sup__json_text(record, "op"));
		if (!closed)
			return record;
	}
	return NULL;
}

/* ---- writing ---- */

static bool is(const struct line *line, const char *event)
{
	return line->op && line->event && k3sup__streq(line->event, event);
}

/* Marks all records of entries that are open: a resumed run needs what it did so far. */
static void keep_open_entries(struct book *book)
{
	for (size_t i = 0; i < book->count; i++) {
		struct line *open = &book->lines[i];
		bool closed = false;

		if (!is(open, "open"))
			continue;
		for (size_t j = 0; j < book->count && !closed; j++)
			closed = is(&book->lines[j], "close") && k3sup__streq(book->lines[j].op, open->op);
		for (size_t j = 0; j < book->count && !closed; j++)
			if (book->lines[j].op && k3sup__streq(book->lines[j].op, open->op))
				book->lines[j].keep = true;
	}
}

/* Newest first: those that fit in half of the size, and those of open entries as long as these fit. */
static size_t choose(struct book *book)
{
	size_t used = 0;
	bool recent = true;

	keep_open_entries(book);
	for (size_t i = book->count; i-- > 0;) {
		struct line *line = &book->lines[i];

		recent = recent && used + line->len <= KEEP_SIZE;
		line->keep = line->record && (recent || (line->keep && used + line->len <= OPEN_SIZE));
		used += line->keep ? line->len : 0;
	}
	return used;
}

/* The new line is the last one of the book already. */
static int rewrite(k3sup_op *op, int dirfd, struct book *book)
{
	_free_ char *text = NULL;
	size_t len = 0;
	int r = book_parse(book);

	if (r < 0)
		return r;
	text = malloc(choose(book) + 1);
	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < book->count; i++) {
		if (!book->lines[i].keep)
			continue;
		memcpy(text + len, book->lines[i].text, book->lines[i].len);
		len += book->lines[i].len;
	}
	return k3sup__durable_write(op, dirfd, K3SUP__JOURNAL_NAME, text, len, 0600);
}

/* One write, so that a cut leaves at most one torn line, the last. */
static int append(int fd, const struct book *book, const char *line)
{
	size_t len = strlen(line);
	ssize_t n;

	if (book->size > (off_t)book->len && ftruncate(fd, (off_t)book->len) < 0)
		return -errno;
	do
		n = write(fd, line, len);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len)
		return k3sup__sync_fd(fd);
	/* a short write to a file: the disk, or the quota, is full; what was written is a torn line */
	return n < 0 ? -errno : -ENOSPC;
}

/* The record as a line, to be freed, with time and boot; consumes the record. */
static int make_line(k3sup__json *record, char **ret)
{
	_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_free_ char *text = NULL;
	char boot_id[37];

	k3sup__json_set_int(record, "at", time(NULL));
	if (k3sup__boot_id(proc, boot_id) == 0)
		k3sup__json_set_str(record, "boot_id", boot_id);
	if (!k3sup__json_broken(record))
		text = k3sup__json_dump(record);
	k3sup__json_unref(record);
	*ret = text ? k3sup__fmt("%08lx %s\n", crc32(0, (const Bytef *)text, (uInt)strlen(text)), text) : NULL;
	return *ret ? 0 : -ENOMEM;
}

static int write_line(k3sup_op *op, int dirfd, int fd, const char *line)
{
	struct book book = {0};
	size_t len = strlen(line);
	int r = book_load(op, fd, &book);

	if (r == 0 && book.len + len > MAX_SIZE) {
		char *text = realloc(book.text, book.len + len);

		r = text ? 0 : -ENOMEM;
		if (text) {
			book.text = text;
			memcpy(text + book.len, line, len);
			book.len += len;
			r = rewrite(op, dirfd, &book);
		}
	} else if (r == 0) {
		r = append(fd, &book, line);
		/* Each time: the run that made the file may have been cut before its name was durable. */
		if (r == 0)
			r = k3sup__sync_dir(dirfd);
	}
	book_clear(&book);
	return r;
}

int k3sup__journal_append(k3sup_op *op, int dirfd, k3sup__json *record)
{
	_free_ char *line = NULL;
	_close_ int fd = -1;
	int r = make_line(record, &line);

	if (r < 0)
		return r;
	if (strlen(line) > MAX_LINE)
		return k3sup__fail(op, -EFBIG, "a record of the journal would have %zu bytes", strlen(line));
	fd = k3sup__state_file_open(op, dirfd, K3SUP__JOURNAL_NAME, O_RDWR | O_CREAT | O_APPEND);
	r = fd < 0 ? fd : write_line(op, dirfd, fd, line);
	return r < 0 ? k3sup__fail(op, r, "cannot write the journal: %s", k3sup_strerror(r)) : 0;
}
