/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/view.h"

#include "base/journal.h"
#include "node/warn.h"
#include "upgrade/failed.h"
#include "upgrade/records.h"

#include <fcntl.h>

/* The archive's name tells, or the inode where k3s is installed without a wrapper. */
bool k3sup__view_runs_installed(const struct k3sup__view *view, const struct k3sup__candidate *c)
{
	if (c->image || c->unpacking)
		return c->exe_dev == view->installed.st.st_dev && c->exe_ino == view->installed.st.st_ino;
	return view->build.asset_hash[0] && k3sup__streq(view->build.asset_hash, c->asset_hash);
}

int k3sup__view_startable(k3sup_op *op, const struct k3sup__view *view)
{
	int r = k3sup__startable(op, view->data_dir.unstartable);

	return r < 0 ? r : k3sup__startable(op, view->second_dir.unstartable);
}

const char *k3sup__view_data_dir(const struct k3sup__view *view, size_t i)
{
	const char *first = view->data_dir.path, *second = view->second_dir.path;

	if (i == 0)
		return first;
	return i == 1 && second && !k3sup__streq(first, second) ? second : NULL;
}

/* A k3s file that cannot be used is a finding, not the end of the look. */
static bool is_finding(int r)
{
	return r == K3SUP_E_TARGET_MISSING || r == K3SUP_E_TARGET_DANGLING || r == K3SUP_E_TARGET_LOOP || r == K3SUP_E_TARGET_NOT_FILE ||
		r == K3SUP_E_TARGET_AMBIGUOUS;
}

/* Which files they are, if there are several. */
static void keep_evidence(k3sup_op *op, struct k3sup__view *v)
{
	k3sup__json *files = k3sup__json_member(k3sup__op_evidence(op), "installed");

	k3sup__json_unref(v->files);
	v->files = files ? k3sup__json_ref(files) : NULL;
}

static int read_file(k3sup_op *op, const struct k3sup__payload *payload, struct k3sup__view *v)
{
	_close_ int fd = -1;
	int r;

	if (payload && k3sup__payload_is(payload, &v->installed.st)) {
		v->build = payload->build;
		return 0;
	}
	fd = k3sup__place_open(&v->installed, O_RDONLY);
	r = fd < 0 ? fd : k3sup__build_read_fd(op, fd, v->installed.path, K3SUP__BUILD_LENIENT, &v->build);

	if (r == -ESTALE || r == -ENOENT || r == -ELOOP || r == K3SUP_E_PAYLOAD_CHANGED) {
		k3sup__op_forgive(op);
		return k3sup__fail(op, K3SUP_E_TARGET_CHANGED, "somebody replaces %s just now", v->installed.path);
	}
	return r < 0 ? k3sup__fail(op, r, "cannot read %s: %s", v->installed.path, k3sup_strerror(r)) : 0;
}

static int look_for_file(
	k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, const struct k3sup__candidate *running, struct k3sup__view *v)
{
	k3sup__place_clear(&v->installed);
	v->installed_error =
		running ? k3sup__installed_of(op, node, running, &v->installed) : k3sup__installed_find(op, node, NULL, &v->installed);
	if (is_finding(v->installed_error)) {
		keep_evidence(op, v);
		k3sup__op_forgive(op);
		return 0;
	}
	return v->installed_error < 0 ? v->installed_error : read_file(op, payload, v);
}

static int look_for_processes(k3sup_op *op, k3sup_node *node, struct k3sup__view *v)
{
	int r;

	k3sup__sighting_clear(&v->sighting);
	r = k3sup__identify_scan(op, node, &v->installed, &v->sighting);
	if (r < 0)
		return r;
	v->running_error = k3sup__sighting_judge(op, &v->sighting);
	if (k3sup__is_no_k3s(v->running_error) || v->running_error == K3SUP_E_AMBIGUOUS)
		k3sup__op_forgive(op);
	else if (v->running_error < 0)
		return v->running_error;
	return 0;
}

/* Kept for those who cannot do without. */
static int only_a_warning(k3sup_op *op, int r, const char *what, char **ret_text)
{
	const char *sentence = k3sup__op_sentence(op);

	const bool sealed = !k3sup__op_evidence(op); /* a last look: what it finds was found by the first one */

	*ret_text = k3sup__fmt("%s: %s", what, sentence ? sentence : k3sup_strerror(r));
	k3sup__op_forgive(op);
	if (!*ret_text)
		return -ENOMEM;
	if (!sealed)
		k3sup__warn(op, "%s", *ret_text);
	return 0;
}

/* What is written there cannot be seen elsewhere, but what can be seen elsewhere is worth saying without it, too (to a caller who is not root, above all). */
static int look_at_journal(k3sup_op *op, k3sup_node *node, struct k3sup__view *v)
{
	_close_ int dirfd = -1;
	int r = k3sup__state_dir_open(op, &node->root, node->state_dir, false, node->trust_flags, &dirfd);

	if (r >= 0)
		r = k3sup__journal_read(op, dirfd, &v->records, &v->damaged);
	v->open_entry = v->records ? k3sup__journal_open_entry(v->records, K3SUP__VERB_UPGRADE) : NULL;
	v->rotation = v->records ? k3sup__journal_open_entry(v->records, K3SUP__VERB_ROTATE) : NULL;
	if (r >= 0 || r == -ENOMEM || k3sup__op_checkpoint(op) < 0)
		return r;
	if (r == -ENOENT) {
		k3sup__op_forgive(op);
		return 0;
	}
	v->journal_error = r;
	return only_a_warning(op, r, "the journal cannot be read", &v->journal_text);
}

static int look_at_lock(k3sup_op *op, k3sup_node *node, struct k3sup__view *v)
{
	int r;

	v->at_work = k3sup__node_serves_another(node, op);
	if (k3sup__node_has_lock(node)) /* it is us */
		return 0;
	r = k3sup__lock_holder(op, &node->root, node->trust_flags, &v->holder);
	if (r >= 0 || r == -ENOMEM)
		return r < 0 ? r : 0;
	v->lock_error = r;
	return only_a_warning(op, r, "nobody can say whether another run holds the node's lock", &v->lock_text);
}

/* Between swap and restart none of several files is the one that runs. An upgrade of ours says which one it replaced. */
static int look_for_entrys_file(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__view *v)
{
	const char *target = k3sup__json_text(v->open_entry, "target");
	struct k3sup__place place = K3SUP__PLACE_NONE;
	int r = target ? k3sup__root_find(op, &node->root, target, node->trust_flags, &place) : -ENOENT;

	if (r < 0 || place.fd < 0 || !S_ISREG(place.st.st_mode)) {
		k3sup__place_clear(&place);
		k3sup__op_forgive(op);
		return r == -ENOMEM ? r : 0;
	}
	v->installed = place;
	v->installed_error = 0;
	return read_file(op, payload, v);
}

static int look_at_leftovers(k3sup_op *op, k3sup_node *node, struct k3sup__view *v)
{
	int r;

	if (v->installed.fd < 0)
		return look_at_lock(op, node, v);
	v->leftovers = k3sup__swap_leftovers(op, node, &v->installed, false);
	r = v->leftovers < 0 ? v->leftovers : look_at_lock(op, node, v);
	/* A run that was at work at the first look and is over now has cleaned up. */
	if (r >= 0 && v->leftovers > 0 && !v->holder && !v->at_work)
		v->leftovers = k3sup__swap_leftovers(op, node, &v->installed, false);
	return v->leftovers < 0 ? v->leftovers : r;
}

static int compare(k3sup_op *op, const struct k3sup__payload *payload, struct k3sup__view *v)
{
	k3sup__json *known;
	int r;

	v->same = -1;
	if (!payload)
		return 0;
	v->same = v->installed.fd >= 0 ? k3sup__swap_is_same(op, payload, &v->installed, v->same_sha256) : 0;
	if (v->same != 0)
		return v->same < 0 ? v->same : 0;
	r = k3sup__failed_find(op, v->failed, payload, &known);
	v->failed_before = r > 0;
	return r < 0 ? r : 0;
}

/* Was the file found that this k3s was started from, as far as can be told? */
static bool is_its_file(const struct k3sup__view *v, const struct k3sup__candidate *running)
{
	if (running->target && v->installed_error == 0)
		return k3sup__streq(running->target, v->installed.path);
	return v->installed_error == 0 || (!running->target && !running->asset_hash[0]);
}

static int look_for_data_dirs(k3sup_op *op, k3sup_node *node, struct k3sup__view *v)
{
	const struct k3sup__candidate *c = v->sighting.candidates;
	const char *stopped = v->records ? k3sup__entry_owed(node, v->records).data_dir : NULL;
	int r = k3sup__data_dir_look(op, node, v->sighting.count ? &c[0] : NULL, stopped, &v->units, v->build.version, &v->data_dir);

	if (r < 0 || v->running_error < 0 || v->sighting.count < 2)
		return r;
	return k3sup__data_dir_look(op, node, &c[1], NULL, &v->units, v->build.version, &v->second_dir);
}

static int look_once(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__view *v)
{
	int r = look_for_file(op, node, payload, NULL, v);

	if (r >= 0)
		r = look_for_processes(op, node, v);
	/* Several files may be installed; the one that runs is the one that counts. */
	if (r >= 0 && v->sighting.count > 0 && !is_its_file(v, &v->sighting.candidates[0]))
		r = look_for_file(op, node, payload, &v->sighting.candidates[0], v);
	if (r >= 0)
		r = look_at_journal(op, node, v);
	if (r >= 0)
		r = k3sup__failed_read(op, node, &v->failed);
	if (r >= 0 && v->installed_error == K3SUP_E_TARGET_AMBIGUOUS && v->open_entry)
		r = look_for_entrys_file(op, node, payload, v);
	if (r >= 0)
		r = look_at_leftovers(op, node, v);
	if (r >= 0)
		r = compare(op, payload, v);
	if (r >= 0)
		r = k3sup__units_read(op, node, &v->units);
	if (r >= 0)
		r = look_for_data_dirs(op, node, v);
	v->images_kept = r >= 0 && k3sup__images_are_kept(node, v->data_dir.path);
	for (size_t i = 0; i < v->sighting.count; i++) {
		v->unpacking |= v->sighting.candidates[i].unpacking;
		v->pending |= v->installed.fd >= 0 && !k3sup__view_runs_installed(v, &v->sighting.candidates[i]);
	}
	return r;
}

int k3sup__view_take(k3sup_op *op, k3sup_node *node, const struct k3sup__payload *payload, struct k3sup__view *ret)
{
	/* An upgrade may replace the file while a state is looked at. It does so once. */
	for (int i = 0;; i++) {
		struct k3sup__view v = {.installed = K3SUP__PLACE_NONE};
		int r = look_once(op, node, payload, &v);

		if (r >= 0) {
			*ret = v;
			return 0;
		}
		k3sup__view_clear(&v);
		if (r != K3SUP_E_TARGET_CHANGED || i >= 3)
			return r;
		k3sup__op_forgive(op);
	}
}

void k3sup__view_clear(struct k3sup__view *view)
{
	k3sup__place_clear(&view->installed);
	k3sup__sighting_clear(&view->sighting);
	k3sup__json_unref(view->records);
	k3sup__json_unref(view->failed);
	k3sup__json_unref(view->holder);
	k3sup__json_unref(view->files);
	k3sup__json_unref(view->managed);
	free(view->journal_text);
	free(view->lock_text);
	k3sup__units_clear(&view->units);
	k3sup__data_dir_clear(&view->data_dir);
	k3sup__data_dir_clear(&view->second_dir);
	*view = (struct k3sup__view){.installed = K3SUP__PLACE_NONE};
}
