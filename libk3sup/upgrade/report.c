/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an upgrade ends: what it says, of failures and stops too, and what becomes of its entry in the journal.
 */
#include "upgrade/upgrade.h"

#include "node/warn.h"
#include "upgrade/failed.h"

bool k3sup__upgrade_has_changed(const struct k3sup__upgrade *s)
{
	/* What was unpacked for nothing changes nothing: it is there for the next try. */
	return s->swapped.renamed || s->cleaned || (s->unpacked && s->status >= 0) || s->signalled || s->back.changed ||
		s->stopping.stopped || s->stopping.rotation.retired || k3sup__images_changed(&s->images);
}

/*
 * What failed or was cut halfway stays open: the next run proves. A refusal that touched nothing leaves nothing to prove. Who asks for the file only does not prove what an
 * earlier run had still to prove.
 */
static bool is_over(const struct k3sup__upgrade *s)
{
	if (s->back.done)
		return true;
	if (s->status < 0)
		return !s->swapped.renamed && !s->signalled && !s->stopping.stopped && !s->entry.resumed && !k3sup__images_changed(&s->images);
	return s->restart.by != K3SUP_RESTART_NONE || !s->entry.prove;
}

/* It could not be seen later that this run has asked, and what it was told. */
static int note_not_ready(k3sup_op *op, const struct k3sup__upgrade *s)
{
	if (s->status != K3SUP_E_NOT_READY || !s->entry.id[0])
		return 0;
	return k3sup__entry_note(op, s->node.node, s->entry.id, K3SUP__VERB_UPGRADE, K3SUP__EVENT_NOT_READY);
}

/* What failed before did not this time. It was proven: that nobody can write it down is no failure. */
static void tidy_memory(k3sup_op *op, const struct k3sup__upgrade *s)
{
	int r = k3sup__failed_proven(op, s->node.node, &s->payload.build);

	if (r < 0) {
		k3sup__warn(op, "it cannot be written down that this build was proven: %s", k3sup_strerror(r));
		k3sup__op_forgive(op);
	}
}

int k3sup__upgrade_report(k3sup_op *op)
{
	struct k3sup__upgrade *s = k3sup__op_state(op);
	k3sup__json *facts = k3sup__op_facts(op);
	struct k3sup__view v;
	int r;

	k3sup__staged_free(s->staged); /* a temp of a run that is over is no leftover */
	s->staged = NULL;
	r = k3sup__upgrade_end_images(op, s);
	if (s->status >= 0)
		s->status = k3sup__upgrade_has_changed(s);
	if (r >= 0 && is_over(s))
		r = k3sup__entry_close(op, s->node.node, s->status, &s->entry);
	if (r >= 0)
		r = note_not_ready(op, s);
	if (r >= 0)
		r = k3sup__turn_report(op, s);
	if (r < 0)
		k3sup__op_seal_failure(op); /* the look below must not take back the sentence */
	if (s->status < 0)
		r = 0; /* what went wrong first is how it ends */
	if (s->status >= 0 && s->restart.by != K3SUP_RESTART_NONE && !s->nested)
		tidy_memory(op, s);
	k3sup__rollback_report(op, s);
	if (s->nested)
		return r;
	if (s->payload.fd >= 0 && k3sup__view_take(op, s->node.node, s->status < 0 ? &s->payload : NULL, &v) >= 0) {
		v.not_ready = s->status == K3SUP_E_NOT_READY;
		k3sup__view_report(op, s->node.node, &v);
		k3sup__view_clear(&v);
	}
	k3sup__json_set_bool(facts, "changed", k3sup__upgrade_has_changed(s));
	k3sup__json_set_bool(facts, "resumed", s->entry.resumed || s->stopping.rotation.resumed);
	k3sup__json_set_int(facts, "downtime_ms", k3sup__op_downtime(op) < 0 ? 0 : k3sup__op_downtime(op));
	k3sup__services_report(op, &s->services);
	k3sup__proof_report(op, s->payload.proof);
	return r;
}
