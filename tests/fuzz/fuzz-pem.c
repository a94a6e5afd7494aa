/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle of certificates and keys in PEM: as a file of certificates, as one of keys, and each with each. */
#include "fuzz.h"

#include <k3sup/error.h>

#include "base/x509.h"

static struct k3sup__pki *pki;

static void look_at(const struct k3sup__cert *cert)
{
	static const char *const texts[] = {"cn", "subject", "issuer_cn", "issuer", "serial"};
	char *json = k3sup__json_dump(cert->facts);

	RULE(json);
	free(json);
	for (size_t i = 0; i < ELEMENTSOF(texts); i++)
		RULE(k3sup__json_text(cert->facts, texts[i]));
	RULE(strlen(cert->sha256) == K3SUP__SHA256_HEX - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__certs certs = {0};
	struct k3sup__keys keys = {0};
	const char *why = NULL, *key_why = NULL;
	int r, k;

	RULE(pki || k3sup__pki_new(&pki) == 0);
	r = k3sup__certs_parse(pki, (const char *)data, size, &certs, &why);
	RULE(r == 0 ? certs.count > 0 : certs.count == 0 && (r == -EFBIG || (r == K3SUP_E_PARSE && why)));
	k = k3sup__keys_parse(pki, (const char *)data, size, &keys, &key_why);
	RULE(k == 0 ? keys.count > 0 : keys.count == 0 && (k == -EFBIG || (k == K3SUP_E_PARSE && key_why)));
	for (size_t i = 0; i < certs.count && i < 8; i++) {
		look_at(&certs.list[i]);
		for (size_t j = 0; j < certs.count && j < 8; j++)
			if (k3sup__cert_signed_by(&certs.list[i], &certs.list[j]) && i == j)
				RULE(certs.list[i].self_signed);
		for (size_t j = 0; j < keys.count && j < 4; j++)
			(void)k3sup__key_fits(keys.list[j], &certs.list[i]);
	}
	for (size_t i = 0; i < keys.count && i < 4; i++)
		RULE(k3sup__keys_equal(keys.list[i], keys.list[i]));
	k3sup__certs_clear(&certs);
	k3sup__keys_clear(&keys);
	return 0;
}
