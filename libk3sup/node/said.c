/* SPDX-License-Identifier: Apache-2.0 */
#include "node/said.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/child.h"
#include "base/digest.h"
#include "node/version.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* needed where vm.memfd_noexec is 1, unknown before Linux 6.3 */
#endif

#define CHUNK ((size_t)256 << 10)
#define TIME_MS 60000 /* it takes some milliseconds; a board that swaps may need more */
#define MAX_OUTPUT 16384

/* ---- a copy that stays what it is ---- */

static int copy(k3sup_op *op, int fd, int to, const char *shown, const struct k3sup__build *build)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	_free_ char *buffer = malloc(CHUNK);
	char sha256[K3SUP__SHA256_HEX];
	uint64_t at = 0;
	int r = buffer != NULL ? k3sup__digest_new(&digest) : -ENOMEM;

	while (r == 0 && at < build->size) {
		size_t want = build->size - at < CHUNK ? (size_t)(build->size - at) : CHUNK;
		ssize_t n = k3sup__pread_full(fd, buffer, want, (int64_t)at);

		if (n <= 0)
			return n < 0 ? (int)n : K3SUP_E_PAYLOAD_CHANGED;
		at += (uint64_t)n;
		r = k3sup__write_full(to, buffer, (size_t)n);
		if (r == 0)
			r = k3sup__digest_update(digest, buffer, (size_t)n);
		if (r == 0)
			r = k3sup__op_checkpoint(op);
	}
	if (r == 0)
		r = k3sup__digest_finish(digest, sha256);
	if (r == 0 && !k3sup__streq(sha256, build->sha256))
		r = k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s changed after it was verified", shown);
	return r;
}

int k3sup__sealed_copy(k3sup_op *op, int fd, const char *shown, const struct k3sup__build *build, int *ret_fd)
{
	_close_ int image = memfd_create("k3s", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	int r;

	if (image < 0 && errno == EINVAL)
		image = memfd_create("k3s", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (image < 0)
		return -errno;
	r = copy(op, fd, image, shown, build);
	if (r == 0 && (fchmod(image, 0500) < 0 || fcntl(image, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0))
		r = -errno;
	if (r < 0)
		return r;
	*ret_fd = image;
	image = -1;
	return 0;
}

/* ---- what it says ---- */

/* "k3s version v1.30.4+k3s1 (0123abcd)"; the first word is what it was called by. Lines about other things may come before. */
static bool find_version(const char *output, char *ret, size_t size)
{
	static const char word[] = "k3s version ";
	struct k3sup__version version;

	for (const char *line = output; line != NULL; line = strchr(line, '\n')) {
		size_t len;

		line += *line == '\n';
		if (strncmp(line, word, strlen(word)) != 0)
			continue;
		line += strlen(word);
		len = strcspn(line, " \n");
		if (len >= size || k3sup__version_parse(line, len, &version) < 0)
			return false;
		(void)snprintf(ret, size, "%.*s", (int)len, line);
		return true;
	}
	return false;
}

static int not_said(k3sup_op *op, const char *shown, const struct k3sup__child_result *said)
{
	if (said->timed_out)
		return k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "%s did not say its version within %d s", shown, TIME_MS / 1000);
	if (said->exit_code != 0)
		return k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "%s does not say its version: it ended with %s %d", shown,
			said->exit_code < 0 ? "signal" : "exit status", said->exit_code < 0 ? said->term_signal : said->exit_code);
	return k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "what %s says is no version", shown);
}

static int judge(k3sup_op *op, const char *shown, const struct k3sup__child_result *said, struct k3sup__build *build)
{
	struct k3sup__version a, b;
	int r = 0;

	if (said->exit_code != 0 || !find_version(said->output, build->said, sizeof(build->said)))
		r = not_said(op, shown, said);
	else if (build->contradicts)
		r = k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "%s says that it is %s, but several versions are written in it", shown, build->said);
	else if (build->version[0] == '\0')
		memcpy(build->version, build->said, sizeof(build->version));
	else if (k3sup__version_parse(build->version, strlen(build->version), &a) < 0 ||
		k3sup__version_parse(build->said, strlen(build->said), &b) < 0 || k3sup__version_order(&a, &b) != 0)
		r = k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "%s says that it is %s, but %s is written in it", shown, build->said, build->version);
	if (r < 0) {
		k3sup__json *evidence = k3sup__op_evidence(op);

		k3sup__json_set_str(evidence, "said", said->output);
		k3sup__json_set_str(evidence, "version", build->version);
	}
	return r;
}

int k3sup__said_ask(k3sup_op *op, int fd, const char *shown, struct k3sup__build *build)
{
	static const char *const argv[] = {"/k3s", "--version", NULL};
	/* Nothing can be made in there, and nothing that has a name. */
	_close_ int empty = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC), image = -1;
	struct k3sup__child_result said = {0};
	struct k3sup__child_spec spec = {.argv = argv, .root_fd = empty, .deadline = k3sup__deadline(TIME_MS), .max_output = MAX_OUTPUT};
	int r = empty < 0 ? -errno : k3sup__sealed_copy(op, fd, shown, build, &image);

	spec.image = &image;
	spec.confined = true;
	if (r == 0)
		r = k3sup__child_run(op, &spec, &said);
	if (r < 0)
		return k3sup__fail(op, r, "%s cannot be asked for its version: %s", shown, k3sup_strerror(r));
	r = judge(op, shown, &said, build);
	k3sup__child_result_clear(&said);
	return r;
}
