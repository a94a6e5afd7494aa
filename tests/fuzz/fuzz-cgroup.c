/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/cgroup: users name groups below their own. Whatever comes, a unit's name can be a file's name. */
#include "fuzz.h"

#include <string.h>

#include "node/cgroup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__cgroup group;
	char *text = malloc(size + 1);

	RULE(text);
	memcpy(text, data, size);
	text[size] = '\0';
	k3sup__cgroup_parse(text, &group);
	RULE(group.keeper >= K3SUP__KEEPER_NONE && group.keeper <= K3SUP__KEEPER_USER);
	RULE(memchr(group.unit, '\0', sizeof(group.unit)));
	if (group.keeper == K3SUP__KEEPER_SYSTEMD || group.keeper == K3SUP__KEEPER_OPENRC) {
		RULE(group.unit[0] != '\0' && group.unit[0] != '.');
		RULE(!strchr(group.unit, '/') && !strchr(group.unit, '\n') && strstr(text, group.unit));
		RULE(k3sup__keeper_name(group.keeper));
	} else {
		RULE(!k3sup__keeper_name(group.keeper));
	}
	free(text);
	return 0;
}
