/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node looks like. What the library keeps about the past (journal, dates) is not part of what has to be equal.
 */
#include "law.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/durable.h"

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_backup(const struct dirent *entry)
{
	return strncmp(entry->d_name, "tls-", 4) == 0;
}

static uint64_t fnv(uint64_t hash, const void *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
	return hash;
}

#define FNV 0xcbf29ce484222325u

static uint64_t attributes_of(const char *path)
{
	char names[512], value[256];
	ssize_t len = llistxattr(path, names, sizeof(names)), n;
	uint64_t all = 0;

	for (ssize_t i = 0; i < len; i += (ssize_t)strlen(names + i) + 1) {
		n = lgetxattr(path, names + i, value, sizeof(value));
		all += fnv(fnv(FNV, names + i, strlen(names + i) + 1), value, n < 0 ? 0 : (size_t)n); /* in any order */
	}
	return all;
}

/* Leafs are equal to others of the same pair: how often they were made anew is up to how often k3s was started. */
static uint64_t content_of(const char *path, const char *inside)
{
	const char *below = strstr(inside, "/k3s/") ? strstr(inside, "/k3s/") + 5
		: strstr(inside, "/tls-")           ? strchr(strstr(inside, "/tls-") + 1, '/')
						    : NULL;
	struct file f;
	uint64_t hash;

	if (k3sup__endswith(inside, "/manifest.json") || strcmp(inside, STATE_DIR "/failed") == 0) /* when, and how often */
		return 0;
	if (machine->setup.certs && below && is_leaf(below))
		return 1;
	if (machine->setup.certs && below) { /* keys are drawn anew for each campaign: as they were made is all that can be equal */
		_free_ char *made = k3sup__fmt("%s/pool/%s", machine->top, below);

		if (made && same_file(path, made))
			return 2;
	}
	f = read_whole(path);
	hash = fnv(FNV, f.at, f.len);
	free(f.at);
	return hash;
}

struct listing {
	char *text;
	size_t len;
	uint64_t touch;
	unsigned backups;
};

/* Says what was, is there since there was something to say, or is k3s's own business. */
static bool is_of_no_interest(const char *inside, const struct stat *st)
{
	return strcmp(inside, STATE_DIR) == 0 || strcmp(inside, STATE_DIR "/journal") == 0 || strcmp(inside, STATE_DIR "/lock") == 0 ||
		strcmp(inside, STATE_DIR "/certs") == 0 || strcmp(inside, STATE_DIR "/marks") == 0 ||
		strcmp(inside, STATE_DIR "/marks-lock") == 0 || k3sup__startswith(inside, DATA_DIR "/data/") ||
		(strcmp(inside, DATA_DIR "/agent/images") == 0 && S_ISDIR(st->st_mode));
}

static void list(struct listing *l, const char *inside, const char *shown);

static int all_but_dots(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static void list_dir(struct listing *l, const char *path, const char *inside, const char *shown)
{
	struct dirent **names = NULL;
	int n = scandir(path, &names, all_but_dots, by_name);
	unsigned backups = 0;

	for (int i = 0; i < n; i++) {
		_free_ char *below = k3sup__fmt("%s/%s", inside, names[i]->d_name);
		/* Named after the time. How many are made of the same leafs, and of others that a start made between two cuts, is up to the cuts. */
		_free_ char *as = is_backup(names[i]) ? k3sup__fmt("%s/tls-%u", shown, machine->setup.rotates ? 0 : backups++)
						      : k3sup__fmt("%s/%s", shown, names[i]->d_name);

		list(l, below, as);
		free(names[i]);
	}
	free(names);
}

static void list(struct listing *l, const char *inside, const char *shown)
{
	_free_ char *path = at(inside), *line = NULL, *grown = NULL;
	char text[256] = "";
	struct stat st;
	ssize_t n;

	need(path && lstat(path, &st) == 0, path);
	n = S_ISLNK(st.st_mode) ? readlink(path, text, sizeof(text) - 1) : 0;
	line = is_of_no_interest(inside, &st)
		? strdup("")
		: k3sup__fmt("%s %o %u:%u %016llx %016llx %.*s\n", shown, (unsigned)st.st_mode, (unsigned)st.st_uid, (unsigned)st.st_gid,
			  (unsigned long long)(S_ISREG(st.st_mode) ? content_of(path, inside) : 0), (unsigned long long)attributes_of(path),
			  (int)n, text);
	need(line != NULL, "memory");
	if (machine->setup.rotates && strstr(line, "/tls-0") && strstr(l->text, line))
		line[0] = '\0';
	grown = realloc(l->text, l->len + strlen(line) + 1);
	need(grown != NULL, "memory");
	l->text = grown;
	grown = NULL;
	strcpy(l->text + l->len, line);
	l->len += strlen(line);
	if (strcmp(inside, STATE_DIR "/lock") != 0)
		l->touch = fnv(fnv(fnv(l->touch, &st.st_ino, sizeof(st.st_ino)), &st.st_mtim, sizeof(st.st_mtim)), &st.st_size, sizeof(st.st_size));
	if (S_ISDIR(st.st_mode))
		list_dir(l, path, inside, shown);
}

struct tree_text node_look(void)
{
	struct listing l = {.touch = FNV};

	list(&l, "", "");
	return (struct tree_text){.text = l.text, .hash = fnv(FNV, l.text, l.len), .touch = l.touch};
}

static bool is_litter(const char *line, size_t len)
{
	return memmem(line, len, K3SUP__TEMP_MARK, strlen(K3SUP__TEMP_MARK)) || memmem(line, len, "/.tls-", 6);
}

char *node_litter(const char *text)
{
	for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
		if (is_litter(line, strcspn(line, "\n")))
			return k3sup__fmt("litter: %.*s", (int)strcspn(line, "\n"), line);
	return NULL;
}

static bool is_up_to_the_undone(const char *line, size_t len, bool images)
{
	return memmem(line, len, "/k3s.k3sup-backup ", 18) || memmem(line, len, "/k3s-v", 6) ||
		k3sup__startswith(line, STATE_DIR "/floor ") || /* is written last, and not by who goes back */
		(!images && memmem(line, len, "/agent/images/", 14));
}

uint64_t node_hash_of_undone(const char *text, bool images)
{
	uint64_t hash = FNV;

	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n") + 1;

		if (!is_up_to_the_undone(line, len, images))
			hash = fnv(hash, line, len);
		line += len;
	}
	return hash;
}

/* Images have a place of their own among k3s's data. */
static bool is_in(const char *line, const char *place)
{
	const bool images = k3sup__startswith(line, DATA_DIR "/agent/.k3sup");

	return k3sup__startswith(line, place) && (!images || !k3sup__streq(place, DATA_DIR));
}

void node_forget_litter(struct tree_text *tree, const char *const *places)
{
	for (char *line = tree->text; *line;) {
		size_t len = strcspn(line, "\n") + 1;
		bool forget = is_litter(line, len) || memmem(line, len, "/.k3sup-images 4", 16);

		for (size_t i = 0; places[i]; i++)
			forget = forget && !is_in(line, places[i]);
		if (forget)
			memmove(line, line + len, strlen(line + len) + 1);
		else
			line += len;
	}
	tree->hash = fnv(FNV, tree->text, strlen(tree->text));
}
