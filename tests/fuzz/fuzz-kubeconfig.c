/* SPDX-License-Identifier: Apache-2.0 */
/* A kubeconfig that embeds certificates, or names them: as k3s's own, and as one of a person. */
#include "audit.h"

static int look(struct k3sup__audit *audit)
{
	static const char *const more[] = {"/mine", NULL};

	return k3sup__audit_kubeconfigs(audit, more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_put("etc/rancher/k3s/k3s.yaml", data, size);
	fuzz_put("mine", data, size);
	fuzz_audit(look);
	return 0;
}
