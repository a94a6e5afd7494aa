/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <k3sup/error.h>

#include "base/inflate.h"

static int count(void *arg, const void *bytes, size_t len)
{
	uint64_t *total = arg;

	RULE(bytes && len > 0);
	*total += len;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = file_of(data, size), gzip = k3sup__is_gzip(fd), r;
	uint64_t total = 0;

	RULE(gzip == (size >= 2 && data[0] == 0x1f && data[1] == 0x8b));
	r = k3sup__inflate(NULL, fd, "input", count, &total);
	close(fd);
	RULE(r == 0 || r == K3SUP_E_GZIP || r == K3SUP_E_PAYLOAD_TRUNCATED);
	RULE(r < 0 || gzip);
	RULE(total <= K3SUP__INFLATE_FREE + size * K3SUP__INFLATE_RATIO + ((uint64_t)1 << 20));
	return 0;
}
