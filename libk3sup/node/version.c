/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar, from k3s's scripts/version.sh and its tags:
 *
 *   [v] X.Y.Z [-(alpha|beta|rc)[.]M] [(+|-)k3s ([.]N | -COMMIT[-dirty])]
 *
 * "-k3s" is the image tag's way to write "+k3s" (a tag cannot hold a plus). "k3s.1" and "rc.1" are what releases of 2019 and Kubernetes itself write. Releases before
 * v1.14 and v1.0 had no k3s part at all.
 */
#include "node/version.h"

#include <k3sup/error.h>

/* More digits than any release will have; keeps every number far from the end of 32 bits. */
#define MAX_DIGITS 9
#define MIN_COMMIT 6

struct cursor {
	const char *at;
	const char *end;
};

static bool take(struct cursor *c, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0)
		return false;
	c->at += len;
	return true;
}

static bool take_number(struct cursor *c, uint32_t *ret)
{
	const char *start = c->at;
	uint32_t value = 0;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
		if (c->at - start == MAX_DIGITS)
			return false;
		value = value * 10 + (uint32_t)(*c->at - '0');
		c->at++;
	}
	if (c->at == start)
		return false;
	if (*start == '0' && c->at - start > 1) /* "01" is no number of a version; it would compare equal to another text */
		return false;
	*ret = value;
	return true;
}

/* The part behind "-": false if it is there and is wrong. "-k3s" belongs to the next part. */
static bool take_pre(struct cursor *c, struct k3sup__version *v)
{
	struct cursor ahead = *c;

	v->pre = K3SUP__PRE_NONE;
	if (!take(&ahead, "-") || take(&ahead, "k3s"))
		return true;
	if (take(&ahead, "alpha"))
		v->pre = K3SUP__PRE_ALPHA;
	else if (take(&ahead, "beta"))
		v->pre = K3SUP__PRE_BETA;
	else if (take(&ahead, "rc"))
		v->pre = K3SUP__PRE_RC;
	else
		return false;
	(void)take(&ahead, ".");
	if (!take_number(&ahead, &v->pre_number))
		return false;
	*c = ahead;
	return true;
}

static bool take_commit(struct cursor *c, struct k3sup__version *v)
{
	const char *start = c->at;
	size_t len;

	while (c->at < c->end && ((*c->at >= '0' && *c->at <= '9') || (*c->at >= 'a' && *c->at <= 'f')))
		c->at++;
	if (c->at - start < MIN_COMMIT)
		return false;
	(void)take(c, "-dirty");
	len = (size_t)(c->at - start);
	if (len >= sizeof(v->commit))
		return false;
	memcpy(v->commit, start, len);
	v->commit[len] = '\0';
	return true;
}

static bool take_build(struct cursor *c, struct k3sup__version *v)
{
	if (c->at == c->end)
		return true;
	if (!take(c, "+k3s") && !take(c, "-k3s"))
		return false;
	if (take(c, "-")) {
		v->kind = K3SUP__VERSION_UNTAGGED;
		return take_commit(c, v);
	}
	v->kind = K3SUP__VERSION_NUMBERED;
	(void)take(c, ".");
	return take_number(c, &v->number);
}

int k3sup__version_parse(const char *text, size_t len, struct k3sup__version *ret)
{
	struct cursor c = {.at = text, .end = text + len};
	struct k3sup__version v = {.kind = K3SUP__VERSION_PLAIN};

	(void)take(&c, "v");
	if (!take_number(&c, &v.major) || !take(&c, ".") || !take_number(&c, &v.minor) || !take(&c, ".") || !take_number(&c, &v.patch))
		return K3SUP_E_PARSE;
	if (!take_pre(&c, &v) || !take_build(&c, &v) || c.at != c.end)
		return K3SUP_E_PARSE;
	*ret = v;
	return 0;
}

static int order(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

int k3sup__version_order(const struct k3sup__version *a, const struct k3sup__version *b)
{
	int r = order(a->major, b->major);

	if (r == 0)
		r = order(a->minor, b->minor);
	if (r == 0)
		r = order(a->patch, b->patch);
	if (r == 0)
		r = order(a->pre, b->pre);
	if (r == 0)
		r = order(a->pre_number, b->pre_number);
	if (r == 0)
		r = order(a->kind, b->kind);
	if (r == 0)
		r = order(a->number, b->number);
	if (r == 0) {
		r = strcmp(a->commit, b->commit);
		r = (r > 0) - (r < 0);
	}
	return r;
}

int k3sup_version_compare(const char *a, const char *b, int32_t *ret_order)
{
	struct k3sup__version va, vb;
	int r;

	if (a == NULL || b == NULL || ret_order == NULL)
		return -EINVAL;
	r = k3sup__version_parse(a, strlen(a), &va);
	if (r < 0)
		return r;
	r = k3sup__version_parse(b, strlen(b), &vb);
	if (r < 0)
		return r;
	*ret_order = k3sup__version_order(&va, &vb);
	return 0;
}
