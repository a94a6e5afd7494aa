/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kubeconfigs: those of k3s's own parts name their certificates by path and are only rewritten with them; /etc/rancher/k3s/k3s.yaml and people's copies of it have the
 * administrator's certificate inside. Copies grow stale with a rotation, yet work until the old certificate ends: nothing revokes it. They are reported and never touched.
 */
#include "base/base64.h"
#include "base/yaml.h"
#include "certs/audit.h"

static const char *const own[] = {
	"server/cred/admin.kubeconfig",
	"server/cred/api-server.kubeconfig",
	"server/cred/cloud-controller.kubeconfig",
	"server/cred/controller.kubeconfig",
	"server/cred/scheduler.kubeconfig",
	"server/cred/supervisor.kubeconfig",
	"agent/kubelet.kubeconfig",
	"agent/kubeproxy.kubeconfig",
	"agent/k3scontroller.kubeconfig",
};

static const char *const copies[] = {"/etc/rancher/k3s/k3s.yaml", "/root/.kube/config"};

/* A path in it is one of the host: it has to be there, inside the root. */
static int look_at_reference(struct k3sup__audit *audit, const char *path, const k3sup__json *object, const char *key)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	const char *named = k3sup__json_text(object, key);
	int r;

	if (named == NULL || named[0] != '/')
		return 0;
	r = k3sup__root_find(NULL, audit->root, named, 0, &place);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || place.fd < 0)
		k3sup__audit_problem(audit, K3SUP__START, path, "reference", "the file it names is not there: %s", named);
	return 0;
}

/* 1 with certificates; 0: the key is not there; K3SUP_E_PARSE; -ENOMEM */
static int embedded(struct k3sup__audit *audit, const k3sup__json *object, const char *key, struct k3sup__certs *ret)
{
	const char *text = k3sup__json_text(object, key), *why = NULL;
	_free_ char *pem = text != NULL ? strdup(text) : NULL;
	ssize_t len;
	int r;

	*ret = (struct k3sup__certs){0};
	if (text == NULL)
		return 0;
	if (pem == NULL)
		return -ENOMEM;
	len = k3sup__base64((unsigned char *)pem, strlen(pem), false);
	r = len < 0 ? K3SUP_E_PARSE : k3sup__certs_parse(audit->pki, pem, (size_t)len, ret, &why);
	return r == 0 ? 1 : r;
}

static int look_at_user(struct k3sup__audit *audit, const char *path, const k3sup__json *user)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	/* Written anew by each start of a server; nobody does that for copies. */
	enum k3sup__remedy remedy = k3sup__streq(path, copies[0]) ? K3SUP__START : K3SUP__ACT;
	int r = embedded(audit, user, "client-certificate-data", &certs);

	if (r == K3SUP_E_PARSE)
		k3sup__audit_problem(audit, remedy, path, "damaged", "the client certificate in it cannot be decoded");
	if (r != 1)
		return r == -ENOMEM ? r : 0;
	k3sup__audit_rows(audit, "kubeconfig", NULL, path, &certs);
	k3sup__audit_dates(audit, path, &certs.list[0], audit->window, remedy);
	if (audit->admin[0] != '\0' && !k3sup__streq(audit->admin, certs.list[0].sha256) &&
		k3sup__streq(k3sup__json_text(certs.list[0].facts, "cn") != NULL ? k3sup__json_text(certs.list[0].facts, "cn") : "", "system:admin"))
		k3sup__audit_problem(audit, K3SUP__NOTE, path, "stale-copy", "it holds an administrator's certificate from before the last rotation");
	return 0;
}

static int look_at_cluster(struct k3sup__audit *audit, const char *path, const k3sup__json *cluster)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	const struct k3sup__certs *ca = &audit->cas[K3SUP__CA_SERVER];
	int r = embedded(audit, cluster, "certificate-authority-data", &certs);

	if (r == 1 && ca->count > 0 && k3sup__streq(path, copies[0]) && !k3sup__streq(ca->list[0].sha256, certs.list[0].sha256))
		k3sup__audit_problem(audit, K3SUP__START, path, "stale-copy", "it holds another server authority than the one in use");
	return r == -ENOMEM ? r : 0;
}

static int look_inside(struct k3sup__audit *audit, const char *path, const k3sup__json *yaml)
{
	const k3sup__json *users = k3sup__json_member(yaml, "users"), *clusters = k3sup__json_member(yaml, "clusters");
	int r = 0;

	for (size_t i = 0; r == 0 && i < k3sup__json_len(users); i++) {
		const k3sup__json *user = k3sup__json_member(k3sup__json_element(users, i), "user");

		r = look_at_reference(audit, path, user, "client-certificate");
		if (r == 0)
			r = look_at_reference(audit, path, user, "client-key");
		if (r == 0)
			r = look_at_user(audit, path, user);
	}
	for (size_t i = 0; r == 0 && i < k3sup__json_len(clusters); i++) {
		const k3sup__json *cluster = k3sup__json_member(k3sup__json_element(clusters, i), "cluster");

		r = look_at_reference(audit, path, cluster, "certificate-authority");
		if (r == 0)
			r = look_at_cluster(audit, path, cluster);
	}
	return r;
}

/* k3s writes its own anew at each start of a server, with the mode that it was told (--write-kubeconfig-mode): what people have added or changed is lost (k3s-io/k3s#4869). */
static void look_at_additions(struct k3sup__audit *audit, const char *path, const k3sup__json *yaml, const struct stat *st)
{
	size_t most = 0;
	static const char *const lists[] = {"clusters", "contexts", "users"};

	for (size_t i = 0; i < ELEMENTSOF(lists); i++)
		if (k3sup__json_len(k3sup__json_member(yaml, lists[i])) > most)
			most = k3sup__json_len(k3sup__json_member(yaml, lists[i]));
	if (k3sup__streq(path, copies[0]) && most > 1)
		k3sup__audit_problem(audit, K3SUP__NOTE, path, "additions", "somebody has added to it; the next start of a server writes it anew");
	if (k3sup__startswith(path, "/") && (st->st_mode & 077) != 0 && k3sup__json_len(k3sup__json_member(yaml, "users")) > 0)
		k3sup__audit_problem(audit, K3SUP__NOTE, path, "mode", "its mode is %04o: others can use what is in it",
			(unsigned)(st->st_mode & 07777));
}

/* 1: it is there; 0: it is not; -ENOMEM, K3SUP_E_CANCELLED */
static int look_at_kubeconfig(struct k3sup__audit *audit, const char *path)
{
	_cleanup_(k3sup__cert_file_clear) struct k3sup__cert_file file = {0};
	_cleanup_(k3sup__json_unrefp) k3sup__json *yaml = NULL;
	_free_ char *why = NULL;
	int r = k3sup__audit_read(audit, path, &file);

	if (r != 1)
		return r == K3SUP_E_PARSE ? 1 : r;
	r = k3sup__yaml_parse(file.text, file.len, &yaml, &why);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || !k3sup__json_is_object(yaml)) {
		k3sup__audit_problem(audit, K3SUP__ACT, path, file.len == 0 ? "empty" : "damaged", "it is no kubeconfig%s%s",
			why != NULL ? ": " : "", why != NULL ? why : "");
		return 1;
	}
	look_at_additions(audit, path, yaml, &file.st);
	r = look_inside(audit, path, yaml);
	return r < 0 ? r : 1;
}

/* k3s does not make the administrator's again while his certificate is well, and ends at its start when it is not there (seen with a real v1.21). */
static int look_at_own(struct k3sup__audit *audit, const char *path)
{
	int r = k3sup__startswith(path, "server/") && !audit->server ? 0 : look_at_kubeconfig(audit, path);

	if (r == 0 && audit->server && path == own[0] && audit->admin[0] != '\0')
		k3sup__audit_problem(audit, K3SUP__ACT, path, "missing", "k3s ends at its start without it while client-admin.crt is there");
	return r < 0 ? r : 0;
}

int k3sup__audit_kubeconfigs(struct k3sup__audit *audit, const char *const *more)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(own); i++)
		r = look_at_own(audit, own[i]);
	for (size_t i = 0; r >= 0 && i < ELEMENTSOF(copies); i++)
		r = look_at_kubeconfig(audit, copies[i]);
	for (; r >= 0 && more != NULL && *more != NULL; more++) {
		r = look_at_kubeconfig(audit, *more);
		if (r == 0)
			k3sup__audit_problem(audit, K3SUP__ACT, *more, "missing", "there is no such file");
	}
	return r < 0 ? r : 0;
}
