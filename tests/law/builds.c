/* SPDX-License-Identifier: Apache-2.0 */
/*
 * k3s files of three builds: small wrappers with an archive that is named by its digest.
 */
#include "law.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/node/elfmake.h"

#include "base/digest.h"

const char *const build_versions[BUILDS + 1] = {"", "v1.30.4+k3s1", "v1.30.5+k3s1", "v1.30.6+k3s1"};
char build_hashes[BUILDS + 1][65];
struct file builds[BUILDS + 1];

void make_build(unsigned build)
{
	unsigned char frame[FRAME_LEN];
	struct k3sup__digest *digest = NULL;
	_free_ char *mod = NULL, *data = NULL;
	struct elf_spec spec = {.form = ELF_GO_INLINE};

	frame_make((char)('0' + build), frame);
	need(k3sup__digest_new(&digest) == 0 && k3sup__digest_update(digest, frame, sizeof(frame)) == 0 &&
			k3sup__digest_finish(digest, build_hashes[build]) == 0,
		"digest");
	k3sup__digest_freep(&digest);
	mod = k3sup__fmt("path\tgithub.com/k3s-io/k3s/cmd/k3s\nbuild\t-ldflags=\"-X github.com/k3s-io/k3s/pkg/version.Version=%s\"\n",
		build_versions[build]);
	data = k3sup__fmt("embed/%s.tar.zst %s ", build_hashes[build], build_versions[build]);
	need(mod && data, "memory");
	spec.mod = mod;
	spec.data = data;
	spec.data_len = strlen(data);
	builds[build].at = elf_make(&spec, &builds[build].len);
}

unsigned node_build_of(const char *path)
{
	struct file f = read_whole(path);
	unsigned build = 0;

	for (unsigned i = 1; i <= BUILDS && f.at; i++)
		if (f.len == builds[i].len && memcmp(f.at, builds[i].at, f.len) == 0)
			build = i;
	free(f.at);
	return build;
}
