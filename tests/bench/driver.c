/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests/bench/run measures.
 *
 *   driver swap ROOT PAYLOAD      the library replaces ROOT/usr/local/bin/k3s
 *   driver control ROOT PAYLOAD   the least a careful program must do: one read of each file, both hashes, one durable write
 *   driver swap ROOT PAYLOAD HEX  the same, and the payload must have this SHA-256
 *   driver digest - PAYLOAD       one SHA-256 of it
 *   driver empty - -              nothing, with the same libraries
 *
 * Prints what went wrong, or the status of the library's verb, the most memory that was ever in use, in KiB, and how long the verb's step "stage" took, in ms.
 */
#include <k3sup.h>

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define K3S "/usr/local/bin/k3s"
#define CHUNK ((size_t)1 << 20)

static int64_t copied_ms;

/* How long copying took, which is a step of its own. */
static void look_at_steps(k3sup_doc *result)
{
	for (int64_t i = 0; i < k3sup_doc_len(result, "/steps"); i++) {
		char path[64];
		const char *name = "";

		snprintf(path, sizeof(path), "/steps/%lld/name", (long long)i);
		if (k3sup_doc_str(result, path, &name) < 0 || strcmp(name, "stage") != 0)
			continue;
		snprintf(path, sizeof(path), "/steps/%lld/ms", (long long)i);
		(void)k3sup_doc_i64(result, path, &copied_ms);
	}
}

static int by_library(const char *root, const char *payload, const char *sha256)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = root, .k3s = K3S};
	struct k3sup_swap_opts what = {.struct_size = sizeof(what), .payload = payload, .sha256 = sha256};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	int r = k3sup_ctx_new(&inside, &ctx);

	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	if (r == 0)
		r = k3sup_swap(node, &what, &op);
	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r >= 0)
		look_at_steps(k3sup_op_result(op));
	if (r < 0)
		fprintf(stderr, "%d %s\n", r, op && k3sup_op_error(op) ? k3sup_doc_json(k3sup_op_error(op)) : "");
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r;
}

/* Hashes from, and writes it to out, if that is one. */
static int pass(int from, int out)
{
	unsigned char sum[EVP_MAX_MD_SIZE], *buffer = malloc(CHUNK);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	int ok = buffer && md && EVP_DigestInit_ex(md, EVP_sha256(), NULL);
	ssize_t n = 1;

	while (ok && n > 0) {
		n = read(from, buffer, CHUNK);
		ok = n >= 0 && EVP_DigestUpdate(md, buffer, (size_t)n) && (out < 0 || write(out, buffer, (size_t)n) == n);
	}
	ok = ok && EVP_DigestFinal_ex(md, sum, NULL);
	EVP_MD_CTX_free(md);
	free(buffer);
	return ok ? 0 : -1;
}

static int by_hand(const char *root, const char *payload)
{
	char path[4096];
	int dir, from = open(payload, O_RDONLY | O_CLOEXEC), old, out;

	snprintf(path, sizeof(path), "%s/usr/local/bin", root);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	old = openat(dir, "k3s", O_RDONLY | O_CLOEXEC);
	out = openat(dir, "k3s.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	(void)unlinkat(dir, "k3s.old", 0);
	if (from < 0 || old < 0 || out < 0 || pass(old, -1) < 0 || pass(from, out) < 0 || fsync(out) < 0 ||
		linkat(dir, "k3s", dir, "k3s.old", 0) < 0 || fsync(dir) < 0 || renameat(dir, "k3s.new", dir, "k3s") < 0 || fsync(dir) < 0) {
		perror("control");
		return -1;
	}
	return 1;
}

static int digest(const char *payload)
{
	int from = open(payload, O_RDONLY | O_CLOEXEC);

	return from < 0 ? -1 : pass(from, -1);
}

static long peak(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtol(line + 6, NULL, 10);
	if (f)
		fclose(f);
	return kib;
}

int main(int argc, char **argv)
{
	int r = 0;

	if (argc != 4 && argc != 5)
		return 2;
	if (strcmp(argv[1], "swap") == 0)
		r = by_library(argv[2], argv[3], argv[4]);
	else if (strcmp(argv[1], "control") == 0)
		r = by_hand(argv[2], argv[3]);
	else if (strcmp(argv[1], "digest") == 0)
		r = digest(argv[3]);
	else if (!k3sup_version() || !EVP_sha256())
		return 2;
	printf("%d %ld %lld\n", r, peak(), (long long)copied_ms);
	return r < 0;
}
