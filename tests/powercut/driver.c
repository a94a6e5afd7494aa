/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker of powercut.py: replaces the k3s file again and again, and prints "ACK n" when number n is promised to be durable.
 *
 *   driver HOW ROOT TEMPLATE BLOCKS FIRST COUNT     COUNT 0: for ever, beside a neighbour that writes and syncs
 *   driver state ROOT - 0 0 0                       prints what k3sup_state() says
 *
 * HOW is swap or upgrade (the library's verbs), stage or commit (images put in place; with commit the old version is done with), or a way that must be caught: cp or
 * cp-image (over the live file), lazy (temp, fsync, rename, but no fsync of the directory). unpack has payload n, which is TEMPLATE.n, unpack itself; unpack-lazy does so as k3s
 * does, which syncs nothing. The file that is put in place of an image is made in TMPDIR, else in /run. Payload number n is TEMPLATE, then BLOCKS pages in which every 8 bytes are n, so the number and the wholeness of a file can be read from it.
 */
#include <k3sup.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define K3S "/usr/local/bin/k3s"
#define IMAGE "/var/lib/rancher/k3s/agent/images/images.tar"
#define PAGE 4096
#define LAST_PAYLOAD 140 /* unpacked.py has some more for those who look */

struct worker {
	const char *how;
	const char *root;
	char file[512];
	char temp[520];
	char image[520]; /* the one to be put in place */
	const char *template_path;
	char *template;
	size_t template_len;
	int blocks;
	k3sup_node *node;
};

static int put(const struct worker *w, int fd, uint64_t n)
{
	uint64_t page[PAGE / sizeof(n)];

	for (size_t i = 0; i < sizeof(page) / sizeof(*page); i++)
		page[i] = n;
	if (write(fd, w->template, w->template_len) != (ssize_t)w->template_len)
		return -1;
	for (int i = 0; i < w->blocks; i++)
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			return -1;
	return 0;
}

static bool is_of_images(const struct worker *w)
{
	return strcmp(w->how, "stage") == 0 || strcmp(w->how, "commit") == 0 || strcmp(w->how, "cp-image") == 0;
}

/* K3SUP_STAGE_COMMIT: the version that was replaced goes at once. */
static int start_stage(const struct worker *w, uint64_t n, k3sup_op **op)
{
	const char *const files[] = {w->image, NULL};
	struct k3sup_stage_opts stage = {.struct_size = sizeof(stage), .files = files};
	int fd = open(w->image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), r = fd < 0 ? -errno : put(w, fd, n);

	if (fd >= 0)
		close(fd);
	if (strcmp(w->how, "commit") == 0)
		stage.flags = K3SUP_STAGE_COMMIT;
	return r == 0 ? k3sup_stage(w->node, &stage, op) : r;
}

static int start_swap(const struct worker *w, uint64_t n, k3sup_op **op)
{
	int fd = memfd_create("payload", MFD_CLOEXEC), r = fd < 0 ? -errno : put(w, fd, n);
	struct k3sup_swap_opts swap = {.struct_size = sizeof(swap), .flags = K3SUP_SWAP_PAYLOAD_FD, .payload_fd = fd};
	struct k3sup_upgrade_opts upgrade = {
		.struct_size = sizeof(upgrade), .flags = K3SUP_UPGRADE_PAYLOAD_FD, .payload_fd = fd, .restart = K3SUP_RESTART_NONE};

	if (r == 0)
		r = strcmp(w->how, "swap") == 0 ? k3sup_swap(w->node, &swap, op) : k3sup_upgrade(w->node, &upgrade, op);
	close(fd);
	return r;
}

static bool unpacks(const struct worker *w)
{
	return strncmp(w->how, "unpack", 6) == 0;
}

/* Tells the program inside under which name it is to unpack itself. */
static int prepare_payload(const struct worker *w, uint64_t n, char *payload, size_t size)
{
	char hash[520], text[65] = "", path[520];
	int from, to, r = -1;

	snprintf(payload, size, "%s.%llu", w->template_path, (unsigned long long)n);
	snprintf(hash, sizeof(hash), "%.500s.hash", payload);
	snprintf(path, sizeof(path), "%.500s/unpacker", w->root);
	from = open(hash, O_RDONLY | O_CLOEXEC);
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (from >= 0 && to >= 0 && read(from, text, 64) == 64 && write(to, text, 64) == 64 && write(to, "\n", 1) == 1)
		r = 0;
	close(from);
	close(to);
	return r;
}

static int start_unpack(const struct worker *w, uint64_t n, k3sup_op **op)
{
	char payload[520];
	struct k3sup_unpack_opts unpack = {.struct_size = sizeof(unpack), .payload = payload};

	return prepare_payload(w, n, payload, sizeof(payload)) < 0 ? -EIO : k3sup_unpack(w->node, &unpack, op);
}

static int unpack_by_hand(const struct worker *w, uint64_t n)
{
	char payload[520];
	char *argv[] = {"k3s", "kubectl", "version", "--client", NULL}, *env[] = {"K3S_DATA_DIR=/var/lib/rancher/k3s", NULL};
	int fd, status = -1;
	pid_t pid;

	if (prepare_payload(w, n, payload, sizeof(payload)) < 0 || (fd = open(payload, O_RDONLY)) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		if (chroot(w->root) == 0 && chdir("/") == 0)
			(void)fexecve(fd, argv, env);
		_exit(127);
	}
	close(fd);
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

static int by_library(const struct worker *w, uint64_t n)
{
	k3sup_op *op = NULL;
	int r = unpacks(w) ? start_unpack(w, n, &op) : is_of_images(w) ? start_stage(w, n, &op) : start_swap(w, n, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r == 0 && unpacks(w)) /* it came to its end before the cut */
		r = 1;
	if (r != 1)
		printf("%s %llu: %d %s\n", w->how, (unsigned long long)n, r, op && k3sup_op_error(op) ? k3sup_doc_json(k3sup_op_error(op)) : "");
	k3sup_op_unref(op);
	return r == 1 ? 0 : -1;
}

static int by_hand(const struct worker *w, uint64_t n)
{
	int copy = strncmp(w->how, "cp", 2) == 0;
	int fd, r;

	if (unpacks(w))
		return unpack_by_hand(w, n);
	fd = copy ? open(w->file, O_WRONLY | O_TRUNC | O_CLOEXEC) : open(w->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	r = fd < 0 ? -1 : put(w, fd, n);
	if (r == 0 && !copy)
		r = fsync(fd);
	if (fd >= 0)
		close(fd);
	return r == 0 && !copy ? rename(w->temp, w->file) : r;
}

/* As a datastore would: without it, nothing but the worker makes the file system commit. */
static void neighbour(const struct worker *w)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/neighbour", w->root);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	for (int i = 0;; i++) {
		if (pwrite(fd, &i, sizeof(i), (i % 64) * 512) < 0 || fsync(fd) < 0)
			_exit(1);
		usleep(20000);
	}
}

static int print_state(const struct worker *w)
{
	k3sup_op *op = NULL;
	int r = k3sup_state(w->node, NULL, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	puts(op ? k3sup_doc_json(k3sup_op_result(op)) : "");
	k3sup_op_unref(op);
	return r < 0 ? 1 : 0;
}

static int run(const struct worker *w, uint64_t first, uint64_t count)
{
	for (uint64_t n = first; count == 0 || n < first + count; n++) {
		while (unpacks(w) && count == 0 && n > LAST_PAYLOAD)
			pause();
		if ((w->node ? by_library(w, n) : by_hand(w, n)) < 0) {
			perror(w->how);
			return 1;
		}
		printf("ACK %llu\n", (unsigned long long)n);
		fflush(stdout);
	}
	return 0;
}

static int read_template(struct worker *w, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	w->template_len = (size_t)st.st_size;
	w->template = malloc(w->template_len);
	return w->template && read(fd, w->template, w->template_len) == st.st_size ? close(fd) : -1;
}

int main(int argc, char **argv)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .k3s = K3S, .data_dir = "/var/lib/rancher/k3s"};
	struct worker w = {0};
	k3sup_ctx *ctx = NULL;
	int r = 0, state;

	if (argc != 7)
		return 2;
	w.how = argv[1];
	where.root = w.root = argv[2];
	w.template_path = argv[3];
	w.blocks = atoi(argv[4]);
	state = strcmp(w.how, "state") == 0;
	snprintf(w.file, sizeof(w.file), "%s%s", w.root, is_of_images(&w) ? IMAGE : K3S);
	snprintf(w.image, sizeof(w.image), "%s/images.tar", getenv("TMPDIR") ? getenv("TMPDIR") : "/run");
	snprintf(w.temp, sizeof(w.temp), "%s.new", w.file);
	if (!state && read_template(&w, argv[3]) < 0)
		return 2;
	if (atoi(argv[6]) == 0 && !state && fork() == 0)
		neighbour(&w);
	if (strncmp(w.how, "cp", 2) != 0 && strcmp(w.how, "lazy") != 0 && strcmp(w.how, "unpack-lazy") != 0) {
		r = k3sup_ctx_new(&inside, &ctx);
		if (r == 0)
			r = k3sup_node_new(ctx, &where, &w.node);
		if (r < 0)
			printf("%s: %s\n", w.how, k3sup_strerror(r));
	}
	if (r == 0)
		r = state ? print_state(&w) : run(&w, strtoull(argv[5], NULL, 10), strtoull(argv[6], NULL, 10));
	k3sup_node_unref(w.node);
	k3sup_ctx_unref(ctx);
	free(w.template);
	return r == 0 ? 0 : 1;
}
