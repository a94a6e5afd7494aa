/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leaf certificates and their keys. What a start of k3s mends (k3s pkg/daemons/control/deps): a missing file, a leaf that soon ends, has another name than it wants, or
 * names another authority's key. What it does not even open, and so leaves as it is: an empty or damaged file, a key that does not fit, a signature that is wrong.
 */
#include "certs/audit.h"

static bool lists(const k3sup__json *list, const char *text)
{
	for (size_t i = 0; i < k3sup__json_len(list); i++)
		if (k3sup__streq(k3sup__json_as_str(k3sup__json_element(list, i)), text))
			return true;
	return false;
}

/* k3s compares the whole set: system:masters would make the scheduler's an administrator's. */
static void look_at_organisations(struct k3sup__audit *audit, const struct k3sup__pair *pair, const char *path, const k3sup__json *has)
{
	const char *other = NULL;

	for (size_t i = 0; pair->cn != NULL && other == NULL && i < k3sup__json_len(has); i++) {
		const char *one = k3sup__json_as_str(k3sup__json_element(has, i));

		if (pair->organisation == NULL || !k3sup__streq(one, pair->organisation))
			other = one;
	}
	if (pair->organisation != NULL && !lists(has, pair->organisation))
		k3sup__audit_problem(audit, K3SUP__START, path, "name", "its organisation is not '%s'", pair->organisation);
	else if (other != NULL)
		k3sup__audit_problem(audit, K3SUP__START, path, "name", "k3s does not give it the organisation '%.64s'", other);
}

static void look_at_names(struct k3sup__audit *audit, const struct k3sup__pair *pair, const char *path, const struct k3sup__cert *leaf)
{
	/* An agent's certificates are asked for anew at each start. */
	const char *cn = k3sup__json_text(leaf->facts, "cn");
	bool fits = pair->cn == NULL;

	if (cn == NULL)
		cn = "";
	if (!fits)
		fits = (pair->flags & K3SUP__PAIR_NODE_NAME) != 0 ? k3sup__startswith(cn, pair->cn) && cn[strlen(pair->cn)] != '\0'
								  : k3sup__streq(cn, pair->cn);
	if (!fits)
		k3sup__audit_problem(audit, K3SUP__START, path, "name", "its common name is '%.64s', not '%s%s'", cn, pair->cn,
			pair->flags & K3SUP__PAIR_NODE_NAME ? "<node>" : "");
	look_at_organisations(audit, pair, path, k3sup__json_member(leaf->facts, "organisations"));
	for (const char *const *san = pair->sans; san != NULL && *san != NULL; san++)
		if (!lists(k3sup__json_member(leaf->facts, "sans"), *san))
			k3sup__audit_problem(audit, K3SUP__START, path, "san", "it is not valid for %s", *san);
	if ((leaf->usages & pair->usages) != pair->usages)
		k3sup__audit_problem(audit, K3SUP__ACT, path, "usage", "it may not be used for what it is there for");
}

static void look_at_issuer(struct k3sup__audit *audit, const struct k3sup__pair *pair, const char *path, const struct k3sup__cert *leaf)
{
	const struct k3sup__certs *cas = pair->flags & K3SUP__PAIR_AGENT ? audit->agent_cas : audit->cas;
	const struct k3sup__certs *ca = &cas[pair->ca];

	if (ca->count == 0)
		return; /* that is told of the authority */
	if (!k3sup__cert_names_issuer(leaf, &ca->list[0])) {
		k3sup__audit_problem(audit, K3SUP__START, path, "other-ca", "it was issued by another authority than the one in use");
		return;
	}
	if (!k3sup__cert_signed_by(leaf, &ca->list[0]))
		k3sup__audit_problem(audit, K3SUP__ACT, path, "chain", "it is not signed by the authority in use");
}

/* Kept for E06 and F02: what copies of the administrator's certificate are compared with. */
static void remember_admin(struct k3sup__audit *audit, const struct k3sup__pair *pair, const struct k3sup__cert *leaf)
{
	if (k3sup__streq(pair->service, "admin"))
		memcpy(audit->admin, leaf->sha256, sizeof(audit->admin));
}

static int look_at_crt(struct k3sup__audit *audit, const struct k3sup__pair *pair, const char *path, struct k3sup__certs *ret)
{
	int r = k3sup__audit_certs(audit, path, K3SUP__ACT, ret);

	if (r != 1)
		return r;
	k3sup__audit_rows(audit, "leaf", pair->service, path, ret);
	k3sup__audit_dates(audit, path, &ret->list[0], audit->window, K3SUP__START);
	look_at_names(audit, pair, path, &ret->list[0]);
	look_at_issuer(audit, pair, path, &ret->list[0]);
	remember_admin(audit, pair, &ret->list[0]);
	return 1;
}

/*
 * Which files exist is up to the version: an absent pair is none of our business, unless every version has it. Then a retire (k3s's own, perhaps under a running k3s) waits for its start:
 * `k3s certificate check` passes over it, so that all looks well. Half a pair is one that a cut rotation left, and a start makes the other half; servers of
 * 2025 and later, though, keep the keys of kube-proxy and k3s-controller for old agents, without certificates.
 */
static void look_at_halves(struct k3sup__audit *audit, const struct k3sup__pair *pair, const char *crt, int have_crt, const char *key, int have_key)
{
	bool for_old_agents = (pair->flags & K3SUP__PAIR_AGENT) == 0 &&
		(k3sup__streq(pair->service, "kube-proxy") || k3sup__streq(pair->service, "k3s-controller"));

	bool always = (pair->flags & K3SUP__PAIR_ALWAYS) != 0 && audit->server == ((pair->flags & K3SUP__PAIR_AGENT) == 0);

	if (have_crt == 0 && have_key == 0 && always)
		k3sup__audit_problem(audit, K3SUP__START, crt, "missing", "its key is not there, either: k3s makes both when it is started");
	if (have_crt == 0 && have_key != 0 && !for_old_agents)
		k3sup__audit_problem(audit, have_key == 1 ? K3SUP__START : K3SUP__ACT, crt, "missing",
			have_key == 1 ? "its key is there" : "its key is there and damaged: k3s would not start");
	if (have_key == 0 && have_crt != 0)
		k3sup__audit_problem(audit, K3SUP__START, key, "missing", "its certificate is there");
}

static int look_at_pair(struct k3sup__audit *audit, const struct k3sup__pair *pair)
{
	_free_ char *crt = k3sup__fmt("%s.crt", pair->path), *key = k3sup__fmt("%s.key", pair->path);
	_cleanup_(k3sup__certs_clear) struct k3sup__certs certs = {0};
	_cleanup_(k3sup__keys_clear) struct k3sup__keys keys = {0};
	bool key_only = (pair->flags & K3SUP__PAIR_KEY_ONLY) != 0;
	int have_crt = 0, have_key;

	if (crt == NULL || key == NULL)
		return -ENOMEM;
	if (!key_only)
		have_crt = look_at_crt(audit, pair, crt, &certs);
	if (have_crt < 0 && have_crt != K3SUP_E_PARSE)
		return have_crt;
	have_key = k3sup__audit_keys(audit, key, K3SUP__ACT, &keys);
	if (have_key < 0 && have_key != K3SUP_E_PARSE)
		return have_key;
	if (!key_only)
		look_at_halves(audit, pair, crt, have_crt, key, have_key);
	if (have_crt == 1 && have_key == 1 && !k3sup__key_fits(keys.list[0], &certs.list[0]))
		k3sup__audit_problem(audit, K3SUP__ACT, key, "key-mismatch", "it is not the key of %s", crt);
	return 0;
}

int k3sup__audit_pairs(struct k3sup__audit *audit)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < k3sup__n_pairs; i++)
		if (k3sup__audit_wants(audit, k3sup__pairs[i].service))
			r = look_at_pair(audit, &k3sup__pairs[i]);
	return r;
}
