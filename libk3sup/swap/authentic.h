/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the payload what the caller expects? What is verified are always the bytes that get installed: of a packed payload what comes out of it.
 *
 * A signature is over the list where one is given. Else it is over the payload: over the 32 bytes of its SHA-256 (each kind of key), or over the whole file (ECDSA and
 * RSA, which sign a SHA-256 anyway).
 */
#ifndef K3SUP_SWAP_AUTHENTIC_H
#define K3SUP_SWAP_AUTHENTIC_H

#include "base/signature.h"
#include "node/build.h"
#include "node/node.h"

/* The fields of the options, in their order. */
struct k3sup__given_terms {
	const char *sha256, *sums, *signature, *key, *expect_version, *server_version;
};

/* What the caller of a verb demands; texts are owned, NULL for what was not demanded. */
struct k3sup__terms {
	char *sha256; /* lowercase */
	char *sums;
	char *signature;
	char *key;
	char *expect_version;
	char *server_version; /* of the server that this node belongs to: for the policies */
};

/* Copies and checks. 0, -EINVAL (no digest, no version, a signature without a key or a key without one), -ENOMEM; on failure ret is empty. */
int k3sup__terms_take(const struct k3sup__given_terms *given, struct k3sup__terms *ret) _must_check_;
void k3sup__terms_clear(struct k3sup__terms *terms);
/* Do they say which bytes are right? A version alone does not. */
bool k3sup__terms_bind(const struct k3sup__terms *terms);

/* What the bytes have to be. */
struct k3sup__proof {
	const char *kind;                 /* "digest", "signature"; "none": any bytes will do */
	bool proven;                      /* the bytes that count have been checked */
	char expected[K3SUP__SHA256_HEX]; /* "" if only the signature tells */
	struct k3sup__key *key;           /* set where the signature is over the payload */
	unsigned char *signature;
	size_t signature_len;
	k3sup__json *report; /* what is compared with what */
};

/*
 * Reads list, key and signature, verifies the list's signature, chooses the list's entry by the build's architecture, and checks the version. 0, K3SUP_E_SUMS, _KEY,
 * _SIGNATURE, _DIGEST_MISMATCH (list and digest disagree), _VERSION_MISMATCH, _UNTRUSTED.
 */
int k3sup__proof_prepare(k3sup_op *op, const k3sup_node *node, const struct k3sup__terms *terms, const struct k3sup__build *build,
	const char *shown, struct k3sup__proof *ret) _must_check_;
/* The same for any artifact of a release, which the list names. The version is not looked at. */
int k3sup__proof_prepare_artifact(k3sup_op *op, const k3sup_node *node, const struct k3sup__terms *terms, const char *artifact,
	struct k3sup__proof *ret) _must_check_;
/* Are these the bytes? 0, K3SUP_E_DIGEST_MISMATCH, K3SUP_E_SIGNATURE. */
int k3sup__proof_check(k3sup_op *op, struct k3sup__proof *proof, const char sha256[static K3SUP__SHA256_HEX], const char *shown) _must_check_;
/* Writes authenticated and authentication into an object. proof may be NULL. */
void k3sup__proof_tell(k3sup__json *object, const struct k3sup__proof *proof);
/* The same into the facts. */
void k3sup__proof_report(k3sup_op *op, const struct k3sup__proof *proof);
void k3sup__proof_clear(struct k3sup__proof *proof);

#endif
