/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start guard by itself: driver-guard ROOT SERVICE WORD... does, one after the other, arm=MS, rearm=MS, release, disarm, start, stop and sleep=MS, and prints one line for each: the word
 * and what came of it. Ends at the first that fails.
 */
#include <k3sup.h>

#include <stdio.h>
#include <time.h>

#include "process/guard.h"
#include "process/openrc.h"
#include "process/systemctl.h"

static int64_t number(const char *word)
{
	const char *at = strchr(word, '=');

	return at ? strtol(at + 1, NULL, 10) : 0;
}

static int rest(int64_t ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000 * 1000000)};

	return nanosleep(&time, NULL) < 0 ? -errno : 0;
}

static int carry_out(struct k3sup__service *service, const char *word)
{
	if (k3sup__startswith(word, "arm="))
		return k3sup__guard_arm(NULL, service, number(word));
	if (k3sup__startswith(word, "rearm="))
		return k3sup__guard_rearm(NULL, service, number(word));
	if (k3sup__startswith(word, "sleep="))
		return rest(number(word));
	if (k3sup__streq(word, "release"))
		return k3sup__guard_release(NULL, service);
	if (k3sup__streq(word, "disarm"))
		return k3sup__guard_disarm(NULL, service);
	if (k3sup__streq(word, "start"))
		return service->manager->order(NULL, service, K3SUP__ORDER_START);
	return k3sup__streq(word, "stop") ? service->manager->order(NULL, service, K3SUP__ORDER_STOP) : -EINVAL;
}

int main(int argc, char **argv)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = argc > 1 ? argv[1] : "/"};
	struct k3sup__service service = K3SUP__SERVICE_NONE;
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	int r = argc > 2 ? k3sup_ctx_new(NULL, &ctx) : -EINVAL;

	if (r == 0)
		r = k3sup_node_new(ctx, &opts, &node);
	if (r == 0)
		r = (service.name = strdup(argv[2])) ? 0 : -ENOMEM;
	if (r == 0 && !strchr(argv[2], '.')) {
		r = k3sup__openrc_open(NULL, node, &service);
	} else if (r == 0) {
		r = k3sup__systemd_open(NULL, node, &service);
		service.manager = &k3sup__systemd;
	}
	if (r < 0)
		printf("open %s\n", k3sup_error_name(r));
	for (int i = 3; r >= 0 && i < argc; i++) {
		r = carry_out(&service, argv[i]);
		printf("%s %s\n", argv[i], r < 0 ? k3sup_error_name(r) : r > 0 ? "1" : "0");
		(void)fflush(stdout);
	}
	k3sup__service_clear(&service);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r < 0;
}
