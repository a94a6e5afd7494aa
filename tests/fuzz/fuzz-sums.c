/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <k3sup/error.h>

#include "node/sums.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const archs[] = {"amd64", "arm64", "arm", "s390x", "riscv64"};
	char *text = malloc(size ? size : 1); /* exactly so long: a sanitizer sees what is read behind it */

	RULE(text);
	if (size)
		memcpy(text, data, size);
	for (size_t i = 0; i < ELEMENTSOF(archs); i++) {
		char digest[K3SUP__SHA256_HEX];
		int r = k3sup__sums_find(NULL, text, size, "input", k3sup__artifact(archs[i]), digest);

		RULE(r == K3SUP_E_SUMS || (r == 0 && strlen(digest) == 64 && k3sup__is_hex(digest, 64)));
	}
	free(text);
	return 0;
}
