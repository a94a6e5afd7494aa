/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding certificates and keys, and verifying who signed them, makes no system call, is most of what the library does here, and always the same: what one run has decoded, the ones
 * after it need not. Runs are processes of their own, so a run says what it had to decode, and that is decoded once more for those that follow. crash/driver-rotate.c does so, too.
 */
#include "law.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/x509.h"

#define MOST_DECODED 2048
#define MOST_WANTED 256
#define MOST_SIGNATURES 4096

bool decoded_remembered = true;

static struct k3sup__pki *pki; /* NULL: nothing is remembered */

/* What runs say. */
static struct said {
	struct {
		char pem[4096];
		size_t len;
		bool keys;
	} wanted[MOST_WANTED];
	unsigned wanted_count;
	struct signature {
		char cert[65], issuer[65];
		bool is_its;
	} signatures[MOST_SIGNATURES];
} * said;

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
void __real_k3sup__pki_free(struct k3sup__pki *old);
void __wrap_k3sup__pki_free(struct k3sup__pki *old);
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
	struct decoded *d = pki && decoded_remembered ? place_of(pem, len, keys) : NULL;

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
	for (unsigned i = 0; i < said->wanted_count; i++)
		decode(said->wanted[i].pem, said->wanted[i].len, said->wanted[i].keys);
	said->wanted_count = 0;
}

static void want(const char *pem, size_t len, bool keys)
{
	if (!pki || !decoded_remembered || said->wanted_count == MOST_WANTED || len > sizeof(said->wanted->pem))
		return;
	memcpy(said->wanted[said->wanted_count].pem, pem, len);
	said->wanted[said->wanted_count].len = len;
	said->wanted[said->wanted_count].keys = keys;
	said->wanted_count++;
}

/* ---- the library's calls ---- */

int __wrap_k3sup__pki_new(struct k3sup__pki **ret)
{
	*ret = decoded_remembered ? pki : NULL;
	return *ret ? 0 : __real_k3sup__pki_new(ret);
}

void __wrap_k3sup__pki_free(struct k3sup__pki *old)
{
	if (old != pki)
		__real_k3sup__pki_free(old);
}

void decoded_prepare(void)
{
	said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(said != MAP_FAILED && __real_k3sup__pki_new(&pki) == 0, "certificates");
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
	struct signature *s;

	if (!pki || !decoded_remembered)
		return __real_k3sup__cert_signed_by(cert, issuer);
	s = &said->signatures[(hash_of(cert->sha256, 64) + 3 * hash_of(issuer->sha256, 64)) % MOST_SIGNATURES];
	if (strcmp(s->cert, cert->sha256) != 0 || strcmp(s->issuer, issuer->sha256) != 0) {
		s->is_its = __real_k3sup__cert_signed_by(cert, issuer);
		memcpy(s->cert, cert->sha256, sizeof(s->cert));
		memcpy(s->issuer, issuer->sha256, sizeof(s->issuer));
	}
	return s->is_its;
}
