/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/observed.h"

char *k3sup__unpacked_of(const struct k3sup__candidate *candidate)
{
	const char *end = candidate->exe;

	errno = 0;
	if (!candidate->asset_hash[0] || !candidate->exe)
		return NULL;
	end = strstr(candidate->exe, candidate->asset_hash);
	return end ? strndup(candidate->exe, (size_t)(end - candidate->exe) + K3SUP__H_LEN) : NULL;
}

int k3sup__observe_data_dir(k3sup_op *op, k3sup_node *node, char **ret, const char **ret_source, char **ret_like)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place installed = K3SUP__PLACE_NONE;
	_cleanup_(k3sup__sighting_clear) struct k3sup__sighting sighting = {0};
	const struct k3sup__candidate *known = NULL;
	int r = k3sup__installed_find(op, node, NULL, &installed);

	if (r < 0) {
		k3sup__place_clear(&installed);
		k3sup__op_forgive(op);
	}
	r = k3sup__identify_scan(op, node, &installed, &sighting);
	if (r == K3SUP_E_FOREIGN_PROC && node->data_dir)
		k3sup__op_forgive(op);
	else if (r < 0)
		return r;
	for (size_t i = 0; i < sighting.count; i++) {
		const struct k3sup__candidate *c = &sighting.candidates[i];

		if (!known && c->data_dir)
			known = c;
		if (!node->data_dir && c->data_dir && !k3sup__streq(c->data_dir, known->data_dir))
			return k3sup__fail(op, K3SUP_E_AMBIGUOUS, "k3s runs in %s and in %s; name the data-dir that is meant",
				known->data_dir, c->data_dir);
	}
	r = k3sup__data_dir_find(op, node, known, ret, ret_source);
	if (r >= 0 && ret_like && known)
		*ret_like = k3sup__unpacked_of(known);
	return r;
}
