/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "node/datadir.h"
#include "node/gobuild.h"
#include "node/scan.h"
#include "swap/unpack.h"

static int read_built(int fd, const struct stat *st, char *ret)
{
	_free_ unsigned char *buffer = malloc(K3SUP__SCAN_BUFFER);
	struct k3sup__gobuild go = {0};
	struct k3sup__elf elf;
	int r = buffer ? k3sup__elf_read(fd, (uint64_t)st->st_size, &elf) : -ENOMEM;

	if (r == 0 && elf.program)
		r = k3sup__gobuild_read(fd, &elf, buffer, K3SUP__SCAN_BUFFER, &go);
	if (r == 0)
		memcpy(ret, go.built, sizeof(go.built));
	return r;
}

static int look_below(const k3sup_node *node, const char *data_dir, const struct k3sup__build *build, char *ret)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_free_ char *path = k3sup__fmt("%s/data/%s/bin/k3s", data_dir, build->asset_hash);
	_close_ int fd = -1;
	int r = path ? k3sup__root_find(NULL, &node->root, path, node->trust_flags, &place) : -ENOMEM;

	if (r == -ENOMEM)
		return r;
	if (r < 0 || place.fd < 0 || !S_ISREG(place.st.st_mode))
		return 0;
	fd = k3sup__place_open(&place, O_RDONLY);
	return fd < 0 ? 0 : read_built(fd, &place.st, ret);
}

int k3sup__unpacked_built(const k3sup_node *node, const char *data_dir, const struct k3sup__build *build, char ret[K3SUP__BUILT_LEN])
{
	const char *const dirs[] = {data_dir, K3SUP__DEFAULT_DATA_DIR};
	int r = 0;

	memcpy(ret, build->built, sizeof(build->built));
	for (size_t i = 0; r >= 0 && !*ret && *build->asset_hash && i < ELEMENTSOF(dirs); i++)
		if (dirs[i])
			r = look_below(node, dirs[i], build, ret);
	return r;
}
