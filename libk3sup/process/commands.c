/* SPDX-License-Identifier: Apache-2.0 */
#include "process/commands.h"

#include "base/digest.h"
#include "node/warn.h"
#include "process/ask.h"
#include "process/guardian.h"

#define MOST_OUTPUT 1024
#define STATUS_MS 30000
#define ORDER_MS 180000 /* k3s takes up to 90 s to end; and a start may unpack */

int k3sup__commands_take(const char *stop, const char *start, const char *status, struct k3sup__commands *ret)
{
	*ret = (struct k3sup__commands){0};
	if (!stop && !start && !status)
		return 0;
	if (!stop || !start || !status || !*stop || !*start || !*status)
		return -EINVAL;
	*ret = (struct k3sup__commands){strdup(stop), strdup(start), strdup(status)};
	if (ret->stop && ret->start && ret->status)
		return 1;
	k3sup__commands_clear(ret);
	return -ENOMEM;
}

void k3sup__commands_clear(struct k3sup__commands *commands)
{
	free(commands->stop);
	free(commands->start);
	free(commands->status);
	*commands = (struct k3sup__commands){0};
}

/* Its answer, also a no, which is put down under its name; *ret_code: -1 if a signal ended it. */
static int ask(k3sup_op *op, const struct k3sup__service *service, const char *which, const char *command, int64_t longest_ms, int64_t *ret_code)
{
	_cleanup_(k3sup__strv_clear) struct k3sup__strv env = {0};
	_free_ char *what = k3sup__fmt("the %s command", which);
	const struct k3sup__question question = {
		.what = what, .command = command, .env = &env, .deadline = k3sup__deadline(longest_ms), .max_output = MOST_OUTPUT, .refused = K3SUP_E_SERVICE};
	k3sup__json *answer = NULL;
	int r = what ? 0 : -ENOMEM;

	if (r >= 0 && service->main_pid > 0)
		r = k3sup__strv_add(&env, k3sup__fmt("K3SUP_PID=%d", (int)service->main_pid));
	if (r >= 0)
		r = k3sup__ask(op, service->node, &question, &answer);
	if (!answer)
		return r;
	*ret_code = k3sup__json_number(answer, "exit_code", -1);
	k3sup__json_set(service->facts, which, answer);
	return r;
}

static int look(k3sup_op *op, struct k3sup__service *service)
{
	int64_t code = -1;
	int r = ask(op, service, "status", service->commands->status, STATUS_MS, &code);

	if (r < 0 && r != K3SUP_E_SERVICE)
		return r;
	if (r < 0)
		k3sup__op_forgive(op);
	/* 3 is a program's that is not running: of LSB's status action, and systemctl's */
	service->state = code == 0 ? K3SUP__SERVICE_RUNNING : code == 3 ? K3SUP__SERVICE_STOPPED : K3SUP__SERVICE_UNKNOWN;
	return 0;
}

static int order(k3sup_op *op, const struct k3sup__service *service, enum k3sup__order order)
{
	const bool stops = order == K3SUP__ORDER_STOP;
	int64_t code = -1;
	int r;

	if (order == K3SUP__ORDER_RESTART)
		return K3SUP_E_INTERNAL;
	r = ask(op, service, stops ? "stop" : "start", stops ? service->commands->stop : service->commands->start, ORDER_MS, &code);
	if (r != K3SUP_E_SERVICE)
		return r;
	/* It may have done its work all the same. */
	k3sup__op_forgive(op);
	if (code >= 0)
		k3sup__warn(op, "the %s command ended with status %d", stops ? "stop" : "start", (int)code);
	else
		k3sup__warn(op, "the %s command was ended by a signal", stops ? "stop" : "start");
	return 0;
}

const struct k3sup__service_manager k3sup__by_commands = {
	.name = "commands", .halves = true, .look = look, .order = order, .guard = &k3sup__guard_commands};
static const struct k3sup__service_manager beside_systemd = {
	.name = "commands", .halves = true, .look = look, .order = order, .guard = &k3sup__guard_timer};

int k3sup__commands_said(const struct k3sup__service *service, const char *which)
{
	const k3sup__json *answer = k3sup__json_member(service->facts, which);
	int64_t ok = 0;

	return answer ? k3sup__json_as_i64(k3sup__json_member(answer, "ok"), &ok) && ok : -ENOENT;
}

/* Its guard is found again by this name, and runs these very commands: others have another one. */
static int name_it(const struct k3sup__commands *c, char **ret)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL;
	char hex[K3SUP__SHA256_HEX];
	int r = k3sup__digest_new(&digest);

	if (r >= 0)
		r = k3sup__digest_update(digest, c->start, strlen(c->start) + 1);
	if (r >= 0)
		r = k3sup__digest_update(digest, c->status, strlen(c->status) + 1);
	if (r >= 0)
		r = k3sup__digest_finish(digest, hex);
	if (r < 0)
		return r;
	*ret = k3sup__fmt("commands-%.8s", hex);
	return *ret ? 0 : -ENOMEM;
}

/* Where our root is the node's, its systemd can run the same commands, or without one a guardian: that needs process 1's mounts to be ours. */
static int find_guard(k3sup_op *op, struct k3sup__service *service)
{
	int r = k3sup__channel_open(op, service->node, K3SUP__CHANNEL_DIRECT, &service->channel);

	if (r > 0)
		r = k3sup__channel_has_dir(op, &service->channel, "/run/systemd/system");
	if (r != 0) {
		service->manager = &beside_systemd;
		return r;
	}
	k3sup__channel_clear(&service->channel);
	r = k3sup__guardian_channel(op, service->node, &service->channel);
	if (r > 0 && service->channel.kind != K3SUP__CHANNEL_DIRECT)
		k3sup__channel_clear(&service->channel);
	return r;
}

int k3sup__commands_own(k3sup_op *op, k3sup_node *node, const struct k3sup__commands *commands, const struct k3sup__candidate *candidate,
	struct k3sup__service *ret)
{
	struct k3sup__service service = K3SUP__SERVICE_NONE;
	int r;

	service.manager = &k3sup__by_commands;
	service.node = node;
	service.commands = commands;
	service.main_pid = candidate ? k3sup__process_pid(candidate->process) : 0;
	service.main_start = candidate ? k3sup__process_start_time(candidate->process) : 0;
	service.facts = k3sup__json_object();
	r = name_it(commands, &service.name);
	if (r >= 0)
		r = find_guard(op, &service);
	if (r >= 0)
		r = look(op, &service);
	if (r < 0) {
		k3sup__service_clear(&service);
		return r;
	}
	*ret = service;
	return 0;
}
