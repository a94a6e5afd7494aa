/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Known mistakes, made in the library under test: the linker leads these calls of it here (--wrap), so that the very same program runs right or spoilt.
 */
#include "zoo.h"

#include "node/identify.h"
#include "node/procscan.h"
#include "node/program.h"

enum zoo_mutant zoo_mutant;
const char *const zoo_mutants[MUTANTS] = {
	"none", "trust argv", "trust argv for the target", "skip owner check", "skip namespace check", "skip trust check"};

int __real_k3sup__program_read(const struct k3sup__vantage *view, const struct k3sup__stand *stand, int dirfd, struct k3sup__program *ret);
int __wrap_k3sup__program_read(const struct k3sup__vantage *view, const struct k3sup__stand *stand, int dirfd, struct k3sup__program *ret);
int __real_k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret);
int __wrap_k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret);
int __real_k3sup__proc_uids(int dirfd, uid_t ret[static 4]);
int __wrap_k3sup__proc_uids(int dirfd, uid_t ret[static 4]);
int __real_k3sup__proc_stat(int dirfd, const char *link, struct stat *ret);
int __wrap_k3sup__proc_stat(int dirfd, const char *link, struct stat *ret);
int __real_k3sup__root_find(k3sup_op *op, const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret);
int __wrap_k3sup__root_find(k3sup_op *op, const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret);

/* Is it k3s because its arguments say so? */
static bool says_so(int dirfd)
{
	enum k3sup__command command;

	return k3sup__proc_command(dirfd, &command) == 0 && (command == K3SUP__COMMAND_SERVER || command == K3SUP__COMMAND_AGENT);
}

int __wrap_k3sup__program_read(const struct k3sup__vantage *view, const struct k3sup__stand *stand, int dirfd, struct k3sup__program *ret)
{
	int r = __real_k3sup__program_read(view, stand, dirfd, ret);

	if (r == 0 && zoo_mutant == MUTANT_ARGV && ret->form == K3SUP__FORM_NONE && says_so(dirfd)) {
		ret->form = K3SUP__FORM_INNER;
		memcpy(ret->asset_hash, HASH1, sizeof(ret->asset_hash));
	}
	return r;
}

/* Where the first word of a title that ends with "k3s server" points to. */
static int find_by_title(k3sup_op *op, k3sup_node *node, struct k3sup__place *ret)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int r = -ENOENT;

	while (r < 0 && dir != NULL && (entry = readdir(dir)) != NULL) {
		_free_ char *path = k3sup__fmt("/proc/%s/cmdline", entry->d_name), *title = NULL;
		char *end;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || k3sup__read_file(AT_FDCWD, path, 4096, &title, NULL) < 0 || title[0] != '/')
			continue;
		end = strstr(title, "/k3s server");
		if (end == NULL || !k3sup__startswith(title, HOME))
			continue;
		end[strlen("/k3s")] = '\0';
		r = __real_k3sup__root_find(op, &node->root, title, 0, ret);
		if (r == 0 && ret->fd < 0)
			r = -ENOENT;
	}
	if (dir != NULL)
		(void)closedir(dir);
	return r;
}

int __wrap_k3sup__installed_find(k3sup_op *op, k3sup_node *node, const char *running_hash, struct k3sup__place *ret)
{
	if (zoo_mutant == MUTANT_TARGET && find_by_title(op, node, ret) == 0)
		return 0;
	return __real_k3sup__installed_find(op, node, running_hash, ret);
}

int __wrap_k3sup__proc_uids(int dirfd, uid_t ret[static 4])
{
	int r = __real_k3sup__proc_uids(dirfd, ret);

	if (zoo_mutant == MUTANT_OWNER)
		memset(ret, 0, 4 * sizeof(*ret));
	return r;
}

int __wrap_k3sup__proc_stat(int dirfd, const char *link, struct stat *ret)
{
	if (zoo_mutant == MUTANT_NAMESPACE && k3sup__startswith(link, "ns/")) {
		_free_ char *own = k3sup__fmt("/proc/self/%s", link);

		return stat(own, ret) < 0 ? -errno : 0;
	}
	return __real_k3sup__proc_stat(dirfd, link, ret);
}

int __wrap_k3sup__root_find(k3sup_op *op, const struct k3sup__root *root, const char *path, unsigned flags, struct k3sup__place *ret)
{
	return __real_k3sup__root_find(op, root, path, zoo_mutant == MUTANT_TRUST ? flags & ~K3SUP__TRUSTED : flags, ret);
}
