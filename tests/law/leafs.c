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
#define MOST_BACKUPS 5 /* are kept where nothing else is asked for */

#define GENERATIONS 16

/* Of each pair: as it was made first, and as starts make it anew. */
static struct file leafs[128][GENERATIONS][2], listeners[GENERATIONS];

static const char *const kinds[] = {".crt", ".key"};

static void make_generation(struct tree *t, unsigned generation)
{
	_free_ char *listener = k3sup__fmt("%s/" LISTENER, t->s->path);

	put_leafs(t);
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		for (unsigned kind = 0; kind < 2; kind++) {
			_free_ char *path = k3sup__fmt("%s/%s%s", t->s->path, k3sup__pairs[i].path, kinds[kind]);

			leafs[i][generation][kind] = read_whole(path);
		}
	put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW + DAYS(364), NULL);
	listeners[generation] = read_whole(listener);
}

void leafs_prepare(void)
{
	_free_ char *pool = k3sup__fmt("%s/pool", machine->top);
	void *state = NULL;
	struct tree *t;

	need(tree_setup(&state) == 0, "certificates");
	t = state;
	make_generation(t, 0);
	copy_tree(t->s->path, pool);
	for (unsigned i = 1; i < GENERATIONS; i++)
		make_generation(t, i);
	tree_teardown(&state);
}

static char *live_path(size_t pair, unsigned kind)
{
	char *path = k3sup__fmt("%s" TREE "%s%s", machine->root, k3sup__pairs[pair].path, kinds[kind]);

	need(path != NULL, "memory");
	return path;
}

static bool is_key_only(size_t pair)
{
	return k3sup__pairs[pair].flags & K3SUP__PAIR_KEY_ONLY;
}

/* True: it had to be made. */
static bool make_leaf(size_t pair, unsigned generation)
{
	_free_ char *crt = live_path(pair, 0), *key = live_path(pair, 1);

	if (is_there(key) && (is_key_only(pair) || is_there(crt)))
		return false;
	need(generation < GENERATIONS, "certificates of one more start");
	if (!is_key_only(pair))
		write_whole(crt, &leafs[pair][generation][0], 0644);
	write_whole(key, &leafs[pair][generation][1], 0600);
	return true;
}

void leafs_start(void)
{
	_free_ char *trigger = at(TREE "server/tls/dynamic-cert-regenerate"), *listener = at(TREE LISTENER);
	const unsigned next = machine->leafs + 1;

	for (size_t i = 0; i < k3sup__n_pairs; i++)
		if (make_leaf(i, next))
			machine->leafs = next;
	if (unlink(trigger) < 0)
		return;
	need(next < GENERATIONS, "certificates of one more start");
	write_whole(listener, &listeners[next], 0600);
	machine->leafs = next;
}

bool is_leaf(const char *path)
{
	if (k3sup__endswith(path, LISTENER))
		return true;
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

/* 0: the first one, 1...: made anew, -1: not there, -2: none of them. */
static int generation_of(const char *path, size_t pair, unsigned kind)
{
	struct file f = read_whole(path);
	int generation = f.at ? -2 : -1;

	for (int g = 0; g < GENERATIONS && f.at; g++)
		if (leafs[pair][g][kind].at && f.len == leafs[pair][g][kind].len && memcmp(f.at, leafs[pair][g][kind].at, f.len) == 0)
			generation = g;
	free(f.at);
	return generation;
}

/* Is this file, as it was first, in some backup? So many of them may have pruned the first one. */
static bool is_kept(size_t pair, unsigned kind)
{
	_free_ char *dir = at(STATE_DIR "/certs");
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_backup, by_name);
	bool kept = n >= MOST_BACKUPS;

	for (int i = 0; i < n; i++) {
		_free_ char *path = k3sup__fmt("%s/%s/%s%s", dir, names[i]->d_name, k3sup__pairs[pair].path, kinds[kind]);

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
		_free_ char *path = live_path(pair, kind);

		generations[kind] = generation_of(path, pair, kind);
		if (generations[kind] == -2)
			return k3sup__fmt("%s is torn", path);
		if (generations[kind] != 0 && leafs[pair][0][kind].at && !is_kept(pair, kind))
			return k3sup__fmt("%s is lost", path);
	}
	if (generations[1] >= 0 && !is_key_only(pair) && generations[0] != generations[1])
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

char *leafs_not_new(unsigned since)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		for (unsigned kind = is_key_only(i); kind < 2; kind++) {
			_free_ char *path = live_path(i, kind);
			const int generation = generation_of(path, i, kind);

			if (generation <= (int)since)
				return k3sup__fmt("%s is %s", path, generation < 0 ? "not there" : "not new");
		}
	return NULL;
}
