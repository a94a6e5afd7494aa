/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/failed.h"

#include "base/durable.h"
#include "base/lock.h"
#include "base/utc.h"
#include "node/warn.h"
#include "swap/bytes.h"

#include <fcntl.h>
#include <time.h>

#define MOST 8
#define MAX_SIZE 65536

/* ---- reading ---- */

static int parse(k3sup_op *op, int dirfd, k3sup__json **ret)
{
	_close_ int fd = k3sup__state_file_open(op, dirfd, K3SUP__FAILED_NAME, O_RDONLY);
	_cleanup_(k3sup__json_unrefp) k3sup__json *all = NULL;
	_free_ char *text = fd >= 0 ? malloc(MAX_SIZE) : NULL;
	k3sup__json *records;
	ssize_t n;
	int r;

	if (fd < 0 || !text)
		return fd < 0 ? fd : -ENOMEM;
	n = k3sup__pread_full(fd, text, MAX_SIZE, 0);
	r = n < 0 ? (int)n : k3sup__json_parse(text, (size_t)n, &all);
	records = r >= 0 ? k3sup__json_member(all, "failed") : NULL;
	if (!records)
		return r < 0 && r != K3SUP_E_PARSE ? k3sup__fail(op, r, "cannot read it: %s", k3sup_strerror(r))
						   : k3sup__fail(op, K3SUP_E_STATE_DIR, "it is damaged");
	*ret = k3sup__json_ref(records);
	return 0;
}

int k3sup__failed_read(k3sup_op *op, k3sup_node *node, k3sup__json **ret)
{
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);

	if (r >= 0)
		r = parse(op, dirfd, ret);
	if (r >= 0 || r == -ENOMEM || k3sup__op_checkpoint(op) < 0)
		return r;
	if (r != -ENOENT && dirfd >= 0) /* that the directory cannot be used is said by those who look for the journal in it */
		k3sup__warn(op, "what failed on this node before is not known: %s",
			k3sup__op_sentence(op) ? k3sup__op_sentence(op) : k3sup_strerror(r));
	k3sup__op_forgive(op);
	*ret = k3sup__json_array();
	return *ret ? 0 : -ENOMEM;
}

static k3sup__json *find(const k3sup__json *records, const char *member, const struct k3sup__build *build)
{
	for (size_t i = k3sup__json_len(records); i-- > 0;) {
		k3sup__json *record = k3sup__json_element(records, i);

		if (k3sup__build_is(k3sup__json_member(record, member), build))
			return record;
	}
	return NULL;
}

k3sup__json *k3sup__failed_about(const k3sup__json *records, const struct k3sup__build *build)
{
	return find(records, "build", build);
}

k3sup__json *k3sup__failed_back_to(const k3sup__json *records, const struct k3sup__build *build)
{
	return find(records, "back_to", build);
}

static k3sup__json *by_digest(const k3sup__json *records, const char *sha256)
{
	for (size_t i = k3sup__json_len(records); i-- > 0;) {
		const char *its = k3sup__json_text(k3sup__json_element(records, i), "sha256");

		if (its && k3sup__streq(its, sha256))
			return k3sup__json_element(records, i);
	}
	return NULL;
}

int k3sup__failed_find(k3sup_op *op, const k3sup__json *records, const struct k3sup__payload *payload, k3sup__json **ret)
{
	char sha256[K3SUP__SHA256_HEX];
	int r = 0;

	*ret = NULL;
	if (!k3sup__failed_about(records, &payload->build))
		return 0;
	memcpy(sha256, payload->sha256, sizeof(sha256));
	if (!sha256[0])
		r = k3sup__bytes_digest(op, payload->fd, payload->shown, sha256);
	if (r >= 0)
		*ret = by_digest(records, sha256);
	return r < 0 ? r : *ret != NULL;
}

int k3sup__failed_refuse(k3sup_op *op, const k3sup__json *record)
{
	const char *text = k3sup__json_text(record, "text"), *version = k3sup__json_text(k3sup__json_member(record, "build"), "version");
	char when[K3SUP__UTC_TEXT];

	k3sup__utc_text(k3sup__json_number(record, "at", 0), when);
	k3sup__json_set(k3sup__op_evidence(op), "failed", k3sup__json_copy(record));
	return k3sup__fail(op, K3SUP_E_FAILED_BEFORE,
		"this very payload (%s) failed here on %s: %s; ask for it with --retry-failed, or take another one",
		version ? version : "of unknown version", when, text ? text : "nobody knows how");
}

/* ---- writing ---- */

static int write_all(k3sup_op *op, int dirfd, const k3sup__json *records)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *all = k3sup__json_object(), *newest = k3sup__json_array();
	size_t count = k3sup__json_len(records);
	_free_ char *text = NULL;
	int r;

	for (size_t i = count > MOST ? count - MOST : 0; i < count; i++)
		k3sup__json_add(newest, k3sup__json_ref(k3sup__json_element(records, i)));
	k3sup__json_set(all, "failed", k3sup__json_ref(newest));
	text = k3sup__json_broken(all) ? NULL : k3sup__json_dump(all);
	if (!text)
		return -ENOMEM;
	r = k3sup__stage_leftovers(op, dirfd, K3SUP__FAILED_NAME, true);
	return r < 0 ? r : k3sup__durable_write(op, dirfd, K3SUP__FAILED_NAME, text, strlen(text), 0600);
}

/* All records but the one about these bytes, which is handed out (NULL: there is none). */
static int take_out(k3sup_op *op, k3sup_node *node, const char *sha256, k3sup__json **ret_others, k3sup__json **ret_one)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *records = NULL;
	const k3sup__json *one;
	k3sup__json *others;
	int r = k3sup__failed_read(op, node, &records);

	if (r < 0)
		return r;
	one = by_digest(records, sha256);
	others = k3sup__json_array();
	for (size_t i = 0; i < k3sup__json_len(records); i++)
		if (k3sup__json_element(records, i) != one)
			k3sup__json_add(others, k3sup__json_ref(k3sup__json_element(records, i)));
	*ret_one = one ? k3sup__json_copy(one) : k3sup__json_object();
	*ret_others = others;
	return 0;
}

/* Consumes both. */
static int put_back(k3sup_op *op, k3sup_node *node, k3sup__json *others, k3sup__json *one)
{
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, true, node->trust_flags, &dirfd);

	if (one)
		k3sup__json_add(others, one);
	if (r >= 0)
		r = write_all(op, dirfd, others);
	k3sup__json_unref(others);
	return r;
}

int k3sup__failed_note(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build, const char *sha256, int reason, const char *text)
{
	k3sup__json *others, *one;
	int r = take_out(op, node, sha256, &others, &one);

	if (r < 0)
		return r;
	k3sup__json_set_str(one, "sha256", sha256);
	k3sup__json_set(one, "build", k3sup__build_json(build));
	k3sup__json_set_str(one, "reason", k3sup_error_name(reason));
	k3sup__json_set_str(one, "text", text);
	k3sup__json_set_int(one, "at", time(NULL));
	k3sup__json_set_int(one, "times", k3sup__json_number(one, "times", 0) + 1);
	return put_back(op, node, others, one);
}

int k3sup__failed_note_back(k3sup_op *op, k3sup_node *node, const char *sha256, const struct k3sup__build *back_to)
{
	k3sup__json *others, *one;
	int r = take_out(op, node, sha256, &others, &one);

	if (r < 0)
		return r;
	k3sup__json_set(one, "back_to", k3sup__build_json(back_to));
	return put_back(op, node, others, one);
}

int k3sup__failed_proven(k3sup_op *op, k3sup_node *node, const struct k3sup__build *build)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *records = NULL;
	k3sup__json *others;
	bool news = false;
	int r = k3sup__failed_read(op, node, &records);

	if (r < 0)
		return r;
	others = k3sup__json_array();
	for (size_t i = 0; i < k3sup__json_len(records); i++) {
		k3sup__json *record = k3sup__json_element(records, i);
		bool is_it = k3sup__build_is(k3sup__json_member(record, "build"), build), was_back = k3sup__json_member(record, "back_to") != NULL;

		news |= is_it || was_back;
		if (is_it)
			continue;
		if (was_back) {
			record = k3sup__json_copy(record);
			k3sup__json_del(record, "back_to");
			k3sup__json_add(others, record);
		} else {
			k3sup__json_add(others, k3sup__json_ref(record));
		}
	}
	if (news)
		return put_back(op, node, others, NULL);
	k3sup__json_unref(others);
	return 0;
}
