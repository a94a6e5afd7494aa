/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fakes that hold listening sockets and speak TLS on them, in a network of the test's own: so the ports are those of a real k3s. What is on disk and what is shown are made apart.
 */
#include "../loopback.h"
#include "../rooms.h"

#include <arpa/inet.h>
#include <openssl/evp.h>

#include <k3sup/certs.h>

#include "../base/pki.h"
#include "base/tls.h"
#include "certs/audit.h"
#include "certs/wire.h"

#define LISTENER "/server/tls/dynamic-cert.json"
#define KUBELET "/agent/serving-kubelet.crt"
#define ETCD "/server/tls/etcd/server-client.crt"

static struct identity ca, listener, renewed, expired, kubelet, etcd, in_memory, apiserver, scheduler;

enum manner {
	SERVES,
	WANTS_CLIENT,     /* ends the handshake, since we show nothing */
	WANTS_CLIENT_1_2, /* so does TLS 1.2 */
	HANGS_UP,
	PLAIN,
	KEEPS_SILENT,
};

struct listening {
	uint16_t port;
	enum manner manner;
	const struct identity *as;
	const char *address; /* NULL: 127.0.0.1 */
};

struct world {
	struct listening at[6];
	bool elsewhere, not_its_own;
};

static int refuse(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 0;
}

static void converse(int fd, const struct listening *l)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	char byte;
	SSL *ssl;

	if (SSL_CTX_use_certificate(ctx, l->as->cert) != 1 || SSL_CTX_use_PrivateKey(ctx, l->as->key) != 1)
		_exit(53);
	if (l->manner != SERVES)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, refuse);
	if (l->manner == WANTS_CLIENT_1_2)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1)
		(void)SSL_read(ssl, &byte, 1);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

static void serve(int at, const struct listening *l)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int fd = accept(at, NULL, NULL);

		if (l->manner == KEEPS_SILENT)
			(void)poll(&(struct pollfd){.fd = fd, .events = POLLRDHUP}, 1, -1);
		else if (l->manner == PLAIN)
			(void)!write(fd, "HTTP/1.0 400 Bad Request\r\n\r\n", 28);
		else if (l->manner != HANGS_UP)
			converse(fd, l);
		close(fd);
	}
}

static void set_up(const void *arg)
{
	const struct world *w = arg;

	if (w->elsewhere && (unshare(CLONE_NEWNET) < 0 || loopback_up() < 0))
		_exit(52);
	for (size_t i = 0; i < ELEMENTSOF(w->at) && w->at[i].port; i++) {
		int fd = loopback_listen(w->at[i].address, w->at[i].port);

		if (fork() == 0)
			serve(fd, &w->at[i]);
		if (w->not_its_own)
			close(fd);
	}
}

/* ---- what is on disk ---- */

static void put_cert(const struct scratch *s, const char *name, const char *text)
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

static void put_listener(const struct scratch *s, const struct identity *id)
{
	unsigned char text[4096];
	_free_ char *json = NULL;

	assert_true(EVP_EncodeBlock(text, (const unsigned char *)id->cert_pem, (int)strlen(id->cert_pem)) < (int)sizeof(text));
	json = k3sup__fmt("{\"data\":{\"tls.crt\":\"%s\"}}", (char *)text);
	put_cert(s, LISTENER, json);
}

/* ---- the mutant: takes what is in the file for what is shown ---- */

static const struct identity *in_file;

int __wrap_k3sup__tls_shown(const struct k3sup__tls *tls, char **ret_pem);
int __real_k3sup__tls_shown(const struct k3sup__tls *tls, char **ret_pem);

int __wrap_k3sup__tls_shown(const struct k3sup__tls *tls, char **ret_pem)
{
	if (!in_file)
		return __real_k3sup__tls_shown(tls, ret_pem);
	*ret_pem = strdup(in_file->cert_pem);
	return 0;
}

/* ---- asking ---- */

struct asked {
	k3sup_node *node;
	k3sup_op *op;
	pid_t pid;
};

static k3sup_op *ask_process(k3sup_node *node, k3sup_process *process, bool server, const char *const *services)
{
	struct k3sup__wire of = {
		.process = process,
		.server = server,
		.data_dir = DATA_DIR,
		.services = services,
		.now = (int64_t)time(NULL),
		.window = 10 * K3SUP__DAY,
		.deadline = k3sup__deadline(1500),
	};
	k3sup_op *op = NULL;

	assert_int_equal(k3sup__certs_served_op(node, &of, &op), 0);
	return op;
}

static struct asked ask(struct scratch *s, const struct world *w, bool server, const char *const *services)
{
	_free_ char *file = k3sup__fmt("%s/k3s-%s", BIN1, server ? "server" : "agent");
	struct fake_spec spec = {.root = s->path, .file = file, .title = server ? "k3s server" : "k3s agent", .before = set_up, .arg = w};
	struct asked a = {.node = open_node(s->ctx, s->path, NULL)};
	k3sup_process *process;

	if (faccessat(s->fd, "var/lib/rancher/k3s/data", F_OK, 0) < 0)
		fake_install_data(s->path, BIN1);
	a.pid = fake_start(&spec);
	process = running_process(a.node);
	a.op = ask_process(a.node, process, server, services);
	(void)k3sup_op_wait(a.op, 60000);
	k3sup_process_unref(process);
	return a;
}

static void forget(struct asked *a)
{
	fake_stop(a->pid);
	k3sup_op_unref(a->op);
	k3sup_node_unref(a->node);
}

/* "address service path verdict, ...": verdict is yes, no, - (no file) or silent. */
static char *served(const struct asked *a)
{
	k3sup_doc *doc = k3sup_op_result(a->op);
	char *all = strdup("");

	assert_status(a->op, 0);
	for (size_t i = 0; i < (size_t)k3sup_doc_len(doc, "/served"); i++) {
		_free_ char *at = k3sup__fmt("/served/%zu/address", i), *service = k3sup__fmt("/served/%zu/service", i),
			    *path = k3sup__fmt("/served/%zu/path", i), *matches = k3sup__fmt("/served/%zu/matches", i),
			    *sha256 = k3sup__fmt("/served/%zu/sha256", i), *old = all;
		int64_t yes = -1;
		bool shown = k3sup_doc_str(doc, sha256, &(const char *){NULL}) == 0;

		(void)k3sup_doc_i64(doc, matches, &yes);
		all = k3sup__fmt("%s%s%s %s %s %s", old, i > 0 ? ", " : "", text_of(doc, at), text_of(doc, service), text_of(doc, path),
			!shown            ? "silent"
				: yes < 0 ? "-"
				: yes     ? "yes"
					  : "no");
	}
	return all;
}

static char *problems(const struct asked *a)
{
	k3sup_doc *doc = k3sup_op_result(a->op);
	char *all = strdup("");

	for (size_t i = 0; i < (size_t)k3sup_doc_len(doc, "/problems"); i++) {
		_free_ char *problem = k3sup__fmt("/problems/%zu/problem", i), *remedy = k3sup__fmt("/problems/%zu/remedy", i), *old = all;

		all = k3sup__fmt("%s%s%s %s", old, i > 0 ? ", " : "", text_of(doc, problem), text_of(doc, remedy));
	}
	return all;
}

static void assert_world(struct scratch *s, const struct world *w, bool server, const char *const *services, const char *rows, const char *wrong)
{
	struct asked a = ask(s, w, server, services);
	_free_ char *found = served(&a), *said = problems(&a);

	assert_string_equal(found, rows);
	assert_string_equal(said, wrong);
	forget(&a);
}

#define AT(port, service, path, verdict) "127.0.0.1:" #port " " service " " path " " verdict
#define LISTENER_AT(port, verdict) AT(port, "k3s-server", "server/tls/dynamic-cert.json", verdict)

static void put_all(const struct scratch *s)
{
	put_listener(s, &listener);
	put_cert(s, KUBELET, kubelet.cert_pem);
	put_cert(s, ETCD, etcd.cert_pem);
	put_cert(s, "/server/tls/etcd/peer-server-client.crt", etcd.cert_pem);
	put_cert(s, "/server/tls/serving-kube-apiserver.crt", apiserver.cert_pem);
}

static void every_port_is_compared_with_its_file(void **state)
{
	struct world w = {.at = {{6443, SERVES, &listener, "0.0.0.0"}, {10250, SERVES, &kubelet, NULL}, {2379, WANTS_CLIENT, &etcd, NULL},
				  {2380, WANTS_CLIENT_1_2, &etcd, NULL}, {6444, SERVES, &apiserver, NULL}}};
	struct scratch *s = *state;
	_free_ char *all = NULL, *none = NULL;
	unsigned char digest[32];
	unsigned len = 0;
	char hex[65];
	struct asked a;

	put_all(s);
	a = ask(s, &w, true, NULL);
	all = served(&a);
	none = problems(&a);
	assert_string_equal(all,
		AT(2379, "etcd", "server/tls/etcd/server-client.crt", "yes") ", " AT(2380, "etcd", "server/tls/etcd/peer-server-client.crt",
			"yes") ", " LISTENER_AT(6443, "yes") ", " AT(6444, "api-server", "server/tls/serving-kube-apiserver.crt",
			"yes") ", " AT(10250, "kubelet", "agent/serving-kubelet.crt", "yes"));
	assert_string_equal(none, "");
	assert_int_equal(X509_digest(listener.cert, EVP_sha256(), digest, &len), 1);
	for (unsigned i = 0; i < len; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(result_text(a.op, "/served/2/sha256"), hex);
	assert_string_equal(result_text(a.op, "/served/2/cn"), "k3s");
	assert_string_equal(result_text(a.op, "/served/2/status"), "OK");
	assert_true(strlen(result_text(a.op, "/served/2/serial")) > 0);
	forget(&a);
}

/* Both ways round: whoever compares the file with itself, or what is shown with itself, is caught. */
static void another_certificate_than_the_files_is_told(void **state)
{
	struct world old = {.at = {{6443, SERVES, &listener, NULL}}}, new = {.at = {{6443, SERVES, &renewed, NULL}}};
	struct world over = {.at = {{6443, SERVES, &expired, NULL}}}, no_kubelet = {.at = {{10250, SERVES, &etcd, NULL}}};
	struct scratch *s = *state;

	put_all(s);
	assert_world(s, &old, true, NULL, LISTENER_AT(6443, "yes"), "");
	assert_world(s, &new, true, NULL, LISTENER_AT(6443, "no"), "served-differs start");
	put_listener(s, &renewed);
	assert_world(s, &old, true, NULL, LISTENER_AT(6443, "no"), "served-differs start");
	assert_world(s, &new, true, NULL, LISTENER_AT(6443, "yes"), "");
	/* The file is fresh, clients fail all the same. */
	assert_world(s, &over, true, NULL, LISTENER_AT(6443, "no"), "served-differs start, served-expired start");
	put_listener(s, &expired);
	assert_world(s, &over, true, NULL, LISTENER_AT(6443, "yes"), "served-expired start");
	assert_world(s, &no_kubelet, true, NULL, AT(10250, "kubelet", "agent/serving-kubelet.crt", "no"), "served-differs start");
	put_cert(s, LISTENER, "{\"data\":");
	assert_world(s, &old, true, NULL, LISTENER_AT(6443, "-"), "");
}

static void a_file_that_is_compared_with_itself_is_found_out(void **state)
{
	struct world new = {.at = {{6443, SERVES, &renewed, NULL}}};
	struct scratch *s = *state;

	put_all(s);
	in_file = &listener;
	assert_world(s, &new, true, NULL, LISTENER_AT(6443, "yes"), ""); /* where the library says no */
	in_file = NULL;
	assert_world(s, &new, true, NULL, LISTENER_AT(6443, "no"), "served-differs start");
}

static void who_shows_nothing_is_told(void **state)
{
	static const enum manner manners[] = {HANGS_UP, PLAIN, KEEPS_SILENT};
	static const char *const texts[] = {"TLS", "TLS", "in time"};
	struct scratch *s = *state;

	put_all(s);
	for (size_t i = 0; i < ELEMENTSOF(manners); i++) {
		struct world w = {.at = {{2379, manners[i], &etcd, NULL}, {7777, manners[i], &etcd, NULL}}};
		struct asked a = ask(s, &w, true, NULL);
		_free_ char *rows = served(&a), *said = problems(&a);

		assert_string_equal(rows, AT(2379, "etcd", "server/tls/etcd/server-client.crt", "silent"));
		assert_string_equal(said, "not-served start");
		assert_non_null(strstr(result_text(a.op, "/served/0/text"), texts[i]));
		forget(&a);
	}
}

/* Another port tells itself by its name; the load-balancer's shows another server's certificate, an agent's too. */
static void names_tell_where_ports_do_not(void **state)
{
	struct world moved = {.at = {{7443, SERVES, &listener, NULL}, {7444, SERVES, &apiserver, NULL}, {9999, SERVES, &etcd, NULL}}};
	struct world balancer = {.at = {{6444, SERVES, &renewed, NULL}}};
	struct world agent = {.at = {{6443, SERVES, &renewed, NULL}, {6444, SERVES, &renewed, NULL}, {10250, SERVES, &kubelet, NULL}}};
	struct scratch *s = *state;

	put_all(s);
	assert_world(s, &moved, true, NULL,
		LISTENER_AT(7443, "yes") ", " AT(7444, "api-server", "server/tls/serving-kube-apiserver.crt", "yes"), "");
	assert_world(s, &balancer, true, NULL, "", "");
	assert_world(s, &agent, false, NULL, AT(10250, "kubelet", "agent/serving-kubelet.crt", "yes"), "");
}

static void what_was_made_in_memory_has_no_file(void **state)
{
	struct world w = {.at = {{10259, SERVES, &in_memory, NULL}}}, other = {.at = {{10259, SERVES, &etcd, NULL}}};
	struct scratch *s = *state;

	assert_world(s, &w, true, NULL, AT(10259, "scheduler", "server/tls/kube-scheduler/kube-scheduler.crt", "-"), "");
	/* A newer k3s has left one here. */
	put_cert(s, "/server/tls/kube-scheduler/kube-scheduler.crt", scheduler.cert_pem);
	assert_world(s, &w, true, NULL, AT(10259, "scheduler", "server/tls/kube-scheduler/kube-scheduler.crt", "-"), "");
	assert_world(s, &other, true, NULL, AT(10259, "scheduler", "server/tls/kube-scheduler/kube-scheduler.crt", "no"), "served-differs start");
}

static void only_what_was_asked_for(void **state)
{
	static const char *const services[] = {"kubelet", NULL}, *const nobody[] = {"nobody", NULL};
	struct world w = {.at = {{6443, SERVES, &renewed, NULL}, {10250, SERVES, &kubelet, NULL}}};
	struct world foreign = {.at = {{6443, SERVES, &renewed, NULL}}, .not_its_own = true};
	struct scratch *s = *state;
	struct k3sup__wire of = {.data_dir = DATA_DIR, .services = nobody};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;

	put_all(s);
	assert_world(s, &w, true, services, AT(10250, "kubelet", "agent/serving-kubelet.crt", "yes"), "");
	assert_world(s, &foreign, true, NULL, "", "");
	assert_int_equal(k3sup__certs_served_op(node, &of, &op), -EINVAL);
	k3sup_node_unref(node);
}

/* A privileged pod without hostNetwork: the same process table, another network. */
static void a_k3s_in_another_network_is_reached(void **state)
{
	struct world w = {.at = {{6443, SERVES, &listener, NULL}}, .elsewhere = true};

	put_all(*state);
	assert_world(*state, &w, true, NULL, LISTENER_AT(6443, "yes"), "");
}

/* As a verb's flag; and it can be cancelled anywhere. */
static void a_check_tells_what_is_served(void **state)
{
	struct k3sup_certs_check_opts opts = {.struct_size = sizeof(opts), .flags = K3SUP_CERTS_CHECK_WIRE, .k3s_version = "v1.31.0+k3s1"};
	static const char *const services[] = {"k3s-server", NULL};
	struct world w = {.at = {{6443, SERVES, &renewed, NULL}}};
	struct scratch *s = *state;
	struct asked a = {0};
	k3sup_op *op = NULL;

	put_all(s);
	opts.services = services;
	a = ask(s, &w, true, NULL);
	assert_int_equal(k3sup_certs_check(a.node, &opts, &op), 0);
	assert_status(op, 0);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/served"), 1);
	assert_int_equal(result_number(op, "/served/0/matches"), 0);
	assert_int_equal(result_number(op, "/needs_action"), 1);
	assert_non_null(strstr(k3sup_doc_json(k3sup_op_result(op)), "served-differs"));
	k3sup_op_unref(op);
	for (int i = 0, r = K3SUP_E_CANCELLED; r == K3SUP_E_CANCELLED; i++) {
		assert_int_equal(k3sup_certs_check(a.node, &opts, &op), 0);
		for (int n = 0; n < i; n++)
			assert_true(k3sup_ctx_dispatch(s->ctx) >= 0);
		k3sup_op_cancel(op);
		r = k3sup_op_wait(op, 60000);
		assert_true(r == K3SUP_E_CANCELLED || (r == 0 && i > 1));
		k3sup_op_unref(op);
	}
	fake_stop(a.pid);
	assert_int_equal(k3sup_certs_check(a.node, &opts, &op), 0);
	assert_status(op, 0);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/served"), 0);
	assert_string_equal(result_text(op, "/warnings/0"), "nothing is served: k3s does not run");
	k3sup_op_unref(op);
	k3sup_op_unref(a.op);
	k3sup_node_unref(a.node);
}

static int make_identities(void **state)
{
	ca = identity_new("k3s-server-ca", NULL, 30, NULL);
	listener = identity_new("k3s", &ca, 30, "serverAuth");
	renewed = identity_new("k3s", &ca, 30, "serverAuth");
	expired = identity_new("k3s", &ca, -1, "serverAuth");
	kubelet = identity_new("node-1", &ca, 30, "serverAuth");
	etcd = identity_new("etcd-server", &ca, 30, "serverAuth");
	apiserver = identity_new("kube-apiserver", &ca, 30, "serverAuth");
	scheduler = identity_new("kube-scheduler", &ca, 30, "serverAuth");
	in_memory = identity_new("localhost@1700000000", NULL, 30, "serverAuth");
	return fake_build(state);
}

static int drop_identities(void **state)
{
	struct identity *all[] = {&ca, &listener, &renewed, &expired, &kubelet, &etcd, &apiserver, &scheduler, &in_memory};

	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		identity_free(all[i]);
	return fake_remove(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(every_port_is_compared_with_its_file),
		scratch_test(another_certificate_than_the_files_is_told),
		scratch_test(a_file_that_is_compared_with_itself_is_found_out),
		scratch_test(who_shows_nothing_is_told),
		scratch_test(names_tell_where_ports_do_not),
		scratch_test(what_was_made_in_memory_has_no_file),
		scratch_test(only_what_was_asked_for),
		scratch_test(a_k3s_in_another_network_is_reached),
		scratch_test(a_check_tells_what_is_served),
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
