/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/authentic.h"

#include <ctype.h>

#include "base/given.h"
#include "node/sums.h"
#include "node/version.h"

/* ---- what is demanded ---- */

static int take(const char *given, char **ret)
{
	if (given == NULL)
		return 0;
	if (given[0] == '\0')
		return -EINVAL;
	*ret = strdup(given);
	return *ret != NULL ? 0 : -ENOMEM;
}

static int check(struct k3sup__terms *terms)
{
	struct k3sup__version version;

	if ((terms->signature == NULL) != (terms->key == NULL))
		return -EINVAL;
	if (terms->sha256 != NULL) {
		for (char *c = terms->sha256; *c != '\0'; c++)
			*c = (char)tolower((unsigned char)*c);
		if (strlen(terms->sha256) != K3SUP__SHA256_HEX - 1 || !k3sup__is_hex(terms->sha256, K3SUP__SHA256_HEX - 1))
			return -EINVAL;
	}
	if (terms->expect_version != NULL && k3sup__version_parse(terms->expect_version, strlen(terms->expect_version), &version) < 0)
		return -EINVAL;
	if (terms->server_version != NULL && k3sup__version_parse(terms->server_version, strlen(terms->server_version), &version) < 0)
		return -EINVAL;
	return 0;
}

int k3sup__terms_take(const struct k3sup__given_terms *given, struct k3sup__terms *ret)
{
	int r;

	*ret = (struct k3sup__terms){0};
	r = take(given->sha256, &ret->sha256);
	if (r >= 0)
		r = take(given->sums, &ret->sums);
	if (r >= 0)
		r = take(given->signature, &ret->signature);
	if (r >= 0)
		r = take(given->key, &ret->key);
	if (r >= 0)
		r = take(given->expect_version, &ret->expect_version);
	if (r >= 0)
		r = take(given->server_version, &ret->server_version);
	if (r >= 0)
		r = check(ret);
	if (r < 0)
		k3sup__terms_clear(ret);
	return r;
}

void k3sup__terms_clear(struct k3sup__terms *terms)
{
	free(terms->sha256);
	free(terms->sums);
	free(terms->signature);
	free(terms->key);
	free(terms->expect_version);
	free(terms->server_version);
	*terms = (struct k3sup__terms){0};
}

bool k3sup__terms_bind(const struct k3sup__terms *terms)
{
	return terms->sha256 != NULL || terms->sums != NULL || terms->signature != NULL;
}

/* ---- preparing ---- */

/* Equal in every part, so that v1.30.4-k3s1, an image's tag, is v1.30.4+k3s1. */
static int check_version(k3sup_op *op, const char *expected, const struct k3sup__build *build, const char *shown)
{
	struct k3sup__version a, b;

	if (build->version[0] == '\0')
		return k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "%s has to be %s, and its version cannot be established", shown, expected);
	if (k3sup__version_parse(expected, strlen(expected), &a) == 0 &&
		k3sup__version_parse(build->version, strlen(build->version), &b) == 0 && k3sup__version_order(&a, &b) == 0)
		return 0;
	return k3sup__fail(op, K3SUP_E_VERSION_MISMATCH, "%s has to be %s and is %s", shown, expected, build->version);
}

static int read_key(k3sup_op *op, const k3sup_node *node, const struct k3sup__terms *terms, struct k3sup__proof *proof)
{
	struct k3sup__given key = {"the key", terms->key, node->trust_flags, K3SUP__KEY_MAX, K3SUP_E_KEY};
	struct k3sup__given signature = {"the signature", terms->signature, 0, 4 * K3SUP__SIGNATURE_MAX, K3SUP_E_SIGNATURE};
	_free_ char *pem = NULL;
	char *bytes = NULL;
	size_t len;
	int r = k3sup__given_read(op, &key, &pem, &len);

	if (r >= 0)
		r = k3sup__key_parse(op, pem, len, terms->key, &proof->key);
	if (r >= 0)
		r = k3sup__given_read(op, &signature, &bytes, &len);
	if (r < 0)
		return r;
	proof->signature = (unsigned char *)bytes;
	r = k3sup__signature_decode(op, proof->signature, len, terms->signature);
	if (r < 0)
		return r;
	proof->signature_len = (size_t)r;
	proof->kind = "signature";
	k3sup__json_set_str(proof->report, "signature", terms->signature);
	k3sup__json_set_str(proof->report, "key", terms->key);
	k3sup__json_set_str(proof->report, "algorithm", k3sup__key_kind(proof->key));
	return 0;
}

/* Signed, the list may lie anywhere: it is read once, and the bytes that were verified are the bytes that are searched. */
static int check_list(k3sup_op *op, const struct k3sup__terms *terms, const char *list, size_t len, struct k3sup__proof *proof)
{
	int r;

	if (proof->key == NULL)
		return 0;
	r = k3sup__key_verify(proof->key, list, len, proof->signature, proof->signature_len);
	if (r == 0)
		return k3sup__fail(
			op, K3SUP_E_SIGNATURE, "%s is not a signature of %s by the key in %s", terms->signature, terms->sums, terms->key);
	k3sup__json_set_str(proof->report, "signed", "list");
	k3sup__key_free(proof->key);
	proof->key = NULL;
	return r < 0 ? r : 0;
}

static int read_list(k3sup_op *op, const k3sup_node *node, const struct k3sup__terms *terms, const char *artifact, struct k3sup__proof *proof)
{
	struct k3sup__given sums = {"the list", terms->sums, terms->key != NULL ? 0 : node->trust_flags, K3SUP__SUMS_MAX, K3SUP_E_SUMS};
	_free_ char *list = NULL;
	size_t len;
	int r = k3sup__given_read(op, &sums, &list, &len);

	if (r >= 0)
		r = check_list(op, terms, list, len, proof);
	if (r >= 0)
		r = k3sup__sums_find(op, list, len, terms->sums, artifact, proof->expected);
	if (r < 0)
		return r;
	k3sup__json_set_str(proof->report, "sums", terms->sums);
	k3sup__json_set_str(proof->report, "artifact", artifact);
	if (terms->sha256 != NULL && !k3sup__streq(terms->sha256, proof->expected))
		return k3sup__fail(op, K3SUP_E_DIGEST_MISMATCH, "%s lists %s with another digest than the one that was given", terms->sums, artifact);
	return 0;
}

int k3sup__proof_prepare_artifact(
	k3sup_op *op, const k3sup_node *node, const struct k3sup__terms *terms, const char *artifact, struct k3sup__proof *ret)
{
	struct k3sup__proof proof = {.kind = "none", .report = k3sup__json_object()};
	int r = 0;

	if (terms->sha256 != NULL)
		memcpy(proof.expected, terms->sha256, sizeof(proof.expected));
	if (terms->sha256 != NULL || terms->sums != NULL)
		proof.kind = "digest";
	if (terms->key != NULL)
		r = read_key(op, node, terms, &proof);
	if (r >= 0 && terms->sums != NULL)
		r = read_list(op, node, terms, artifact, &proof);
	if (r < 0) {
		k3sup__proof_clear(&proof);
		return r;
	}
	*ret = proof;
	return 0;
}

int k3sup__proof_prepare(k3sup_op *op, const k3sup_node *node, const struct k3sup__terms *terms, const struct k3sup__build *build,
	const char *shown, struct k3sup__proof *ret)
{
	const char *artifact = k3sup__artifact(build->arch);
	int r = terms->expect_version != NULL ? check_version(op, terms->expect_version, build, shown) : 0;

	if (r >= 0 && terms->sums != NULL && artifact == NULL)
		r = k3sup__fail(op, K3SUP_E_SUMS, "k3s releases have no artifact for %s", build->arch);
	return r < 0 ? r : k3sup__proof_prepare_artifact(op, node, terms, artifact, ret);
}

/* ---- checking ---- */

static int check_signature(k3sup_op *op, struct k3sup__proof *proof, const char sha256[static K3SUP__SHA256_HEX], const char *shown)
{
	unsigned char digest[32];
	int r = k3sup__key_verify_file(proof->key, sha256, proof->signature, proof->signature_len);

	if (r > 0)
		k3sup__json_set_str(proof->report, "signed", "file");
	if (r != 0)
		return r < 0 ? r : 0;
	k3sup__unhex(sha256, digest, sizeof(digest));
	r = k3sup__key_verify(proof->key, digest, sizeof(digest), proof->signature, proof->signature_len);
	if (r == 0)
		return k3sup__fail(op, K3SUP_E_SIGNATURE, "the signature is not one of %s by the given key", shown);
	k3sup__json_set_str(proof->report, "signed", "digest");
	return r < 0 ? r : 0;
}

int k3sup__proof_check(k3sup_op *op, struct k3sup__proof *proof, const char sha256[static K3SUP__SHA256_HEX], const char *shown)
{
	int r = 0;

	proof->proven = false;
	if (proof->expected[0] != '\0' && !k3sup__streq(proof->expected, sha256)) {
		k3sup__json_set_str(k3sup__op_evidence(op), "expected_sha256", proof->expected);
		k3sup__json_set_str(k3sup__op_evidence(op), "sha256", sha256);
		return k3sup__fail(op, K3SUP_E_DIGEST_MISMATCH, "%s has the SHA-256 %s and should have %s", shown, sha256, proof->expected);
	}
	if (proof->key != NULL)
		r = check_signature(op, proof, sha256, shown);
	if (r < 0)
		return r;
	k3sup__json_set_str(proof->report, "sha256", sha256);
	proof->proven = true;
	return 0;
}

void k3sup__proof_tell(k3sup__json *object, const struct k3sup__proof *proof)
{
	bool proven = proof != NULL && proof->proven && !k3sup__streq(proof->kind, "none");

	k3sup__json_set_str(object, "authenticated", proven ? proof->kind : "none");
	if (proven)
		k3sup__json_set(object, "authentication", k3sup__json_copy(proof->report));
}

void k3sup__proof_report(k3sup_op *op, const struct k3sup__proof *proof)
{
	k3sup__proof_tell(k3sup__op_facts(op), proof);
}

void k3sup__proof_clear(struct k3sup__proof *proof)
{
	k3sup__key_free(proof->key);
	free(proof->signature);
	k3sup__json_unref(proof->report);
	*proof = (struct k3sup__proof){0};
}
