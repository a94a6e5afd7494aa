/* SPDX-License-Identifier: Apache-2.0 */
#include "../rooms.h"

#include "base/journal.h"
#include "base/lock.h"
#include "upgrade/entry.h"

static const struct k3sup__payload one = {.build = {.size = 100, .asset_hash = HASH1, .version = V1, .wrapper = true}};
static const struct k3sup__payload two = {.build = {.size = 100, .asset_hash = HASH2, .version = V2, .wrapper = true}};
static const struct k3sup__payload image = {.build = {.size = 100, .version = V1, .inner = true}};
static const struct k3sup__payload newer_image = {.build = {.size = 100, .version = V2, .inner = true}};

static k3sup__json *read_records(struct scratch *s, k3sup_node *node)
{
	k3sup__json *records = NULL;
	unsigned damaged;
	int dirfd = -1;

	assert_int_equal(k3sup__state_dir_open(s->op, &node->root, node->state_dir, true, node->trust_flags, &dirfd), 0);
	assert_int_equal(k3sup__journal_read(s->op, dirfd, &records, &damaged), 0);
	assert_int_equal(damaged, 0);
	close(dirfd);
	return records;
}

/* What the next run finds where this build is installed. */
static struct k3sup__entry take_over_at(
	struct scratch *s, k3sup_node *node, const struct k3sup__payload *payload, const struct k3sup__payload *installed)
{
	struct k3sup__view view = {.records = read_records(s, node), .build = installed->build, .same = installed == payload};
	struct k3sup__entry entry = {0};

	view.open_entry = k3sup__journal_open_entry(view.records, "upgrade");
	k3sup__entry_take_over(s->op, node, &view, payload, &entry);
	k3sup__json_unref(view.records);
	return entry;
}

static struct k3sup__entry take_over(struct scratch *s, k3sup_node *node, const struct k3sup__payload *payload)
{
	return take_over_at(s, node, payload, &one);
}

static void open_entry(struct scratch *s, k3sup_node *node, const struct k3sup__payload *payload, bool prove, struct k3sup__entry *entry)
{
	char path[] = INSTALLED;
	struct k3sup__view view = {.installed.path = path, .build = one.build};

	assert_int_equal(k3sup__entry_open(s->op, node, &view, payload, prove, entry), 0);
}

static size_t warnings(struct scratch *s)
{
	return k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "warnings"));
}

static int collect_key(const char *key, k3sup__json *value, void *arg)
{
	static const char *const known[] = {"op", "event", "verb", "payload", "before", "target", "prove", "reason", "at", "boot_id"};

	(void)value;
	(void)arg;
	for (size_t i = 0; i < ELEMENTSOF(known); i++)
		if (k3sup__streq(key, known[i]))
			return 0;
	return 1;
}

/* No title, no arguments, no environment, no path of the caller: a journal may be shown to others. */
static void a_record_says_what_and_where_and_nothing_else(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__payload from = two;
	struct k3sup__entry entry = {0};
	k3sup__json *records, *record;
	char *text;

	from.shown = "/home/admin/secret-name/k3s";
	open_entry(s, node, &from, true, &entry);
	assert_int_equal(strlen(entry.id), 16);
	assert_int_equal(k3sup__entry_close(s->op, node, K3SUP_E_TIMEOUT, &entry), 0);
	assert_string_equal(entry.id, "");
	records = read_records(s, node);
	assert_int_equal(k3sup__json_len(records), 2);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(k3sup__json_each(k3sup__json_element(records, i), collect_key, NULL), 0);
	record = k3sup__json_element(records, 0);
	assert_string_equal(k3sup__json_text(record, "target"), INSTALLED);
	assert_string_equal(k3sup__json_text(k3sup__json_member(record, "payload"), "asset_hash"), HASH2);
	assert_string_equal(k3sup__json_text(k3sup__json_member(record, "before"), "asset_hash"), HASH1);
	assert_string_equal(k3sup__json_text(k3sup__json_element(records, 1), "reason"), "K3SUP_E_TIMEOUT");
	text = k3sup__json_dump(records);
	assert_null(strstr(text, "secret"));
	free(text);
	k3sup__json_unref(records);
	k3sup_node_unref(node);
}

static void it_is_opened_once_and_closed_once(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__entry entry = {0};
	k3sup__json *records;

	assert_int_equal(k3sup__entry_close(s->op, node, 1, &entry), 0); /* nothing to close, nothing written */
	open_entry(s, node, &two, true, &entry);
	open_entry(s, node, &two, true, &entry);
	assert_int_equal(k3sup__entry_close(s->op, node, 1, &entry), 0);
	assert_int_equal(k3sup__entry_close(s->op, node, 1, &entry), 0);
	records = read_records(s, node);
	assert_int_equal(k3sup__json_len(records), 2);
	assert_string_equal(k3sup__json_text(k3sup__json_element(records, 1), "reason"), "done");
	assert_null(k3sup__journal_open_entry(records, "upgrade"));
	k3sup__json_unref(records);
	k3sup_node_unref(node);
}

static void the_same_payload_goes_on(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__entry entry = {0}, next = take_over(s, node, &two);

	assert_false(next.resumed || next.older);
	open_entry(s, node, &two, true, &entry);
	next = take_over(s, node, &two);
	assert_true(next.resumed && next.older && next.prove);
	assert_string_equal(next.id, entry.id);
	assert_true(take_over_at(s, node, &two, &two).resumed);
	assert_int_equal(warnings(s), 0);
	/* What would be replaced now is not what the entry says was there before. */
	assert_false(take_over_at(s, node, &two, &image).resumed);
	assert_int_equal(warnings(s), 1);
	assert_int_equal(k3sup__entry_close(s->op, node, 1, &next), 0);
	entry = (struct k3sup__entry){0};
	open_entry(s, node, &image, false, &entry); /* one without an archive is known by size and version */
	next = take_over(s, node, &newer_image);
	assert_false(next.resumed);
	next = take_over(s, node, &one);
	assert_false(next.resumed);
	next = take_over(s, node, &image);
	assert_true(next.resumed && !next.prove);
	k3sup_node_unref(node);
}

static void another_payload_is_told_and_its_success_closes_all(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__entry first = {0}, next, last;
	k3sup__json *records;

	open_entry(s, node, &two, true, &first);
	next = take_over(s, node, &one);
	assert_true(next.older && !next.resumed && !next.id[0]);
	assert_int_equal(warnings(s), 1);
	/* What fails without having touched anything leaves the earlier one as it was. */
	open_entry(s, node, &one, true, &next);
	assert_int_equal(k3sup__entry_close(s->op, node, -ENOSPC, &next), 0);
	last = take_over(s, node, &two);
	assert_true(last.resumed);
	assert_string_equal(last.id, first.id);
	/* What succeeds closes it. */
	next = take_over(s, node, &one);
	open_entry(s, node, &one, true, &next);
	assert_int_equal(k3sup__entry_close(s->op, node, 0, &next), 0);
	records = read_records(s, node);
	assert_null(k3sup__journal_open_entry(records, "upgrade"));
	assert_int_equal(k3sup__json_len(records), 6);
	assert_string_equal(k3sup__json_text(k3sup__json_element(records, 5), "reason"), "superseded");
	assert_string_equal(k3sup__json_text(k3sup__json_element(records, 5), "op"), first.id);
	k3sup__json_unref(records);
	k3sup_node_unref(node);
}

static void a_journal_that_cannot_be_written_is_an_error(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__entry entry = {0};
	char path[] = INSTALLED;
	struct k3sup__view view = {.installed.path = path};

	k3sup__json_unref(read_records(s, node));
	assert_int_equal(symlinkat("/etc/passwd", s->fd, "var/lib/k3sup/journal"), 0);
	assert_int_equal(k3sup__entry_open(s->op, node, &view, &two, true, &entry), K3SUP_E_STATE_DIR);
	assert_string_equal(entry.id, "");
	k3sup_node_unref(node);
}

static size_t count_records(struct scratch *s, k3sup_node *node)
{
	k3sup__json *records = read_records(s, node);
	size_t count = k3sup__json_len(records);

	k3sup__json_unref(records);
	return count;
}

static bool is_owed(struct scratch *s, k3sup_node *node, const char *id)
{
	struct k3sup__entry entry = take_over(s, node, &two);

	return id ? k3sup__streq(entry.owed.id, id) : entry.owed.id[0] != '\0';
}

/* Of this boot, and as long as the entry is open, whatever the payload is by now. */
static void a_stop_of_ours_is_remembered(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__entry entry = {0}, later = {0};
	struct k3sup__view view = {.build = one.build};
	char data_dir[] = "/srv/by/hand";

	open_entry(s, node, &one, true, &entry);
	assert_false(is_owed(s, node, NULL));
	view.data_dir.path = data_dir;
	assert_int_equal(k3sup__entry_stops(s->op, node, &view, &entry), 0);
	assert_string_equal(entry.owed.id, entry.id);
	assert_true(is_owed(s, node, entry.id));
	assert_true(take_over(s, node, &one).resumed && !take_over(s, node, &two).resumed);
	view.records = read_records(s, node);
	view.open_entry = k3sup__journal_open_entry(view.records, "upgrade");
	assert_string_equal(k3sup__entry_owed(node, view.records).data_dir, "/srv/by/hand");
	k3sup__json_set_str(k3sup__json_element(view.records, 1), "boot_id", "5d5b2f7e-0000-4000-8000-000000000000");
	k3sup__entry_take_over(s->op, node, &view, &one, &later);
	assert_true(later.resumed && !later.owed.id[0]);
	assert_null(k3sup__entry_owed(node, view.records).data_dir);
	k3sup__json_unref(view.records);
	assert_int_equal(k3sup__entry_close(s->op, node, 0, &entry), 0);
	assert_false(is_owed(s, node, NULL));
	k3sup_node_unref(node);
}

/* The last word counts, whichever verb's: a rotation's stop is owed by an upgrade, too, until it was seen to run again. */
static void a_start_is_owed_for_a_rotation_too(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__entry entry;
	size_t count;

	assert_int_equal(k3sup__entry_append(s->op, node, k3sup__entry_record("00000000000000aa", "open", K3SUP__VERB_ROTATE)), 0);
	assert_false(is_owed(s, node, NULL));
	assert_int_equal(k3sup__entry_note_stop(s->op, node, "00000000000000aa", K3SUP__VERB_ROTATE, "/srv/by/hand"), 0);
	entry = take_over(s, node, &two);
	assert_string_equal(entry.owed.id, "00000000000000aa");
	assert_string_equal(entry.owed.verb, K3SUP__VERB_ROTATE);
	assert_false(entry.resumed || entry.older);
	assert_int_equal(k3sup__entry_note_started(s->op, node, &entry), 0);
	assert_false(entry.owed.id[0] || is_owed(s, node, NULL));
	count = count_records(s, node);
	assert_int_equal(k3sup__entry_note_started(s->op, node, &entry), 0); /* once */
	assert_int_equal(count_records(s, node), count);
	/* The stop of an entry that was closed since is nobody's, though an older one is open. */
	open_entry(s, node, &two, true, &entry);
	assert_int_equal(k3sup__entry_note_stop(s->op, node, entry.id, K3SUP__VERB_UPGRADE, "/srv/by/hand"), 0);
	assert_int_equal(k3sup__entry_close(s->op, node, 0, &entry), 0);
	assert_false(is_owed(s, node, NULL));
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(a_record_says_what_and_where_and_nothing_else),
		scratch_test(it_is_opened_once_and_closed_once),
		scratch_test(the_same_payload_goes_on),
		scratch_test(another_payload_is_told_and_its_success_closes_all),
		scratch_test(a_stop_of_ours_is_remembered),
		scratch_test(a_start_is_owed_for_a_rotation_too),
		scratch_test(a_journal_that_cannot_be_written_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
