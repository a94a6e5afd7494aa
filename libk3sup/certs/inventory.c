/* SPDX-License-Identifier: Apache-2.0 */
#include "certs/inventory.h"

#include "base/durable.h"
#include "base/x509.h"

#define T "server/tls/"
#define E "server/tls/etcd/"
#define A "agent/"

#define CLIENT K3SUP__USE_CLIENT
#define SERVER K3SUP__USE_SERVER
#define BOTH (CLIENT | SERVER)
#define ALWAYS K3SUP__PAIR_ALWAYS

const char *const k3sup__ca_paths[K3SUP__N_CAS] = {
	[K3SUP__CA_CLIENT] = T "client-ca",
	[K3SUP__CA_SERVER] = T "server-ca",
	[K3SUP__CA_REQUEST_HEADER] = T "request-header-ca",
	[K3SUP__CA_ETCD_SERVER] = E "server-ca",
	[K3SUP__CA_ETCD_PEER] = E "peer-ca",
};

static const char *const apiserver_names[] = {
	"DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:localhost", "IP:127.0.0.1", NULL};
static const char *const local_names[] = {"DNS:localhost", "IP:127.0.0.1", NULL};
static const char *const localhost[] = {"DNS:localhost", NULL};
static const char *const loopback[] = {"IP:127.0.0.1", NULL}; /* etcd's: eras differ in the DNS names */

const struct k3sup__pair k3sup__pairs[] = {
	{"admin", T "client-admin", K3SUP__CA_CLIENT, ALWAYS, CLIENT, "system:admin", "system:masters", NULL},
	/* Until 2021 its common name was kube-apiserver, without an organisation. */
	{"api-server", T "client-kube-apiserver", K3SUP__CA_CLIENT, ALWAYS, CLIENT, NULL, NULL, NULL},
	{"api-server", T "serving-kube-apiserver", K3SUP__CA_SERVER, ALWAYS, SERVER, "kube-apiserver", NULL, apiserver_names},
	{"auth-proxy", T "client-auth-proxy", K3SUP__CA_REQUEST_HEADER, ALWAYS, CLIENT, "system:auth-proxy", NULL, NULL},
	/* Its common name was k3s-cloud-controller-manager, cloud-controller-manager and system:... over the years. */
	{"cloud-controller", T "client-k3s-cloud-controller", K3SUP__CA_CLIENT, 0, CLIENT, NULL, NULL, NULL},
	{"controller-manager", T "client-controller", K3SUP__CA_CLIENT, ALWAYS, CLIENT, "system:kube-controller-manager", NULL, NULL},
	{"controller-manager", T "kube-controller-manager/kube-controller-manager", K3SUP__CA_SERVER, K3SUP__PAIR_NOT_ALL_ERAS, SERVER,
		"kube-controller-manager", NULL, localhost},
	{"etcd", E "client", K3SUP__CA_ETCD_SERVER, 0, CLIENT, "etcd-client", NULL, NULL},
	{"etcd", E "server-client", K3SUP__CA_ETCD_SERVER, 0, BOTH, "etcd-server", NULL, loopback},
	{"etcd", E "peer-server-client", K3SUP__CA_ETCD_PEER, 0, BOTH, "etcd-peer", NULL, loopback},
	{"k3s-controller", T "client-k3s-controller", K3SUP__CA_CLIENT, K3SUP__PAIR_NOT_ALL_ERAS, CLIENT, "system:k3s-controller", NULL, NULL},
	{"k3s-controller", A "client-k3s-controller", K3SUP__CA_CLIENT, K3SUP__PAIR_AGENT, CLIENT, "system:k3s-controller", NULL, NULL},
	{"kube-proxy", T "client-kube-proxy", K3SUP__CA_CLIENT, K3SUP__PAIR_NOT_ALL_ERAS, CLIENT, "system:kube-proxy", NULL, NULL},
	{"kube-proxy", A "client-kube-proxy", K3SUP__CA_CLIENT, K3SUP__PAIR_AGENT, CLIENT, "system:kube-proxy", NULL, NULL},
	{"kubelet", T "client-kubelet", K3SUP__CA_CLIENT, K3SUP__PAIR_KEY_ONLY, 0, NULL, NULL, NULL},
	{"kubelet", T "serving-kubelet", K3SUP__CA_SERVER, K3SUP__PAIR_KEY_ONLY, 0, NULL, NULL, NULL},
	{"kubelet", A "client-kubelet", K3SUP__CA_CLIENT, ALWAYS | K3SUP__PAIR_AGENT | K3SUP__PAIR_NODE_NAME, CLIENT,
		"system:node:", "system:nodes", NULL},
	{"kubelet", A "serving-kubelet", K3SUP__CA_SERVER, ALWAYS | K3SUP__PAIR_AGENT | K3SUP__PAIR_NODE_NAME, SERVER, "", NULL, local_names},
	{"scheduler", T "client-scheduler", K3SUP__CA_CLIENT, ALWAYS, CLIENT, "system:kube-scheduler", NULL, NULL},
	{"scheduler", T "kube-scheduler/kube-scheduler", K3SUP__CA_SERVER, K3SUP__PAIR_NOT_ALL_ERAS, SERVER, "kube-scheduler", NULL, localhost},
	{"supervisor", T "client-supervisor", K3SUP__CA_CLIENT, K3SUP__PAIR_NOT_ALL_ERAS, CLIENT, "system:k3s-supervisor", "system:masters", NULL},
};
const size_t k3sup__n_pairs = ELEMENTSOF(k3sup__pairs);

const char *const k3sup__cert_dirs[] = {T, E, T "kube-controller-manager/", T "kube-scheduler/", T "temporary-certs/", A, NULL};

/* What is no leaf pair and no authority's, by whole path. */
static const char *const others[] = {
	T "client-ca.nochain.crt",
	T "server-ca.nochain.crt",
	T "service.key",
	T "service.current.key",
	T "token-ca.crt", /* very old installations */
	T "token-ca.key",
	T "temporary-certs/apiserver-loopback-client__.crt",
	T "temporary-certs/apiserver-loopback-client__.key",
	T "etcd",
	T "temporary-certs",
	T "kube-controller-manager",
	T "kube-scheduler",
	A "client-ca.crt",
	A "server-ca.crt",
};

static bool is_half_of(const char *path, const char *pair)
{
	size_t len = strlen(pair);

	return strncmp(path, pair, len) == 0 && (k3sup__streq(path + len, ".crt") || k3sup__streq(path + len, ".key"));
}

/* In an agent's directory lies much that is no certificate, of what k3s starts, too. */
static bool is_a_certificates_name(const char *path)
{
	return strstr(path, ".crt") != NULL || strstr(path, ".key") != NULL || strstr(path, ".pem") != NULL; /* or somebody's copy: client-admin.key.bak */
}

bool k3sup__cert_path_is_known(const char *path)
{
	const char *name = strrchr(path, '/') + 1;

	/* Also the listener's trigger, and what its file is before it is renamed. */
	if (k3sup__streq(name, ".") || k3sup__streq(name, "..") || k3sup__is_temp(name) || k3sup__startswith(path, T "dynamic-cert"))
		return true;
	if (k3sup__startswith(path, A) && !is_a_certificates_name(path))
		return true;
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		if (is_half_of(path, k3sup__pairs[i].path))
			return true;
	for (size_t i = 0; i < K3SUP__N_CAS; i++)
		if (is_half_of(path, k3sup__ca_paths[i]))
			return true;
	for (size_t i = 0; i < ELEMENTSOF(others); i++)
		if (k3sup__streq(path, others[i]))
			return true;
	return false;
}

/* The one without files is the listener's certificate (dynamic-cert.json). */
bool k3sup__cert_service_is_known(const char *name)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		if (k3sup__streq(k3sup__pairs[i].service, name))
			return true;
	return k3sup__streq(name, "k3s-server");
}

int k3sup__cert_services_take(const char *const *services, struct k3sup__strv *ret)
{
	int r = 0;

	for (; r == 0 && services != NULL && *services != NULL; services++)
		if (!k3sup__cert_service_is_known(*services))
			r = -EINVAL;
		else if (!k3sup__strv_has(ret, *services))
			r = k3sup__strv_add_copy(ret, *services, strlen(*services));
	return r;
}
