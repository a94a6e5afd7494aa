/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/cmdline: arguments, or a title; any bytes that a process chose. What it is does not depend on the NULs behind it. */
#include "fuzz.h"

#include <string.h>

#include "node/procscan.h"

static enum k3sup__command parse(const uint8_t *data, size_t size, size_t more)
{
	enum k3sup__command command;
	char *text = calloc(1, size + more + 1);

	RULE(text);
	memcpy(text, data, size);
	command = k3sup__command_parse(text, size + more);
	free(text);
	return command;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum k3sup__command command = parse(data, size, 0);

	RULE(command >= K3SUP__COMMAND_NONE && command <= K3SUP__COMMAND_OTHER);
	if (size > 0 && data[size - 1] == '\0')
		RULE(parse(data, size, 7) == command);
	if (command == K3SUP__COMMAND_SERVER)
		RULE(size >= strlen("server") && memmem(data, size, "server", strlen("server")));
	if (command == K3SUP__COMMAND_AGENT)
		RULE(size >= strlen("agent") && memmem(data, size, "agent", strlen("agent")));
	return 0;
}
