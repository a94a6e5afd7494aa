/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's files: made, and changed by others.
 */
#include "law.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define UNIT \
	"[Service]\nType=notify\nExecStart=" INSTALLED " server\nRestart=always\nKillMode=process\n[Install]\nWantedBy=multi-user." \
	"target\n"

/* ---- what is made once ---- */

void node_prepare(void)
{
	for (unsigned i = 1; i <= BUILDS; i++) {
		_free_ char *path = k3sup__fmt("%s/payload/%u/k3s", machine->top, i);

		make_build(i);
		make_dirs_of(path);
		write_whole(path, &builds[i], 0755);
	}
	for (unsigned i = 0; i < IMAGES; i++) {
		_free_ char *path = k3sup__fmt("%s/payload/image%u.tar", machine->top, i), *text = k3sup__fmt("new image %u\n", i);

		write_text(path, text, 0644);
	}
	leafs_prepare();
}

/* ---- the node ---- */

void node_make(const struct setup *setup)
{
	static const char *const dirs[] = {
		BIN_DIR "/", "/etc/systemd/system/", "/etc/rancher/k3s/", DATA_DIR "/data/", DATA_DIR "/agent/", DATA_DIR "/agent/images/"};
	_free_ char *root = at(""), *unit = at("/etc/systemd/system/k3s.service"), *k3s = at(INSTALLED), *agent = at(DATA_DIR "/agent");
	_free_ char *shadow = k3sup__fmt("%s/shadow", machine->top);

	node_remove(root);
	node_remove(shadow);
	need(shadow && mkdir(shadow, 0700) == 0, "shadow");
	for (size_t i = 0; i < ELEMENTSOF(dirs) - !setup->images; i++) {
		_free_ char *dir = at(dirs[i]);

		make_dirs_of(dir);
	}
	need(chmod(agent, 0700) == 0, agent);
	write_text(unit, UNIT, 0644);
	if (setup->versions) {
		_free_ char *version = k3sup__fmt("%s-%s", k3s, build_versions[1]);

		write_whole(version, &builds[1], 0755);
		need(symlink(strrchr(version, '/') + 1, k3s) == 0, k3s);
	} else {
		write_whole(k3s, &builds[1], 0755);
	}
	if (setup->attributes)
		need(chown(k3s, 0, 12) == 0 && chmod(k3s, 0750) == 0 && setxattr(k3s, "trusted.law", "kept", 4, 0) == 0, k3s);
	for (unsigned i = 0; setup->images && i < IMAGES; i++) {
		_free_ char *image = k3sup__fmt("%s" DATA_DIR "/agent/images/image%u.tar", machine->root, i);

		write_text(image, "an old image\n", i ? 0600 : 0644);
	}
	if (setup->certs) {
		_free_ char *pool = k3sup__fmt("%s/pool", machine->top), *tree = at(DATA_DIR);

		copy_tree(pool, tree);
	}
}

unsigned node_installed(void)
{
	_free_ char *k3s = at(INSTALLED);

	return node_build_of(k3s);
}

void node_start_k3s(unsigned build)
{
	_free_ char *bin = k3sup__fmt("%s" DATA_DIR "/data/%s/bin/k3s", machine->root, build_hashes[build]);
	_free_ char *current = at(DATA_DIR "/data/current");

	if (!is_there(bin)) {
		make_dirs_of(bin);
		write_text(bin, "the program inside\n", 0755);
	}
	(void)unlink(current);
	need(symlink(build_hashes[build], current) == 0, current);
	if (machine->setup.certs)
		leafs_start();
}

/* As install(1) does it. */
void node_replace(unsigned build)
{
	_free_ char *k3s = at(INSTALLED), *temp = at(BIN_DIR "/by-hand");
	char link[256];
	ssize_t n = readlink(k3s, link, sizeof(link) - 1);

	write_whole(temp, &builds[build], 0755);
	if (n > 0) {
		_free_ char *file = k3sup__fmt("%s" BIN_DIR "/%.*s", machine->root, (int)n, link);

		need(rename(temp, file) == 0, file);
	} else {
		need(rename(temp, k3s) == 0, k3s);
	}
}

void node_drop_backup(void)
{
	_free_ char *backup = at(INSTALLED ".k3sup-backup");

	(void)unlink(backup);
}

void node_flip_current(void)
{
	_free_ char *current = at(DATA_DIR "/data/current");

	(void)unlink(current);
	need(symlink("0000000000000000000000000000000000000000000000000000000000000000", current) == 0, current);
}

/* ---- looking ---- */

char *node_complaint(void)
{
	char *complaint = node_installed() == 0 ? strdup("the installed file is not whole") : NULL;

	if (!complaint && machine->setup.certs)
		complaint = leafs_complaint();
	for (unsigned i = 0; machine->setup.images && !complaint && i < IMAGES; i++) {
		_free_ char *path = k3sup__fmt("%s" DATA_DIR "/agent/images/image%u.tar", machine->root, i);
		_free_ char *new = k3sup__fmt("%s/payload/image%u.tar", machine->top, i);
		struct file f = read_whole(path);

		if (!f.at || (strcmp((char *)f.at, "an old image\n") != 0 && !same_file(path, new)))
			complaint = k3sup__fmt("%s is not whole", path);
		free(f.at);
	}
	return complaint;
}
