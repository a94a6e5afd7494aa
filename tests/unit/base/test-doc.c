/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <k3sup/error.h>

#include "base/doc.h"

static k3sup_doc *parse(const char *text)
{
	k3sup_doc *doc = NULL;

	assert_int_equal(k3sup_doc_parse(text, strlen(text), &doc), 0);
	return doc;
}

static void a_document_answers_by_path(void **state)
{
	k3sup_doc *doc =
		parse("{\"running\":{\"version\":\"v1.30.1+k3s1\",\"pid\":42,\"ok\":true,\"none\":null,\"load\":0.5},\"list\":[1,2,3]}");
	const char *text = "untouched";
	int64_t number = -1;

	(void)state;
	assert_int_equal(k3sup_doc_str(doc, "/running/version", &text), 0);
	assert_string_equal(text, "v1.30.1+k3s1");
	assert_int_equal(k3sup_doc_i64(doc, "/running/pid", &number), 0);
	assert_int_equal(number, 42);
	assert_int_equal(k3sup_doc_i64(doc, "/running/ok", &number), 0);
	assert_int_equal(number, 1);
	assert_int_equal(k3sup_doc_len(doc, ""), 2);
	assert_int_equal(k3sup_doc_len(doc, "/list"), 3);
	k3sup_doc_unref(doc);
}

static void what_cannot_be_had_is_told_apart_and_touches_nothing(void **state)
{
	k3sup_doc *doc = parse("{\"s\":\"x\",\"i\":1,\"n\":null,\"r\":0.5,\"a\":[]}"), *part = NULL;
	const char *text = NULL;
	int64_t number = -7;

	(void)state;
	assert_int_equal(k3sup_doc_str(doc, "/none", &text), -ENOENT);
	assert_int_equal(k3sup_doc_str(doc, "/n", &text), -ENOENT);
	assert_int_equal(k3sup_doc_str(doc, "/i", &text), -EPROTOTYPE);
	assert_int_equal(k3sup_doc_str(doc, "s", &text), -EINVAL);
	assert_int_equal(k3sup_doc_str(doc, NULL, &text), -EINVAL);
	assert_int_equal(k3sup_doc_str(NULL, "/s", &text), -EINVAL);
	assert_int_equal(k3sup_doc_str(doc, "/s", NULL), -EINVAL);
	assert_int_equal(k3sup_doc_i64(doc, "/none", &number), -ENOENT);
	assert_int_equal(k3sup_doc_i64(doc, "/n", &number), -ENOENT);
	assert_int_equal(k3sup_doc_i64(doc, "/s", &number), -EPROTOTYPE);
	assert_int_equal(k3sup_doc_i64(doc, "/r", &number), -EPROTOTYPE);
	assert_int_equal(k3sup_doc_i64(doc, "/i", NULL), -EINVAL);
	assert_int_equal(k3sup_doc_len(doc, "/none"), -ENOENT);
	assert_int_equal(k3sup_doc_len(doc, "/s"), -EPROTOTYPE);
	assert_int_equal(k3sup_doc_len(doc, "/n"), -EPROTOTYPE);
	assert_int_equal(k3sup_doc_len(NULL, ""), -EINVAL);
	assert_int_equal(k3sup_doc_len(doc, "/a"), 0);
	assert_int_equal(k3sup_doc_get(doc, "/none", &part), -ENOENT);
	assert_int_equal(k3sup_doc_get(doc, "/s", NULL), -EINVAL);
	assert_null(text);
	assert_null(part);
	assert_int_equal(number, -7);
	assert_null(k3sup_doc_json(NULL));
	assert_null(k3sup_doc_unref(NULL));
	assert_null(k3sup_doc_ref(NULL));
	k3sup_doc_unref(doc);
}

static void a_part_outlives_its_document(void **state)
{
	k3sup_doc *doc = parse("{\"a\":{\"b\":[\"deep\"]},\"n\":null}"), *part, *leaf, *none;
	const char *text;

	(void)state;
	assert_int_equal(k3sup_doc_get(doc, "/a", &part), 0);
	assert_int_equal(k3sup_doc_get(doc, "/n", &none), 0);
	assert_int_equal(k3sup_doc_get(part, "/b/0", &leaf), 0);
	k3sup_doc_unref(doc);
	assert_string_equal(k3sup_doc_json(part), "{\"b\":[\"deep\"]}");
	k3sup_doc_unref(part);
	assert_int_equal(k3sup_doc_str(leaf, "", &text), 0);
	assert_string_equal(text, "deep");
	assert_string_equal(k3sup_doc_json(leaf), "\"deep\"");
	assert_string_equal(k3sup_doc_json(none), "null");
	k3sup_doc_unref(leaf);
	k3sup_doc_unref(none);
}

static void parsing_refuses_and_touches_nothing(void **state)
{
	k3sup_doc *doc = NULL;

	(void)state;
	assert_int_equal(k3sup_doc_parse("{", 1, &doc), K3SUP_E_PARSE);
	assert_int_equal(k3sup_doc_parse(NULL, 1, &doc), -EINVAL);
	assert_int_equal(k3sup_doc_parse("1", 1, NULL), -EINVAL);
	assert_int_equal(k3sup_doc_parse("{}", ((size_t)64 << 20) + 1, &doc), -EFBIG);
	assert_null(doc);
	assert_int_equal(k3sup_doc_parse("[1]garbage behind", 3, &doc), 0);
	assert_string_equal(k3sup_doc_json(doc), "[1]");
	k3sup_doc_unref(doc);
}

static void a_broken_value_becomes_no_document(void **state)
{
	k3sup__json *value = k3sup__json_object();
	k3sup_doc *doc = NULL;

	(void)state;
	k3sup__json_set(value, "lost", NULL);
	assert_int_equal(k3sup__doc_new(value, &doc), -ENOMEM);
	assert_int_equal(k3sup__doc_new(NULL, &doc), -ENOMEM);
	assert_null(doc);
}

struct reader {
	k3sup_doc *doc;
	unsigned wrong;
};

static void *read_often(void *arg)
{
	struct reader *r = arg;

	for (int i = 0; i < 2000; i++) {
		k3sup_doc *mine = k3sup_doc_ref(r->doc), *part = NULL;
		const char *text = "";
		int64_t number = 0;

		r->wrong += k3sup_doc_get(mine, "/a", &part) != 0;
		r->wrong += k3sup_doc_str(part, "/0", &text) != 0 || !k3sup__streq(text, "one");
		r->wrong += k3sup_doc_i64(mine, "/n", &number) != 0 || number != 7;
		r->wrong += k3sup_doc_len(mine, "") != 2 || !k3sup__streq(k3sup_doc_json(part), "[\"one\"]");
		k3sup_doc_unref(part);
		k3sup_doc_unref(mine);
	}
	k3sup_doc_unref(r->doc);
	return NULL;
}

static void any_thread_may_read(void **state)
{
	k3sup_doc *doc = parse("{\"a\":[\"one\"],\"n\":7}");
	struct reader readers[4] = {0};
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
		readers[i].doc = k3sup_doc_ref(doc);
		assert_int_equal(pthread_create(&threads[i], NULL, read_often, &readers[i]), 0);
	}
	k3sup_doc_unref(doc); /* one of the readers has the last one */
	for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(readers[i].wrong, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_document_answers_by_path),
		cmocka_unit_test(what_cannot_be_had_is_told_apart_and_touches_nothing),
		cmocka_unit_test(a_part_outlives_its_document),
		cmocka_unit_test(parsing_refuses_and_touches_nothing),
		cmocka_unit_test(a_broken_value_becomes_no_document),
		cmocka_unit_test(any_thread_may_read),
	};

	return cmocka_run_group_tests_name("doc", tests, NULL, NULL);
}
