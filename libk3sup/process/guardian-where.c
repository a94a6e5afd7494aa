/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guardian has to be, and whether it can get there from here.
 */
#include <stdio.h>

#include "base/strv.h"
#include "process/guardian.h"
#include "process/owner.h"

/* Is this process, 0: are we, in process 1's namespace of this kind? */
static int same_namespace(const k3sup_node *node, const char *kind, pid_t pid, bool *ret)
{
	_free_ char *own = pid ? k3sup__fmt("%d/ns/%s", (int)pid, kind) : k3sup__fmt("self/ns/%s", kind), *first = k3sup__fmt("1/ns/%s", kind);
	struct stat its, of_1;

	if (!own || !first)
		return -ENOMEM;
	if (fstatat(node->proc_fd, own, &its, 0) < 0 || fstatat(node->proc_fd, first, &of_1, 0) < 0)
		return -errno;
	*ret = its.st_dev == of_1.st_dev && its.st_ino == of_1.st_ino;
	return 0;
}

/* The group "/" of a hierarchy as process 1 sees it; from a control group's namespace of our own it is seen further up. */
static bool is_top(const char *root)
{
	while (k3sup__startswith(root, "/.."))
		root += 3;
	return *root == '\0' || k3sup__streq(root, "/");
}

int k3sup__guardian_groups(const k3sup_node *node, struct k3sup__strv *ret)
{
	_free_ char *text = NULL;
	char *rest, *line;
	int r = k3sup__read_file(node->proc_fd, "1/mountinfo", (size_t)4 * 1024 * 1024, &text, NULL);

	for (line = r == 0 ? strtok_r(text, "\n", &rest) : NULL; r == 0 && line; line = strtok_r(NULL, "\n", &rest)) {
		const char *kind = strstr(line, " - cgroup");
		_free_ char *root = NULL, *at = NULL, *file = NULL;

		if (!kind || (kind[9] != ' ' && !k3sup__startswith(kind + 9, "2 ")))
			continue;
		if (sscanf(line, "%*s %*s %*s %ms %ms", &root, &at) != 2 || !is_top(root) || strchr(at, '\\'))
			continue;
		file = k3sup__fmt("%s/cgroup.procs", at);
		r = file ? k3sup__strv_add_copy(ret, file, strlen(file)) : -ENOMEM;
	}
	return r;
}

int k3sup__guardian_is_outside(k3sup_op *op, const struct k3sup__guardian *g, pid_t pid)
{
	bool same = false;
	int r = k3sup__cgroup_shared_with(g->node, pid);

	if (r > 0)
		return k3sup__fail(op, K3SUP_E_CONFINED, "a start guard of %s cannot leave our control group: it would end with us", g->service);
	if (r < 0)
		return r;
	r = same_namespace(g->node, "mnt", pid, &same);
	if (r < 0)
		return k3sup__fail(op, r, "cannot see where the start guard of %s is: %s", g->service, k3sup_strerror(r));
	if (!same)
		return k3sup__fail(op, K3SUP_E_CONFINED, "a start guard of %s cannot leave our mount namespace", g->service);
	return 0;
}

/* ---- how one gets there ---- */

int k3sup__guardian_channel(k3sup_op *op, k3sup_node *node, struct k3sup__channel *ret)
{
	bool same;
	int r = same_namespace(node, "mnt", 0, &same);

	if (r < 0)
		return r == -ENOMEM ? r : 0; /* as good as not seen */
	if (!same)
		return k3sup__channel_open(op, node, K3SUP__CHANNEL_NAMESPACE, ret);
	r = k3sup__channel_open(op, node, K3SUP__CHANNEL_DIRECT, ret);
	return r == 0 ? k3sup__channel_open(op, node, K3SUP__CHANNEL_CHROOT, ret) : r;
}

/* A number in /proc/PID/status; 0 where the kernel does not have it. */
static uint64_t number_of(const char *status, const char *key, int base)
{
	const char *at = strstr(status, key);

	return at ? strtoull(at + strlen(key), NULL, base) : 0;
}

static const char *confined_by(const char *ours, const char *of_1)
{
	const uint64_t lacking = number_of(of_1, "\nCapBnd:", 16) & ~number_of(ours, "\nCapBnd:", 16);

	if (lacking)
		return "it may not have all capabilities";
	if (number_of(ours, "\nSeccomp:", 10) && !number_of(of_1, "\nSeccomp:", 10))
		return "it has a seccomp filter";
	if (number_of(ours, "\nNoNewPrivs:", 10) && !number_of(of_1, "\nNoNewPrivs:", 10))
		return "it has no_new_privs";
	return NULL;
}

/* AppArmor says "NAME (MODE)", or "unconfined"; SELinux has rules of its own for what becomes of a service's program. */
static bool has_profile(const k3sup_node *node)
{
	_free_ char *label = NULL;

	return k3sup__read_file(node->proc_fd, "self/attr/current", 4096, &label, NULL) == 0 && strstr(label, " (enforce)");
}

int k3sup__guardian_possible(k3sup_op *op, const k3sup_node *node)
{
	_free_ char *ours = NULL, *of_1 = NULL;
	const char *why = NULL;
	bool same = true;
	int r = k3sup__read_file(node->proc_fd, "self/status", 65536, &ours, NULL);

	if (r >= 0)
		r = k3sup__read_file(node->proc_fd, "1/status", 65536, &of_1, NULL);
	if (r >= 0 && (r = same_namespace(node, "user", 0, &same)) == -ENOENT) /* a kernel without user namespaces */
		r = 0;
	if (r < 0)
		return k3sup__fail(op, r, "cannot see what this program inherits to a service that it starts: %s", k3sup_strerror(r));
	why = !same ? "it is in a user namespace" : has_profile(node) ? "it has an AppArmor profile" : confined_by(ours, of_1);
	return why ? k3sup__fail(op, K3SUP_E_CONFINED, "this program is confined, and so would be what it starts: %s", why) : 0;
}
