/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate that clients see on port 6443: server/tls/dynamic-cert.json, a Kubernetes Secret in JSON (rancher/dynamiclistener). `k3s certificate check` does not look at it.
 * k3s renews it while it runs; a trigger file beside it makes the next start issue a new one.
 */
#include "base/base64.h"
#include "certs/audit.h"

#define LISTENER k3sup__listener_path
#define TRIGGER "server/tls/dynamic-cert-regenerate"

const char k3sup__listener_path[] = "server/tls/dynamic-cert.json";

/* Decoded bytes of a member; owned. NULL if it is not there or no base64. */
static char *bytes_of(const k3sup__json *data, const char *key, size_t *ret_len)
{
	const char *text = k3sup__json_text(data, key);
	char *bytes = text != NULL ? strdup(text) : NULL;
	ssize_t len = bytes != NULL ? k3sup__base64((unsigned char *)bytes, strlen(bytes), false) : -1;

	*ret_len = text != NULL ? strlen(text) : 0;
	if (len < 0) {
		k3sup__secret_free(bytes, *ret_len);
		return NULL;
	}
	bytes[len] = '\0';
	*ret_len = (size_t)len;
	return bytes;
}

static void damaged(struct k3sup__audit *audit, const char *why)
{
	k3sup__audit_problem(audit, K3SUP__ACT, LISTENER, "damaged", "%s", why);
}

static int look_at_key(struct k3sup__audit *audit, const k3sup__json *data, const struct k3sup__certs *certs)
{
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	const char *why = NULL;
	size_t len = 0;
	char *pem = bytes_of(data, "tls.key", &len);
	int r = pem == NULL ? K3SUP_E_PARSE : k3sup__keys_parse(audit->pki, pem, len, &keys, &why);

	k3sup__secret_free(pem, len);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		damaged(audit, "its key cannot be decoded");
	else if (!k3sup__key_fits(keys.list[0], &certs->list[0]))
		k3sup__audit_problem(audit, K3SUP__ACT, LISTENER, "key-mismatch", "its key is not that of its certificate");
	return 0;
}

static int decode(struct k3sup__audit *audit, const k3sup__json *data, struct k3sup__certs *certs)
{
	const char *why = NULL;
	size_t len = 0;
	char *pem = bytes_of(data, "tls.crt", &len);
	int r = pem == NULL ? K3SUP_E_PARSE : k3sup__certs_parse(audit->pki, pem, len, certs, &why);

	k3sup__secret_free(pem, len);
	return r;
}

static int look_at_cert(struct k3sup__audit *audit, const k3sup__json *data, struct k3sup__certs *certs)
{
	const struct k3sup__certs *ca = &audit->cas[K3SUP__CA_SERVER];
	int r = decode(audit, data, certs);

	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		damaged(audit, "its certificate cannot be decoded");
		return 0;
	}
	k3sup__audit_rows(audit, "listener", "k3s-server", LISTENER, certs);
	k3sup__audit_dates(audit, LISTENER, &certs->list[0], audit->window, K3SUP__START);
	if (ca->count > 0 && !k3sup__cert_signed_by(&certs->list[0], &ca->list[0]))
		k3sup__audit_problem(audit, K3SUP__START, LISTENER, "other-ca", "it is not signed by the server authority in use");
	return look_at_key(audit, data, certs);
}

/* Nothing is wrong with a file that is not there: the Secret k3s-serving in the datastore holds another copy. */
int k3sup__audit_listener(struct k3sup__audit *audit)
{
	_cleanup_(k3sup__cert_file_clear) struct k3sup__cert_file file = {0}, trigger = {0};
	_cleanup_(k3sup__json_unrefp) k3sup__json *json = NULL;
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	int r;

	if (!audit->server || !k3sup__audit_wants(audit, "k3s-server"))
		return 0;
	r = k3sup__audit_read(audit, TRIGGER, &trigger);
	if (r == 1)
		k3sup__audit_problem(audit, K3SUP__START, TRIGGER, "pending", "the next start makes a new certificate for the listener");
	if (r >= 0 || r == K3SUP_E_PARSE)
		r = k3sup__audit_read(audit, LISTENER, &file);
	if (r <= 0)
		return r == K3SUP_E_PARSE ? 0 : r;
	r = k3sup__json_parse(file.text, file.len, &json);
	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		damaged(audit, file.len == 0 ? "it is empty" : "it is not JSON");
		return 0;
	}
	return look_at_cert(audit, k3sup__json_member(json, "data"), &certs);
}

int k3sup__audit_listener_certs(struct k3sup__audit *audit, struct k3sup__certs *ret)
{
	_cleanup_(k3sup__cert_file_clear) struct k3sup__cert_file file = {0};
	_cleanup_(k3sup__json_unrefp) k3sup__json *json = NULL;
	int r = k3sup__audit_read(audit, LISTENER, &file);

	*ret = (struct k3sup__certs){0};
	if (r <= 0)
		return r == K3SUP_E_PARSE ? 0 : r;
	r = k3sup__json_parse(file.text, file.len, &json);
	if (r >= 0)
		r = decode(audit, k3sup__json_member(json, "data"), ret);
	return r == -ENOMEM ? r : r >= 0;
}
