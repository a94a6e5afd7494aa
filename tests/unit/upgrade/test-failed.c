/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of failed builds: what is kept of how many, when it is asked, what a damaged one does.
 */
#include "../rooms.h"

#include "base/lock.h"
#include "upgrade/failed.h"

struct question {
	struct k3sup__node_state node;
	void (*ask)(k3sup_op *op, struct question *q);
	struct scratch *s;
};

static int work(k3sup_op *op)
{
	struct question *q = k3sup__op_state(op);

	q->ask(op, q);
	return 0;
}

static int step(k3sup_op *op)
{
	return k3sup__op_woke(op) == K3SUP__WOKE_WORK ? k3sup__op_work_result(op) : k3sup__op_work(op, work);
}

/* Functions of the library want an operation around them. */
static void within(struct scratch *s, void (*ask)(k3sup_op *op, struct question *q))
{
	static const struct k3sup__op_class class = {.verb = "test", .state_size = sizeof(struct question), .step = step};
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	k3sup_op *op = NULL;
	struct question *q;

	assert_int_equal(k3sup__node_op_new(node, &class, K3SUP__NEVER, &op), 0);
	q = k3sup__op_state(op);
	q->ask = ask;
	q->s = s;
	assert_status(op, 0);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
}

static const struct k3sup__build *build(unsigned n)
{
	static struct k3sup__build b;

	b = (struct k3sup__build){.size = 1000 + n};
	(void)snprintf(b.version, sizeof(b.version), "v1.30.%u+k3s1", n);
	(void)snprintf(b.asset_hash, sizeof(b.asset_hash), "%064u", n);
	return &b;
}

static const char *digest(unsigned n)
{
	static char text[65];

	(void)snprintf(text, sizeof(text), "%064u", 7000 + n);
	return text;
}

static size_t count(k3sup_op *op, struct question *q)
{
	k3sup__json *records = NULL;
	size_t n;

	assert_int_equal(k3sup__failed_read(op, q->node.node, &records), 0);
	n = k3sup__json_len(records);
	k3sup__json_unref(records);
	return n;
}

static void ask_newest(k3sup_op *op, struct question *q)
{
	k3sup__json *records = NULL, *one;

	assert_int_equal(count(op, q), 0);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(k3sup__failed_note(op, q->node.node, build(i), digest(i), K3SUP_E_NOT_STABLE, "it ended"), 0);
	assert_int_equal(k3sup__failed_note(op, q->node.node, build(11), digest(11), K3SUP_E_NOT_STABLE, "it ended again"), 0);
	assert_int_equal(k3sup__failed_note_back(op, q->node.node, digest(11), build(3)), 0);
	assert_int_equal(k3sup__failed_read(op, q->node.node, &records), 0);
	assert_int_equal(k3sup__json_len(records), 8);
	assert_null(k3sup__failed_about(records, build(3)));
	one = k3sup__failed_about(records, build(11));
	assert_int_equal(k3sup__json_number(one, "times", 0), 2);
	assert_string_equal(k3sup__json_text(one, "text"), "it ended again");
	assert_string_equal(k3sup__json_text(one, "reason"), "K3SUP_E_NOT_STABLE");
	assert_true(k3sup__json_number(one, "at", 0) > 0);
	assert_ptr_equal(k3sup__failed_back_to(records, build(3)), one);
	assert_null(k3sup__failed_back_to(records, build(4)));
	assert_int_equal(k3sup__failed_refuse(NULL, one), K3SUP_E_FAILED_BEFORE);
	k3sup__json_unref(records);
}

static void the_newest_are_kept(void **state)
{
	struct scratch *s = *state;

	within(s, ask_newest);
	assert_int_equal(stat_below(s, K3SUP__STATE_DIR "/" K3SUP__FAILED_NAME).st_mode & 07777, 0600);
}

static void ask_proven(k3sup_op *op, struct question *q)
{
	k3sup__json *records = NULL;

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(k3sup__failed_note(op, q->node.node, build(i), digest(i), K3SUP_E_NOT_STABLE, "it ended"), 0);
	assert_int_equal(k3sup__failed_note_back(op, q->node.node, digest(1), build(5)), 0);
	assert_int_equal(k3sup__failed_proven(op, q->node.node, build(0)), 0);
	assert_int_equal(k3sup__failed_read(op, q->node.node, &records), 0);
	assert_int_equal(k3sup__json_len(records), 1);
	assert_non_null(k3sup__failed_about(records, build(1)));
	assert_null(k3sup__failed_back_to(records, build(5)));
	k3sup__json_unref(records);
}

static void proven_once(k3sup_op *op, struct question *q)
{
	assert_int_equal(k3sup__failed_proven(op, q->node.node, build(9)), 0);
}

static void what_is_proven_is_forgotten(void **state)
{
	struct scratch *s = *state;
	struct stat before, after;

	within(s, ask_proven);
	before = stat_below(s, K3SUP__STATE_DIR "/" K3SUP__FAILED_NAME);
	within(s, proven_once); /* nothing new: nothing is written */
	after = stat_below(s, K3SUP__STATE_DIR "/" K3SUP__FAILED_NAME);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void ask_same(k3sup_op *op, struct question *q)
{
	_free_ char *path = below(q->s, PAYLOAD);
	struct k3sup__payload p = K3SUP__PAYLOAD_NONE;
	k3sup__json *records = NULL, *one;

	assert_int_equal(k3sup__failed_note(op, q->node.node, build(1), digest(1), K3SUP_E_NOT_STABLE, "it ended"), 0);
	assert_int_equal(k3sup__failed_read(op, q->node.node, &records), 0);
	p.build = *build(2);
	assert_int_equal(k3sup__failed_find(op, records, &p, &one), 0); /* not even opened: another build */
	p.build = *build(1);
	strcpy(p.sha256, digest(1));
	assert_int_equal(k3sup__failed_find(op, records, &p, &one), 1);
	assert_ptr_equal(one, k3sup__failed_about(records, build(1)));
	p.sha256[0] = '\0';
	p.fd = open(path, O_RDONLY | O_CLOEXEC);
	p.shown = path;
	assert_int_equal(k3sup__failed_find(op, records, &p, &one), 0); /* other bytes */
	close(p.fd);
	k3sup__json_unref(records);
}

static void only_the_same_bytes_are_meant(void **state)
{
	struct scratch *s = *state;

	put_file(s->fd, "payload", "", 0);
	assert_int_equal(unlinkat(s->fd, "payload", 0), 0);
	put_wrapper(s, PAYLOAD, 1);
	within(s, ask_same);
}

static void ask_damaged(k3sup_op *op, struct question *q)
{
	assert_int_equal(count(op, q), 0);
	assert_non_null(strstr(k3sup__json_as_str(k3sup__json_element(k3sup__json_member(k3sup__op_facts(op), "warnings"), 0)), "damaged"));
	assert_null(k3sup__op_sentence(op));
	assert_int_equal(k3sup__failed_note(op, q->node.node, build(1), digest(1), K3SUP_E_NOT_STABLE, "it ended"), 0);
	assert_int_equal(count(op, q), 1);
}

static void a_damaged_memory_is_a_warning_and_made_anew(void **state)
{
	static const char *const texts[] = {"", "{", "[]", "{\"failed\":", "{\"other\":[]}"};
	struct scratch *s = *state;
	_free_ char *path = below(s, K3SUP__STATE_DIR "/" K3SUP__FAILED_NAME);

	within(s, proven_once);
	put_wrapper(s, K3SUP__STATE_DIR "/x", 1);
	{
		_free_ char *dir = below(s, K3SUP__STATE_DIR);

		assert_int_equal(chmod(dir, 0700), 0);
	}
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		assert_int_equal(k3sup__write_full(fd, texts[i], strlen(texts[i])), 0);
		close(fd);
		within(s, ask_damaged);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(the_newest_are_kept),
		scratch_test(what_is_proven_is_forgotten),
		scratch_test(only_the_same_bytes_are_meant),
		scratch_test(a_damaged_memory_is_a_warning_and_made_anew),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, rooms_build, fake_remove);
}
