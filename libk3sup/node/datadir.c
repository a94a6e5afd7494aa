/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where k3s keeps its things. What runs knows best; its configuration (k3s pkg/configfilearg) only says what the next start would use.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "base/yaml.h"
#include "node/identify.h"
#include "node/warn.h"

#define DEFAULT_DATA_DIR "/var/lib/rancher/k3s"
#define CONFIG "/etc/rancher/k3s/config.yaml"
#define DROP_INS CONFIG ".d"
#define KEY "data-dir"
#define MAX_CONFIG (1024 * 1024)
#define MAX_DROP_INS 1024

static int read_place(const struct k3sup__place *place, char **ret, size_t *ret_len)
{
	_close_ int fd = k3sup__place_open(place, O_RDONLY);
	_free_ char *text = NULL;
	ssize_t n;

	if (fd < 0)
		return fd;
	text = malloc(MAX_CONFIG + 1);
	if (text == NULL)
		return -ENOMEM;
	n = k3sup__read_full(fd, text, MAX_CONFIG + 1);
	if (n < 0)
		return (int)n;
	if (n > MAX_CONFIG)
		return -EFBIG;
	*ret = text;
	*ret_len = (size_t)n;
	text = NULL;
	return 0;
}

/* The key's value in one file replaces what an earlier file said. */
static int take_value(k3sup_op *op, const char *path, const k3sup__json *yaml, char **value)
{
	k3sup__json *member = k3sup__json_is_object(yaml) ? k3sup__json_member(yaml, KEY) : NULL;
	const char *text = k3sup__json_as_str(member);
	char *copy;

	if (member == NULL || k3sup__json_is_null(member))
		return 0;
	if (text == NULL || text[0] != '/')
		return k3sup__fail(op, K3SUP_E_PARSE, "the " KEY " in %s is not an absolute path", path);
	copy = strdup(text);
	if (copy == NULL)
		return -ENOMEM;
	free(*value);
	*value = copy;
	return 0;
}

/* A missing file is fine, as it is for k3s. Links are followed inside the root; whoever could change the file could choose the directory. */
static int read_config(k3sup_op *op, const k3sup_node *node, const char *path, char **value)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_cleanup_(k3sup__json_unrefp) k3sup__json *yaml = NULL;
	_free_ char *text = NULL, *why = NULL;
	size_t len = 0;
	int r = k3sup__root_find(NULL, &node->root, path, 0, &place);

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && place.fd < 0))
		return 0;
	k3sup__place_clear(&place);
	r = k3sup__root_find(op, &node->root, path, node->trust_flags, &place);
	if (r == 0 && place.fd < 0)
		return 0;
	if (r == 0 && !S_ISREG(place.st.st_mode))
		return k3sup__fail(op, K3SUP_E_PARSE, "%s is not a regular file", path);
	if (r == 0)
		r = read_place(&place, &text, &len);
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be read: %s", path, k3sup_strerror(r));
	r = k3sup__yaml_parse(text, len, &yaml, &why);
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be read: %s", path, why != NULL ? why : k3sup_strerror(r));
	return take_value(op, path, yaml, value);
}

static bool is_yaml(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot != NULL && (strcasecmp(dot, ".yaml") == 0 || strcasecmp(dot, ".yml") == 0);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

static int list_drop_ins(int fd, char ***ret, size_t *ret_count)
{
	char **names = calloc(MAX_DROP_INS, sizeof(*names));
	DIR *dir = names != NULL ? fdopendir(fd) : NULL;
	struct dirent *entry;
	size_t count = 0;
	int r = 0;

	if (dir == NULL) {
		r = -errno;
		free(names);
		(void)k3sup__close(fd);
		return r;
	}
	for (errno = 0; r == 0 && (entry = readdir(dir)) != NULL; errno = 0) {
		if (!is_yaml(entry->d_name))
			continue;
		if (count == MAX_DROP_INS)
			r = -E2BIG;
		else if ((names[count] = strdup(entry->d_name)) == NULL)
			r = -ENOMEM;
		else
			count++;
	}
	if (r == 0)
		r = -errno;
	(void)closedir(dir);
	if (r < 0) {
		free_names(names, count);
		return r;
	}
	qsort(names, count, sizeof(*names), by_bytes);
	*ret = names;
	*ret_count = count;
	return 0;
}

static int read_drop_ins(k3sup_op *op, const k3sup_node *node, char **value)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	char **names = NULL;
	size_t count = 0;
	int fd, r = k3sup__root_find(NULL, &node->root, DROP_INS, 0, &place);

	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && (place.fd < 0 || !S_ISDIR(place.st.st_mode))))
		return 0;
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be examined: %s", DROP_INS, k3sup_strerror(r));
	fd = k3sup__place_open(&place, O_RDONLY | O_DIRECTORY);
	r = fd < 0 ? fd : list_drop_ins(fd, &names, &count);
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be read: %s", DROP_INS, k3sup_strerror(r));
	for (size_t i = 0; r == 0 && i < count; i++) {
		_free_ char *path = k3sup__fmt(DROP_INS "/%s", names[i]);
		_cleanup_(k3sup__place_clear) struct k3sup__place one = K3SUP__PLACE_NONE;

		if (path == NULL)
			r = -ENOMEM;
		else if (k3sup__root_find(NULL, &node->root, path, 0, &one) == 0 && one.fd >= 0 && S_ISDIR(one.st.st_mode))
			continue; /* k3s ignores directories there */
		else
			r = read_config(op, node, path, value);
	}
	free_names(names, count);
	return r;
}

/* The same directory, if only by way of links. */
static bool same_dir(const k3sup_node *node, const char *a, const char *b)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place pa = K3SUP__PLACE_NONE, pb = K3SUP__PLACE_NONE;

	if (k3sup__streq(a, b))
		return true;
	if (k3sup__root_find(NULL, &node->root, a, 0, &pa) < 0 || k3sup__root_find(NULL, &node->root, b, 0, &pb) < 0)
		return false;
	return k3sup__streq(pa.path, pb.path) || (pa.fd >= 0 && pb.fd >= 0 && pa.st.st_dev == pb.st.st_dev && pa.st.st_ino == pb.st.st_ino);
}

int k3sup__data_dir_find(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *candidate, char **ret_path, const char **ret_source)
{
	const char *observed = candidate != NULL ? candidate->data_dir : NULL;
	const char *chosen = DEFAULT_DATA_DIR, *source = "default";
	_free_ char *config = NULL;
	int r = 0;

	if (node->data_dir != NULL) {
		chosen = node->data_dir;
		source = "option";
	} else if (observed != NULL) {
		chosen = observed;
		source = "process";
	}
	r = read_config(op, node, CONFIG, &config);
	if (r == 0)
		r = read_drop_ins(op, node, &config);
	if (r < 0 && k3sup__streq(source, "default"))
		return r;
	if (r < 0) {
		k3sup__op_forgive(op);
		k3sup__warn(op, "k3s's configuration cannot be read: %s", k3sup_strerror(r));
	} else if (config != NULL && k3sup__streq(source, "default")) {
		chosen = config;
		source = "config";
	}
	if (node->data_dir != NULL && observed != NULL && !same_dir(node, chosen, observed))
		k3sup__warn(op, "the given data-dir is %s, but the running k3s works in %s", chosen, observed);
	if (config != NULL && !same_dir(node, chosen, config))
		k3sup__warn(op, "the data-dir is %s, but k3s's configuration says %s", chosen, config);
	*ret_path = strdup(chosen);
	if (*ret_path == NULL)
		return -ENOMEM;
	*ret_source = source;
	return 0;
}
