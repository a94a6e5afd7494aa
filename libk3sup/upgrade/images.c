/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images of an upgrade: put in place before the swap, undone if it comes to nothing, committed after the proof.
 */
#include "upgrade/upgrade.h"

/* A list has a line for each of them; a digest, or a signature without a list, is the payload's. */
int k3sup__upgrade_take_images(const struct k3sup_upgrade_opts *o, struct k3sup__images *ret)
{
	struct k3sup__given_terms terms = {0};

	if (o->sums)
		terms = (struct k3sup__given_terms){.sums = o->sums, .signature = o->signature, .key = o->key};
	return k3sup__images_take(o->images, &terms, ret);
}

int k3sup__upgrade_look_at_images(k3sup_op *op, struct k3sup__upgrade *s)
{
	/* The view is taken anew later, and what runs then may say nothing about its data-dir. */
	s->data_dir = strdup(s->view.data_dir.path);
	if (!s->data_dir)
		return -ENOMEM;
	return k3sup__images_look(op, s->node.node, &s->images, s->data_dir);
}

int k3sup__upgrade_stage_images(k3sup_op *op, struct k3sup__upgrade *s)
{
	int r = k3sup__images_missing(&s->images) > 0 ? k3sup__upgrade_open_entry(op, s) : 0;

	if (s->back.before.size) /* else the build is in place already, and what it finds are the images of the one before, too */
		k3sup__images_id(&s->back.before, s->images.of);
	return r < 0 ? r : k3sup__images_stage(op, s->node.node, s->data_dir, &s->images);
}

int k3sup__upgrade_forget_images(k3sup_op *op, struct k3sup__upgrade *s)
{
	char of[K3SUP__IMAGES_OF];

	k3sup__images_id(&s->back.before, of);
	return s->data_dir ? k3sup__images_forget(op, s->node.node, s->data_dir, of) : 0;
}

int k3sup__upgrade_restore_images(k3sup_op *op, struct k3sup__upgrade *s)
{
	char of[K3SUP__IMAGES_OF];
	int r;

	k3sup__images_id(&s->payload.build, of);
	r = s->data_dir ? k3sup__images_restore(op, s->node.node, s->data_dir, of) : 0;

	s->cleaned |= r > 0;
	return r;
}

/*
 * Before the swap an upgrade that fails leaves nothing behind; after it the new k3s needs its images, whether it is proven or not. The kept versions, of whatever run, go with the
 * proof; who asks for the file only does not prove.
 */
int k3sup__upgrade_end_images(k3sup_op *op, struct k3sup__upgrade *s)
{
	int r = 0;

	if (s->status < 0 && !s->swapped.renamed && !s->signalled)
		k3sup__images_undo(op, &s->images);
	if (s->status >= 0 && s->restart.by != K3SUP_RESTART_NONE && s->data_dir)
		r = k3sup__images_commit(op, s->node.node, s->data_dir);
	s->cleaned |= r > 0;
	k3sup__images_report(op, &s->images);
	return r < 0 ? r : 0;
}
