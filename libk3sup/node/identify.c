/* SPDX-License-Identifier: Apache-2.0 */
#include "node/identify.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "node/examine.h"
#include "node/procscan.h"

#define MAX_PASSED_OVER 32
#define PIDS_PER_CHECKPOINT 64

/* What was accepted, before parents and children are put together. */
struct entry {
	struct k3sup__candidate candidate;
	pid_t pid;
	bool weak;
	bool dependent; /* counts only if it is merged into its parent */
	bool merged;    /* into its parent */
	bool parent;    /* a child was merged into it */
};

struct scan {
	k3sup_op *op;
	struct k3sup__vantage view;
	struct entry *entries;
	size_t count;
	k3sup__json *passed_over;
	char *text; /* for one link at a time */
	enum k3sup__other other;
	pid_t other_pid;
	pid_t denied_pid;
	int denied;
	char denied_comm[64];
};

static void pass_over(struct scan *scan, pid_t pid, const char *comm, const char *reason)
{
	k3sup__json *one;

	if (k3sup__json_len(scan->passed_over) >= MAX_PASSED_OVER)
		return;
	one = k3sup__json_object();
	k3sup__json_set_int(one, "pid", pid);
	k3sup__json_set_str(one, "comm", comm);
	k3sup__json_set_str(one, "reason", reason);
	k3sup__json_add(scan->passed_over, one);
}

static int accept(struct scan *scan, struct k3sup__look *look)
{
	struct entry *entries = reallocarray(scan->entries, scan->count + 1, sizeof(*entries));
	int r;

	if (entries == NULL)
		return -ENOMEM;
	scan->entries = entries;
	r = k3sup__process_new(scan->view.node->proc_fd, look->pid, look->dirfd, look->stat.start_time, &look->found.process);
	if (r < 0)
		return r;
	look->dirfd = -1;
	scan->entries[scan->count++] =
		(struct entry){.candidate = look->found, .pid = look->pid, .weak = look->weak, .dependent = look->dependent};
	look->found = (struct k3sup__candidate){0};
	return 0;
}

static int look_closely(struct scan *scan, pid_t pid)
{
	struct k3sup__look look = {.pid = pid, .dirfd = -1};
	int r = k3sup__proc_open(scan->view.node->proc_fd, pid, &look.dirfd);

	if (r == 0)
		r = k3sup__examine(&scan->view, &look);
	if (k3sup__is_rights(r)) { /* not even its directory may be seen: a proc mounted with hidepid */
		look.denied = r;
		r = 0;
	}
	if (r == 0 && look.denied != 0) {
		scan->denied = look.denied;
		scan->denied_pid = pid;
		memcpy(scan->denied_comm, look.stat.comm, sizeof(scan->denied_comm));
		pass_over(scan, pid, look.stat.comm, "it cannot be examined without more rights");
	} else if (r == 0 && look.accepted) {
		r = accept(scan, &look);
	} else if (r == 0 && look.reason[0] != '\0') {
		pass_over(scan, pid, look.stat.comm, look.reason);
	}
	if (r == 0 && look.other != K3SUP__OTHER_NONE) {
		scan->other = look.other;
		scan->other_pid = pid;
	}
	k3sup__look_clear(&look);
	return r == -ESRCH ? 0 : r; /* gone, which is normal */
}

/* All but a few processes are done with here, for one system call: there may be tens of thousands. */
static int look_at(struct scan *scan, pid_t pid)
{
	int r = k3sup__proc_exe(scan->view.node->proc_fd, pid, scan->text);

	if (r == 0 && !k3sup__vantage_is_near(&scan->view, scan->text))
		return 0;
	if (r == -ESRCH || r == -ENAMETOOLONG) /* a thread of the kernel, or gone; or too long a name for any k3s */
		return 0;
	return r == 0 || k3sup__is_rights(r) ? look_closely(scan, pid) : r;
}

static int look_at_all(struct scan *scan)
{
	int fd = openat(scan->view.node->proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	pid_t me = getpid();
	unsigned seen = 0;

	if (dir == NULL) {
		r = -errno;
		(void)k3sup__close(fd);
		return r;
	}
	while (r == 0) {
		struct dirent *entry;
		char *end;
		long pid;

		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			r = -errno;
			break;
		}
		pid = strtol(entry->d_name, &end, 10);
		if (*end != '\0' || pid <= 0 || pid == (long)me)
			continue;
		if (seen++ % PIDS_PER_CHECKPOINT == 0)
			r = k3sup__op_checkpoint(scan->op);
		if (r == 0)
			r = look_at(scan, (pid_t)pid);
	}
	(void)closedir(dir);
	return r;
}

static bool runs_same(const struct k3sup__candidate *a, const struct k3sup__candidate *b)
{
	return a->exe_dev == b->exe_dev && a->exe_ino == b->exe_ino;
}

static void merge(struct entry *child, struct entry *parent)
{
	struct k3sup__candidate *c = &child->candidate, *p = &parent->candidate;

	child->merged = true;
	parent->parent = true;
	if (k3sup__streq(c->comm, "exe") && p->worker == NULL) { /* else it is one between fork and exec */
		p->worker = k3sup_process_ref(c->process);
		p->worker_pid = child->pid;
	}
	if (p->role == K3SUP__ROLE_UNKNOWN)
		p->role = c->role;
	/* Of a --log pair only the child is the server, and changes to its data-dir. */
	if (c->data_dir != NULL && c->role == K3SUP__ROLE_SERVER && !k3sup__streq(p->comm, c->comm)) {
		free(p->data_dir);
		p->data_dir = c->data_dir;
		c->data_dir = NULL;
	}
}

static void put_together(struct scan *scan)
{
	for (size_t i = 0; i < scan->count; i++)
		for (size_t j = 0; j < scan->count; j++) {
			struct entry *child = &scan->entries[i], *parent = &scan->entries[j];

			if (i != j && child->candidate.ppid == parent->pid && runs_same(&child->candidate, &parent->candidate))
				merge(child, parent);
		}
	for (size_t i = 0; i < scan->count; i++) {
		struct entry *e = &scan->entries[i];

		if (e->merged)
			continue;
		if (e->dependent)
			pass_over(scan, e->pid, e->candidate.comm, "it is in another mount namespace, and no service manager started it");
		else if (e->weak && !e->parent)
			pass_over(scan, e->pid, e->candidate.comm, "its title does not say server or agent");
	}
}

static int hand_over(struct scan *scan, struct k3sup__sighting *ret)
{
	struct k3sup__candidate *all = calloc(scan->count + 1, sizeof(*all));
	size_t count = 0;
	int r = 0;

	if (all == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < scan->count; i++) {
		struct entry *e = &scan->entries[i];

		if (e->merged || e->dependent || (e->weak && !e->parent))
			continue;
		all[count++] = e->candidate;
		e->candidate = (struct k3sup__candidate){0};
	}
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (!all[i].unpacking) /* that one will execute what it unpacks */
			k3sup__process_set_program(all[i].process, all[i].exe_dev, all[i].exe_ino);
		if (all[i].worker != NULL)
			k3sup__process_set_program(all[i].worker, all[i].exe_dev, all[i].exe_ino);
		r = k3sup__process_set_info(all[i].process, k3sup__candidate_json(&all[i]));
	}
	*ret = (struct k3sup__sighting){
		.candidates = all, .count = count, .passed_over = scan->passed_over, .other = scan->other, .other_pid = scan->other_pid};
	scan->passed_over = NULL;
	if (r < 0)
		k3sup__sighting_clear(ret);
	return r;
}

/* That no k3s is seen says that there is none only where one would have been seen. */
static int trust(const struct scan *scan, k3sup_node *node, const struct k3sup__sighting *sighting)
{
	int seen;

	if (sighting->count == 0 && scan->denied != 0)
		return k3sup__fail(scan->op, scan->denied, "process %d (%s) may be k3s, but it cannot be examined: %s (CAP_SYS_PTRACE is needed)",
			(int)scan->denied_pid, scan->denied_comm, k3sup_strerror(scan->denied));
	seen = k3sup__node_sees_processes(node, sighting->count > 0);
	if (seen < 0)
		return k3sup__fail(scan->op, seen, "whose processes %s shows cannot be told: %s", node->proc_path, k3sup_strerror(seen));
	return seen > 0 ? 0 : k3sup__node_fail_unseen(scan->op, node);
}

int k3sup__identify_scan(k3sup_op *op, k3sup_node *node, const struct k3sup__place *installed, struct k3sup__sighting *ret)
{
	struct scan scan = {.op = op, .passed_over = k3sup__json_array(), .text = malloc(K3SUP__LINK_MAX)};
	int r = scan.text != NULL ? k3sup__vantage_open(node, installed, &scan.view) : -ENOMEM;

	*ret = (struct k3sup__sighting){0};
	if (r == 0)
		r = look_at_all(&scan);
	if (r == 0) {
		put_together(&scan);
		r = hand_over(&scan, ret);
	}
	if (r == 0)
		r = trust(&scan, node, ret);
	else if (r < 0 && r != K3SUP_E_CANCELLED && r != K3SUP_E_CALLBACK && r != K3SUP_E_TIMEOUT)
		r = k3sup__fail(op, r, "the processes in %s cannot be read: %s", node->proc_path, k3sup_strerror(r));
	if (r < 0)
		k3sup__sighting_clear(ret);
	for (size_t i = 0; i < scan.count; i++)
		k3sup__candidate_clear(&scan.entries[i].candidate);
	free(scan.entries);
	free(scan.text);
	k3sup__json_unref(scan.passed_over);
	k3sup__vantage_close(&scan.view);
	return r;
}

void k3sup__sighting_clear(struct k3sup__sighting *sighting)
{
	for (size_t i = 0; i < sighting->count; i++)
		k3sup__candidate_clear(&sighting->candidates[i]);
	free(sighting->candidates);
	k3sup__json_unref(sighting->passed_over);
	*sighting = (struct k3sup__sighting){0};
}
