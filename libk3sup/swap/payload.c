/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/swap.h"

#include "base/inflate.h"
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

static int look_at(k3sup_op *op, k3sup_node *node, const struct k3sup__source *source, struct k3sup__payload *p)
{
	int r = k3sup__build_read_fd(op, p->fd, p->shown, K3SUP__BUILD_HOST_ARCH, &p->build);

	if (r >= 0 && fstat(p->fd, &p->st) < 0)
		r = k3sup__fail(op, -errno, "cannot look at %s: %s", p->shown, k3sup_strerror(errno));
	k3sup__wanted_report(op, p, NULL);
	if (r < 0)
		return r;
	p->proof = calloc(1, sizeof(*p->proof));
	if (!p->proof)
		return -ENOMEM;
	r = k3sup__proof_prepare(op, node, &source->terms, &p->build, p->shown, p->proof);
	return r >= 0 && p->sha256[0] ? k3sup__payload_prove(op, p, p->sha256) : r;
}

int k3sup__payload_load(k3sup_op *op, k3sup_node *node, const struct k3sup__source *source, struct k3sup__payload *ret)
{
	struct k3sup__payload p = K3SUP__PAYLOAD_NONE;
	bool trusted = false;
	int r;

	p.shown = source->path ? source->path : "the given descriptor";
	r = source->path ? open_path(op, node, source, &p.fd, &trusted) : open_fd(op, node, source, &p.fd, &trusted);
	if (r >= 0)
		r = make_private(op, node, source, trusted, &p);
	if (r >= 0)
		r = look_at(op, node, source, &p);
	if (r < 0) {
		k3sup__payload_clear(&p);
		return r;
	}
	*ret = p;
	return 0;
}

int k3sup__payload_prove(k3sup_op *op, const struct k3sup__payload *payload, const char sha256[static K3SUP__SHA256_HEX])
{
	if (payload->sha256[0] && sha256[0] && !k3sup__streq(payload->sha256, sha256))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "the private copy of %s changed", payload->shown);
	return sha256[0] ? k3sup__proof_check(op, payload->proof, sha256, payload->shown) : 0;
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
}
