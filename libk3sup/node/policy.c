/* SPDX-License-Identifier: Apache-2.0 */
#include "node/policy.h"

#include <stdarg.h>
#include <stdio.h>

#include <k3sup/doc.h>

#include "base/doc.h"
#include "node/build.h"
#include "node/version.h"

/* A version as the caller gave it, and what it says. */
struct named {
	const char *text; /* NULL: not given */
	bool known;       /* given, and a version */
	struct k3sup__version v;
};

struct facts {
	const struct k3sup_policy_opts *o;
	struct named installed, payload, server, floor;
};

/* What one policy came to, before the caller's permissions. */
struct finding {
	enum k3sup__decision decision;
	int code;
	char *text;
};

struct policy {
	const char *name;
	int code;
	uint32_t permission; /* K3SUP_POLICY_ALLOW_*; 0: nobody may */
	void (*judge)(const struct facts *f, struct finding *ret);
};

static void say(struct finding *ret, enum k3sup__decision decision, const char *fmt, ...) _printf_(3, 4);

static void say(struct finding *ret, enum k3sup__decision decision, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&ret->text, fmt, ap) < 0)
		ret->text = NULL;
	va_end(ap);
	ret->decision = decision;
}

static struct named name(const char *text)
{
	struct named n = {.text = text && *text ? text : NULL};

	n.known = n.text && k3sup__version_parse(text, strlen(text), &n.v) == 0;
	return n;
}

static const char *shown(const struct named *n)
{
	return n->text ? n->text : "unknown";
}

static int order(uint32_t a, uint32_t b)
{
	return (a > b) - (a < b);
}

/* Of X.Y.Z alone. */
static int order_core(const struct k3sup__version *a, const struct k3sup__version *b)
{
	int r = order(a->major, b->major);

	if (r == 0)
		r = order(a->minor, b->minor);
	return r ? r : order(a->patch, b->patch);
}

/* Of X.Y.Z[-pre]: what Kubernetes calls the version. */
static int order_kubernetes(const struct k3sup__version *a, const struct k3sup__version *b)
{
	int r = order_core(a, b);

	if (r == 0)
		r = order(a->pre, b->pre);
	return r ? r : order(a->pre_number, b->pre_number);
}

/* For rules that compare the payload with what is installed: are both known? If not, it is said. */
static bool both_known(const struct facts *f, struct finding *ret)
{
	if (!f->payload.known) {
		ret->code = K3SUP_E_POLICY_UNKNOWN;
		say(ret, K3SUP__REFUSE, "the payload's version is not known, so it cannot be compared with the installed one");
		return false;
	}
	if (!f->installed.known) {
		say(ret, K3SUP__WARN, "the installed file's version is not known, so nothing can be compared with it");
		return false;
	}
	return true;
}

/* ---- the policies ---- */

static void judge_k3s(const struct facts *f, struct finding *ret)
{
	const char *kind = f->o->payload_kind;

	if (kind && (k3sup__streq(kind, "wrapper") || k3sup__streq(kind, "inner")))
		say(ret, K3SUP__PASS, "the payload is a k3s binary (%s)", kind);
	else
		say(ret, K3SUP__REFUSE, "the payload is not known to be a k3s binary");
}

static void judge_arch(const struct facts *f, struct finding *ret)
{
	const char *theirs = f->o->payload_arch, *ours = f->o->node_arch;

	if (!theirs || !*theirs)
		say(ret, K3SUP__REFUSE, "the payload's architecture is not known");
	else if (ours && *ours ? k3sup__streq(theirs, ours) : k3sup__build_runs_here(theirs))
		say(ret, K3SUP__PASS, "the payload is for this node's architecture, %s", theirs);
	else
		say(ret, K3SUP__REFUSE, "the payload is for %s, which this node%s%s is not", theirs, ours && *ours ? ", " : "",
			ours && *ours ? ours : "");
}

static void judge_downgrade(const struct facts *f, struct finding *ret)
{
	if (!both_known(f, ret))
		return;
	if (order_core(&f->payload.v, &f->installed.v) < 0)
		say(ret, K3SUP__REFUSE, "the payload, %s, is older than the installed %s", f->payload.text, f->installed.text);
	else
		say(ret, K3SUP__PASS, "the payload, %s, is not older than the installed %s", f->payload.text, f->installed.text);
}

static void judge_prerelease(const struct facts *f, struct finding *ret)
{
	if (!both_known(f, ret))
		return;
	if (order_core(&f->payload.v, &f->installed.v) == 0 && order_kubernetes(&f->payload.v, &f->installed.v) < 0)
		say(ret, K3SUP__REFUSE, "the payload, %s, is a pre-release that came before the installed %s", f->payload.text, f->installed.text);
	else
		say(ret, K3SUP__PASS, "the payload is no pre-release that came before the installed build");
}

static void judge_packaging(const struct facts *f, struct finding *ret)
{
	const struct k3sup__version *p = &f->payload.v, *i = &f->installed.v;
	int r;

	if (!both_known(f, ret))
		return;
	r = k3sup__version_order(p, i);
	if (order_kubernetes(p, i) != 0 || r == 0) {
		say(ret, K3SUP__PASS, "the payload is no other packaging of the installed version");
	} else if (p->kind == K3SUP__VERSION_UNTAGGED && i->kind == K3SUP__VERSION_UNTAGGED) {
		ret->code = K3SUP_E_POLICY_UNKNOWN; /* the order of their commits is one of text */
		say(ret, K3SUP__REFUSE, "nothing says which of two untagged builds is newer: the payload, %s, or the installed %s",
			f->payload.text, f->installed.text);
	} else if (r < 0) {
		say(ret, K3SUP__REFUSE, "the payload, %s, is an older packaging than the installed %s", f->payload.text, f->installed.text);
	} else {
		say(ret, K3SUP__PASS, "the payload, %s, is a newer packaging than the installed %s", f->payload.text, f->installed.text);
	}
}

/* Kubernetes supports upgrades of one minor at a time only (version skew policy). What was installed by us before stands for a torn file. */
static void judge_skip(const struct facts *f, struct finding *ret)
{
	const struct named *from = f->installed.known || !f->floor.known ? &f->installed : &f->floor;

	if (from == &f->installed && !both_known(f, ret))
		return;
	if (!f->payload.known) {
		(void)both_known(f, ret);
		return;
	}
	if (f->payload.v.major > from->v.major || (f->payload.v.major == from->v.major && f->payload.v.minor > from->v.minor + 1))
		say(ret, K3SUP__REFUSE, "the payload, %s, skips a minor version after %s", f->payload.text, from->text);
	else
		say(ret, K3SUP__PASS, "no minor version is skipped from %s to %s", from->text, f->payload.text);
}

/* k3s's upgrade order is servers first: an agent may be older than its server, never newer. */
static void judge_agent(const struct facts *f, struct finding *ret)
{
	const char *role = f->o->role;
	int r;

	if (role && k3sup__streq(role, "server")) {
		say(ret, K3SUP__PASS, "this node is a server");
		return;
	}
	if (!f->server.text) {
		say(ret, K3SUP__WARN, "%s, and the server's version is not known",
			role && *role ? "this node is an agent" : "this node's role is not known");
		return;
	}
	if (!f->server.known || !f->payload.known) {
		ret->code = K3SUP_E_POLICY_UNKNOWN;
		say(ret, K3SUP__REFUSE, "the payload, %s, cannot be compared with the server's version, %s", shown(&f->payload), f->server.text);
		return;
	}
	/* An API server may be asked for its version without the packaging. */
	r = f->server.v.kind == K3SUP__VERSION_PLAIN ? order_kubernetes(&f->payload.v, &f->server.v)
						     : k3sup__version_order(&f->payload.v, &f->server.v);
	if (r > 0)
		say(ret, K3SUP__REFUSE, "the payload, %s, is newer than the server, %s: servers are upgraded first", f->payload.text,
			f->server.text);
	else
		say(ret, K3SUP__PASS, "the payload, %s, is not newer than the server, %s", f->payload.text, f->server.text);
}

static void judge_floor(const struct facts *f, struct finding *ret)
{
	if (!f->floor.text) {
		say(ret, K3SUP__PASS, "no floor is known");
	} else if (!f->floor.known || !f->payload.known) {
		ret->code = K3SUP_E_POLICY_UNKNOWN;
		say(ret, K3SUP__REFUSE, "the payload, %s, cannot be compared with the floor, %s", shown(&f->payload), f->floor.text);
	} else if (k3sup__version_order(&f->payload.v, &f->floor.v) < 0) {
		say(ret, K3SUP__REFUSE, "the payload, %s, is older than the highest version installed here before, %s", f->payload.text,
			f->floor.text);
	} else {
		say(ret, K3SUP__PASS, "the payload, %s, is not below the floor, %s", f->payload.text, f->floor.text);
	}
}

/* "2023-05-26T21:50:22Z" is month 24281. 0: none; there was no k3s before 2019, but there are builds whose date is a fixed one for reproducibility. */
static unsigned month_of(const char *built)
{
	unsigned year = 0, month = 0;

	for (size_t i = 0; i < 7; i++) {
		if (!built || (i == 4 ? built[i] != '-' : built[i] < '0' || built[i] > '9'))
			return 0;
		if (i < 4)
			year = year * 10 + (unsigned)(built[i] - '0');
		else if (i > 4)
			month = month * 10 + (unsigned)(built[i] - '0');
	}
	return year < 2019 || month < 1 || month > 12 ? 0 : year * 12 + month;
}

static void judge_build_date(const struct facts *f, struct finding *ret)
{
	const char *theirs = f->o->payload_built, *ours = f->o->installed_built;
	const unsigned month = month_of(theirs), least = month_of(ours);

	if (!month || !least)
		say(ret, K3SUP__PASS, "the dates of both builds are not known");
	else if (month < least)
		say(ret, K3SUP__REFUSE,
			"the payload was built %.10s, months before the installed build, %.10s: what was mended there may be missing in it",
			theirs, ours);
	else
		say(ret, K3SUP__PASS, "the payload was built %.10s, the installed build %.10s", theirs, ours);
}

static const struct policy policies[] = {
	{"k3s", K3SUP_E_PAYLOAD_NOT_K3S, 0, judge_k3s},
	{"arch", K3SUP_E_PAYLOAD_ARCH, 0, judge_arch},
	{"downgrade", K3SUP_E_POLICY_DOWNGRADE, K3SUP_POLICY_ALLOW_DOWNGRADE, judge_downgrade},
	{"pre-release", K3SUP_E_POLICY_PRERELEASE, K3SUP_POLICY_ALLOW_DOWNGRADE, judge_prerelease},
	{"packaging", K3SUP_E_POLICY_PACKAGING, K3SUP_POLICY_ALLOW_DOWNGRADE, judge_packaging},
	{"skip-minor", K3SUP_E_POLICY_SKIP_MINOR, K3SUP_POLICY_ALLOW_SKIP_MINOR, judge_skip},
	{"agent-before-server", K3SUP_E_POLICY_AGENT_FIRST, 0, judge_agent},
	{"floor", K3SUP_E_POLICY_FLOOR, K3SUP_POLICY_ALLOW_DOWNGRADE, judge_floor},
};
static const struct policy build_date = {"build-date", K3SUP_E_POLICY_BUILD_DATE, K3SUP_POLICY_ALLOW_DOWNGRADE, judge_build_date};

static void add_version(k3sup__json *evidence, const char *key, const struct named *n)
{
	if (n->text)
		k3sup__json_set_str(evidence, key, n->text);
}

static k3sup__json *evidence_of(const struct facts *f)
{
	k3sup__json *evidence = k3sup__json_object();

	add_version(evidence, "installed_version", &f->installed);
	add_version(evidence, "payload_version", &f->payload);
	add_version(evidence, "server_version", &f->server);
	add_version(evidence, "floor", &f->floor);
	if (f->o->installed_built && *f->o->installed_built)
		k3sup__json_set_str(evidence, "installed_built", f->o->installed_built);
	if (f->o->payload_built && *f->o->payload_built)
		k3sup__json_set_str(evidence, "payload_built", f->o->payload_built);
	return evidence;
}

static void judge(const struct policy *policy, const struct facts *f, struct k3sup__checks *checks)
{
	struct finding found = {.code = policy->code};

	policy->judge(f, &found);
	if (found.decision == K3SUP__REFUSE && (f->o->flags & policy->permission))
		found.decision = K3SUP__ALLOWED;
	/* A sentence that was lost for want of memory is empty; the caller asks whether the list is broken. */
	k3sup__checks_add(checks, policy->name, found.decision, found.code, found.decision == K3SUP__REFUSE ? evidence_of(f) : NULL, "%s",
		found.text ? found.text : "");
	if (!found.text)
		k3sup__json_add(checks->list, NULL);
	free(found.text);
}

void k3sup__policy_judge(const struct k3sup_policy_opts *opts, struct k3sup__checks *checks)
{
	const struct facts f = {
		.o = opts,
		.installed = name(opts->installed),
		.payload = name(opts->payload),
		.server = name(opts->server),
		.floor = name(opts->floor),
	};

	for (size_t i = 0; i < ELEMENTSOF(policies); i++)
		judge(&policies[i], &f, checks);
	judge(&build_date, &f, checks);
}

void k3sup__policy_judge_date(const struct k3sup_policy_opts *opts, struct k3sup__checks *checks)
{
	const struct facts f = {.o = opts};

	judge(&build_date, &f, checks);
}

/* ---- the public face ---- */

static k3sup__json *error_json(struct k3sup__checks *checks)
{
	k3sup__json *error = k3sup__json_object();

	k3sup__json_set_int(error, "code", checks->code);
	k3sup__json_set_str(error, "name", k3sup_error_name(checks->code));
	k3sup__json_set_str(error, "message", checks->why);
	k3sup__json_set(error, "evidence", checks->evidence ? k3sup__json_ref(checks->evidence) : NULL);
	return error;
}

int k3sup_policy_check(const struct k3sup_policy_opts *opts, k3sup_doc **ret_doc)
{
	struct k3sup_policy_opts o;
	struct k3sup__checks checks;
	k3sup__json *doc;
	int r = ret_doc ? k3sup__opts(opts, &o, sizeof(o), K3SUP_POLICY_ALLOW_DOWNGRADE | K3SUP_POLICY_ALLOW_SKIP_MINOR) : -EINVAL;

	if (r >= 0 && o.role && *o.role && !k3sup__streq(o.role, "server") && !k3sup__streq(o.role, "agent"))
		r = -EINVAL;
	if (r < 0)
		return r;
	k3sup__checks_begin(&checks);
	k3sup__policy_judge(&o, &checks);
	doc = k3sup__json_object();
	k3sup__json_set_bool(doc, "ok", checks.code == 0);
	k3sup__json_set_bool(doc, "changed", false);
	if (checks.code)
		k3sup__json_set(doc, "error", error_json(&checks));
	k3sup__json_set(doc, "checks", k3sup__json_ref(checks.list));
	k3sup__checks_clear(&checks);
	return k3sup__doc_new(doc, ret_doc);
}
