/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an operation says while it runs: progress and log lines. Said on the worker thread, delivered on the loop thread.
 */
#include "base/engine.h"

#include <stdarg.h>
#include <stdio.h>

#define EVERY_MS 100 /* within one step */

void k3sup__op_plan(k3sup_op *op, const struct k3sup__step *steps, size_t count)
{
	op->steps = steps;
	op->n_steps = count;
	op->step = count; /* none yet */
}

/* Where in 0..1000 this operation is, if its current step is `part` thousandths done. */
static uint64_t permille(const k3sup_op *op, uint64_t part)
{
	uint64_t before = 0, all = 0, own = 0;

	if (op->n_steps > 0 && op->step == op->n_steps)
		return 0; /* none has begun */
	for (size_t i = 0; i < op->n_steps; i++) {
		all += op->steps[i].weight;
		if (i < op->step)
			before += op->steps[i].weight;
		else if (i == op->step)
			own = op->steps[i].weight;
	}
	return all ? (before * 1000 + own * part) / all : part;
}

static void emit(k3sup_op *op, int64_t done, int64_t total, bool new_step)
{
	uint64_t part = done >= 0 && total > 0 ? (uint64_t)(done < total ? done : total) * 1000 / (uint64_t)total : 0;
	bool here = k3sup__ctx_is_driven(op->ctx);
	struct message *message;
	k3sup_op *top = op;
	int64_t now;

	/* A parent that waits for us does not run, so its plan may be read here. Its step is what people want to see. */
	part = permille(op, part);
	for (; top->parent; part = permille(top, part))
		top = top->parent;
	if (here && !top->progress) /* no other thread may look: the callback is the loop thread's */
		return;
	now = k3sup__now_ms();
	if (!new_step && now - top->last_progress < EVERY_MS && (total < 0 || done != total))
		return;
	top->last_progress = now;
	if (part / 10 > top->percent)
		top->percent = (uint32_t)(part / 10);

	message = calloc(1, sizeof(*message));
	if (!message)
		return;
	message->text = strdup(op->step_text ? op->step_text : "");
	message->op = top;
	message->progress = (struct k3sup_progress){
		.struct_size = sizeof(message->progress),
		.percent = top->percent,
		.done = done,
		.total = total,
		.downtime_ms = k3sup__op_downtime(top),
		.step = op->step < op->n_steps ? op->steps[op->step].name : op->class->verb,
		.text = message->text ? message->text : "",
	};
	if (!here) {
		k3sup__worker_say(op->ctx, message);
		return;
	}
	k3sup__progress_call(top, &message->progress);
	free(message->text);
	free(message);
}

/* Loop thread. The operation is still running: it cannot end before its messages were delivered. */
void k3sup__progress_call(k3sup_op *op, const struct k3sup_progress *progress)
{
	int expected = 0;

	if (!op->progress || op->progress(progress, op->progress_data) == 0 || !k3sup__op_can_stop(op))
		return;
	if (atomic_compare_exchange_strong(&op->stop, &expected, K3SUP_E_CALLBACK))
		k3sup__ctx_ask_stop(op->ctx);
}

void k3sup__progress_complete(k3sup_op *op)
{
	if (op->n_steps == 0 || op->parent || op->percent == 100)
		return;
	op->past_return = true; /* the answer does not count any more */
	op->percent = 100;
	emit(op, -1, -1, true);
}

void k3sup__progress_end(k3sup_op *op)
{
	k3sup__json *steps, *one;

	if (!op->step_began || op->step >= op->n_steps)
		return;
	steps = k3sup__json_member(op->facts, "steps");
	if (!steps) {
		k3sup__json_set(op->facts, "steps", k3sup__json_array());
		steps = k3sup__json_member(op->facts, "steps");
	}
	one = k3sup__json_object();
	k3sup__json_set_str(one, "name", op->steps[op->step].name);
	k3sup__json_set_int(one, "ms", k3sup__now_ms() - op->step_began);
	k3sup__json_add(steps, one);
	op->step_began = 0;
}

void k3sup__op_begin(k3sup_op *op, const char *name, const char *fmt, ...)
{
	va_list ap;

	k3sup__progress_end(op);
	op->step_began = k3sup__now_ms();
	for (size_t i = 0; i < op->n_steps; i++)
		if (k3sup__streq(op->steps[i].name, name))
			op->step = i;
	free(op->step_text);
	va_start(ap, fmt);
	if (vasprintf(&op->step_text, fmt, ap) < 0)
		op->step_text = NULL;
	va_end(ap);
	k3sup__log(op, K3SUP_LOG_DEBUG, "%s: %s", name, op->step_text ? op->step_text : "");
	emit(op, -1, -1, true);
}

void k3sup__op_progress(k3sup_op *op, int64_t done, int64_t total)
{
	if (op)
		emit(op, done, total, false);
}

static k3sup_op *outermost(k3sup_op *op)
{
	while (op->parent)
		op = op->parent;
	return op;
}

void k3sup__op_went_down(k3sup_op *op, int64_t at_ms)
{
	op = outermost(op);
	if (!op->down_since)
		op->down_since = at_ms;
}

void k3sup__op_came_up(k3sup_op *op, int64_t at_ms)
{
	op = outermost(op);
	if (!op->down_since)
		return;
	if (op->down_total < 0)
		op->down_total = 0;
	/* Start times come in clock ticks and may seem to be earlier than the end that was just noticed. */
	if (at_ms > op->down_since)
		op->down_total += at_ms - op->down_since;
	op->down_since = 0;
}

int64_t k3sup__op_downtime(const k3sup_op *op)
{
	if (!op->down_since)
		return op->down_total;
	return (op->down_total > 0 ? op->down_total : 0) + k3sup__now_ms() - op->down_since;
}

/* Bytes of the UTF-8 character that begins here; 0 if there is none, or if it is a control character (also of the C1 set: terminals obey them). */
static size_t printable(const unsigned char *c)
{
	static const unsigned char first[] = {0xc2, 0xe0, 0xf0, 0xf5}; /* of 2, 3 and 4 bytes, and past the last one */
	unsigned code;
	size_t n = 2;

	if (c[0] < 0x80)
		return c[0] >= 0x20 && c[0] != 0x7f;
	if (c[0] < first[0] || c[0] >= first[3])
		return 0;
	while (c[0] >= first[n - 1])
		n++;
	code = c[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (c[i] & 0x3fu);
	}
	/* too long a form, UTF-16's surrogates, past the end of Unicode; C1 */
	if ((n == 3 && code < 0x800) || (n == 4 && code < 0x10000) || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff || code < 0xa0)
		return 0;
	return n;
}

/* One line whatever is in it: control bytes of foreign texts (a comm, a path) must not forge lines or move a terminal's cursor. */
_printf_(1, 0) static char *one_line(const char *fmt, va_list ap)
{
	_free_ char *raw = NULL;
	char *line, *at;

	if (vasprintf(&raw, fmt, ap) < 0) {
		raw = NULL;
		return NULL;
	}
	at = line = malloc(strlen(raw) * 4 + 1);
	for (const char *c = raw; line && *c;) {
		size_t n = printable((const unsigned char *)c);

		if (n == 0)
			at += sprintf(at, "\\x%02x", (unsigned char)*c++);
		else
			at = mempcpy(at, c, n);
		c += n;
	}
	if (line)
		*at = '\0';
	return line;
}

void k3sup__log(k3sup_op *op, int32_t level, const char *fmt, ...)
{
	k3sup_ctx *ctx = op ? op->ctx : NULL;
	struct message *message;
	va_list ap;
	char *text;

	if (!ctx || level > ctx->log_level)
		return;
	va_start(ap, fmt);
	text = one_line(fmt, ap);
	va_end(ap);
	if (!text)
		return;
	if (k3sup__ctx_is_driven(ctx)) {
		if (ctx->log)
			ctx->log(level, op->class->verb, text, ctx->log_data);
		free(text);
		return;
	}
	message = calloc(1, sizeof(*message));
	if (!message) {
		free(text);
		return;
	}
	message->level = level;
	message->component = op->class->verb;
	message->text = text;
	k3sup__worker_say(ctx, message);
}

int k3sup__fail(k3sup_op *op, int code, const char *fmt, ...)
{
	va_list ap;

	if (!op || op->failed || op->sealed)
		return code;
	va_start(ap, fmt);
	op->message = one_line(fmt, ap);
	va_end(ap);
	op->failed = true;
	op->fail_code = code;
	return code; /* not logged yet: it may be forgiven */
}

void k3sup__op_seal_failure(k3sup_op *op)
{
	op->sealed = true;
}

int k3sup__op_fail_instead(k3sup_op *op, int code, const char *fmt, ...)
{
	va_list ap;

	free(op->message);
	va_start(ap, fmt);
	op->message = one_line(fmt, ap);
	va_end(ap);
	op->failed = true;
	op->fail_code = code;
	return code;
}

const char *k3sup__op_sentence(const k3sup_op *op)
{
	return op && !op->sealed ? op->message : NULL;
}

void k3sup__op_forgive(k3sup_op *op)
{
	if (!op || op->sealed)
		return;
	free(op->message);
	op->message = NULL;
	op->failed = false;
	k3sup__json_unref(op->evidence);
	op->evidence = NULL;
}
