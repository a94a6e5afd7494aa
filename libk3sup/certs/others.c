/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is no leaf and no authority: copies of an authority's first certificate (k3s pkg/daemons/control/deps writes them anew at each start), the keys that service account tokens are
 * signed with, and the API server's certificate for itself, of a hundred years, which is never rotated.
 */
#include "certs/audit.h"

#define SERVICE "server/tls/service.key"
#define CURRENT "server/tls/service.current.key"
#define LOOPBACK "server/tls/temporary-certs/apiserver-loopback-client__"

/* The controller-manager's signer takes one certificate, no bundle. */
static int look_at_first(struct k3sup__audit *audit, enum k3sup__ca ca)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	_free_ char *path = k3sup__fmt("%s.nochain.crt", k3sup__ca_paths[ca]);
	int r = path == NULL ? -ENOMEM : k3sup__audit_certs(audit, path, K3SUP__START, &certs);

	if (r == 1 && audit->cas[ca].count > 0 && !k3sup__streq(certs.list[0].sha256, audit->cas[ca].list[0].sha256))
		k3sup__audit_problem(audit, K3SUP__START, path, "stale-copy", "it is another one than the first of %s.crt", k3sup__ca_paths[ca]);
	return r < 0 && r != K3SUP_E_PARSE ? r : 0;
}

/* The first of a list signs, the others still verify what was signed before. */
static int look_at_service_keys(struct k3sup__audit *audit)
{
	_cleanup_(k3sup__keys_clear) struct k3sup__keys all = {0}, current = {0};
	int r = k3sup__audit_keys(audit, SERVICE, K3SUP__ACT, &all);

	if (r >= 0 || r == K3SUP_E_PARSE)
		r = k3sup__audit_keys(audit, CURRENT, K3SUP__START, &current);
	if (r == 1 && all.count > 0 && !k3sup__keys_equal(all.list[0], current.list[0]))
		k3sup__audit_problem(audit, K3SUP__START, CURRENT, "stale-copy", "it is another key than the first of " SERVICE);
	return r < 0 && r != K3SUP_E_PARSE ? r : 0;
}

/* Its key is 0644 by k3s's own hand. */
static int look_at_loopback(struct k3sup__audit *audit)
{
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	int r = k3sup__audit_certs(audit, LOOPBACK ".crt", K3SUP__NOTE, &certs);

	if (r == 1) {
		k3sup__audit_rows(audit, "loopback", NULL, LOOPBACK ".crt", &certs);
		k3sup__audit_dates(audit, LOOPBACK ".crt", &certs.list[0], 0, K3SUP__NOTE);
	}
	return r < 0 && r != K3SUP_E_PARSE ? r : 0;
}

int k3sup__audit_others(struct k3sup__audit *audit)
{
	int r = 0;

	if (!audit->server || audit->services != NULL)
		return 0;
	r = look_at_first(audit, K3SUP__CA_CLIENT);
	if (r == 0)
		r = look_at_first(audit, K3SUP__CA_SERVER);
	if (r == 0)
		r = look_at_service_keys(audit);
	return r < 0 ? r : look_at_loopback(audit);
}
