/* SPDX-License-Identifier: Apache-2.0 */
#include "parsed.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "../law/law.h"

#include "base/x509.h"

#define MOST 512

bool parsed_learns, parsed_remembered;

/* What it was decoded to, as certificates or as keys. */
static struct text {
	char *at;
	size_t len;
	struct k3sup__certs certs;
	struct k3sup__keys keys;
} texts[MOST];

static struct signed_by {
	const struct x509_st *cert, *issuer;
	bool is;
} signatures[MOST];

static size_t texts_count, signatures_count;
static struct k3sup__pki *pki; /* as old as what it has decoded */

int __real_k3sup__certs_parse(struct k3sup__pki *theirs, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why);
int __wrap_k3sup__certs_parse(struct k3sup__pki *theirs, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why);
int __real_k3sup__keys_parse(struct k3sup__pki *theirs, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why);
int __wrap_k3sup__keys_parse(struct k3sup__pki *theirs, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why);
bool __real_k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer);
bool __wrap_k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer);

static const struct text *learn(const char *pem, size_t len, bool keys)
{
	struct text *text = &texts[texts_count];
	const char *why;
	int r = pki || k3sup__pki_new(&pki) == 0 ? 0 : -1;

	*text = (struct text){.at = malloc(len + 1), .len = len};
	need(r == 0 && text->at && texts_count < MOST - 1, "memory");
	memcpy(text->at, pem, len);
	r = keys ? __real_k3sup__keys_parse(pki, pem, len, &text->keys, &why) : __real_k3sup__certs_parse(pki, pem, len, &text->certs, &why);
	if (r < 0) {
		free(text->at);
		return NULL;
	}
	texts_count++;
	return text;
}

static const struct text *find(const char *pem, size_t len, bool keys)
{
	for (size_t i = 0; parsed_remembered && i < texts_count; i++)
		if (texts[i].len == len && (texts[i].keys.count > 0) == keys && memcmp(texts[i].at, pem, len) == 0)
			return &texts[i];
	return parsed_learns ? learn(pem, len, keys) : NULL;
}

int __wrap_k3sup__certs_parse(struct k3sup__pki *theirs, const char *pem, size_t len, struct k3sup__certs *ret, const char **ret_why)
{
	const struct text *text = find(pem, len, false);

	if (!text)
		return __real_k3sup__certs_parse(theirs, pem, len, ret, ret_why);
	*ret = (struct k3sup__certs){.list = calloc(text->certs.count, sizeof(*ret->list)), .count = text->certs.count};
	need(ret->list != NULL, "memory");
	for (size_t i = 0; i < ret->count; i++) {
		ret->list[i] = text->certs.list[i];
		X509_up_ref(ret->list[i].x509);
		(void)k3sup__json_ref(ret->list[i].facts);
	}
	*ret_why = NULL;
	return 0;
}

int __wrap_k3sup__keys_parse(struct k3sup__pki *theirs, const char *pem, size_t len, struct k3sup__keys *ret, const char **ret_why)
{
	const struct text *text = find(pem, len, true);

	if (!text)
		return __real_k3sup__keys_parse(theirs, pem, len, ret, ret_why);
	*ret = (struct k3sup__keys){.list = calloc(text->keys.count, sizeof(EVP_PKEY *)), .count = text->keys.count};
	need(ret->list != NULL, "memory");
	for (size_t i = 0; i < ret->count; i++) {
		ret->list[i] = text->keys.list[i];
		EVP_PKEY_up_ref(ret->list[i]);
	}
	*ret_why = NULL;
	return 0;
}

/* What was decoded once is always at the same place. */
bool __wrap_k3sup__cert_signed_by(const struct k3sup__cert *cert, const struct k3sup__cert *issuer)
{
	bool is;

	for (size_t i = 0; parsed_remembered && i < signatures_count; i++)
		if (signatures[i].cert == cert->x509 && signatures[i].issuer == issuer->x509)
			return signatures[i].is;
	is = __real_k3sup__cert_signed_by(cert, issuer);
	if (parsed_learns && signatures_count < MOST)
		signatures[signatures_count++] = (struct signed_by){cert->x509, issuer->x509, is};
	return is;
}
