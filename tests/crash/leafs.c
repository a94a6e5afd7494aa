/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificates of driver-rotate: sets that are made once and lie beside the node, of which a start takes one, so that it can be seen afterwards which run has come how far.
 */
#include "leafs.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../law/law.h"

#include "../unit/certs/tree.h"

const char leaf_sets[] = "abcd";
unsigned leafs_set = 1;

void leafs_prepare(void)
{
	_free_ char *pool = k3sup__fmt("%s/pool", machine->top);
	void *state = NULL;
	struct tree *t;

	need(tree_setup(&state) == 0, "certificates");
	t = state;
	for (unsigned i = 0; leaf_sets[i]; i++) {
		_free_ char *one = k3sup__fmt("%s/%c", machine->top, leaf_sets[i]);

		put_leafs(t);
		put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW + DAYS(364), NULL);
		copy_tree(t->s->path, one);
		if (i == 0)
			copy_tree(t->s->path, pool);
	}
	tree_teardown(&state);
}

/* Whole and to the disk: what a start of k3s leaves after a power cut is not ours to answer for. */
static void put_next(const char *path, const char *kind, mode_t mode)
{
	_free_ char *from = k3sup__fmt("%s/%c/%s%s", machine->top, leaf_sets[leafs_set], path, kind);
	_free_ char *to = k3sup__fmt("%s" DATA_DIR "/%s%s", machine->root, path, kind), *temp = k3sup__fmt("%s.start", to);
	struct file f = read_whole(from);
	int fd;

	need(f.at != NULL, from);
	write_whole(temp, &f, mode);
	free(f.at);
	fd = open(temp, O_RDONLY | O_CLOEXEC);
	need(fd >= 0 && fsync(fd) == 0 && close(fd) == 0 && rename(temp, to) == 0, to);
	*strrchr(to, '/') = '\0';
	fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(fd >= 0 && fsync(fd) == 0 && close(fd) == 0, to);
}

static bool is_live(const char *path, const char *kind)
{
	_free_ char *live = k3sup__fmt("%s" DATA_DIR "/%s%s", machine->root, path, kind);

	return is_there(live);
}

/* As k3s does it: a pair of which something is not there, and the listener's if it is told to (k3s pkg/daemons/control/deps, pkg/cluster/https.go). */
void leafs_start(void)
{
	_free_ char *trigger = at(DATA_DIR "/server/tls/dynamic-cert-regenerate");

	for (size_t i = 0; i < k3sup__n_pairs; i++) {
		const struct k3sup__pair *pair = &k3sup__pairs[i];
		bool only = pair->flags & K3SUP__PAIR_KEY_ONLY;

		if (is_live(pair->path, ".key") && (only || is_live(pair->path, ".crt")))
			continue;
		if (!only)
			put_next(pair->path, ".crt", 0644);
		put_next(pair->path, ".key", 0600);
	}
	if (unlink(trigger) == 0)
		put_next(LISTENER, "", 0600);
}
