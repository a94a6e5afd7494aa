/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kubeconfigs: those of k3s's own parts name their certificates by path and are only rewritten with them; /etc/rancher/k3s/k3s.yaml and people's copies of it have the
 * administrator's certificate inside. Copies grow stale with a rotation, yet work until the old certificate ends: nothing revokes it. They are reported and never touched.
 */
#include "base/base64.h"
#include "base/yaml.h"
#include "certs/audit.h"

/* With the certificate that each is written together with; an agent's are written by each start. */
static const struct own {
	const char *path, *crt;
} own[] = {
	{"server/cred/admin.kubeconfig", "server/tls/client-admin.crt"},
	{"server/cred/api-server.kubeconfig", "server/tls/client-kube-apiserver.crt"},
	{"server/cred/cloud-controller.kubeconfig", "server/tls/client-k3s-cloud-controller.crt"},
	{"server/cred/controller.kubeconfig", "server/tls/client-controller.crt"},
	{"server/cred/scheduler.kubeconfig", "server/tls/client-scheduler.crt"},
	{"server/cred/supervisor.kubeconfig", "server/tls/client-supervisor.crt"},
	{"agent/kubelet.kubeconfig", NULL},
	{"agent/kubeproxy.kubeconfig", NULL},
	{"agent/k3scontroller.kubeconfig", NULL},
};

static const char *const copies[] = {"/etc/rancher/k3s/k3s.yaml", "/root/.kube/config"};

/* Each start of a server writes its copy anew; nobody does that for people's. */
static enum k3sup__remedy remedy_of(const struct k3sup__audit *audit, const char *path)
{
	return audit->server && k3sup__streq(path, copies[0]) ? K3SUP__START : K3SUP__ACT;
}

/* ---- by path ---- */

static int find(struct k3sup__audit *audit, const char *dir, const char *path, struct k3sup__place *ret)
{
	_free_ char *whole = k3sup__fmt("%s/%s", dir, path);
	int r = whole == NULL ? -ENOMEM : k3sup__root_find(NULL, audit->root, whole, 0, ret);

	return r == -ENOMEM ? r : r == 0 && ret->fd >= 0;
}

/* The same file in the data-dir that is looked at; NULL if it is none of those that k3s names. */
static const char *below_data_dir(const char *named)
{
	const char *tls = strstr(named, "/server/tls/"), *agent = strstr(named, "/agent/");

	return tls != NULL ? tls + 1 : agent != NULL ? agent + 1 : NULL;
}

/* A data-dir that was moved or copied: k3s does not write a server's own again while their certificates are well. */
static void names_elsewhere(struct k3sup__audit *audit, const char *path, const char *named)
{
	if (k3sup__startswith(path, "agent/"))
		k3sup__audit_problem(audit, K3SUP__START, path, "reference", "it names a file of another data-dir: %s", named);
	else
		k3sup__audit_problem(audit, K3SUP__ACT, path, "reference",
			"it names a file of another data-dir, and k3s writes it again only with a new certificate (rotate): %s", named);
}

/* 1: there is a problem with it. A path in it is one of the host: it has to be there, inside the root; k3s's own have to name what is beside them. */
static int look_at_reference(struct k3sup__audit *audit, const char *path, const k3sup__json *object, const char *key)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE, ours = K3SUP__PLACE_NONE;
	const char *named = k3sup__json_text(object, key), *below;
	int there, beside = 0;

	if (named == NULL || named[0] != '/')
		return 0;
	below = path[0] == '/' ? NULL : below_data_dir(named);
	there = find(audit, "", named + 1, &place);
	if (there >= 0 && below != NULL)
		beside = find(audit, audit->data_dir, below, &ours);
	if (there < 0 || beside < 0)
		return -ENOMEM;
	if (there == 1 && (below == NULL || (beside == 1 && ours.st.st_ino == place.st.st_ino && ours.st.st_dev == place.st.st_dev)))
		return 0;
	if (there == 1 || beside == 1)
		names_elsewhere(audit, path, named);
	else
		k3sup__audit_problem(
			audit, path[0] == '/' ? K3SUP__NOTE : K3SUP__START, path, "reference", "the file it names is not there: %s", named);
	return 1;
}

/* The first one tells it all. */
static int look_at_references(struct k3sup__audit *audit, const char *path, const k3sup__json *users, const k3sup__json *clusters)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < k3sup__json_len(users); i++) {
		const k3sup__json *user = k3sup__json_member(k3sup__json_element(users, i), "user");

		r = look_at_reference(audit, path, user, "client-certificate");
		if (r == 0)
			r = look_at_reference(audit, path, user, "client-key");
	}
	for (size_t i = 0; r == 0 && i < k3sup__json_len(clusters); i++)
		r = look_at_reference(audit, path, k3sup__json_member(k3sup__json_element(clusters, i), "cluster"), "certificate-authority");
	return r < 0 ? r : 0;
}

/* ---- embedded ---- */

/* Decoded: owned, to be freed by k3sup__secret_free(). NULL if the key is not there. 0, K3SUP_E_PARSE, -ENOMEM */
static int decode(const k3sup__json *object, const char *key, char **ret, size_t *ret_len)
{
	const char *text = k3sup__json_text(object, key);
	ssize_t len;

	*ret = text != NULL ? strdup(text) : NULL;
	*ret_len = text != NULL ? strlen(text) : 0;
	if (*ret == NULL)
		return text != NULL ? -ENOMEM : 0;
	len = k3sup__base64((unsigned char *)*ret, *ret_len, false);
	if (len >= 0)
		*ret_len = (size_t)len;
	return len < 0 ? K3SUP_E_PARSE : 0;
}

/* None if the key is not there. 0, K3SUP_E_PARSE, -ENOMEM */
static int embedded(struct k3sup__audit *audit, const k3sup__json *object, const char *key, struct k3sup__certs *ret)
{
	const char *why = NULL;
	char *pem;
	size_t len;
	int r = decode(object, key, &pem, &len);

	*ret = (struct k3sup__certs){0};
	if (r == 0 && pem != NULL)
		r = k3sup__certs_parse(audit->pki, pem, len, ret, &why);
	k3sup__secret_free(pem, len);
	return r < 0 && r != -ENOMEM ? K3SUP_E_PARSE : r;
}

static int look_at_key(struct k3sup__audit *audit, const char *path, const k3sup__json *user, const struct k3sup__certs *certs)
{
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	const char *why = NULL;
	char *pem;
	size_t len;
	int r = decode(user, "client-key-data", &pem, &len);

	if (r == 0 && pem != NULL)
		r = k3sup__keys_parse(audit->pki, pem, len, &keys, &why);
	k3sup__secret_free(pem, len);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		k3sup__audit_problem(audit, remedy_of(audit, path), path, "damaged", "the client key in it cannot be decoded");
	else if (keys.count > 0 && !k3sup__key_fits(keys.list[0], &certs->list[0]))
		k3sup__audit_problem(
			audit, remedy_of(audit, path), path, "key-mismatch", "the client key in it is not that of the certificate in it");
	return 0;
}

/* Does this cluster accept it? What is behind the first certificate of a bundle is trusted, too. Also if that cannot be told. */
static bool is_of_this_cluster(const struct k3sup__audit *audit, const struct k3sup__cert *cert)
{
	const struct k3sup__certs *cas = &(audit->server ? audit->cas : audit->agent_cas)[K3SUP__CA_CLIENT];

	for (size_t i = 0; i < cas->count; i++)
		if (k3sup__cert_signed_by(cert, &cas->list[i]))
			return true;
	return cas->count == 0;
}

static bool is_administrators(const struct k3sup__cert *cert)
{
	const char *cn = k3sup__json_text(cert->facts, "cn");

	return cn != NULL && k3sup__streq(cn, "system:admin");
}

/* A person's kubeconfig may be for other clusters, too: how they are is not this node's business. */
static void look_at_client(struct k3sup__audit *audit, const char *path, const struct k3sup__cert *cert)
{
	enum k3sup__remedy remedy = remedy_of(audit, path);

	if (is_of_this_cluster(audit, cert)) {
		k3sup__audit_dates(audit, path, cert, audit->window, remedy);
		if (audit->admin[0] != '\0' && !k3sup__streq(audit->admin, cert->sha256) && is_administrators(cert))
			k3sup__audit_problem(audit, K3SUP__NOTE, path, "stale-copy",
				"it holds an administrator's certificate from before the last rotation");
	} else if (remedy == K3SUP__START) {
		k3sup__audit_problem(audit, remedy, path, "other-ca", "the certificate in it was issued by another authority than the one in use");
	} else {
		k3sup__audit_problem(audit, K3SUP__NOTE, path, "other-ca",
			"a certificate in it (%.64s) is of another cluster, or of this one before its authorities were changed",
			k3sup__json_text(cert->facts, "cn"));
	}
}

static int look_at_user(struct k3sup__audit *audit, const char *path, const k3sup__json *user)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	int r = embedded(audit, user, "client-certificate-data", &certs);

	if (r == K3SUP_E_PARSE)
		k3sup__audit_problem(audit, remedy_of(audit, path), path, "damaged", "the client certificate in it cannot be decoded");
	if (r < 0 || certs.count == 0)
		return r == -ENOMEM ? r : 0;
	k3sup__audit_rows(audit, "kubeconfig", NULL, path, &certs);
	look_at_client(audit, path, &certs.list[0]);
	return look_at_key(audit, path, user, &certs);
}

static int look_at_cluster(struct k3sup__audit *audit, const char *path, const k3sup__json *cluster)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	const struct k3sup__certs *ca = &audit->cas[K3SUP__CA_SERVER];
	int r = embedded(audit, cluster, "certificate-authority-data", &certs);

	if (certs.count > 0 && ca->count > 0 && remedy_of(audit, path) == K3SUP__START && !k3sup__streq(ca->list[0].sha256, certs.list[0].sha256))
		k3sup__audit_problem(audit, K3SUP__START, path, "stale-copy", "it holds another server authority than the one in use");
	return r == -ENOMEM ? r : 0;
}

static int look_inside(struct k3sup__audit *audit, const char *path, const k3sup__json *yaml)
{
	const k3sup__json *users = k3sup__json_member(yaml, "users"), *clusters = k3sup__json_member(yaml, "clusters");
	int r = look_at_references(audit, path, users, clusters);

	for (size_t i = 0; r == 0 && i < k3sup__json_len(users); i++)
		r = look_at_user(audit, path, k3sup__json_member(k3sup__json_element(users, i), "user"));
	for (size_t i = 0; r == 0 && i < k3sup__json_len(clusters); i++)
		r = look_at_cluster(audit, path, k3sup__json_member(k3sup__json_element(clusters, i), "cluster"));
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
	if (remedy_of(audit, path) == K3SUP__START && most > 1)
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
		k3sup__audit_problem(audit, remedy_of(audit, path), path, file.len == 0 ? "empty" : "damaged", "it is no kubeconfig%s%s",
			why != NULL ? ": " : "", why != NULL ? why : "");
		return 1;
	}
	look_at_additions(audit, path, yaml, &file.st);
	r = look_inside(audit, path, yaml);
	return r < 0 ? r : 1;
}

/*
 * k3s writes these together with a new certificate only (k3s pkg/daemons/control/deps). Without the administrator's it ends at its start while his certificate is well (seen with a
 * real v1.21); without another one what uses it does not work.
 */
static int look_at_own(struct k3sup__audit *audit, const struct own *one)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place crt = K3SUP__PLACE_NONE;
	int r = k3sup__startswith(one->path, "server/") && !audit->server ? 1 : look_at_kubeconfig(audit, one->path);

	if (r != 0 || one->crt == NULL)
		return r < 0 ? r : 0;
	r = find(audit, audit->data_dir, one->crt, &crt);
	if (r == 1)
		k3sup__audit_problem(audit, K3SUP__ACT, one->path, "missing",
			one == own ? "k3s ends at its start without it while %s is there"
				   : "k3s writes it only with a new certificate (rotate), and %s is there",
			one->crt);
	return r < 0 ? r : 0;
}

static bool names(const char *const *list, const char *const *end, const char *path)
{
	for (; list != NULL && list != end && *list != NULL; list++)
		if (k3sup__streq(*list, path))
			return true;
	return false;
}

int k3sup__audit_kubeconfigs(struct k3sup__audit *audit, const char *const *more)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(own); i++)
		r = look_at_own(audit, &own[i]);
	for (size_t i = 0; r >= 0 && i < ELEMENTSOF(copies); i++)
		if (!names(more, NULL, copies[i]))
			r = look_at_kubeconfig(audit, copies[i]);
	for (const char *const *one = more; r >= 0 && one != NULL && *one != NULL; one++) {
		if (names(more, one, *one))
			continue;
		r = look_at_kubeconfig(audit, *one);
		if (r == 0)
			k3sup__audit_problem(audit, K3SUP__ACT, *one, "missing", "there is no such file");
	}
	return r < 0 ? r : 0;
}
