/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256, in pieces. The front of OpenSSL's digests: digest.c alone includes their headers.
 *
 * Each digest has a library context of its own, so the host's providers, its openssl.cnf and OPENSSL_CONF neither matter nor are read; the host's error queue stays as
 * it was. One digest belongs to one thread at a time.
 */
#ifndef K3SUP_BASE_DIGEST_H
#define K3SUP_BASE_DIGEST_H

#include "base/util.h"

#define K3SUP__SHA256_HEX 65 /* 64 digits and NUL */

struct k3sup__digest;

int k3sup__digest_new(struct k3sup__digest **ret) _must_check_; /* 0, -ENOMEM, or K3SUP_E_UNSUPPORTED if this OpenSSL has no SHA-256 */
int k3sup__digest_update(struct k3sup__digest *digest, const void *bytes, size_t len) _must_check_;
/* The digest of all bytes since new or the last finish, in lowercase hex; the next update begins a new one. */
int k3sup__digest_finish(struct k3sup__digest *digest, char ret[static K3SUP__SHA256_HEX]) _must_check_;
void k3sup__digest_free(struct k3sup__digest *digest); /* NULL is fine */

static inline void k3sup__digest_freep(struct k3sup__digest **digest)
{
	k3sup__digest_free(*digest);
}

#endif
