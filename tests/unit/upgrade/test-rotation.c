/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rotation has to do, told by fingerprints and the journal: done once under a key, again when something of it comes back, gone on with where it was cut. The whole verb is in
 * tests/system/test_rotate.py.
 */
#include "../certs/tree.h"

#include <k3sup/certs.h>

#include "upgrade/rotation.h"

#define ADMIN "server/tls/client-admin"
#define KUBELET "agent/client-kubelet"

struct fixture {
	struct tree *t;
	k3sup_node *node;
	struct k3sup__rotation rotation;
};

static int64_t today(void)
{
	return (int64_t)time(NULL);
}

static void put(struct fixture *f, const char *pair)
{
	put_leaf(f->t, pair_of(pair), today() - DAYS(1), today() + DAYS(100), NULL, NULL);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *tree = NULL;

	assert_non_null(f);
	assert_int_equal(tree_setup(&tree), 0);
	f->t = tree;
	for (enum k3sup__ca ca = 0; ca < K3SUP__N_CAS; ca++) {
		struct template self = {.cn = "authority", .ca = true, .from = today() - DAYS(2), .until = today() + DAYS(3650)};
		_free_ char *crt = k3sup__fmt("%s.crt", k3sup__ca_paths[ca]);

		X509_free(f->t->cas[ca].cert);
		f->t->cas[ca].cert = new_cert(&self, f->t->cas[ca].key, NULL);
		put_certs(f->t, crt, f->t->cas[ca].cert, NULL);
	}
	put_copies(f->t);
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		put(f, k3sup__pairs[i].path);
	assert_int_equal(k3sup_node_new(f->t->s->ctx,
				 &(struct k3sup_node_opts){.struct_size = sizeof(struct k3sup_node_opts), .root = f->t->s->path, .data_dir = "/"},
				 &f->node),
		0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *tree = f->t;

	k3sup__rotation_clear(&f->rotation);
	k3sup_node_unref(f->node);
	free(f);
	return tree_teardown(&tree);
}

#define rotation_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* What the next run finds. */
static void look_for(struct fixture *f, const char *key, int64_t within, const char *const *services)
{
	k3sup__rotation_clear(&f->rotation);
	assert_int_equal(k3sup__rotation_take(key, within, services, 0, 0, &f->rotation), 0);
	assert_int_equal(k3sup__rotation_look(f->t->s->op, f->node, &f->rotation), 0);
}

static void retire(struct fixture *f)
{
	assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, false), 0);
	assert_int_equal(k3sup__rotation_retire(f->t->s->op, f->node, &f->rotation, NULL), 0);
	assert_true(f->rotation.retired);
}

/* As k3s does at its start: whatever is not there. */
static void start(struct fixture *f)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++) {
		_free_ char *key = k3sup__fmt("%s.key", k3sup__pairs[i].path);

		if (faccessat(f->t->s->fd, key, F_OK, 0) < 0)
			put(f, k3sup__pairs[i].path);
	}
}

static void rotate(struct fixture *f, const char *key)
{
	look_for(f, key, -1, NULL);
	assert_false(f->rotation.done);
	retire(f);
	start(f);
	assert_int_equal(k3sup__rotation_close(f->t->s->op, f->node, &f->rotation, 0), 0);
}

static void the_same_key_again_finds_nothing_to_do(void **state)
{
	struct fixture *f = *state;

	rotate(f, "a");
	look_for(f, "a", -1, NULL);
	assert_true(f->rotation.done && !f->rotation.resumed && !f->rotation.id[0]);
	look_for(f, "b", -1, NULL);
	assert_false(f->rotation.done);
	look_for(f, "a", -1, (const char *const[]){"admin", NULL});
	assert_false(f->rotation.done); /* another rotation: of other services */
	rotate(f, "b");
	look_for(f, "a", -1, NULL);
	assert_true(f->rotation.done);
}

static void one_that_comes_back_is_retired_again(void **state)
{
	struct fixture *f = *state;
	_free_ char *was = NULL;
	size_t len;

	assert_int_equal(k3sup__read_file(f->t->s->fd, ADMIN ".crt", 1 << 20, &was, &len), 0);
	rotate(f, "a");
	put_text(f->t, ADMIN ".crt", 0644, was);
	look_for(f, "a", -1, NULL);
	assert_false(f->rotation.done);
}

static void it_goes_on_where_it_was_cut(void **state)
{
	struct fixture *f = *state;

	put_listener(f->t, &f->t->cas[K3SUP__CA_SERVER], today() + DAYS(100), NULL);
	look_for(f, "a", -1, NULL);
	assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, false), 0);
	look_for(f, "a", -1, NULL); /* cut before anything was taken away */
	assert_true(f->rotation.resumed && !f->rotation.done && !f->rotation.ours);
	retire(f);
	look_for(f, "a", -1, NULL); /* cut before k3s was started */
	assert_true(f->rotation.resumed && f->rotation.done);
	start(f);
	look_for(f, "a", -1, NULL); /* cut before that was proven; and before k3s has replaced the listener's certificate */
	assert_true(f->rotation.resumed && f->rotation.done);
	put_listener(f->t, &f->t->cas[K3SUP__CA_SERVER], today() + DAYS(101), NULL);
	look_for(f, "a", -1, NULL);
	assert_true(f->rotation.resumed && f->rotation.done);
	look_for(f, "b", -1, NULL);
	assert_true(!f->rotation.resumed && f->rotation.older && !f->rotation.done);
}

static void new_certificates_with_the_old_keys_are_no_rotation(void **state)
{
	struct fixture *f = *state;
	const struct k3sup__pair *kubelet = pair_of(KUBELET);
	_free_ char *key = NULL;
	const char *const services[] = {"kubelet", NULL};
	size_t len;

	assert_int_equal(k3sup__read_file(f->t->s->fd, KUBELET ".key", 1 << 20, &key, &len), 0);
	look_for(f, "a", -1, services);
	assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, false), 0);
	for (size_t i = 0; i < k3sup__n_pairs; i++) /* an agent's certificates are new after each start */
		put(f, k3sup__pairs[i].path);
	put_text(f->t, KUBELET ".key", 0600, key);
	look_for(f, "a", -1, services);
	assert_true(f->rotation.resumed && !f->rotation.done);
	put(f, kubelet->path); /* cut after the last file was removed, and before that was noted */
	look_for(f, "a", -1, services);
	assert_true(f->rotation.resumed && f->rotation.done);
}

static void dates_count_where_they_are_asked_for(void **state)
{
	struct fixture *f = *state;

	look_for(f, NULL, 99, NULL);
	assert_true(f->rotation.done);
	look_for(f, NULL, 100, NULL);
	assert_false(f->rotation.done);
	look_for(f, "a", 99, NULL);
	assert_true(f->rotation.done);
	look_for(f, "a", 100, NULL);
	assert_false(f->rotation.done);
	put_leaf(f->t, pair_of(ADMIN), today() - DAYS(1), today() + DAYS(9), NULL, NULL);
	look_for(f, NULL, 10, NULL);
	assert_false(f->rotation.done);
	look_for(f, NULL, 10, (const char *const[]){"kubelet", NULL});
	assert_true(f->rotation.done);
}

static void who_has_stopped_k3s(void **state)
{
	struct fixture *f = *state;

	look_for(f, "a", -1, NULL);
	assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, true), 0);
	look_for(f, "a", -1, NULL);
	assert_true(f->rotation.ours);
	look_for(f, "b", -1, NULL); /* under whatever key: it is owed a start */
	assert_true(f->rotation.ours && !f->rotation.resumed);
	look_for(f, "a", -1, NULL);
	assert_int_equal(k3sup__rotation_started(f->t->s->op, f->node, &f->rotation), 0);
	look_for(f, "a", -1, NULL);
	assert_false(f->rotation.ours);
	assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, true), 0);
	look_for(f, "a", -1, NULL);
	assert_true(f->rotation.ours);
	assert_int_equal(k3sup__rotation_close(f->t->s->op, f->node, &f->rotation, 0), 0);
	look_for(f, "a", -1, NULL);
	assert_false(f->rotation.ours);
}

/* The listener's certificate is still the old one, and k3s will not make another. */
static void what_failed_is_retired_once_more(void **state)
{
	struct fixture *f = *state;

	put_listener(f->t, &f->t->cas[K3SUP__CA_SERVER], today() + DAYS(100), NULL);
	look_for(f, "a", -1, NULL);
	for (int i = 0; i < 2; i++) {
		assert_false(f->rotation.done);
		retire(f);
		start(f);
		assert_int_equal(k3sup__rotation_pending(f->t->s->op, f->node, &f->rotation), 0);
		look_for(f, "a", -1, NULL); /* cut, or too early: nobody has waited in vain */
		assert_true(f->rotation.done);
		f->rotation.failed = true;
		for (int again = 0; again < 2; again++)
			assert_int_equal(k3sup__rotation_pending(f->t->s->op, f->node, &f->rotation), 0);
		look_for(f, "a", -1, NULL);
		assert_true(f->rotation.resumed);
	}
	assert_true(f->rotation.done);
	put_listener(f->t, &f->t->cas[K3SUP__CA_SERVER], today() + DAYS(101), NULL);
	look_for(f, "a", -1, NULL);
	assert_int_equal(k3sup__rotation_close(f->t->s->op, f->node, &f->rotation, 0), 0);
	look_for(f, "a", -1, NULL);
	assert_true(f->rotation.done && !f->rotation.resumed);
}

static void success_is_the_end_of_all_that_was_left_open(void **state)
{
	struct fixture *f = *state;

	for (const char *key = "ab"; *key; key++) {
		const char one[] = {*key, '\0'};

		look_for(f, one, -1, NULL);
		assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, false), 0);
	}
	look_for(f, "b", -1, NULL);
	assert_true(f->rotation.resumed);
	retire(f);
	start(f);
	assert_int_equal(k3sup__rotation_close(f->t->s->op, f->node, &f->rotation, 0), 0);
	look_for(f, "a", -1, NULL);
	assert_true(!f->rotation.resumed && !f->rotation.older && !f->rotation.done);
}

static void one_that_touched_nothing_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	look_for(f, "a", -1, NULL);
	assert_int_equal(k3sup__rotation_open(f->t->s->op, f->node, &f->rotation, true), 0);
	assert_int_equal(k3sup__rotation_close(f->t->s->op, f->node, &f->rotation, K3SUP_E_GUARD), 0);
	look_for(f, "a", -1, NULL);
	assert_true(!f->rotation.resumed && !f->rotation.done && !f->rotation.ours);
}

static void wishes_that_make_no_sense(void **state)
{
	struct k3sup__rotation rotation = {0};
	char key[300] = "";

	(void)state;
	memset(key, 'k', sizeof(key) - 1);
	assert_int_equal(k3sup__rotation_take("", -1, NULL, 0, 0, &rotation), -EINVAL);
	assert_int_equal(k3sup__rotation_take(key, -1, NULL, 0, 0, &rotation), -EINVAL);
	assert_int_equal(k3sup__rotation_take("\xff", -1, NULL, 0, 0, &rotation), -EINVAL); /* it would be another one in the journal */
	assert_int_equal(k3sup__rotation_take(NULL, 36501, NULL, 0, 0, &rotation), -EINVAL);
	assert_int_equal(k3sup__rotation_take("k", -1, (const char *const[]){"certificate-authority", NULL}, 0, 0, &rotation), -EINVAL);
	assert_int_equal(k3sup__rotation_take("k", -1, (const char *const[]){"etcd", "admin", "etcd", NULL}, 0, 0, &rotation), 0);
	assert_int_equal(rotation.retiring.services.count, 2);
	k3sup__rotation_clear(&rotation);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rotation_test(the_same_key_again_finds_nothing_to_do),
		rotation_test(one_that_comes_back_is_retired_again),
		rotation_test(it_goes_on_where_it_was_cut),
		rotation_test(new_certificates_with_the_old_keys_are_no_rotation),
		rotation_test(dates_count_where_they_are_asked_for),
		rotation_test(who_has_stopped_k3s),
		rotation_test(what_failed_is_retired_once_more),
		rotation_test(success_is_the_end_of_all_that_was_left_open),
		rotation_test(one_that_touched_nothing_leaves_nothing),
		cmocka_unit_test(wishes_that_make_no_sense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
