/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/kept.h"

#include "base/journal.h"
#include "base/lock.h"

static bool says(const k3sup__json *record, const char *key, const char *wanted)
{
	const char *text = k3sup__json_text(record, key);

	return wanted == NULL || (text != NULL && k3sup__streq(text, wanted));
}

int k3sup__kept_read(k3sup_op *op, k3sup_node *node, const char *target, k3sup__json **ret)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *all = NULL;
	k3sup__json *found = k3sup__json_array();
	_close_ int dirfd = -1;
	unsigned damaged;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);

	if (r >= 0)
		r = k3sup__journal_read(op, dirfd, &all, &damaged);
	for (size_t i = 0; r >= 0 && i < k3sup__json_len(all); i++) {
		k3sup__json *record = k3sup__json_element(all, i);

		if (says(record, "target", target) && (says(record, "event", "kept") || says(record, "event", "made")) &&
			k3sup__json_text(record, "path") != NULL && k3sup__json_text(record, "sha256") != NULL)
			k3sup__json_add(found, k3sup__json_ref(record));
	}
	if ((r >= 0 || r == -ENOENT) && !k3sup__json_broken(found)) {
		*ret = found;
		return 0;
	}
	k3sup__json_unref(found);
	return r < 0 && r != -ENOENT ? r : -ENOMEM;
}

k3sup__json *k3sup__kept_find(const k3sup__json *records, const char *event, const char *path, const char *sha256, size_t *ret_index)
{
	for (size_t i = k3sup__json_len(records); i-- > 0;) {
		k3sup__json *record = k3sup__json_element(records, i);

		if (!says(record, "event", event) || !says(record, "path", path) || !says(record, "sha256", sha256))
			continue;
		if (ret_index != NULL)
			*ret_index = i;
		return record;
	}
	return NULL;
}

int k3sup__kept_note(k3sup_op *op, k3sup_node *node, const char *target, const char *event, const char *path, const char *sha256, const char *version)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *records = NULL;
	const k3sup__json *newest;
	k3sup__json *record;
	_close_ int dirfd = -1;
	int r = k3sup__kept_read(op, node, target, &records);

	if (r < 0)
		return r;
	newest = k3sup__kept_find(records, event, NULL, NULL, NULL);
	if (newest != NULL && says(newest, "path", path) && says(newest, "sha256", sha256))
		return 0;
	record = k3sup__json_object();
	k3sup__json_set_str(record, "event", event);
	k3sup__json_set_str(record, "verb", "swap");
	k3sup__json_set_str(record, "target", target);
	k3sup__json_set_str(record, "path", path);
	k3sup__json_set_str(record, "sha256", sha256);
	if (version[0] != '\0')
		k3sup__json_set_str(record, "version", version);
	r = k3sup__state_dir_open(op, &node->root, node->state_dir, true, node->trust_flags, &dirfd);
	if (r < 0) {
		k3sup__json_unref(record);
		return r;
	}
	return k3sup__journal_append(op, dirfd, record);
}
