/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates of a server: made once, made anew by each start where they are missing, and never to be lost.
 */
#include "law.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/certs/tree.h"

#define TREE DATA_DIR "/"

/* Of each pair: as it was made first, and as a start makes it anew. */
static struct file leafs[128][2][2];

static void keep_leafs(const struct tree *t, unsigned generation)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		for (unsigned kind = 0; kind < 2; kind++) {
			_free_ char *path = k3sup__fmt("%s/%s%s", t->s->path, k3sup__pairs[i].path, kind ? ".key" : ".crt");

			leafs[i][generation][kind] = read_whole(path);
		}
}

void leafs_prepare(void)
{
	_free_ char *pool = k3sup__fmt("%s/pool", machine->top);
	void *state = NULL;
	struct tree *t;

	need(tree_setup(&state) == 0, "certificates");
	t = state;
	keep_leafs(t, 0);
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		put_leaf(t, &k3sup__pairs[i], NOW - DAYS(1), NOW + DAYS(364), NULL, NULL);
	keep_leafs(t, 1);
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		for (unsigned kind = 0; kind < 2; kind++) {
			_free_ char *path = k3sup__fmt("%s/%s%s", t->s->path, k3sup__pairs[i].path, kind ? ".key" : ".crt");

			if (leafs[i][0][kind].at)
				write_whole(path, &leafs[i][0][kind], kind ? 0600 : 0644);
		}
	copy_tree(t->s->path, pool);
	tree_teardown(&state);
}

static void make_leaf(size_t pair)
{
	_free_ char *crt = k3sup__fmt("%s" TREE "%s.crt", machine->root, k3sup__pairs[pair].path);
	_free_ char *key = k3sup__fmt("%s" TREE "%s.key", machine->root, k3sup__pairs[pair].path);
	bool only = k3sup__pairs[pair].flags & K3SUP__PAIR_KEY_ONLY;

	if (is_there(key) && (only || is_there(crt)))
		return;
	if (!only)
		write_whole(crt, &leafs[pair][1][0], 0644);
	write_whole(key, &leafs[pair][1][1], 0600);
}

void leafs_start(void)
{
	_free_ char *trigger = at(TREE "server/tls/dynamic-cert-regenerate");

	for (size_t i = 0; i < k3sup__n_pairs; i++)
		make_leaf(i);
	(void)unlink(trigger);
}

bool is_leaf(const char *path)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++) {
		const char *pair = k3sup__pairs[i].path, *found = strstr(path, pair);

		if (found && (strcmp(found + strlen(pair), ".crt") == 0 || strcmp(found + strlen(pair), ".key") == 0))
			return true;
	}
	return false;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_backup(const struct dirent *entry)
{
	return strncmp(entry->d_name, "tls-", 4) == 0;
}

char *node_cert_backup(void)
{
	_free_ char *dir = at(STATE_DIR "/certs");
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_backup, by_name);
	char *first = n > 0 ? strdup(names[0]->d_name) : NULL;

	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return first;
}

bool node_restored(const char *backup)
{
	bool all = true;

	for (size_t i = 0; i < k3sup__n_pairs; i++)
		for (unsigned kind = 0; kind < 2; kind++) {
			_free_ char *live = k3sup__fmt("%s" TREE "%s%s", machine->root, k3sup__pairs[i].path, kind ? ".key" : ".crt");
			_free_ char *kept = k3sup__fmt(
				"%s" STATE_DIR "/certs/%s/%s%s", machine->root, backup, k3sup__pairs[i].path, kind ? ".key" : ".crt");

			all &= !is_there(kept) || same_file(live, kept);
		}
	return all;
}

/* 0: the first one, 1: made anew, -1: not there, -2: neither. */
static int generation_of(const char *path, size_t pair, unsigned kind)
{
	struct file f = read_whole(path);
	int generation = f.at ? -2 : -1;

	for (int g = 0; g < 2 && f.at; g++)
		if (leafs[pair][g][kind].at && f.len == leafs[pair][g][kind].len && memcmp(f.at, leafs[pair][g][kind].at, f.len) == 0)
			generation = g;
	free(f.at);
	return generation;
}

/* Is this file, as it was first, still in place or in some backup? */
static bool is_kept(size_t pair, unsigned kind)
{
	_free_ char *dir = at(STATE_DIR "/certs");
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_backup, by_name);
	bool kept = false;

	for (int i = 0; i < n; i++) {
		_free_ char *path = k3sup__fmt("%s/%s/%s%s", dir, names[i]->d_name, k3sup__pairs[pair].path, kind ? ".key" : ".crt");

		kept |= generation_of(path, pair, kind) == 0;
		free(names[i]);
	}
	free(names);
	return kept;
}

static char *leaf_complaint(size_t pair)
{
	int generations[2];

	for (unsigned kind = 0; kind < 2; kind++) {
		_free_ char *path = k3sup__fmt("%s" TREE "%s%s", machine->root, k3sup__pairs[pair].path, kind ? ".key" : ".crt");

		generations[kind] = generation_of(path, pair, kind);
		if (generations[kind] == -2)
			return k3sup__fmt("%s is torn", path);
		if (generations[kind] != 0 && leafs[pair][0][kind].at && !is_kept(pair, kind))
			return k3sup__fmt("%s is lost", path);
	}
	if (generations[1] >= 0 && !(k3sup__pairs[pair].flags & K3SUP__PAIR_KEY_ONLY) && generations[0] != generations[1])
		return k3sup__fmt("%s.key does not have its certificate", k3sup__pairs[pair].path);
	return NULL;
}

char *leafs_complaint(void)
{
	char *complaint = NULL;

	for (size_t i = 0; !complaint && i < k3sup__n_pairs; i++)
		complaint = leaf_complaint(i);
	return complaint;
}
