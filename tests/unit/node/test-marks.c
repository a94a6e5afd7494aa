/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks of a caller's own steps: which keys, which boot, how many, what a damaged file does.
 */
#include "../rooms.h"

#define MARKS "/var/lib/k3sup/marks"

static void put_marks(const struct scratch *s, const char *text)
{
	_free_ char *path = below(s, MARKS);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, text, strlen(text)), 0);
	close(fd);
}

static void marked_once_and_for_all(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL), *other = open_node(s->ctx, s->path, NULL);
	struct stat before;

	assert_int_equal(k3sup_node_marked(node, "a"), 0);
	assert_int_equal(stat_below(s, "/var").st_nlink, 0); /* asking makes nothing */
	assert_int_equal(k3sup_node_lock(other), 1);         /* an upgrade that has the lock is no obstacle */
	assert_int_equal(k3sup_node_mark(node, "a"), 1);
	before = stat_below(s, MARKS);
	assert_int_equal(before.st_mode & 07777, 0600);
	assert_int_equal(k3sup_node_mark(node, "a"), 0);
	assert_int_equal(stat_below(s, MARKS).st_ino, before.st_ino);
	assert_int_equal(k3sup_node_marked(node, "a"), K3SUP_MARKED);
	assert_int_equal(k3sup_node_marked(other, "a"), K3SUP_MARKED);
	assert_int_equal(k3sup_node_marked(node, "b"), 0);
	put_marks(s, "[{\"key\":\"a\",\"at\":1,\"boot_id\":\"00000000-0000-0000-0000-000000000000\"}]");
	assert_int_equal(k3sup_node_marked(node, "a"), K3SUP_MARKED_EARLIER);
	assert_int_equal(k3sup_node_mark(node, "a"), 0); /* it keeps its first boot */
	assert_int_equal(k3sup_node_marked(node, "a"), K3SUP_MARKED_EARLIER);
	k3sup_node_unref(other);
	k3sup_node_unref(node);
}

static void keys_are_words(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	static const char *const bad[] = {"", "two words", "tab\t", "line\n", "\x7f", "\xc3\xa4"};
	char longest[202];

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		assert_int_equal(k3sup_node_mark(node, bad[i]), -EINVAL);
		assert_int_equal(k3sup_node_marked(node, bad[i]), -EINVAL);
	}
	assert_int_equal(k3sup_node_mark(node, NULL), -EINVAL);
	assert_int_equal(k3sup_node_mark(NULL, "a"), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[201] = '\0';
	assert_int_equal(k3sup_node_mark(node, longest), -EINVAL);
	longest[200] = '\0';
	assert_int_equal(k3sup_node_mark(node, longest), 1);
	assert_int_equal(k3sup_node_mark(node, "quote\"back\\slash"), 1);
	assert_int_equal(k3sup_node_marked(node, "quote\"back\\slash"), K3SUP_MARKED);
	k3sup_node_unref(node);
}

static void the_oldest_go(void **state)
{
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	char key[8];

	for (int i = 0; i < 258; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(k3sup_node_mark(node, key), 1);
	}
	assert_int_equal(k3sup_node_marked(node, "k0"), 0);
	assert_int_equal(k3sup_node_marked(node, "k1"), 0);
	assert_int_equal(k3sup_node_marked(node, "k2"), K3SUP_MARKED);
	assert_int_equal(k3sup_node_marked(node, "k257"), K3SUP_MARKED);
	k3sup_node_unref(node);
}

static void what_is_damaged_is_not_guessed(void **state)
{
	static const char *const texts[] = {"", "{", "{}", "7", "[{\"key\":\"a\"}"};
	struct scratch *s = *state;
	k3sup_node *node = open_node(s->ctx, s->path, NULL);
	_free_ char *path = below(s, MARKS);

	assert_int_equal(k3sup_node_mark(node, "a"), 1);
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		put_marks(s, texts[i]);
		assert_int_equal(k3sup_node_marked(node, "a"), K3SUP_E_STATE_DIR);
		assert_int_equal(k3sup_node_mark(node, "a"), K3SUP_E_STATE_DIR);
	}
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(k3sup_node_marked(node, "a"), K3SUP_E_STATE_DIR);
	k3sup_node_unref(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(marked_once_and_for_all),
		scratch_test(keys_are_words),
		scratch_test(the_oldest_go),
		scratch_test(what_is_damaged_is_not_guessed),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
