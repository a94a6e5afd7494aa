/* SPDX-License-Identifier: Apache-2.0 */
/* k3s's configuration: texts with a NUL between them are files that are merged. */
#include "fuzz.h"

#include <k3sup/error.h>

#include "node/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__config_merge merge = {.keys = NULL};
	struct k3sup__strv args = {0};
	char *why = NULL;
	int r = 0;

	for (size_t at = 0; r == 0 && at <= size;) {
		const uint8_t *end = size > at ? memchr(data + at, 0, size - at) : NULL;
		size_t len = end ? (size_t)(end - data) - at : size - at;

		r = k3sup__config_add(&merge, (const char *)data + at, len, &why);
		at += len + 1;
	}
	if (r == 0)
		r = k3sup__config_args(&merge, &args, &why);
	RULE(r == 0 || ((r == K3SUP_E_CONFIG || r == K3SUP_E_PARSE || r == -EFBIG) && why));
	for (size_t i = 0; i < args.count; i++) {
		const char *ignored;

		RULE(args.items[i][0] == '-' && strchr(args.items[i], '='));
		RULE(k3sup__flag_find(&args, "data-dir", 'd', &ignored) >= -EINVAL);
	}
	free(why);
	k3sup__strv_clear(&args);
	k3sup__config_merge_clear(&merge);
	return 0;
}
