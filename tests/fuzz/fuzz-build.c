/* SPDX-License-Identifier: Apache-2.0 */
/* ELF headers, Go's build information, archive names and versions among the bytes. */
#include "fuzz.h"

#include <k3sup/error.h>

#include "node/build.h"
#include "node/version.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__version version;
	struct k3sup__build build, lenient, whole;
	int fd = file_of(data, size), r = k3sup__build_read_fd(NULL, fd, "input", 0, &build);

	RULE(r == 0 || r == K3SUP_E_PAYLOAD_EMPTY || r == K3SUP_E_PAYLOAD_NOT_K3S || r == K3SUP_E_PAYLOAD_TRUNCATED || r == K3SUP_E_PAYLOAD_CORRUPT);
	RULE(k3sup__build_read_fd(NULL, fd, "input", K3SUP__BUILD_LENIENT | K3SUP__BUILD_SHA256, &lenient) == 0);
	/* A digest finds more than the structure does, never less; what it found once it finds again. */
	RULE(k3sup__build_read_fd(NULL, fd, "input", K3SUP__BUILD_ARCHIVE, &whole) < 0 || r == 0);
	RULE(!k3sup__streq(build.asset_check ? build.asset_check : "", "digest") || k3sup__streq(whole.asset_hash, build.asset_hash));
	close(fd);
	RULE(lenient.size == size && strlen(lenient.sha256) == (size ? 64 : strlen(lenient.sha256)));
	if (r < 0)
		return 0;
	RULE(build.wrapper != build.inner);
	RULE(build.wrapper == (build.asset_hash[0] != '\0') && (!build.wrapper || k3sup__is_hex(build.asset_hash, K3SUP__H_LEN)));
	RULE(build.wrapper == (build.asset_check != NULL));
	RULE(!build.version[0] || k3sup__version_parse(build.version, strlen(build.version), &version) == 0);
	RULE(k3sup__streq(build.version, lenient.version) && k3sup__streq(build.asset_hash, lenient.asset_hash));
	return 0;
}
