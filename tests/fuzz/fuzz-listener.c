/* SPDX-License-Identifier: Apache-2.0 */
/* dynamic-cert.json */
#include "audit.h"

static int look(struct k3sup__audit *audit)
{
	struct k3sup__certs certs;
	int r = k3sup__audit_listener_certs(audit, &certs);

	RULE(r == 0 ? certs.count == 0 : r == 1 && certs.count > 0);
	k3sup__certs_clear(&certs);
	return k3sup__audit_listener(audit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_put(k3sup__listener_path, data, size);
	fuzz_audit(look);
	return 0;
}
