/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long it takes to look at all certificates of a node, beside a program that reads, decodes and verifies the same files with the same OpenSSL, and beside a loop of openssl(1).
 *
 *   certs ROOT ROUNDS CERTIFICATES [check]    the list of files comes in on stdin: "CRT KEY CA" below the data-dir, authorities first, "-" for what there is not
 *
 * Prints "name median low high" in microseconds for each. Each verdict is asserted in each round: all are well, and as many as were said. With "check" the library only.
 */
#include <k3sup.h>

#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DATA "/var/lib/rancher/k3s"
#define MAX_FILES 64
#define MAX_ROUNDS 99

static struct line {
	char crt[128], key[128], ca[128];
	X509 *first; /* of an authority, while a round lasts */
} lines[MAX_FILES];
static int n_lines, certificates;
static char data[512];
static k3sup_node *node;

/* ---- the library ---- */

static int by_library(void)
{
	struct k3sup_certs_check_opts opts = {.struct_size = sizeof(opts), .k3s_version = "v1.34.1+k3s1"};
	int64_t ok = -1, act = -1;
	k3sup_op *op = NULL;
	int r = k3sup_certs_check(node, &opts, &op);

	if (r == 0)
		r = k3sup_op_wait(op, -1);
	if (r == 0 &&
		(k3sup_doc_i64(k3sup_op_result(op), "/counts/ok", &ok) < 0 ||
			k3sup_doc_i64(k3sup_op_result(op), "/needs_action", &act) < 0 || ok != certificates || act != 0))
		r = -1;
	if (r < 0)
		fprintf(stderr, "check: %lld well of %d: %.2000s\n", (long long)ok, certificates, op ? k3sup_doc_json(k3sup_op_result(op)) : "");
	k3sup_op_unref(op);
	return r;
}

/* ---- by hand ---- */

static BIO *open_file(const char *name)
{
	static char text[4 << 20];
	char path[1024];
	ssize_t n, len = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", data, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, text + len, sizeof(text) - (size_t)len)) > 0)
		len += n;
	close(fd);
	return fd < 0 ? NULL : BIO_new_mem_buf(text, (int)len);
}

static X509 *authority(const char *name)
{
	for (int i = 0; i < n_lines; i++)
		if (strcmp(lines[i].crt, name) == 0)
			return lines[i].first;
	return NULL;
}

static bool is_well(X509 *cert, X509 *issuer)
{
	time_t now = time(NULL), later = now + 120 * 86400;

	return issuer && X509_cmp_time(X509_get0_notBefore(cert), &now) < 0 && X509_cmp_time(X509_get0_notAfter(cert), &later) > 0 &&
		X509_NAME_cmp(X509_get_issuer_name(cert), X509_get_subject_name(issuer)) == 0 &&
		X509_verify(cert, X509_get0_pubkey(issuer)) == 1;
}

static bool fits(const char *name, X509 *cert)
{
	BIO *file = open_file(name);
	EVP_PKEY *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
	bool fit = key && X509_check_private_key(cert, key) == 1;

	EVP_PKEY_free(key);
	BIO_free(file);
	return fit;
}

/* How many certificates there are in it, or -1. */
static int look_at(struct line *line)
{
	BIO *file = strcmp(line->crt, "-") ? open_file(line->crt) : NULL;
	int n = 0;
	bool well = true;
	X509 *cert;

	for (; file && well && (cert = PEM_read_bio_X509(file, NULL, NULL, NULL)); n++) {
		if (n > 0) {
			X509_free(cert);
			continue;
		}
		line->first = cert;
		well = is_well(cert, strcmp(line->ca, "-") ? authority(line->ca) : cert);
	}
	BIO_free(file);
	if (well && strcmp(line->key, "-"))
		well = line->first && fits(line->key, line->first);
	return well ? n : -1;
}

static int by_hand(void)
{
	int sum = 0;

	for (int i = 0; i < n_lines && sum >= 0; i++) {
		int n = look_at(&lines[i]);

		if (n < 0)
			fprintf(stderr, "control: %s is not well\n", lines[i].crt);
		sum = n < 0 ? -1 : sum + n;
	}
	for (int i = 0; i < n_lines; i++) {
		X509_free(lines[i].first);
		lines[i].first = NULL;
	}
	return sum == certificates ? 0 : -1;
}

/* ---- openssl(1) ---- */

static int by_openssl(void)
{
	static char command[MAX_FILES * 160 + 256];
	size_t len = (size_t)snprintf(command, sizeof(command), "cd %s && for f in", data);

	for (int i = 0; i < n_lines; i++)
		if (strcmp(lines[i].crt, "-"))
			len += (size_t)snprintf(command + len, sizeof(command) - len, " %s", lines[i].crt);
	snprintf(command + len, sizeof(command) - len,
		"; do openssl x509 -noout -subject -enddate -checkend 10368000 -in $f >/dev/null || exit 1; done");
	return system(command);
}

static int compare(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} all[] = {{"check", by_library}, {"control", by_hand}, {"openssl", by_openssl}};
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .data_dir = DATA};
	static int64_t times[3][MAX_ROUNDS];
	int rounds = argc > 2 ? atoi(argv[2]) : 0, contestants = argc == 5 ? 1 : 3;
	k3sup_ctx *ctx = NULL;

	if (argc < 4 || rounds < 1 || rounds > MAX_ROUNDS)
		return 2;
	where.root = argv[1];
	certificates = atoi(argv[3]);
	snprintf(data, sizeof(data), "%s" DATA, argv[1]);
	while (n_lines < MAX_FILES && scanf("%127s %127s %127s", lines[n_lines].crt, lines[n_lines].key, lines[n_lines].ca) == 3)
		n_lines++;
	if (k3sup_ctx_new(&inside, &ctx) < 0 || k3sup_node_new(ctx, &where, &node) < 0)
		return 9;
	for (int round = -1; round < rounds; round++) /* the first one warms up, and does not count */
		for (int i = 0; i < contestants; i++) {
			int which = round % 2 ? contestants - 1 - i : i, r;
			int64_t began = now_us();

			r = all[which].run();
			if (round >= 0)
				times[which][round] = now_us() - began;
			if (r != 0) {
				fprintf(stderr, "%s: %d\n", all[which].name, r);
				return 10;
			}
		}
	for (int i = 0; i < contestants; i++) {
		qsort(times[i], (size_t)rounds, sizeof(times[i][0]), compare);
		printf("%s %lld %lld %lld\n", all[i].name, (long long)times[i][rounds / 2], (long long)times[i][0],
			(long long)times[i][rounds - 1]);
	}
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return 0;
}
