/* SPDX-License-Identifier: Apache-2.0 */
#include "process/probe.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/tls.h"
#include "process/probe-questions.h"

#define ANSWER_WITHIN_MS 5000 /* of one socket */
#define AT_LEAST_MS 1000
#define MOST_BYTES 8192 /* of one answer: status line, headers and the few bytes that matter */

enum stage { STAGE_CONNECT, STAGE_HANDSHAKE, STAGE_WRITE, STAGE_READ };

struct probe_state {
	struct k3sup__node_state node;
	k3sup_process *process, *worker; /* of a --log pair the child is the one that listens */
	enum k3sup__role role;
	char *data_dir; /* as it was observed, or NULL */
	uint32_t kind;

	struct k3sup__questions questions;
	size_t question, socket; /* which one, and which socket of it, is asked now */

	int fd;
	struct k3sup__tls *tls;
	enum stage stage;
	int64_t deadline, until; /* of this socket; what the caller said of all */
	size_t sent, len;
	char request[160], answer[MOST_BYTES + 1];
};

static int prepare(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);
	const struct k3sup__candidate seen = {.process = s->process, .worker = s->worker, .role = s->role, .data_dir = s->data_dir};

	return k3sup__questions_find(op, s->node.node, &seen, s->kind, &s->questions);
}

/* ---- one question at one socket ---- */

static void hang_up(struct probe_state *s)
{
	k3sup__tls_free(s->tls);
	s->tls = NULL;
	s->fd = k3sup__close(s->fd);
}

/* The answer goes into the document. text: why it is not the right one, NULL if it is. */
static void note(k3sup_op *op, struct probe_state *s, int status, const char *text)
{
	const struct k3sup__question *q = &s->questions.list[s->question];
	k3sup__json *facts = k3sup__op_facts(op), *one = k3sup__json_object();
	char address[K3SUP__ADDRESS_TEXT];

	k3sup__listener_text(&q->at[s->socket], address);
	k3sup__json_set_str(one, "name", q->name);
	k3sup__json_set_str(one, "address", address);
	k3sup__json_set_bool(one, "ok", !text);
	if (status)
		k3sup__json_set_int(one, "status", status);
	if (text)
		k3sup__json_set_str(one, "text", text);
	if (!k3sup__json_member(facts, "probes"))
		k3sup__json_set(facts, "probes", k3sup__json_array());
	k3sup__json_add(k3sup__json_member(facts, "probes"), one);
}

static int begin(k3sup_op *op);

static int wrong(k3sup_op *op, int status, const char *text)
{
	struct probe_state *s = k3sup__op_state(op);
	const struct k3sup__question *q = &s->questions.list[s->question];
	_free_ char *said = strdup(text); /* the connection that goes may own it */
	char address[K3SUP__ADDRESS_TEXT];

	hang_up(s);
	if (!said)
		return -ENOMEM;
	note(op, s, status, said);
	if (++s->socket < q->count)
		return begin(op);
	k3sup__listener_text(&q->at[s->socket - 1], address);
	k3sup__json_set(k3sup__op_evidence(op), "probes", k3sup__json_copy(k3sup__json_member(k3sup__op_facts(op), "probes")));
	return k3sup__fail(op, K3SUP_E_NOT_READY, "the %s of process %d at %s is not ready: %s", q->name,
		(int)k3sup__process_pid(s->process), address, said);
}

static int right(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);

	hang_up(s);
	note(op, s, 200, NULL);
	s->socket = 0;
	if (++s->question < s->questions.count)
		return begin(op);
	return 1;
}

static int wait_for(k3sup_op *op, short events)
{
	struct probe_state *s = k3sup__op_state(op);

	return k3sup__op_watch_fd(op, s->fd, events, s->deadline);
}

/* 0 when more has to come. */
static int judge(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);
	const struct k3sup__question *q = &s->questions.list[s->question];
	const char *body;
	char text[32];
	int status = 0;

	if (memcmp(s->answer, "HTTP/1.", s->len < 7 ? s->len : 7) != 0)
		return wrong(op, 0, "it does not speak HTTP");
	if (!strstr(s->answer, "\r\n"))
		return s->len < 512 ? 0 : wrong(op, 0, "it does not speak HTTP");
	if (sscanf(s->answer, "HTTP/1.%*1d %3d", &status) != 1 || status < 100)
		return wrong(op, 0, "it does not speak HTTP");
	snprintf(text, sizeof(text), "it answers %d", status);
	if (status != 200)
		return wrong(op, status, text);
	body = strstr(s->answer, "\r\n\r\n");
	if (!body || strlen(body + 4) < strlen(q->expected))
		return 0;
	return k3sup__startswith(body + 4, q->expected) ? right(op) : wrong(op, status, "it answers something else");
}

static ssize_t transfer(struct probe_state *s, short *wants)
{
	size_t left = strlen(s->request) - s->sent;
	ssize_t n;

	*wants = s->stage == STAGE_WRITE ? POLLOUT : POLLIN;
	if (s->tls) {
		n = s->stage == STAGE_WRITE ? k3sup__tls_write(s->tls, s->request + s->sent, left)
					    : k3sup__tls_read(s->tls, s->answer + s->len, MOST_BYTES - s->len);
		*wants = k3sup__tls_wants(s->tls);
		return n;
	}
	n = s->stage == STAGE_WRITE ? send(s->fd, s->request + s->sent, left, MSG_NOSIGNAL)
				    : recv(s->fd, s->answer + s->len, MOST_BYTES - s->len, 0);
	return n < 0 ? -errno : n;
}

static const char *why(const struct probe_state *s, int r)
{
	return s->tls && r == -EPROTO ? k3sup__tls_why(s->tls) : k3sup_strerror(r);
}

static int talk(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);
	short wants;

	for (;;) {
		ssize_t n = transfer(s, &wants);
		int r;

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return wait_for(op, wants);
		if (n < 0)
			return wrong(op, 0, why(s, (int)n));
		if (s->stage == STAGE_WRITE) {
			s->sent += (size_t)n;
			if (s->sent == strlen(s->request))
				s->stage = STAGE_READ;
			continue;
		}
		if (n == 0)
			return wrong(op, 0, "it hung up before its answer was whole");
		s->len += (size_t)n;
		s->answer[s->len] = '\0';
		r = judge(op);
		if (r != 0)
			return r;
		if (s->len == MOST_BYTES)
			return wrong(op, 0, "its answer has no end");
	}
}

static int shake_hands(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);
	int r = k3sup__tls_handshake(s->tls);

	if (r == -EAGAIN)
		return wait_for(op, k3sup__tls_wants(s->tls));
	if (r < 0)
		return wrong(op, 0, why(s, r));
	s->stage = STAGE_WRITE;
	return talk(op);
}

static int connected(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);
	struct k3sup__tls_terms terms = {.ca = s->questions.ca};
	int r = k3sup__socket_error(s->fd);

	if (r < 0)
		return wrong(op, 0, k3sup_strerror(r));
	if (!s->questions.list[s->question].tls) {
		s->stage = STAGE_WRITE;
		return talk(op);
	}
	if (s->questions.list[s->question].as_client) {
		terms.cert = s->questions.cert;
		terms.key = s->questions.key;
	}
	r = k3sup__tls_new(s->fd, &terms, &s->tls);
	if (r == K3SUP_E_PARSE)
		return wrong(op, 0, "the node's own certificates cannot be read");
	if (r < 0)
		return r;
	s->stage = STAGE_HANDSHAKE;
	return shake_hands(op);
}

static int begin(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);
	const struct k3sup__question *q = &s->questions.list[s->question];
	const struct k3sup__listener *at = &q->at[s->socket];
	int r;

	s->deadline = k3sup__deadline(ANSWER_WITHIN_MS);
	if (s->deadline > s->until)
		s->deadline = s->until > k3sup__deadline(AT_LEAST_MS) ? s->until : k3sup__deadline(AT_LEAST_MS);
	s->stage = STAGE_CONNECT;
	s->sent = s->len = 0;
	s->answer[0] = '\0';
	/* 1.0: the answer is not cut into chunks, and the connection ends with it. */
	snprintf(s->request, sizeof(s->request), "GET %s HTTP/1.0\r\nHost: localhost\r\nUser-Agent: libk3sup\r\n\r\n", q->path);
	s->fd = k3sup__socket_near(s->node.node->proc_fd, s->process, IN6_IS_ADDR_V4MAPPED(&at->address.sin6_addr) ? AF_INET : AF_INET6);
	if (s->fd < 0) {
		r = s->fd;
		s->fd = -1;
		return wrong(op, 0, k3sup_strerror(r));
	}
	r = k3sup__socket_connect(s->fd, at);
	if (r == 0 || r == -EINPROGRESS)
		return wait_for(op, POLLOUT);
	return wrong(op, 0, k3sup_strerror(r));
}

/* ---- the operation ---- */

static int go_on(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);

	if (k3sup__now_ms() >= s->deadline)
		return wrong(op, 0, "it has not answered in time");
	switch (s->stage) {
	case STAGE_CONNECT:
		return connected(op);
	case STAGE_HANDSHAKE:
		return shake_hands(op);
	case STAGE_WRITE:
	case STAGE_READ:
		return talk(op);
	}
	return K3SUP_E_INTERNAL;
}

static int step(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);

	if (k3sup__op_woke(op) == K3SUP__WOKE_START)
		return k3sup__op_work(op, prepare);
	if (k3sup__op_woke(op) != K3SUP__WOKE_WORK)
		return go_on(op);
	if (k3sup__op_work_result(op) < 0 || s->questions.count == 0)
		return k3sup__op_work_result(op);
	return begin(op);
}

static void clear(k3sup_op *op)
{
	struct probe_state *s = k3sup__op_state(op);

	hang_up(s);
	k3sup__questions_clear(&s->questions);
	free(s->data_dir);
	k3sup_process_unref(s->process);
	k3sup_process_unref(s->worker);
}

static const struct k3sup__op_class class = {
	.verb = "probe",
	.state_size = sizeof(struct probe_state),
	.step = step,
	.clear = clear,
};

int k3sup__probe_op(k3sup_node *node, const struct k3sup__candidate *candidate, uint32_t kind, int64_t deadline, k3sup_op **ret_op)
{
	char *data_dir = candidate->data_dir ? strdup(candidate->data_dir) : NULL;
	struct probe_state *s;
	k3sup_op *op;
	int r = candidate->data_dir && !data_dir ? -ENOMEM : k3sup__node_op_new(node, &class, K3SUP__NEVER, &op);

	if (r < 0) {
		free(data_dir);
		return r;
	}
	s = k3sup__op_state(op);
	s->process = k3sup_process_ref(candidate->process);
	s->worker = k3sup_process_ref(candidate->worker);
	s->role = candidate->role;
	s->data_dir = data_dir;
	s->kind = kind;
	s->until = deadline;
	s->fd = -1;
	*ret_op = op;
	return 0;
}
