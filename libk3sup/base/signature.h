/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures: Ed25519 (RFC 8032, pure), ECDSA over P-256 and P-384, RSA of 2048 bits and more (PKCS #1 v1.5 or PSS), the last two always with SHA-256.
 *
 * Keys live in a library context of their own, so the host's providers and properties do not take part; its error queue stays as it was. One thing cannot be
 * helped: OpenSSL 3 asks for engines whenever a key is made, and before it does so the first time in a process's life it reads that process's openssl.cnf into the
 * default context, unless the host had that done or forbidden already. Nothing here uses what it says but for engines that it makes the default.
 */
#ifndef K3SUP_BASE_SIGNATURE_H
#define K3SUP_BASE_SIGNATURE_H

#include "base/digest.h"
#include "base/op.h"

#define K3SUP__KEY_MAX 16384
#define K3SUP__SIGNATURE_MAX 4096

struct k3sup__key;

/* A public key in PEM ("BEGIN PUBLIC KEY"). 0, K3SUP_E_KEY, -ENOMEM. */
int k3sup__key_parse(k3sup_op *op, const char *pem, size_t len, const char *shown, struct k3sup__key **ret) _must_check_;
void k3sup__key_free(struct k3sup__key *key);              /* NULL is fine */
const char *k3sup__key_kind(const struct k3sup__key *key); /* "Ed25519", "ECDSA", "RSA" */

/* A signature as files hold it, raw or base64 with any line ends, is made raw in place; its length, or K3SUP_E_SIGNATURE for one that is empty or too long. */
int k3sup__signature_decode(k3sup_op *op, unsigned char *bytes, size_t len, const char *shown) _must_check_;

/* Is this a signature of these bytes? 1, 0, or a negative code (no memory). */
int k3sup__key_verify(const struct k3sup__key *key, const void *bytes, size_t len, const unsigned char *signature, size_t signature_len) _must_check_;
/* Of the file whose SHA-256 this is? Ed25519 cannot tell (0): it wants the whole file at once. */
int k3sup__key_verify_file(const struct k3sup__key *key, const char sha256[static K3SUP__SHA256_HEX], const unsigned char *signature,
	size_t signature_len) _must_check_;

static inline void k3sup__key_freep(struct k3sup__key **key)
{
	k3sup__key_free(*key);
}

#endif
