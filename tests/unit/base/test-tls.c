/* SPDX-License-Identifier: Apache-2.0 */
#include "pki.h"

#include <openssl/err.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/tls.h"

/* A server in a process of its own: greets after "hello", whatever the client thinks of its certificate. */
struct server {
	pid_t pid;
	int fd; /* the client's end */
};

static void play_server(int fd, const struct identity *who, const struct identity *client_ca)
{
	char buf[16] = "";
	SSL_CTX *ctx;
	bool known = false;
	SSL *ssl;

	signal(SIGPIPE, SIG_IGN);
	ssl = serve_tls(&ctx, fd, who, client_ca, &known);
	if (!ssl)
		_exit(10);
	if (SSL_read(ssl, buf, 5) != 5 || strcmp(buf, "hello") != 0)
		_exit(11);
	if (SSL_write(ssl, known ? "known!" : "nobody", 6) != 6)
		_exit(12);
	(void)SSL_shutdown(ssl);
	_exit(0);
}

static struct server start_server(const struct identity *who, const struct identity *client_ca)
{
	struct server s;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	s.pid = fork();
	assert_true(s.pid >= 0);
	if (s.pid == 0) {
		close(fds[0]);
		play_server(fds[1], who, client_ca);
	}
	close(fds[1]);
	s.fd = fds[0];
	assert_int_equal(fcntl(s.fd, F_SETFL, O_NONBLOCK), 0);
	return s;
}

static int stop_server(struct server *s)
{
	int status;

	close(s->fd);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void wait_for(struct server *s, const struct k3sup__tls *tls)
{
	assert_int_equal(poll(&(struct pollfd){.fd = s->fd, .events = k3sup__tls_wants(tls)}, 1, 60000), 1);
}

static int shake_hands(struct server *s, struct k3sup__tls *tls)
{
	int r;

	while ((r = k3sup__tls_handshake(tls)) == -EAGAIN)
		wait_for(s, tls);
	return r;
}

static ssize_t hear(struct server *s, struct k3sup__tls *tls, char *buf, size_t len)
{
	ssize_t n;

	while ((n = k3sup__tls_read(tls, buf, len)) == -EAGAIN)
		wait_for(s, tls);
	return n;
}

/* What it hears from a server; "" if it does not believe it, and why then. */
static void converse(
	const struct identity *who, const struct identity *client_ca, const struct k3sup__tls_terms *terms, char heard[16], char why[160])
{
	struct server s = start_server(who, client_ca);
	struct k3sup__tls *tls = NULL;
	ssize_t n;

	memset(heard, 0, 16);
	why[0] = '\0';
	assert_int_equal(k3sup__tls_new(s.fd, terms, &tls), 0);
	if (shake_hands(&s, tls) < 0) {
		strcpy(why, k3sup__tls_why(tls));
		k3sup__tls_free(tls);
		(void)stop_server(&s);
		return;
	}
	assert_int_equal(k3sup__tls_write(tls, "hello", 5), 5);
	n = hear(&s, tls, heard, 15);
	if (n < 0)
		strcpy(why, k3sup__tls_why(tls));
	else
		assert_int_equal(hear(&s, tls, heard + n, (size_t)(15 - n)), 0);
	k3sup__tls_free(tls);
	(void)stop_server(&s);
}

static void only_the_given_authority_is_believed(void **state)
{
	struct identity ca = identity_new("k3s-server-ca", NULL, 30, NULL), other = identity_new("k3s-server-ca@2", NULL, 30, NULL);
	struct identity good = identity_new("k3s", &ca, 30, "serverAuth"), old = identity_new("k3s", &ca, -1, "serverAuth");
	struct identity client = identity_new("k3s", &ca, 30, "clientAuth");
	struct k3sup__tls_terms terms = {.ca = ca.cert_pem}, wrong = {.ca = other.cert_pem};
	_free_ char *bundle = k3sup__fmt("# a comment\n%s\n%s", other.cert_pem, ca.cert_pem);
	char heard[16], why[160];

	(void)state;
	converse(&good, NULL, &terms, heard, why);
	assert_string_equal(heard, "nobody");
	converse(&good, NULL, &(struct k3sup__tls_terms){.ca = bundle}, heard, why);
	assert_string_equal(heard, "nobody");
	converse(&good, NULL, &wrong, heard, why);
	assert_string_equal(heard, "");
	assert_non_null(strstr(why, "not to be trusted"));
	converse(&old, NULL, &terms, heard, why);
	assert_string_equal(heard, "");
	assert_non_null(strstr(why, "expired"));
	converse(&client, NULL, &terms, heard, why);
	assert_string_equal(heard, "");
	assert_non_null(strstr(why, "not to be trusted"));
	identity_free(&client);
	identity_free(&old);
	identity_free(&good);
	identity_free(&other);
	identity_free(&ca);
}

/* The node's file may hold the owner's intermediate alone. */
static void an_intermediate_will_do(void **state)
{
	struct identity root = identity_new("root", NULL, 30, NULL), ca = identity_new("k3s-server-ca", &root, 30, NULL);
	struct identity good = identity_new("k3s", &ca, 30, "serverAuth");
	char heard[16], why[160];

	(void)state;
	converse(&good, NULL, &(struct k3sup__tls_terms){.ca = ca.cert_pem}, heard, why);
	assert_string_equal(heard, "nobody");
	converse(&good, NULL, &(struct k3sup__tls_terms){.ca = root.cert_pem}, heard, why);
	assert_string_equal(heard, "");
	identity_free(&good);
	identity_free(&ca);
	identity_free(&root);
}

static void a_client_shows_itself_if_it_has_what_to_show(void **state)
{
	struct identity ca = identity_new("k3s-server-ca", NULL, 30, NULL), client_ca = identity_new("k3s-client-ca", NULL, 30, NULL);
	struct identity good = identity_new("k3s", &ca, 30, "serverAuth"), admin = identity_new("system:admin", &client_ca, 30, "clientAuth");
	_free_ char *chain = k3sup__fmt("%s%s", admin.cert_pem, client_ca.cert_pem);
	struct k3sup__tls_terms terms = {.ca = ca.cert_pem, .cert = chain, .key = admin.key_pem};
	char heard[16], why[160];

	(void)state;
	converse(&good, &client_ca, &terms, heard, why);
	assert_string_equal(heard, "known!");
	terms.cert = NULL;
	converse(&good, &client_ca, &terms, heard, why);
	assert_string_equal(heard, "nobody");
	identity_free(&admin);
	identity_free(&good);
	identity_free(&client_ca);
	identity_free(&ca);
}

static void what_is_no_certificate_is_refused(void **state)
{
	struct identity ca = identity_new("ca", NULL, 30, NULL), a = identity_new("a", &ca, 30, "clientAuth"),
			b = identity_new("b", &ca, 30, "clientAuth");
	_free_ char *torn = strndup(ca.cert_pem, strlen(ca.cert_pem) / 2);
	const struct k3sup__tls_terms wrong[] = {{.ca = ""}, {.ca = "nonsense"}, {.ca = torn}, {.ca = ca.key_pem},
		{.ca = ca.cert_pem, .cert = a.cert_pem, .key = b.key_pem}, {.ca = ca.cert_pem, .cert = "", .key = a.key_pem},
		{.ca = ca.cert_pem, .cert = a.cert_pem, .key = "nonsense"}};
	struct k3sup__tls *tls = NULL;

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
		assert_int_equal(k3sup__tls_new(-1, &wrong[i], &tls), K3SUP_E_PARSE);
	assert_null(tls);
	assert_int_equal(ERR_peek_error(), 0);
	k3sup__tls_free(NULL);
	identity_free(&b);
	identity_free(&a);
	identity_free(&ca);
}

/* SIGPIPE has its default action in this program. */
static void a_peer_that_is_gone_is_no_signal(void **state)
{
	struct identity ca = identity_new("ca", NULL, 30, NULL);
	struct k3sup__tls_terms terms = {.ca = ca.cert_pem};
	struct k3sup__tls *tls = NULL;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	close(fds[1]);
	assert_int_equal(k3sup__tls_new(fds[0], &terms, &tls), 0);
	assert_int_equal(k3sup__tls_handshake(tls), -EPROTO);
	assert_non_null(strstr(k3sup__tls_why(tls), "TLS"));
	k3sup__tls_free(tls);
	close(fds[0]);
	identity_free(&ca);
}

static void garbage_is_not_tls(void **state)
{
	static const char *const lines[] = {
		"HTTP/1.0 400 Bad Request\r\n\r\n", "\x16\x03\x03\xff\xff garbage that pretends", "\x15\x03\x03\x00\x02\x02\x28"};
	struct identity ca = identity_new("ca", NULL, 30, NULL);
	struct k3sup__tls_terms terms = {.ca = ca.cert_pem};

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
		struct k3sup__tls *tls = NULL;
		int fds[2], r;

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
		assert_int_equal(write(fds[1], lines[i], i == 2 ? 7 : strlen(lines[i])), i == 2 ? 7 : (int)strlen(lines[i]));
		assert_int_equal(k3sup__tls_new(fds[0], &terms, &tls), 0);
		assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
		while ((r = k3sup__tls_handshake(tls)) == -EAGAIN)
			assert_int_equal(poll(&(struct pollfd){.fd = fds[0], .events = k3sup__tls_wants(tls)}, 1, 60000), 1);
		assert_int_equal(r, -EPROTO);
		k3sup__tls_free(tls);
		close(fds[0]);
		close(fds[1]);
	}
	identity_free(&ca);
}

static char *put_text(struct scratch *s, const char *name, const char *text)
{
	char *path = k3sup__fmt("%s/%s", s->path, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
	return path;
}

/* What a system-wide configuration says of TLS counts for every context otherwise, also for one with a library context of its own. */
static void the_hosts_configuration_does_not_count(void **state)
{
	struct identity ca = identity_new("ca", NULL, 30, NULL), good = identity_new("k3s", &ca, 30, "serverAuth");
	_free_ char *authority = put_text(*state, "ca.pem", ca.cert_pem);
	_free_ char *conf = put_text(*state, "openssl.cnf",
		"openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\nMaxProtocol = TLSv1.1\n"
		"CipherString = NULL-SHA256\nCiphersuites = TLS_AES_128_CCM_8_SHA256\nGroups = P-521\n");
	struct server s = start_server(&good, NULL);
	int status;
	pid_t pid = fork(); /* OpenSSL reads it once in a process */

	assert_true(pid >= 0);
	if (pid == 0) {
		char fd[16];

		(void)snprintf(fd, sizeof(fd), "%d", s.fd);
		(void)fcntl(s.fd, F_SETFD, 0);
		(void)setenv("OPENSSL_CONF", conf, 1);
		execl("/proc/self/exe", "test-tls", "--under-configuration", fd, authority, (char *)NULL);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(stop_server(&s), 0);
	identity_free(&good);
	identity_free(&ca);
}

static int under_configuration(int fd, const char *authority)
{
	SSL_CTX *control = SSL_CTX_new(TLS_client_method());
	_free_ char *ca = NULL;
	struct server s = {.fd = fd};
	struct k3sup__tls *tls = NULL;
	char heard[16] = "";

	/* The control: a context like everybody's has taken it over. */
	if (!control || SSL_CTX_get_max_proto_version(control) != TLS1_1_VERSION)
		return 20;
	SSL_CTX_free(control);
	if (k3sup__read_file(AT_FDCWD, authority, 65536, &ca, NULL) < 0)
		return 21;
	if (k3sup__tls_new(fd, &(struct k3sup__tls_terms){.ca = ca}, &tls) < 0 || shake_hands(&s, tls) < 0)
		return 22;
	if (k3sup__tls_write(tls, "hello", 5) != 5 || hear(&s, tls, heard, 15) != 6)
		return 23;
	k3sup__tls_free(tls);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scratch_test(only_the_given_authority_is_believed),
		scratch_test(an_intermediate_will_do),
		scratch_test(a_client_shows_itself_if_it_has_what_to_show),
		scratch_test(what_is_no_certificate_is_refused),
		scratch_test(a_peer_that_is_gone_is_no_signal),
		scratch_test(garbage_is_not_tls),
		scratch_test(the_hosts_configuration_does_not_count),
	};

	if (argc == 4 && strcmp(argv[1], "--under-configuration") == 0)
		return under_configuration((int)strtol(argv[2], NULL, 10), argv[3]);
	/* The last one runs this very program again, which valgrind does not let it. */
	return _cmocka_run_group_tests("tests", tests, ELEMENTSOF(tests) - under_valgrind(), NULL, NULL);
}
