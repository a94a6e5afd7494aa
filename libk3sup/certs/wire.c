/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/wire.h"

#include <poll.h>

#include "base/sockets.h"
#include "base/strv.h"
#include "base/tls.h"
#include "certs/audit.h"

#define SHOWN_WITHIN_MS 5000 /* of one socket */
#define AT_LEAST_MS 1000
#define MOST_SOCKETS 64

#define LOAD_BALANCER 6444 /* of a server without an API server of its own: what it shows is another server's */

/* What k3s serves from which file; path without ".crt", NULL: dynamic-cert.json. */
struct door {
	uint16_t port;  /* 0: told by the common name */
	const char *cn; /* then */
	bool of_agent;  /* agents have it, too */
	const char *service, *path;
};

static const struct door doors[] = {
	{.port = 6443, .service = "k3s-server"},
	{.port = 10250, .of_agent = true, .service = "kubelet", .path = "agent/serving-kubelet"},
	{.port = 10257, .service = "controller-manager", .path = "server/tls/kube-controller-manager/kube-controller-manager"},
	{.port = 10259, .service = "scheduler", .path = "server/tls/kube-scheduler/kube-scheduler"},
	{.port = 2379, .service = "etcd", .path = "server/tls/etcd/server-client"},
	{.port = 2382, .service = "etcd", .path = "server/tls/etcd/server-client"}, /* its HTTP since 2023 */
	{.port = 2380, .service = "etcd", .path = "server/tls/etcd/peer-server-client"},
	{.cn = "k3s", .service = "k3s-server"},
	{.cn = "kube-apiserver", .service = "api-server", .path = "server/tls/serving-kube-apiserver"},
};

/* Plain HTTP of kubelet, kube-proxy and etcd. */
static const uint16_t plain[] = {10248, 10249, 10256, 2381};

struct asked {
	struct k3sup__listener at;
	const struct door *door; /* NULL: its common name will tell */
	char *pem;               /* what it showed; NULL: nothing, and why */
	char *why;
};

enum stage { STAGE_CONNECT, STAGE_HANDSHAKE };

struct served_state {
	struct k3sup__node_state node;
	k3sup_process *process, *worker;
	bool server;
	char *data_dir;
	struct k3sup__strv services;
	int64_t now, window, until;

	struct asked *asked;
	size_t count, at;
	bool judging;

	int fd;
	struct k3sup__tls *tls;
	enum stage stage;
	int64_t deadline;
};

/* ---- whom to ask ---- */

static const struct door *door_of_port(const struct served_state *s, uint16_t port)
{
	for (size_t i = 0; i < ELEMENTSOF(doors); i++)
		if (doors[i].port == port && (s->server || doors[i].of_agent))
			return &doors[i];
	return NULL;
}

static const struct door *door_of_name(uint16_t port, const char *cn)
{
	for (size_t i = 0; i < ELEMENTSOF(doors); i++)
		if (doors[i].cn != NULL && k3sup__streq(doors[i].cn, cn) && (port != LOAD_BALANCER || doors[i].path != NULL))
			return &doors[i];
	return NULL;
}

static bool is_worth_asking(const struct served_state *s, uint16_t port)
{
	for (size_t i = 0; i < ELEMENTSOF(plain); i++)
		if (plain[i] == port)
			return false;
	return s->server || door_of_port(s, port) != NULL;
}

static int listeners(k3sup_op *op, struct k3sup__listeners *ret)
{
	struct served_state *s = k3sup__op_state(op);
	int r = k3sup__listeners_find(s->process, s->worker, ret), pid = (int)k3sup__process_pid(s->process);

	if (r == -ESRCH)
		return k3sup__fail(op, r, "k3s (process %d) has just ended", pid);
	return r < 0 ? k3sup__fail(op, r, "cannot see where k3s (process %d) listens: %s", pid, k3sup_strerror(r)) : 0;
}

/* The kernel's order of the table is its own. */
static int by_address(const void *a, const void *b)
{
	const struct asked *x = a, *y = b;
	int d = (int)x->at.port - (int)y->at.port;

	return d != 0 ? d : memcmp(&x->at.address, &y->at.address, sizeof(x->at.address));
}

static int prepare(k3sup_op *op)
{
	struct served_state *s = k3sup__op_state(op);
	struct k3sup__listeners all = {0};
	int r = listeners(op, &all);

	if (r < 0)
		return r;
	s->asked = calloc(MOST_SOCKETS, sizeof(*s->asked));
	for (size_t i = 0; s->asked != NULL && i < all.count && s->count < MOST_SOCKETS; i++)
		if (is_worth_asking(s, all.items[i].port))
			s->asked[s->count++] = (struct asked){.at = all.items[i], .door = door_of_port(s, all.items[i].port)};
	k3sup__listeners_clear(&all);
	if (s->count > 0)
		qsort(s->asked, s->count, sizeof(s->asked[0]), by_address);
	return s->asked == NULL ? -ENOMEM : 0;
}

/* ---- what was shown ---- */

static bool wants(const struct served_state *s, const char *service)
{
	for (size_t i = 0; i < s->services.count; i++)
		if (k3sup__streq(s->services.items[i], service))
			return true;
	return s->services.count == 0;
}

/* A socket that is gone meanwhile may have been somebody else's as it was asked. */
static bool is_still_there(const struct k3sup__listeners *all, const struct k3sup__listener *at)
{
	for (size_t i = 0; i < all->count; i++)
		if (memcmp(&all->items[i].address, &at->address, sizeof(at->address)) == 0)
			return true;
	return false;
}

static k3sup__json *row_of_silence(const struct asked *a, const char *path)
{
	k3sup__json *row = k3sup__json_object();

	k3sup__json_set_str(row, "service", a->door->service);
	k3sup__json_set_str(row, "path", path);
	k3sup__json_set_str(row, "text", a->why != NULL ? a->why : "it shows no certificate");
	return row;
}

/* 1: ret_file has the certificate that should be served */
static int read_file(struct k3sup__audit *files, const struct door *door, const char *path, struct k3sup__certs *ret_file)
{
	int r = door->path == NULL ? k3sup__audit_listener_certs(files, ret_file) : k3sup__audit_certs(files, path, K3SUP__NOTE, ret_file);

	return r == K3SUP_E_PARSE ? 0 : r;
}

/* What is wrong with the file itself is the check's affair. */
static void compare(struct k3sup__audit *said, k3sup__json *row, const char *path, const char *address, const struct k3sup__cert *shown,
	const struct k3sup__cert *file)
{
	bool in_memory = file != NULL && shown->self_signed && !file->self_signed;

	if (file != NULL && !in_memory) {
		bool same = k3sup__streq(shown->sha256, file->sha256);

		k3sup__json_set_bool(row, "matches", same);
		if (!same)
			k3sup__audit_problem(said, K3SUP__START, path, "served-differs",
				"%s serves another certificate than the file holds (serial %s)", address,
				k3sup__json_text(shown->facts, "serial"));
	}
	if (said->now > shown->not_after)
		k3sup__audit_problem(said, K3SUP__START, path, "served-expired", "%s serves a certificate that expired at %s", address,
			k3sup__json_text(row, "not_after"));
}

static int tell(k3sup_op *op, const struct asked *a, struct k3sup__audit *said, struct k3sup__audit *files, struct k3sup__certs *shown)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs file = {0};
	_free_ char *path = a->door->path != NULL ? k3sup__fmt("%s.crt", a->door->path) : strdup(k3sup__listener_path);
	const struct k3sup__certs leaf = {.list = shown->list, .count = 1};
	k3sup__json *row;
	char address[K3SUP__ADDRESS_TEXT];
	int r = path == NULL ? -ENOMEM : 0;

	k3sup__listener_text(&a->at, address);
	if (r == 0 && shown->count == 0) {
		row = row_of_silence(a, path);
		k3sup__audit_problem(said, K3SUP__START, path, "not-served", "%s: %s", address, k3sup__json_text(row, "text"));
	} else if (r == 0 && (r = read_file(files, a->door, path, &file)) >= 0) {
		k3sup__audit_rows(said, "served", a->door->service, path, &leaf);
		row = k3sup__json_ref(k3sup__json_element(said->certificates, k3sup__json_len(said->certificates) - 1));
		compare(said, row, path, address, &shown->list[0], r == 1 ? &file.list[0] : NULL);
	}
	if (r < 0)
		return r;
	k3sup__json_set_str(row, "address", address);
	k3sup__json_add(k3sup__json_member(k3sup__op_facts(op), "served"), row);
	return 0;
}

static int tell_one(k3sup_op *op, struct asked *a, struct k3sup__audit *said, struct k3sup__audit *files)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs shown = {0};
	struct served_state *s = k3sup__op_state(op);
	const char *why;

	if (a->pem != NULL && k3sup__certs_parse(said->pki, a->pem, strlen(a->pem), &shown, &why) == -ENOMEM)
		return -ENOMEM;
	if (a->door == NULL && shown.count > 0)
		a->door = door_of_name(a->at.port, k3sup__json_text(shown.list[0].facts, "cn"));
	if (a->door == NULL || !wants(s, a->door->service))
		return 0;
	return tell(op, a, said, files, &shown);
}

static int judge(k3sup_op *op)
{
	struct served_state *s = k3sup__op_state(op);
	_cleanup_(k3sup__audit_close) struct k3sup__audit said = {
		.op = op, .root = &s->node.node->root, .data_dir = s->data_dir, .server = s->server, .now = s->now, .window = s->window};
	_cleanup_(k3sup__audit_close) struct k3sup__audit files = said;
	struct k3sup__listeners all = {0};
	int r = listeners(op, &all);

	files.prepared = true;
	if (r >= 0)
		r = k3sup__audit_open(&said);
	if (r >= 0)
		r = k3sup__audit_open(&files);
	k3sup__json_set(k3sup__op_facts(op), "served", k3sup__json_array());
	for (size_t i = 0; r >= 0 && i < s->count; i++)
		if (is_still_there(&all, &s->asked[i].at))
			r = tell_one(op, &s->asked[i], &said, &files);
	k3sup__listeners_clear(&all);
	k3sup__json_set(k3sup__op_facts(op), "problems", k3sup__json_ref(said.problems));
	return r < 0 ? r : 0;
}

/* ---- one socket ---- */

static int begin(k3sup_op *op);

/* why: NULL if it is only to be kept what was shown */
static int next(k3sup_op *op, const char *why)
{
	struct served_state *s = k3sup__op_state(op);
	struct asked *a = &s->asked[s->at++];
	int r = s->tls != NULL ? k3sup__tls_shown(s->tls, &a->pem) : 0;

	if (r == 0 || r == -ENODATA)
		a->why = strdup(why != NULL ? why : "it shows no certificate");
	k3sup__tls_free(s->tls);
	s->tls = NULL;
	s->fd = k3sup__close(s->fd);
	return a->why == NULL ? -ENOMEM : begin(op);
}

static int shake_hands(k3sup_op *op)
{
	struct served_state *s = k3sup__op_state(op);
	int r = k3sup__tls_handshake(s->tls);

	if (r == -EAGAIN)
		return k3sup__op_watch_fd(op, s->fd, k3sup__tls_wants(s->tls), s->deadline);
	return next(op, r < 0 ? k3sup__tls_why(s->tls) : NULL);
}

static int connected(k3sup_op *op)
{
	const struct k3sup__tls_terms nothing = {0};
	struct served_state *s = k3sup__op_state(op);
	int r = k3sup__socket_error(s->fd);

	if (r < 0)
		return next(op, k3sup_strerror(r));
	r = k3sup__tls_new(s->fd, &nothing, &s->tls);
	if (r < 0)
		return r;
	s->stage = STAGE_HANDSHAKE;
	return shake_hands(op);
}

static int begin(k3sup_op *op)
{
	struct served_state *s = k3sup__op_state(op);
	const struct k3sup__listener *at = &s->asked[s->at].at;
	int64_t least = k3sup__deadline(AT_LEAST_MS);
	int r;

	if (s->at == s->count) {
		s->judging = true;
		return k3sup__op_work(op, judge);
	}
	s->deadline = k3sup__deadline(SHOWN_WITHIN_MS);
	if (s->deadline > s->until)
		s->deadline = s->until > least ? s->until : least;
	s->stage = STAGE_CONNECT;
	r = k3sup__socket_near(s->node.node->proc_fd, s->process, IN6_IS_ADDR_V4MAPPED(&at->address.sin6_addr) ? AF_INET : AF_INET6);
	if (r < 0)
		return next(op, k3sup_strerror(r));
	s->fd = r;
	r = k3sup__socket_connect(s->fd, at);
	if (r == 0 || r == -EINPROGRESS)
		return k3sup__op_watch_fd(op, s->fd, POLLOUT, s->deadline);
	return next(op, k3sup_strerror(r));
}

/* ---- the operation ---- */

static int step(k3sup_op *op)
{
	struct served_state *s = k3sup__op_state(op);

	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		return k3sup__op_work(op, prepare);
	if (k3sup__op_woke(op) == K3SUP__WOKE_WORK)
		return s->judging || k3sup__op_work_result(op) < 0 ? k3sup__op_work_result(op) : begin(op);
	if (k3sup__now_ms() >= s->deadline)
		return next(op, "it has not shown a certificate in time");
	return s->stage == STAGE_CONNECT ? connected(op) : shake_hands(op);
}

static void clear(k3sup_op *op)
{
	struct served_state *s = k3sup__op_state(op);

	k3sup__tls_free(s->tls);
	(void)k3sup__close(s->fd);
	for (size_t i = 0; i < s->count; i++) {
		free(s->asked[i].pem);
		free(s->asked[i].why);
	}
	free(s->asked);
	free(s->data_dir);
	k3sup__strv_clear(&s->services);
	k3sup_process_unref(s->process);
	k3sup_process_unref(s->worker);
}

static const struct k3sup__op_class class = {
	.verb = "certs_served",
	.state_size = sizeof(struct served_state),
	.step = step,
	.clear = clear,
};

int k3sup__certs_served_op(k3sup_node *node, const struct k3sup__wire *of, k3sup_op **ret_op)
{
	char *data_dir = strdup(of->data_dir);
	struct k3sup__strv services = {0};
	struct served_state *s;
	k3sup_op *op;
	int r = data_dir == NULL ? -ENOMEM : k3sup__cert_services_take(of->services, &services);

	if (r >= 0)
		r = k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);
	if (r < 0) {
		free(data_dir);
		k3sup__strv_clear(&services);
		return r;
	}
	s = k3sup__op_state(op);
	s->process = k3sup_process_ref(of->process);
	s->worker = k3sup_process_ref(of->worker);
	s->server = of->server;
	s->data_dir = data_dir;
	s->services = services;
	s->now = of->now;
	s->window = of->window;
	s->until = of->deadline;
	s->fd = -1;
	*ret_op = op;
	return 0;
}
