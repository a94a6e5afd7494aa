/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/stat: the name in it is any bytes that a process chose. */
#include "fuzz.h"

#include <k3sup/error.h>

#include "base/process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct k3sup__stat stat;
	char *text = malloc(size + 1);
	int r;

	RULE(text);
	memcpy(text, data, size);
	text[size] = '\0';
	r = k3sup__stat_parse(text, &stat);
	RULE(r == 0 || r == K3SUP_E_PARSE);
	if (r == 0) {
		char *again = k3sup__fmt("1 (%s) %c %d 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 %llu 0", stat.comm, stat.state, (int)stat.ppid,
			(unsigned long long)stat.start_time);
		struct k3sup__stat same;

		RULE(strlen(stat.comm) < sizeof(stat.comm));
		RULE(again && k3sup__stat_parse(again, &same) == 0);
		RULE(strcmp(same.comm, stat.comm) == 0 && same.state == stat.state && same.ppid == stat.ppid && same.start_time == stat.start_time);
		free(again);
	}
	free(text);
	return 0;
}
