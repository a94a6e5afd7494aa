/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding certificates and keys, and verifying who signed them, is most of what the library does here, and always the same: what one run has decoded, the ones after it need not.
 * Runs are processes of their own, so a run says what it had to decode, and that is decoded once more for those that follow.
 */
#include "law.h"

#include <stdlib.h>
#include <string.h>

#include "base/x509.h"

#define MOST_DECODED 2048

static struct k3sup__pki *pki;

/* By its text. */
static struct decoded {
	char *pem;
	size_t len;
	bool keys;
	struct k3sup__certs certs;
	struct k3sup__keys private;
} table[MOST_DECODED];

int __real_k3sup__pki_new(struct k3sup__pki **ret);
int __wrap_k3sup__pki_new(struct k3sup__pki **ret);
void __wrap_k3sup__pki_free(struct k3sup__pki *unused);
int __real_k3sup__certs_parse(struct k3sup__pki *with, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why);
int __wrap_k3sup__certs_parse(struct k3sup__pki *with, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why);
void __real_k3sup__certs_clear(struct k3sup__certs *certs);
void __wrap_k3sup__certs_clear(struct k3sup__certs *certs);
int __real_k3sup__keys_parse(struct k3sup__pki *with, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why);
int __wrap_k3sup__keys_parse(struct k3sup__pki *with, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why);
void __real_k3sup__keys_clear(struct k3sup__keys *keys);
void __wrap_k3sup__keys_clear(struct k3sup__keys *keys);
bool __real_k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer);
bool __wrap_k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer);

static uint64_t hash_of(const char *text, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
	return hash ^ hash >> 29;
}

/* Where it is, or where it would be; NULL: its places are taken. */
static struct decoded *place_of(const char *pem, size_t len, bool keys)
{
	const uint64_t hash = hash_of(pem, len) + keys;

	for (unsigned i = 0; i < 8; i++) {
		struct decoded *d = &table[(hash + i) % MOST_DECODED];

		if (!d->pem || (d->keys == keys && d->len == len && memcmp(d->pem, pem, len) == 0))
			return d;
	}
	return NULL;
}

static const struct decoded *find(const char *pem, size_t len, bool keys)
{
	struct decoded *d = place_of(pem, len, keys);

	return d && d->pem ? d : NULL;
}

/* What is not to be decoded is no matter: it is decoded where it is asked for. */
static void decode(const char *pem, size_t len, bool keys)
{
	struct decoded *d = place_of(pem, len, keys);
	const char *why;

	if (!d || d->pem ||
		(keys ? __real_k3sup__keys_parse(pki, pem, len, &d->private, &why) : __real_k3sup__certs_parse(pki, pem, len, &d->certs, &why)) < 0)
		return;
	d->pem = malloc(len);
	need(d->pem != NULL, "memory");
	memcpy(d->pem, pem, len);
	d->len = len;
	d->keys = keys;
}

void decode_wanted(void)
{
	for (unsigned i = 0; i < machine->wanted_count; i++)
		decode(machine->wanted[i].pem, machine->wanted[i].len, machine->wanted[i].keys);
	machine->wanted_count = 0;
}

static void want(const char *pem, size_t len, bool keys)
{
	struct wanted *w = &machine->wanted[machine->wanted_count];

	if (machine->wanted_count == MOST_WANTED || len > sizeof(w->pem))
		return;
	memcpy(w->pem, pem, len);
	w->len = len;
	w->keys = keys;
	machine->wanted_count++;
}

/* ---- the library's calls ---- */

int __wrap_k3sup__pki_new(struct k3sup__pki **ret)
{
	*ret = pki;
	return pki ? 0 : __real_k3sup__pki_new(ret);
}

void __wrap_k3sup__pki_free(struct k3sup__pki *unused)
{
	(void)unused;
}

void decoded_prepare(void)
{
	need(__real_k3sup__pki_new(&pki) == 0, "certificates");
}

int __wrap_k3sup__certs_parse(struct k3sup__pki *with, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why)
{
	const struct decoded *d = find(pem, len, false);

	if (d) {
		*ret = d->certs;
		*ret_why = NULL;
		return 0;
	}
	want(pem, len, false);
	return __real_k3sup__certs_parse(with, pem, len, ret, ret_why);
}

int __wrap_k3sup__keys_parse(struct k3sup__pki *with, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why)
{
	const struct decoded *d = find(pem, len, true);

	if (d) {
		*ret = d->private;
		*ret_why = NULL;
		return 0;
	}
	want(pem, len, true);
	return __real_k3sup__keys_parse(with, pem, len, ret, ret_why);
}

static bool is_ours(const void *list)
{
	for (unsigned i = 0; list && i < MOST_DECODED; i++)
		if (table[i].certs.list == list || (const void *)table[i].private.list == list)
			return true;
	return false;
}

void __wrap_k3sup__certs_clear(struct k3sup__certs *certs)
{
	if (is_ours(certs->list))
		*certs = (struct k3sup__certs){0};
	__real_k3sup__certs_clear(certs);
}

void __wrap_k3sup__keys_clear(struct k3sup__keys *keys)
{
	if (is_ours(keys->list))
		*keys = (struct k3sup__keys){0};
	__real_k3sup__keys_clear(keys);
}

/* Not much is lost where two of them want the same place. */
bool __wrap_k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer)
{
	struct signature *s = &machine->signatures[(hash_of(cert->sha256, 64) + 3 * hash_of(issuer->sha256, 64)) % MOST_SIGNATURES];

	if (strcmp(s->cert, cert->sha256) != 0 || strcmp(s->issuer, issuer->sha256) != 0) {
		s->is_its = __real_k3sup__cert_signed_by(cert, issuer);
		memcpy(s->cert, cert->sha256, sizeof(s->cert));
		memcpy(s->issuer, issuer->sha256, sizeof(s->issuer));
	}
	return s->is_its;
}
