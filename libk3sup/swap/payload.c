/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/swap.h"

#include "base/inflate.h"
#include "node/identify.h"
#include "node/said.h"
#include "swap/backup.h"
#include "swap/bytes.h"
#include "swap/spool.h"

#include <fcntl.h>
#include <unistd.h>

static int take_place(const char *path, bool has_fd, int fd, struct k3sup__source *ret)
{
	if (has_fd) {
		/* The caller may close its own as soon as the verb has come back. */
		ret->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		return ret->fd < 0 ? -errno : 0;
	}
	if (!path || !*path)
		return -EINVAL;
	ret->path = strdup(path);
	return ret->path ? 0 : -ENOMEM;
}

int k3sup__source_take(const char *path, bool has_fd, int fd, const struct k3sup__given_terms *terms, struct k3sup__source *ret)
{
	int r = 0;

	*ret = (struct k3sup__source){.fd = -1};
	if (terms)
		r = k3sup__terms_take(terms, &ret->terms);
	if (r >= 0)
		r = take_place(path, has_fd, fd, ret);
	if (r < 0)
		k3sup__source_clear(ret);
	return r;
}

int k3sup__source_take_backup(const char *sha256, const char *expect_version, struct k3sup__source *ret)
{
	const struct k3sup__given_terms terms = {.sha256 = sha256, .expect_version = expect_version};
	int r;

	*ret = (struct k3sup__source){.fd = -1, .backup = true};
	r = k3sup__terms_take(&terms, &ret->terms);
	if (r < 0)
		k3sup__source_clear(ret);
	return r;
}

void k3sup__source_clear(struct k3sup__source *source)
{
	free(source->path);
	source->path = NULL;
	source->fd = k3sup__close(source->fd);
	k3sup__terms_clear(&source->terms);
}

/* In a place that others can write it is taken, too, if the terms say which bytes are right. */
static int open_path(k3sup_op *op, const k3sup_node *node, const struct k3sup__source *source, int *ret_fd, bool *ret_trusted)
{
	int r = k3sup__payload_open(op, source->path, node->trust_flags, ret_fd);

	*ret_trusted = r >= 0;
	if (r != K3SUP_E_UNTRUSTED || !k3sup__terms_bind(&source->terms))
		return r;
	k3sup__op_forgive(op);
	return k3sup__payload_open(op, source->path, 0, ret_fd);
}

static int open_fd(k3sup_op *op, const k3sup_node *node, const struct k3sup__source *source, int *ret_fd, bool *ret_trusted)
{
	struct stat st;

	if (fstat(source->fd, &st) < 0 || (*ret_fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 3)) < 0)
		return k3sup__fail(op, -errno, "cannot use the given descriptor: %s", k3sup_strerror(errno));
	*ret_trusted = k3sup__trusted(&st, node->trust_flags & K3SUP__ALLOW_GROUP);
	return 0;
}

/* The private copy takes the place of the file that was opened. */
static int make_private(k3sup_op *op, k3sup_node *node, const struct k3sup__source *source, bool trusted, struct k3sup__payload *p)
{
	struct stat st;
	int copy = -1, packed, r;

	if (fstat(p->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0; /* the look at the build says what it is instead */
	packed = k3sup__is_gzip(p->fd);
	if (packed < 0)
		return k3sup__fail(op, packed, "%s cannot be read: %s", p->shown, k3sup_strerror(packed));
	if (!packed && (trusted || !k3sup__terms_bind(&source->terms)))
		return 0;
	r = k3sup__spool(op, node, p->fd, p->shown, packed, &copy, p->sha256);
	if (r < 0)
		return r;
	k3sup__close(p->fd);
	p->fd = copy;
	return 0;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
		a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The installed file, if it may be the payload. What stands in the way of it is said when it is needed. */
static int open_installed(k3sup_node *node, const struct k3sup__payload *p)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	struct stat st;

	if (fstat(p->fd, &st) < 0 || k3sup__installed_find(NULL, node, NULL, &place) < 0 || place.st.st_size != st.st_size)
		return -ENOENT;
	return k3sup__place_open(&place, O_RDONLY);
}

/* Reads the payload, and in the same pass compares it with what is installed: most of the time it is that, and nothing else has to be read. */
static int read_build(k3sup_op *op, k3sup_node *node, const struct k3sup__terms *terms, struct k3sup__payload *p)
{
	_close_ int installed = open_installed(node, p);
	struct k3sup__beside beside = {.fd = installed};
	const struct k3sup__tap tap = {.take = k3sup__beside_take, .arg = &beside};
	struct stat after;
	int r = 0;

	if (installed >= 0 && fstat(installed, &p->beside.st) < 0)
		return -errno;
	if (installed >= 0)
		r = k3sup__beside_begin(&beside, !p->sha256[0] && k3sup__terms_bind(terms));
	if (r >= 0)
		r = k3sup__build_read_tapped(op, p->fd, p->shown, K3SUP__BUILD_HOST_ARCH | (p->run_version ? K3SUP__BUILD_SHA256 : 0),
			installed >= 0 ? &tap : NULL, &p->build);
	if (r >= 0)
		r = k3sup__beside_end(&beside, &p->beside.same, p->beside.sha256);
	k3sup__beside_clear(&beside);
	if (r < 0 || installed < 0 || p->beside.same < 0 || fstat(installed, &after) < 0 || !same_state(&after, &p->beside.st))
		p->beside.st = (struct stat){0};
	return r;
}

bool k3sup__payload_is(const struct k3sup__payload *payload, const struct stat *st)
{
	return payload->beside.st.st_ino != 0 && payload->beside.same == 1 && same_state(&payload->beside.st, st);
}

int k3sup__payload_look(k3sup_op *op, k3sup_node *node, const struct k3sup__terms *terms, struct k3sup__payload *p)
{
	int r = read_build(op, node, terms, p);

	if (r >= 0 && fstat(p->fd, &p->st) < 0)
		r = k3sup__fail(op, -errno, "cannot look at %s: %s", p->shown, k3sup_strerror(errno));
	k3sup__wanted_report(op, p, NULL);
	if (r < 0)
		return r;
	p->proof = calloc(1, sizeof(*p->proof));
	if (!p->proof)
		return -ENOMEM;
	r = k3sup__proof_prepare(op, node, terms, &p->build, p->shown, p->proof);
	return r >= 0 && p->sha256[0] ? k3sup__payload_prove(op, p, p->sha256) : r;
}

/* What is run is what was verified, and what is installed must be what was run. */
static int ask_version(k3sup_op *op, struct k3sup__payload *p)
{
	int r;

	if (!p->run_version)
		return 0;
	if (!p->sha256[0])
		memcpy(p->sha256, p->build.sha256, sizeof(p->sha256));
	r = k3sup__payload_prove(op, p, p->build.sha256);
	if (r >= 0)
		r = k3sup__said_ask(op, p->fd, p->shown, &p->build);
	k3sup__wanted_report(op, p, NULL);
	return r;
}

int k3sup__payload_load(k3sup_op *op, k3sup_node *node, const struct k3sup__source *source, struct k3sup__payload *ret)
{
	struct k3sup__payload p = K3SUP__PAYLOAD_NONE;
	bool trusted = false;
	int r;

	if (source->backup)
		return k3sup__backup_load(op, node, &source->terms, ret);
	p.run_version = source->run_version;
	p.server_version = source->terms.server_version;
	p.shown = source->path ? source->path : "the given descriptor";
	r = source->path ? open_path(op, node, source, &p.fd, &trusted) : open_fd(op, node, source, &p.fd, &trusted);
	if (r >= 0)
		r = make_private(op, node, source, trusted, &p);
	if (r >= 0)
		r = k3sup__payload_look(op, node, &source->terms, &p);
	if (r >= 0)
		r = ask_version(op, &p);
	p.untrusted = !trusted && !k3sup__terms_bind(&source->terms);
	p.check_archive = source->check_archive && !k3sup__terms_bind(&source->terms);
	if (r < 0) {
		k3sup__payload_clear(&p);
		return r;
	}
	*ret = p;
	return 0;
}

int k3sup__payload_check_archive(k3sup_op *op, struct k3sup__payload *payload)
{
	struct k3sup__build build;
	int r;

	if (!payload->check_archive)
		return 0;
	r = k3sup__build_read_fd(op, payload->fd, payload->shown, K3SUP__BUILD_HOST_ARCH | K3SUP__BUILD_ARCHIVE, &build);
	payload->build.asset_check = build.asset_check;
	k3sup__wanted_report(op, payload, NULL);
	return r;
}

int k3sup__payload_prove(k3sup_op *op, const struct k3sup__payload *payload, const char sha256[static K3SUP__SHA256_HEX])
{
	if (payload->sha256[0] && sha256[0] && !k3sup__streq(payload->sha256, sha256))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s changed after it was verified", payload->shown);
	return sha256[0] ? k3sup__proof_check(op, payload->proof, sha256, payload->shown) : 0;
}

int k3sup__payload_verify(k3sup_op *op, const struct k3sup__payload *payload)
{
	char sha256[K3SUP__SHA256_HEX];
	int r;

	if (payload->sha256[0] || k3sup__streq(payload->proof->kind, "none"))
		return 0;
	r = k3sup__bytes_digest(op, payload->fd, payload->shown, sha256);
	return r < 0 ? r : k3sup__payload_prove(op, payload, sha256);
}

void k3sup__wanted_report(k3sup_op *op, const struct k3sup__payload *payload, const char *sha256)
{
	k3sup__json *wanted = k3sup__build_json(&payload->build);

	if (!sha256 || !sha256[0])
		sha256 = payload->sha256;
	if (sha256[0])
		k3sup__json_set_str(wanted, "sha256", sha256);
	k3sup__json_set_str(wanted, "path", payload->shown);
	k3sup__json_set(k3sup__op_facts(op), "wanted", wanted);
}

void k3sup__payload_clear(struct k3sup__payload *payload)
{
	payload->fd = k3sup__close(payload->fd);
	if (payload->proof)
		k3sup__proof_clear(payload->proof);
	free(payload->proof);
	payload->proof = NULL;
	free(payload->own_path);
	payload->own_path = NULL;
}
