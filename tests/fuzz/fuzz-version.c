/* SPDX-License-Identifier: Apache-2.0 */
/* Lines; each pair of neighbours is compared, and so is each three, since the order is total. */
#include "fuzz.h"

#include <k3sup/error.h>

#include "node/version.h"

static int order(const struct k3sup__version *a, const struct k3sup__version *b)
{
	int ab = k3sup__version_order(a, b);

	RULE(ab >= -1 && ab <= 1 && k3sup__version_order(b, a) == -ab);
	return ab;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__version versions[16];
	size_t count = 0;

	for (size_t at = 0; at < size && count < ELEMENTSOF(versions);) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t len = end ? (size_t)(end - data) - at : size - at;
		char *text = malloc(len ? len : 1);
		int r;

		RULE(text);
		memcpy(text, data + at, len);
		r = k3sup__version_parse(text, len, &versions[count]);
		RULE(r == 0 || r == K3SUP_E_PARSE);
		count += r == 0;
		free(text);
		at += len + 1;
	}
	for (size_t i = 0; i < count; i++)
		RULE(order(&versions[i], &versions[i]) == 0);
	for (size_t i = 0; i + 2 < count; i++)
		if (order(&versions[i], &versions[i + 1]) <= 0 && order(&versions[i + 1], &versions[i + 2]) <= 0)
			RULE(order(&versions[i], &versions[i + 2]) <= 0);
	return 0;
}
