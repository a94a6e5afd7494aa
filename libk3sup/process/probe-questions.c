/* SPDX-License-Identifier: Apache-2.0 */
#include "process/probe-questions.h"

#include <fcntl.h>

#define MOST_PEM (256 * 1024)

#define KUBELET_HEALTHZ 10248
#define KUBELET 10250
#define SUPERVISOR 6443
#define LOAD_BALANCER 6444 /* the API server's own on a server, the client load-balancer's on an agent */

/* ---- what to ask, and whom ---- */

/* What else a k3s listens on: etcd, load-balancer and API server, kubelet, kube-proxy, the controllers, containerd's streams. */
static bool is_other_port(uint16_t port)
{
	return (port >= 2379 && port <= 2382) || port == LOAD_BALANCER || port == 10010 || (port >= KUBELET_HEALTHZ && port <= 10260);
}

static bool listens(const struct k3sup__listeners *all, uint16_t port)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->items[i].port == port)
			return true;
	return false;
}

/* port 0: all that are nothing else. */
static void choose(struct k3sup__question *q, const struct k3sup__listeners *all, uint16_t port)
{
	for (size_t i = 0; i < all->count && q->count < K3SUP__MOST_ASKED; i++)
		if (port ? all->items[i].port == port : !is_other_port(all->items[i].port))
			q->at[q->count++] = all->items[i];
}

static void ask_kubelet(struct k3sup__questions *to, const struct k3sup__listeners *all)
{
	struct k3sup__question *q = &to->list[to->count++];

	*q = (struct k3sup__question){.name = "kubelet", .path = "/healthz", .expected = "ok"};
	choose(q, all, KUBELET_HEALTHZ);
}

static void ask_server(struct k3sup__questions *to, const struct k3sup__listeners *all, enum k3sup__role role, bool apiserver)
{
	struct k3sup__question *q = &to->list[to->count++];

	*q = (struct k3sup__question){.name = apiserver ? "apiserver" : "supervisor",
		.path = apiserver ? "/readyz" : "/ping",
		.expected = apiserver ? "ok" : "pong",
		.tls = true,
		.as_client = apiserver};
	if (role == K3SUP__ROLE_AGENT)
		choose(q, all, LOAD_BALANCER);
	else
		choose(q, all, listens(all, SUPERVISOR) ? SUPERVISOR : 0);
}

static void ask_auto(struct k3sup__questions *to, const struct k3sup__listeners *all, enum k3sup__role role)
{
	if (role != K3SUP__ROLE_AGENT)
		ask_server(to, all, role, false);
	if (role == K3SUP__ROLE_AGENT ? listens(all, KUBELET_HEALTHZ) || !listens(all, KUBELET) : listens(all, KUBELET_HEALTHZ))
		ask_kubelet(to, all);
}

/* ---- what is trusted ---- */

static int read_pem(k3sup_op *op, k3sup_node *node, const char *data_dir, const char *name, char **ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/%s", data_dir, name);
	_close_ int fd = -1;
	ssize_t n;
	int r = path ? k3sup__root_find(op, &node->root, path, node->trust_flags, &place) : -ENOMEM;

	if (r == -ENOENT || (r == 0 && place.fd < 0))
		return k3sup__fail(op, K3SUP_E_NOT_READY, "k3s has not yet made %s", path);
	if (r < 0)
		return r;
	fd = k3sup__place_open(&place, O_RDONLY);
	if (fd < 0)
		return k3sup__fail(op, fd, "cannot read %s: %s", path, k3sup_strerror(fd));
	*ret = malloc(MOST_PEM + 1);
	if (!*ret)
		return -ENOMEM;
	n = k3sup__read_full(fd, *ret, MOST_PEM);
	if (n < 0)
		return k3sup__fail(op, (int)n, "cannot read %s: %s", path, k3sup_strerror((int)n));
	(*ret)[n] = '\0';
	return 0;
}

static int read_trust(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *seen, struct k3sup__questions *to)
{
	bool agent = seen->role == K3SUP__ROLE_AGENT, client = false, tls = false;
	_free_ char *data_dir = NULL;
	const char *source;
	int r;

	for (size_t i = 0; i < to->count; i++) {
		tls |= to->list[i].tls;
		client |= to->list[i].as_client;
	}
	r = tls ? k3sup__data_dir_find(op, node, seen, &data_dir, &source) : 0;
	if (r >= 0 && tls)
		r = read_pem(op, node, data_dir, agent ? "agent/server-ca.crt" : "server/tls/server-ca.crt", &to->ca);
	if (r >= 0 && client)
		r = read_pem(op, node, data_dir, agent ? "agent/client-kubelet.crt" : "server/tls/client-admin.crt", &to->cert);
	if (r >= 0 && client)
		r = read_pem(op, node, data_dir, agent ? "agent/client-kubelet.key" : "server/tls/client-admin.key", &to->key);
	return r < 0 ? r : 0;
}

/* ---- both ---- */

int k3sup__questions_find(k3sup_op *op, k3sup_node *node, const struct k3sup__candidate *seen, uint32_t kind, struct k3sup__questions *ret)
{
	struct k3sup__candidate known = {.process = seen->process, .role = seen->role, .data_dir = seen->data_dir};
	struct k3sup__listeners all = {0};
	int r = k3sup__listeners_find(seen->process, seen->worker, &all), pid = (int)k3sup__process_pid(seen->process);

	if (r == -ESRCH)
		return k3sup__fail(op, K3SUP_E_NOT_READY, "k3s (process %d) has just ended", pid);
	if (r < 0)
		return k3sup__fail(op, r, "cannot see where k3s (process %d) listens: %s", pid, k3sup_strerror(r));
	if (known.role == K3SUP__ROLE_UNKNOWN) /* its title says nothing */
		known.role = listens(&all, SUPERVISOR) ? K3SUP__ROLE_SERVER : K3SUP__ROLE_AGENT;
	if (kind == K3SUP_PROBE_AUTO)
		ask_auto(ret, &all, known.role);
	else if (kind == K3SUP_PROBE_KUBELET)
		ask_kubelet(ret, &all);
	else
		ask_server(ret, &all, known.role, kind == K3SUP_PROBE_APISERVER);
	k3sup__listeners_clear(&all);
	for (size_t i = 0; i < ret->count; i++)
		if (ret->list[i].count == 0)
			return k3sup__fail(op, K3SUP_E_NOT_READY, "k3s (process %d) does not yet listen as %s", pid, ret->list[i].name);
	return read_trust(op, node, &known, ret);
}

void k3sup__questions_clear(struct k3sup__questions *questions)
{
	if (questions->key)
		explicit_bzero(questions->key, strlen(questions->key));
	free(questions->ca);
	free(questions->cert);
	free(questions->key);
	*questions = (struct k3sup__questions){0};
}
