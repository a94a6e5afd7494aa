/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of a backup of certificates, beside two files that are there. Whatever it says, only leafs come out of it, with the digests that it has. */
#include "fuzz.h"

#include <k3sup/error.h>

#include "certs/backup.h"

static int open_backups(void)
{
	static int fd = -1;

	if (fd >= 0)
		return fd;
	fuzz_put("tls-1/server/tls/client-admin.crt", "a", 1);
	fuzz_put("tls-1/server/tls/client-admin.key", "b", 1);
	fuzz_put("secret", "c", 1);
	fd = open(fuzz_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	RULE(fd >= 0);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int dirfd = open_backups(), r;
	struct k3sup__tls_files files = {.count = 0};
	k3sup__json *manifest = NULL;

	fuzz_put("tls-1/manifest.json", data, size);
	r = k3sup__tls_backup_read(NULL, dirfd, "tls-1", &files, &manifest);
	RULE(r == 0 ? files.count > 0 && manifest : r == K3SUP_E_BACKUP && files.count == 0 && !manifest);
	for (size_t i = 0; i < files.count; i++) {
		const struct k3sup__tls_file *file = &files.list[i];

		RULE(k3sup__startswith(file->path, "server/tls/client-admin.") && (file->mode & ~0777u) == 0 && file->len == 1);
		RULE(file->key == k3sup__endswith(file->path, ".key") && file->text[0] == (file->key ? 'b' : 'a'));
	}
	k3sup__tls_files_clear(&files);
	k3sup__json_unref(manifest);
	return 0;
}
