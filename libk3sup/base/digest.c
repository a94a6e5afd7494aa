/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The provider's own functions are called, not EVP_DigestInit(): that one asks for engines first (also when the digest came from a context of ours), and asking for
 * engines makes OpenSSL 3 read the process's openssl.cnf, which belongs to the host.
 */
#include "base/digest.h"

#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>

#include <k3sup/error.h>

#define SHA256_NAME "SHA2-256"
#define SHA256_LEN 32

struct k3sup__digest {
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *provider;
	OSSL_FUNC_digest_newctx_fn *newctx;
	OSSL_FUNC_digest_freectx_fn *freectx;
	OSSL_FUNC_digest_init_fn *init;
	OSSL_FUNC_digest_update_fn *update;
	OSSL_FUNC_digest_final_fn *final;
	void *state;
};

/* Algorithms are announced with all their names, "SHA2-256:SHA-256:SHA256:2.16...". */
static bool has_name(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (;;) {
		size_t n = strcspn(names, ":");

		if (n == len && strncmp(names, name, n) == 0)
			return true;
		if (names[n] == '\0')
			return false;
		names += n + 1;
	}
}

static void take_functions(struct k3sup__digest *digest, const OSSL_DISPATCH *fn)
{
	for (; fn->function_id != 0; fn++) {
		switch (fn->function_id) {
		case OSSL_FUNC_DIGEST_NEWCTX:
			digest->newctx = OSSL_FUNC_digest_newctx(fn);
			break;
		case OSSL_FUNC_DIGEST_FREECTX:
			digest->freectx = OSSL_FUNC_digest_freectx(fn);
			break;
		case OSSL_FUNC_DIGEST_INIT:
			digest->init = OSSL_FUNC_digest_init(fn);
			break;
		case OSSL_FUNC_DIGEST_UPDATE:
			digest->update = OSSL_FUNC_digest_update(fn);
			break;
		case OSSL_FUNC_DIGEST_FINAL:
			digest->final = OSSL_FUNC_digest_final(fn);
			break;
		default:
			break;
		}
	}
}

static int find_functions(struct k3sup__digest *digest)
{
	const OSSL_ALGORITHM *all, *one;
	int no_store = 0;

	all = OSSL_PROVIDER_query_operation(digest->provider, OSSL_OP_DIGEST, &no_store);
	for (one = all; one != NULL && one->algorithm_names != NULL; one++)
		if (has_name(one->algorithm_names, SHA256_NAME)) {
			take_functions(digest, one->implementation);
			break;
		}
	if (all != NULL)
		OSSL_PROVIDER_unquery_operation(digest->provider, OSSL_OP_DIGEST, all);
	if (digest->newctx == NULL || digest->freectx == NULL || digest->init == NULL || digest->update == NULL || digest->final == NULL)
		return K3SUP_E_UNSUPPORTED;
	return 0;
}

static int set_up(struct k3sup__digest *digest)
{
	int r;

	digest->lib = OSSL_LIB_CTX_new();
	if (digest->lib == NULL)
		return -ENOMEM;
	digest->provider = OSSL_PROVIDER_load(digest->lib, "default"); /* built into libcrypto */
	if (digest->provider == NULL)
		return -ENOMEM;
	r = find_functions(digest);
	if (r < 0)
		return r;
	digest->state = digest->newctx(OSSL_PROVIDER_get0_provider_ctx(digest->provider));
	if (digest->state == NULL)
		return -ENOMEM;
	return digest->init(digest->state, NULL) == 1 ? 0 : K3SUP_E_UNSUPPORTED;
}

int k3sup__digest_new(struct k3sup__digest **ret)
{
	struct k3sup__digest *digest = calloc(1, sizeof(*digest));
	int r;

	if (digest == NULL)
		return -ENOMEM;
	ERR_set_mark();
	r = set_up(digest);
	ERR_pop_to_mark();
	if (r < 0) {
		k3sup__digest_free(digest);
		return r;
	}
	*ret = digest;
	return 0;
}

int k3sup__digest_update(struct k3sup__digest *digest, const void *bytes, size_t len)
{
	int ok;

	ERR_set_mark();
	ok = len == 0 || digest->update(digest->state, bytes, len) == 1;
	ERR_pop_to_mark();
	return ok ? 0 : K3SUP_E_INTERNAL;
}

int k3sup__digest_finish(struct k3sup__digest *digest, char ret[static K3SUP__SHA256_HEX])
{
	unsigned char sum[SHA256_LEN];
	size_t len = 0;
	bool ok;

	ERR_set_mark();
	ok = digest->final(digest->state, sum, &len, sizeof(sum)) == 1 && len == sizeof(sum) && digest->init(digest->state, NULL) == 1;
	ERR_pop_to_mark();
	if (!ok)
		return K3SUP_E_INTERNAL;
	k3sup__hex(sum, sizeof(sum), ret);
	return 0;
}

void k3sup__digest_free(struct k3sup__digest *digest)
{
	if (digest == NULL)
		return;
	ERR_set_mark();
	if (digest->state != NULL)
		digest->freectx(digest->state);
	if (digest->provider != NULL)
		(void)OSSL_PROVIDER_unload(digest->provider);
	OSSL_LIB_CTX_free(digest->lib);
	ERR_pop_to_mark();
	free(digest);
}
