/* SPDX-License-Identifier: Apache-2.0 */
#include "authentic.h"

static char sha[K3SUP__SHA256_HEX];
static const char wrong_sha[] = "0000000000000000000000000000000000000000000000000000000000000000";

static void put_list(struct scratch *s, const char *name, const char *digest)
{
	_free_ char *text = k3sup__fmt("%s  k3s-airgap-images-%s.tar.gz\n%s  %s\n", wrong_sha, HOST_ARCH, digest, k3sup__artifact(HOST_ARCH));

	put_file(s->fd, name, text, 0644);
}

/* Keys "ed", "ec", "rsa" and their public halves; the list "sums" with the payload's digest; "digest": its 32 bytes. */
static void put_signed(struct scratch *s)
{
	put_node(s);
	digest_of(s, "new", sha);
	put_list(s, "sums", sha);
	sh(s, "openssl genpkey -algorithm ed25519 -out ed && openssl ecparam -genkey -noout -name prime256v1 -out ec && openssl genrsa -out rsa 2048");
	sh(s, "for k in ed ec rsa; do openssl pkey -in $k -pubout -out $k.pub; done; openssl dgst -sha256 -binary -out digest new");
}

static void a_digest_decides(void **state)
{
	struct scratch *s = *state;
	char upper[K3SUP__SHA256_HEX];

	put_node(s);
	digest_of(s, "new", sha);
	assert_refused(s, (struct call){.payload = "new", .sha256 = wrong_sha}, K3SUP_E_DIGEST_MISMATCH, sha);
	assert_taken(s, (struct call){.payload = "new", .sha256 = sha}, "digest", "");
	for (size_t i = 0; i < sizeof(upper); i++)
		upper[i] = (char)(sha[i] >= 'a' ? sha[i] - 'a' + 'A' : sha[i]);
	assert_taken(s, (struct call){.payload = "new", .sha256 = upper}, "digest", "");
	assert_taken(s, (struct call){.payload = "new"}, "none", "");
	/* Installed already is no excuse. */
	put_k3s(s, "new", OLD, 0755);
	assert_refused(s, (struct call){.payload = "new", .sha256 = sha}, K3SUP_E_DIGEST_MISMATCH, sha);
}

static void a_list_decides(void **state)
{
	struct scratch *s = *state;

	put_node(s);
	digest_of(s, "new", sha);
	put_list(s, "sums", sha);
	put_list(s, "other", wrong_sha);
	assert_taken(s, (struct call){.payload = "new", .sums = "sums"}, "digest", "");
	assert_taken(s, (struct call){.payload = "new", .sums = "sums", .sha256 = sha}, "digest", "");
	assert_refused(s, (struct call){.payload = "new", .sums = "other"}, K3SUP_E_DIGEST_MISMATCH, sha);
	assert_refused(s, (struct call){.payload = "new", .sums = "sums", .sha256 = wrong_sha}, K3SUP_E_DIGEST_MISMATCH, "another digest than");
	assert_refused(s, (struct call){.payload = "new", .sums = "gone"}, K3SUP_E_SUMS, "gone");
	assert_refused(s, (struct call){.payload = "new", .sums = "usr"}, K3SUP_E_SUMS, "directory");
	put_file(s->fd, "empty", "", 0644);
	assert_refused(s, (struct call){.payload = "new", .sums = "empty"}, K3SUP_E_SUMS, "is empty");
	assert_int_equal(fchmodat(s->fd, "sums", 0666, 0), 0);
	assert_refused(s, (struct call){.payload = "new", .sums = "sums"}, K3SUP_E_UNTRUSTED, "sums");
}

static void signatures_are_over_list_digest_or_file(void **state)
{
	struct scratch *s = *state;

	put_signed(s);
	sh(s, "openssl pkeyutl -sign -inkey ed -rawin -in sums -out sums.ed && openssl pkeyutl -sign -inkey ed -rawin -in digest -out digest.ed");
	assert_taken(s, (struct call){.payload = "new", .sums = "sums", .signature = "sums.ed", .key = "ed.pub"}, "signature", "list");
	assert_taken(s, (struct call){.payload = "new", .signature = "digest.ed", .key = "ed.pub"}, "signature", "digest");
	for (int i = 0; i < 2; i++) {
		const char *k = i ? "ec" : "rsa", *pub = i ? "ec.pub" : "rsa.pub";

		sh(s, "for f in sums digest new; do openssl dgst -sha256 -sign %s -out $f.sig $f; done", k);
		assert_taken(s, (struct call){.payload = "new", .sums = "sums", .signature = "sums.sig", .key = pub}, "signature", "list");
		assert_taken(s, (struct call){.payload = "new", .signature = "digest.sig", .key = pub}, "signature", "digest");
		assert_taken(s, (struct call){.payload = "new", .signature = "new.sig", .key = pub}, "signature", "file");
		assert_refused(s, (struct call){.payload = "new", .signature = "sums.sig", .key = pub}, K3SUP_E_SIGNATURE, "not one of");
		assert_refused(s, (struct call){.payload = "new", .sums = "sums", .signature = "new.sig", .key = pub}, K3SUP_E_SIGNATURE, "is not a");
	}
	/* A signed list may lie anywhere, and does not help another file. */
	assert_int_equal(fchmodat(s->fd, "sums", 0666, 0), 0);
	assert_taken(s, (struct call){.payload = "new", .sums = "sums", .signature = "sums.ed", .key = "ed.pub"}, "signature", "list");
	put_k3s(s, "new", EVIL, 0755);
	assert_refused(s, (struct call){.payload = "new", .sums = "sums", .signature = "sums.ed", .key = "ed.pub"}, K3SUP_E_DIGEST_MISMATCH, sha);
	assert_refused(s, (struct call){.payload = "new", .signature = "digest.ed", .key = "ed.pub"}, K3SUP_E_SIGNATURE, "not one of");
	put_list(s, "sums", wrong_sha);
	assert_refused(s, (struct call){.payload = "new", .sums = "sums", .signature = "sums.ed", .key = "ed.pub"}, K3SUP_E_SIGNATURE, "sums.ed");
}

static void keys_are_trusted_or_refused(void **state)
{
	struct scratch *s = *state;

	put_signed(s);
	sh(s, "openssl pkeyutl -sign -inkey ed -rawin -in digest -out sig; : >empty; cp ed.pub writable.pub; chmod 666 writable.pub");
	assert_refused(s, (struct call){.payload = "new", .signature = "sig", .key = "ec.pub"}, K3SUP_E_SIGNATURE, "by the given key");
	assert_refused(s, (struct call){.payload = "new", .signature = "sig", .key = "gone"}, K3SUP_E_KEY, "gone");
	assert_refused(s, (struct call){.payload = "new", .signature = "sig", .key = "ed"}, K3SUP_E_KEY, "public key");
	assert_refused(s, (struct call){.payload = "new", .signature = "sig", .key = "writable.pub"}, K3SUP_E_UNTRUSTED, "writable.pub");
	assert_refused(s, (struct call){.payload = "new", .signature = "gone", .key = "ed.pub"}, K3SUP_E_SIGNATURE, "gone");
	assert_refused(s, (struct call){.payload = "new", .signature = "empty", .key = "ed.pub"}, K3SUP_E_SIGNATURE, "empty");
	sh(s, "mkdir open && cp ed.pub open && chmod 777 open");
	assert_refused(s, (struct call){.payload = "new", .signature = "sig", .key = "open/ed.pub"}, K3SUP_E_UNTRUSTED, "open");
	sh(s, "chmod 666 sig");
	assert_taken(s, (struct call){.payload = "new", .signature = "sig", .key = "ed.pub"}, "signature", "digest");
}

static void a_version_can_be_expected(void **state)
{
	struct scratch *s = *state;

	put_node(s);
	assert_taken(s, (struct call){.payload = "new", .expect_version = NEW}, "none", "");
	assert_taken(s, (struct call){.payload = "new", .expect_version = "v1.30.5-k3s1"}, "none", "");
	assert_refused(s, (struct call){.payload = "new", .expect_version = EVIL}, K3SUP_E_VERSION_MISMATCH, "is " NEW);
	assert_refused(s, (struct call){.payload = "new", .expect_version = "v1.30.5+k3s2"}, K3SUP_E_VERSION_MISMATCH, "has to be v1.30.5+k3s2");
	assert_refused(s, (struct call){.payload = "new", .expect_version = "v1.30.5-rc1+k3s1"}, K3SUP_E_VERSION_MISMATCH, "");
	put_k3s(s, "new", "", 0755);
	assert_refused(s, (struct call){.payload = "new", .expect_version = NEW}, K3SUP_E_VERSION_MISMATCH, "cannot be established");
}

static void what_others_can_write_has_to_be_bound(void **state)
{
	struct scratch *s = *state;

	put_signed(s);
	sh(s, "openssl pkeyutl -sign -inkey ed -rawin -in digest -out sig; chmod 777 new");
	assert_refused(s, (struct call){.payload = "new"}, K3SUP_E_UNTRUSTED, "new");
	assert_refused(s, (struct call){.payload = "new", .expect_version = NEW}, K3SUP_E_UNTRUSTED, "new");
	assert_refused(s, (struct call){.payload = "new", .sha256 = wrong_sha}, K3SUP_E_DIGEST_MISMATCH, sha);
	assert_taken(s, (struct call){.payload = "new", .sha256 = sha}, "digest", "");
	assert_taken(s, (struct call){.payload = "new", .sums = "sums"}, "digest", "");
	assert_taken(s, (struct call){.payload = "new", .signature = "sig", .key = "ed.pub"}, "signature", "digest");
	sh(s, "chmod 644 new");
}

static void terms_that_make_no_sense_are_refused_at_once(void **state)
{
	static const struct call calls[] = {
		{.payload = "new", .sha256 = "abc"},
		{.payload = "new", .sha256 = ""},
		{.payload = "new", .sha256 = "g000000000000000000000000000000000000000000000000000000000000000"},
		{.payload = "new", .signature = "sig"},
		{.payload = "new", .key = "key"},
		{.payload = "new", .expect_version = "latest"},
		{.payload = "new", .expect_version = ""},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(calls); i++)
		assert_int_equal(swap(s, calls[i]).status, -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(a_digest_decides),
		scratch_test(a_list_decides),
		scratch_test(signatures_are_over_list_digest_or_file),
		scratch_test(keys_are_trusted_or_refused),
		scratch_test(a_version_can_be_expected),
		scratch_test(what_others_can_write_has_to_be_bound),
		scratch_test(terms_that_make_no_sense_are_refused_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
