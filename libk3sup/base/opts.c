/* SPDX-License-Identifier: Apache-2.0 */
#include "base/op.h"

#define MAX_SIZE 4096u

/* The same contract as openat2(2) and clone3(2): old callers get defaults, new callers get -E2BIG only if they use what we do not know. */
int k3sup__opts(const void *opts, void *ret, size_t size, uint32_t known_flags)
{
	uint32_t head[2]; /* struct_size, flags */
	size_t given;

	memset(ret, 0, size);
	if (!opts)
		return 0;
	memcpy(head, opts, sizeof(head[0]));
	given = head[0];
	if (given < sizeof(head))
		return -EINVAL;
	memcpy(head, opts, sizeof(head));
	if (head[1] & ~known_flags)
		return -EINVAL;
	if (given > MAX_SIZE && given > size)
		return -E2BIG; /* not the size of any struct of ours: somebody forgot to set it */
	for (size_t i = size; i < given; i++)
		if (((const unsigned char *)opts)[i] != 0)
			return -E2BIG;
	memcpy(ret, opts, given < size ? given : size);
	return 0;
}
