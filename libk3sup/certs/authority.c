/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The authorities. They belong to k3s's datastore: a start puts them back from there, and a file that differs and is newer is fatal (k3s pkg/cluster/bootstrap.go).
 * So whatever is wrong with them needs a person.
 */
#include "certs/audit.h"

#define DEEPEST 8 /* certificates from the first one to a root */

/* The first certificate signs; behind it are those that lead to a root. Each has to be signed by one that comes along with it. */
static void look_at_chain(struct k3sup__audit *audit, const char *path, const struct k3sup__certs *certs)
{
	for (size_t i = 0; i < certs->count; i++) {
		bool signed_by = certs->list[i].self_signed;

		for (size_t k = 0; !signed_by && k < certs->count; k++)
			signed_by = k != i && k3sup__cert_signed_by(&certs->list[i], &certs->list[k]);
		if (!signed_by)
			/* k3s trusts what is in there as it is, also an intermediate alone; others (openssl without -partial_chain) want a root. */
			k3sup__audit_problem(audit, i == 0 && certs->count > 1 ? K3SUP__ACT : K3SUP__NOTE, path, "chain",
				"certificate %zu of it (%s) is signed by none of it", i + 1, k3sup__json_text(certs->list[i].facts, "subject"));
	}
	if (!certs->list[0].ca)
		k3sup__audit_problem(audit, K3SUP__ACT, path, "usage", "its first certificate may not sign others");
}

/* By those alone that last? */
static bool leads_to_root(const struct k3sup__audit *audit, const struct k3sup__certs *certs, size_t from, unsigned depth)
{
	const struct k3sup__cert *cert = &certs->list[from];

	if (!k3sup__audit_lasts(audit, cert, K3SUP__CA_WINDOW))
		return false;
	if (cert->self_signed)
		return true;
	for (size_t i = 0; depth < DEEPEST && i < certs->count; i++)
		if (i != from && k3sup__cert_signed_by(cert, &certs->list[i]) && leads_to_root(audit, certs, i, depth + 1))
			return true;
	return false;
}

/* Behind an authority that was replaced come the roots of before, for leafs of before: that they end is of no account where the first certificate does without them. */
static void look_at_dates(struct k3sup__audit *audit, const char *path, const struct k3sup__certs *certs)
{
	for (size_t i = 0; i < certs->count; i++) {
		bool spare = i > 0 && !k3sup__audit_lasts(audit, &certs->list[i], K3SUP__CA_WINDOW) && leads_to_root(audit, certs, 0, 0);

		k3sup__audit_dates(audit, path, &certs->list[i], K3SUP__CA_WINDOW, spare ? K3SUP__NOTE : K3SUP__ACT);
	}
}

static int look_at_key(struct k3sup__audit *audit, const char *path, const struct k3sup__certs *certs)
{
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	int r = k3sup__audit_keys(audit, path, K3SUP__ACT, &keys);

	if (r == 0)
		k3sup__audit_problem(audit, K3SUP__ACT, path, "missing", "without it, a start has to get the authority back from the datastore");
	else if (r == 1 && certs->count > 0 && !k3sup__key_fits(keys.list[0], &certs->list[0]))
		k3sup__audit_problem(audit, K3SUP__ACT, path, "key-mismatch", "its first key is not that of the first certificate");
	return r < 0 && r != K3SUP_E_PARSE ? r : 0;
}

static int look_at_authority(struct k3sup__audit *audit, enum k3sup__ca ca)
{
	_free_ char *crt = k3sup__fmt("%s.crt", k3sup__ca_paths[ca]), *key = k3sup__fmt("%s.key", k3sup__ca_paths[ca]);
	struct k3sup__certs *certs = &audit->cas[ca];
	int r = crt == NULL || key == NULL ? -ENOMEM : k3sup__audit_certs(audit, crt, K3SUP__ACT, certs);

	if (r == 0)
		k3sup__audit_problem(audit, K3SUP__ACT, crt, "missing", "an authority of the cluster; a start has to get it back from the datastore");
	if (r == 1) {
		k3sup__audit_rows(audit, "ca", NULL, crt, certs);
		look_at_chain(audit, crt, certs);
		look_at_dates(audit, crt, certs);
	}
	return r < 0 && r != K3SUP_E_PARSE ? r : look_at_key(audit, key, certs);
}

/* What the agent has fetched from its server at its last start. */
static int look_at_copy(struct k3sup__audit *audit, enum k3sup__ca ca, const char *path)
{
	struct k3sup__certs *certs = &audit->agent_cas[ca];
	int r = k3sup__audit_certs(audit, path, K3SUP__START, certs);

	if (r == 0 && !audit->server) /* a server need not be an agent, too */
		k3sup__audit_problem(audit, K3SUP__START, path, "missing", "an agent fetches it from its server when it is started");
	if (r == 1) {
		k3sup__audit_rows(audit, "ca", NULL, path, certs);
		if (!audit->server)
			look_at_dates(audit, path, certs);
		if (audit->server && audit->cas[ca].count > 0 && !k3sup__streq(certs->list[0].sha256, audit->cas[ca].list[0].sha256))
			k3sup__audit_problem(audit, K3SUP__START, path, "stale-copy", "it is another one than %s.crt", k3sup__ca_paths[ca]);
	}
	return r < 0 && r != K3SUP_E_PARSE ? r : 0;
}

int k3sup__audit_authorities(struct k3sup__audit *audit)
{
	int r = 0;

	for (enum k3sup__ca ca = 0; audit->server && r == 0 && ca < K3SUP__N_CAS; ca++)
		r = look_at_authority(audit, ca);
	if (r == 0)
		r = look_at_copy(audit, K3SUP__CA_CLIENT, "agent/client-ca.crt");
	if (r == 0)
		r = look_at_copy(audit, K3SUP__CA_SERVER, "agent/server-ca.crt");
	return r;
}
