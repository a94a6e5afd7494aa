/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: the bytes as they are, then each line with its right checksum in front. What is appended is there afterwards, and nothing whole is lost. */
#include "fuzz.h"

#include <zlib.h>

#include <k3sup/error.h>

#include "base/journal.h"

static int open_dir(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open(fuzz_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	RULE(fd >= 0);
	return fd;
}

/* How many records there are; the journal is not too large, and readable. */
static size_t count(unsigned *ret_damaged)
{
	k3sup__json *records = NULL;
	size_t n;
	char *json;

	RULE(k3sup__journal_read(NULL, open_dir(), &records, ret_damaged) == 0);
	n = k3sup__json_len(records);
	json = k3sup__json_dump(records);
	RULE(json);
	free(json);
	(void)k3sup__journal_open_entry(records, NULL);
	k3sup__json_unref(records);
	return n;
}

static void append(void)
{
	k3sup__json *record = k3sup__json_object();
	unsigned damaged, damaged_now;
	size_t before = count(&damaged), after;
	struct stat st;

	k3sup__json_set_str(record, "op", "fuzz");
	k3sup__json_set_str(record, "event", "note");
	RULE(k3sup__journal_append(NULL, open_dir(), record) == 0);
	after = count(&damaged_now);
	RULE(fstatat(open_dir(), K3SUP__JOURNAL_NAME, &st, 0) == 0);
	RULE(after == before + 1 || (after >= 1 && damaged_now <= damaged && st.st_size < 256 * 1024));
}

static void put_lines(const uint8_t *data, size_t size)
{
	char *text = malloc(size * 11 + 16);
	size_t len = 0;

	RULE(text);
	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t n = end ? (size_t)(end - data) - at : size - at;

		len += (size_t)sprintf(text + len, "%08lx ", crc32(0, data + at, (uInt)n));
		memcpy(text + len, data + at, n);
		len += n;
		text[len++] = '\n';
		at += n + 1;
	}
	fuzz_put(K3SUP__JOURNAL_NAME, text, len);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_put(K3SUP__JOURNAL_NAME, data, size);
	append();
	put_lines(data, size);
	append();
	return 0;
}
