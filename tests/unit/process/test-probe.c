/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fakes that hold listening sockets, and processes that answer on them, in a network of the test's own: so the ports are those of a real k3s.
 */
#include "../loopback.h"
#include "../rooms.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "../base/pki.h"
#include "base/sockets.h"
#include "process/probe.h"

#define CA "/server/tls/server-ca.crt"
#define OK "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define PONG "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\npong"

static struct identity server_ca, client_ca, other_ca, supervisor, admin;

/* ---- servers ---- */

enum manner {
	ANSWERS,
	DRIPS,         /* a byte each 200 ms, for ever */
	NEVER_ENDS,    /* headers without end, as fast as it goes */
	IN_PIECES,     /* the answer, cut everywhere */
	KEEPS_SILENT,  /* takes the connection and says nothing */
	NEVER_ACCEPTS, /* lets the kernel take it */
	HANGS_UP,      /* at once */
	KNOWS_CLIENTS, /* over TLS: the answer for those who show a certificate, 401 for others */
};

struct listening {
	uint16_t port;
	enum manner manner;
	const char *answer;
	const struct identity *tls; /* NULL: plain */
	const char *address;        /* NULL: 127.0.0.1 */
};

/* What one fake listens on; ends where port is 0. */
struct world {
	struct listening at[4];
	bool elsewhere;   /* in a network namespace of its own */
	bool not_its_own; /* somebody else's sockets: the fake does not hold them */
};

static void say(int fd, SSL *ssl, const char *text, size_t len)
{
	ssize_t n = ssl ? SSL_write(ssl, text, (int)len) : send(fd, text, len, MSG_NOSIGNAL);

	if (n <= 0 && !ssl)
		errno = 0; /* the client has had enough: the next one comes */
}

static void converse(int fd, SSL *ssl, const struct listening *l, bool known)
{
	const char *answer = l->manner == KNOWS_CLIENTS && !known ? "HTTP/1.0 401 Unauthorized\r\n\r\n" : l->answer;
	char request[512] = "";

	if ((ssl ? SSL_read(ssl, request, sizeof(request) - 1) : recv(fd, request, sizeof(request) - 1, 0)) <= 0)
		return;
	switch (l->manner) {
	case DRIPS:
		while (send(fd, "H", 1, MSG_NOSIGNAL) == 1)
			pause_ms(200);
		return;
	case NEVER_ENDS:
		say(fd, ssl, "HTTP/1.0 200 OK\r\n", 17);
		while (send(fd, "X-More: of the same\r\n", 21, MSG_NOSIGNAL) > 0)
			;
		return;
	case IN_PIECES:
		for (size_t i = 0; i < strlen(answer); i++) {
			say(fd, ssl, answer + i, 1);
			pause_ms(2);
		}
		return;
	case KEEPS_SILENT:
		(void)poll(&(struct pollfd){.fd = fd, .events = POLLRDHUP}, 1, -1);
		return;
	default:
		say(fd, ssl, answer, strlen(answer));
	}
}

static void serve(int listener, const struct listening *l)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int fd = l->manner == NEVER_ACCEPTS ? (pause(), -1) : accept(listener, NULL, NULL);
		bool known = false;
		SSL_CTX *ctx = NULL;
		SSL *ssl;

		if (l->manner != HANGS_UP && l->tls) {
			ssl = serve_tls(&ctx, fd, l->tls, l->manner == KNOWS_CLIENTS ? &client_ca : NULL, &known);
			if (ssl) {
				converse(fd, ssl, l, known);
				(void)SSL_shutdown(ssl);
				SSL_free(ssl);
				SSL_CTX_free(ctx);
			}
		} else if (l->manner != HANGS_UP) {
			converse(fd, NULL, l, false);
		}
		close(fd);
	}
}

static void set_up(const void *arg)
{
	const struct world *w = arg;

	if (w->elsewhere) {
		if (unshare(CLONE_NEWNET) < 0)
			_exit(52);
		if (loopback_up() < 0)
			_exit(50);
	}
	for (size_t i = 0; i < ELEMENTSOF(w->at) && w->at[i].port; i++) {
		int fd = loopback_listen(w->at[i].address, w->at[i].port);

		if (fork() == 0)
			serve(fd, &w->at[i]);
		if (w->not_its_own)
			close(fd);
	}
}

/* ---- asking ---- */

struct asked {
	k3sup_node *node;
	k3sup_op *op;
	pid_t pid;
	int64_t ms;
};

static void put_pem(const struct scratch *s, const char *name, const char *text)
{
	_free_ char *path = k3sup__fmt("%s" DATA_DIR "%s", s->path, name), *dir = strdup(path);
	int fd;

	*strrchr(dir, '/') = '\0';
	make_dirs(dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* Within 1.5 s, where the other side would take for ever. */
static struct asked ask(struct scratch *s, const struct world *w, const char *role, uint32_t kind)
{
	_free_ char *file = k3sup__fmt("%s/k3s-%s", BIN1, role), *title = k3sup__fmt("k3s %s", role);
	struct fake_spec spec = {.root = s->path, .file = file, .title = title, .before = set_up, .arg = w};
	struct k3sup__candidate c = {.role = k3sup__streq(role, "agent") ? K3SUP__ROLE_AGENT : K3SUP__ROLE_SERVER};
	struct asked a = {.node = open_node(s->ctx, s->path, NULL)};
	int64_t began;

	if (faccessat(s->fd, "var/lib/rancher/k3s/data", F_OK, 0) < 0)
		fake_install_data(s->path, BIN1);
	a.pid = fake_start(&spec);
	c.process = running_process(a.node);
	began = k3sup__now_ms();
	assert_int_equal(k3sup__probe_op(a.node, &c, kind, k3sup__deadline(1500), &a.op), 0);
	(void)k3sup_op_wait(a.op, 60000);
	a.ms = k3sup__now_ms() - began;
	k3sup_process_unref(c.process);
	return a;
}

static void forget(struct asked *a)
{
	fake_stop(a->pid);
	k3sup_op_unref(a->op);
	k3sup_node_unref(a->node);
}

/* text: NULL, or what its sentence says. */
static void assert_answer(struct scratch *s, const struct world *w, const char *role, uint32_t kind, int expected, const char *text)
{
	struct asked a = ask(s, w, role, kind);

	assert_status(a.op, expected);
	if (text)
		assert_says(a.op, text);
	assert_in_range(a.ms, 0, 30000);
	forget(&a);
}

static void a_kubelet_that_is_well_says_ok(void **state)
{
	struct world w = {.at = {{10248, ANSWERS, OK, NULL, NULL}}};
	struct asked a = ask(*state, &w, "server", K3SUP_PROBE_KUBELET);

	assert_status(a.op, 1);
	assert_string_equal(result_text(a.op, "/probes/0/name"), "kubelet");
	assert_string_equal(result_text(a.op, "/probes/0/address"), "127.0.0.1:10248");
	assert_int_equal(result_number(a.op, "/probes/0/ok"), 1);
	assert_int_equal(result_number(a.op, "/probes/0/status"), 200);
	forget(&a);
	w.at[0].manner = IN_PIECES;
	assert_answer(*state, &w, "agent", K3SUP_PROBE_KUBELET, 1, NULL);
	w.at[0].manner = ANSWERS;
	w.at[0].address = "0.0.0.0"; /* asked on loopback */
	assert_answer(*state, &w, "agent", K3SUP_PROBE_AUTO, 1, NULL);
}

static void anything_else_is_not_ready(void **state)
{
	static const struct {
		enum manner manner;
		const char *answer, *text;
	} wrong[] = {
		{ANSWERS, "HTTP/1.0 500 Internal Server Error\r\n\r\nok", "it answers 500"},
		{ANSWERS, "HTTP/1.0 404 Not Found\r\n", "it answers 404"},
		{ANSWERS, "HTTP/1.0 200 OK\r\n\r\nno", "something else"},
		{ANSWERS, "HTTP/1.0 200 OK\r\n\r\no", "before its answer was whole"},
		{ANSWERS, "HTTP/1.0 200 OK\r\n", "before its answer was whole"},
		{ANSWERS, "", "before its answer was whole"},
		{ANSWERS, "SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"},
		{ANSWERS, "HTTP/1.0 abc\r\n\r\nok", "does not speak HTTP"},
		{ANSWERS, "\x16\x03\x01", "does not speak HTTP"},
		{IN_PIECES, "HTTP/1.0 503 Service Unavailable\r\n", "it answers 503"},
		{NEVER_ENDS, "", "has no end"},
		{HANGS_UP, "", "is not ready"},
		{DRIPS, "", "does not speak HTTP"},
		{KEEPS_SILENT, "", "not answered in time"},
		{NEVER_ACCEPTS, "", "not answered in time"},
	};

	for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
		struct world w = {.at = {{10248, wrong[i].manner, wrong[i].answer, NULL, NULL}}};
		struct asked a = ask(*state, &w, "server", K3SUP_PROBE_KUBELET);

		assert_status(a.op, K3SUP_E_NOT_READY);
		assert_says(a.op, wrong[i].text);
		assert_string_equal(text_of(k3sup_op_error(a.op), "/evidence/probes/0/name"), "kubelet");
		assert_int_equal(number_of(k3sup_op_error(a.op), "/evidence/probes/0/ok"), 0);
		forget(&a);
	}
}

/* Whoever was quicker to take the port: what it says proves nothing about k3s. */
static void somebody_elses_answer_does_not_count(void **state)
{
	struct world w = {.at = {{10248, ANSWERS, OK, NULL, NULL}}, .not_its_own = true}, none = {0};

	assert_answer(*state, &w, "server", K3SUP_PROBE_KUBELET, K3SUP_E_NOT_READY, "does not yet listen as kubelet");
	assert_answer(*state, &none, "server", K3SUP_PROBE_KUBELET, K3SUP_E_NOT_READY, "does not yet listen as kubelet");
	assert_answer(*state, &none, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "does not yet listen as supervisor");
}

static void a_supervisor_is_believed_if_the_nodes_authority_vouches_for_it(void **state)
{
	struct world w = {.at = {{6443, ANSWERS, PONG, &supervisor, NULL}}},
		     moved = {.at = {{9999, ANSWERS, "nonsense", NULL, NULL}, {7443, ANSWERS, PONG, &supervisor, NULL}}};
	struct world plain = {.at = {{6443, ANSWERS, PONG, NULL, NULL}}},
		     starting = {.at = {{6443, ANSWERS, "HTTP/1.1 503 no\r\n\r\nstarting", &supervisor, NULL}}};
	struct world silent = {.at = {{6443, KEEPS_SILENT, "", &supervisor, NULL}}}, half = {.at = {{6443, NEVER_ACCEPTS, "", NULL, NULL}}};
	struct scratch *s = *state;
	const char *last;
	struct asked a;

	assert_answer(s, &w, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "has not yet made");
	put_pem(s, CA, "");
	assert_answer(s, &w, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "own certificates cannot be read");
	put_pem(s, CA, other_ca.cert_pem);
	assert_answer(s, &w, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "not to be trusted");
	put_pem(s, CA, server_ca.cert_pem);
	assert_answer(s, &w, "server", K3SUP_PROBE_SUPERVISOR, 1, NULL);
	assert_answer(s, &plain, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "TLS");
	assert_answer(s, &starting, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "it answers 503");
	assert_answer(s, &silent, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "not answered in time");
	assert_answer(s, &half, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_NOT_READY, "not answered in time");
	/* At another port: that socket of the process which answers so. */
	a = ask(s, &moved, "server", K3SUP_PROBE_SUPERVISOR);
	assert_status(a.op, 1);
	/* The kernel's order of the two is its own. */
	assert_in_range(k3sup_doc_len(k3sup_op_result(a.op), "/probes"), 1, 2);
	last = k3sup_doc_len(k3sup_op_result(a.op), "/probes") == 1 ? "/probes/0/address" : "/probes/1/address";
	assert_string_equal(result_text(a.op, last), "127.0.0.1:7443");
	forget(&a);
}

static void an_authority_that_others_could_change_is_none(void **state)
{
	struct world w = {.at = {{6443, ANSWERS, PONG, &supervisor, NULL}}};
	struct scratch *s = *state;
	_free_ char *path = k3sup__fmt("%s" DATA_DIR CA, s->path);

	put_pem(s, CA, server_ca.cert_pem);
	assert_int_equal(chmod(path, 0666), 0);
	assert_answer(s, &w, "server", K3SUP_PROBE_SUPERVISOR, K3SUP_E_UNTRUSTED, NULL);
}

static void the_apiserver_is_asked_as_the_nodes_own_client(void **state)
{
	struct world w = {.at = {{6443, KNOWS_CLIENTS, OK, &supervisor, NULL}}}, agent = {.at = {{6444, KNOWS_CLIENTS, OK, &supervisor, NULL}}};
	struct scratch *s = *state;

	put_pem(s, CA, server_ca.cert_pem);
	assert_answer(s, &w, "server", K3SUP_PROBE_APISERVER, K3SUP_E_NOT_READY, "client-admin.crt");
	put_pem(s, "/server/tls/client-admin.crt", admin.cert_pem);
	put_pem(s, "/server/tls/client-admin.key", admin.key_pem);
	assert_answer(s, &w, "server", K3SUP_PROBE_APISERVER, 1, NULL);
	put_pem(s, "/agent/server-ca.crt", server_ca.cert_pem);
	put_pem(s, "/agent/client-kubelet.crt", admin.cert_pem);
	put_pem(s, "/agent/client-kubelet.key", admin.key_pem);
	assert_answer(s, &agent, "agent", K3SUP_PROBE_APISERVER, 1, NULL);
	put_pem(s, "/agent/client-kubelet.key", client_ca.key_pem);
	assert_answer(s, &agent, "agent", K3SUP_PROBE_APISERVER, K3SUP_E_NOT_READY, "own certificates cannot be read");
}

/* auto: what the role offers */
static void auto_asks_what_there_is_to_ask(void **state)
{
	struct world both = {.at = {{6443, ANSWERS, PONG, &supervisor, NULL}, {10248, ANSWERS, OK, NULL, NULL}}};
	struct world alone = {.at = {{6443, ANSWERS, PONG, &supervisor, NULL}}};
	struct world sick = {.at = {{6443, ANSWERS, PONG, &supervisor, NULL}, {10248, ANSWERS, "HTTP/1.0 500 no\r\n\r\n", NULL, NULL}}};
	struct world kubelet = {.at = {{10248, ANSWERS, OK, NULL, NULL}}}, switched_off = {.at = {{10250, ANSWERS, "", NULL, NULL}}}, none = {0};
	struct scratch *s = *state;
	struct asked a;

	put_pem(s, CA, server_ca.cert_pem);
	a = ask(s, &both, "server", K3SUP_PROBE_AUTO);
	assert_status(a.op, 1);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(a.op), "/probes"), 2);
	forget(&a);
	assert_answer(s, &alone, "server", K3SUP_PROBE_AUTO, 1, NULL); /* --disable-agent */
	assert_answer(s, &sick, "server", K3SUP_PROBE_AUTO, K3SUP_E_NOT_READY, "kubelet");
	assert_answer(s, &kubelet, "server", K3SUP_PROBE_AUTO, K3SUP_E_NOT_READY, "supervisor");
	assert_answer(s, &kubelet, "agent", K3SUP_PROBE_AUTO, 1, NULL);
	assert_answer(s, &none, "agent", K3SUP_PROBE_AUTO, K3SUP_E_NOT_READY, "does not yet listen as kubelet");
	assert_answer(s, &switched_off, "agent", K3SUP_PROBE_AUTO, 0, NULL);
}

/* A privileged pod without hostNetwork: the same process table, another network. */
static void a_k3s_in_another_network_is_reached(void **state)
{
	struct world w = {.at = {{10248, ANSWERS, OK, NULL, NULL}, {6443, ANSWERS, PONG, &supervisor, NULL}}, .elsewhere = true};
	struct scratch *s = *state;
	struct stat before = stat_at(AT_FDCWD, "/proc/thread-self/ns/net"), after;

	put_pem(s, CA, server_ca.cert_pem);
	assert_answer(s, &w, "server", K3SUP_PROBE_AUTO, 1, NULL);
	after = stat_at(AT_FDCWD, "/proc/thread-self/ns/net");
	assert_int_equal(before.st_ino, after.st_ino);
}

static void it_can_be_cancelled_anywhere(void **state)
{
	struct world w = {.at = {{6443, KEEPS_SILENT, "", &supervisor, NULL}}};
	struct scratch *s = *state;
	struct fake_spec spec = {.root = s->path, .file = BIN1 "/k3s-server", .title = "k3s server", .before = set_up, .arg = &w};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	struct k3sup__candidate c = {.role = K3SUP__ROLE_SERVER};
	pid_t pid;

	put_pem(s, CA, server_ca.cert_pem);
	fake_install_data(s->path, BIN1);
	pid = fake_start(&spec);
	c.process = running_process(node);
	for (int i = 0; i < 12; i++) {
		k3sup_op *op = NULL;

		assert_int_equal(k3sup__probe_op(node, &c, K3SUP_PROBE_SUPERVISOR, K3SUP__NEVER, &op), 0);
		for (int n = 0; n < i; n++)
			assert_true(k3sup_ctx_dispatch(s->ctx) >= 0);
		k3sup_op_cancel(op);
		assert_status(op, K3SUP_E_CANCELLED);
		k3sup_op_unref(op);
	}
	fake_stop(pid);
	k3sup_process_unref(c.process);
	k3sup_node_unref(node);
}

static int make_identities(void **state)
{
	server_ca = identity_new("k3s-server-ca", NULL, 30, NULL);
	other_ca = identity_new("k3s-server-ca@2", NULL, 30, NULL);
	client_ca = identity_new("k3s-client-ca", NULL, 30, NULL);
	supervisor = identity_new("k3s", &server_ca, 30, "serverAuth");
	admin = identity_new("system:admin", &client_ca, 30, "clientAuth");
	return fake_build(state);
}

static int drop_identities(void **state)
{
	identity_free(&server_ca);
	identity_free(&other_ca);
	identity_free(&client_ca);
	identity_free(&supervisor);
	identity_free(&admin);
	return fake_remove(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(a_kubelet_that_is_well_says_ok),
		scratch_test(anything_else_is_not_ready),
		scratch_test(somebody_elses_answer_does_not_count),
		scratch_test(a_supervisor_is_believed_if_the_nodes_authority_vouches_for_it),
		scratch_test(an_authority_that_others_could_change_is_none),
		scratch_test(the_apiserver_is_asked_as_the_nodes_own_client),
		scratch_test(auto_asks_what_there_is_to_ask),
		scratch_test(a_k3s_in_another_network_is_reached),
		scratch_test(it_can_be_cancelled_anywhere),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	if (unshare(CLONE_NEWNET) < 0)
		sandbox_skip("unshare(2) of the network is not allowed here");
	if (loopback_up() < 0)
		return 50;
	return cmocka_run_group_tests(tests, make_identities, drop_identities);
}
