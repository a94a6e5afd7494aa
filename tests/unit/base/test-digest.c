/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"

#define OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define OF_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define OF_MILLION_A "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" /* FIPS 180-2, appendix B.3 */

static void digests_of_the_standard_come_out(void **state)
{
	struct k3sup__digest *digest;
	char hex[K3SUP__SHA256_HEX], piece[1000];

	(void)state;
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
	assert_string_equal(hex, OF_NOTHING);
	assert_int_equal(k3sup__digest_update(digest, "a", 1), 0);
	assert_int_equal(k3sup__digest_update(digest, NULL, 0), 0);
	assert_int_equal(k3sup__digest_update(digest, "bc", 2), 0);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
	assert_string_equal(hex, OF_ABC);
	memset(piece, 'a', sizeof(piece));
	for (int i = 0; i < 1000; i++)
		assert_int_equal(k3sup__digest_update(digest, piece, sizeof(piece)), 0);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
	assert_string_equal(hex, OF_MILLION_A);
	k3sup__digest_free(digest);
}

static void the_hosts_error_queue_stays_as_it_was(void **state)
{
	struct k3sup__digest *digest;
	unsigned long mine = ERR_PACK(ERR_LIB_USER, 0, 42);
	char hex[K3SUP__SHA256_HEX];

	(void)state;
	ERR_clear_error();
	ERR_raise(ERR_LIB_USER, 42);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	assert_int_equal(k3sup__digest_finish(digest, hex), 0);
	k3sup__digest_free(digest);
	k3sup__digest_free(NULL);
	assert_int_equal(ERR_get_error(), mine);
	assert_int_equal(ERR_get_error(), 0);
}

/* A fifo without a writer blocks whoever opens it, for instance EVP_DigestInit_ex(). */
static void the_hosts_configuration_is_not_read(void **state)
{
	char dir[] = "/tmp/k3sup-XXXXXX";
	_free_ char *path = NULL;
	struct k3sup__digest *digest;

	(void)state;
	assert_non_null(mkdtemp(dir));
	path = k3sup__fmt("%s/openssl.cnf", dir);
	assert_non_null(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(setenv("OPENSSL_CONF", path, 1), 0);
	alarm(20);
	assert_int_equal(k3sup__digest_new(&digest), 0);
	k3sup__digest_free(digest);
	alarm(0);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_hosts_configuration_is_not_read), /* first: OpenSSL reads it once in a process's life */
		cmocka_unit_test(digests_of_the_standard_come_out),
		cmocka_unit_test(the_hosts_error_queue_stays_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
