/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/doc.h>
#include <k3sup/error.h>

#include "base/doc.h"

#include <stdatomic.h>

struct k3sup_doc {
	atomic_uint refs;
	k3sup_doc *whole; /* of a part: the document that owns the value, else NULL. jansson's own counting of references is not free of races */
	k3sup__json *value;
	char *text; /* made at once, so that a document never changes and any thread may read it */
};

static int make(k3sup__json *value, k3sup_doc *whole, k3sup_doc **ret)
{
	k3sup_doc *doc = calloc(1, sizeof(*doc));

	if (doc)
		doc->text = k3sup__json_dump(value);
	if (!doc || !doc->text) {
		free(doc);
		return -ENOMEM;
	}
	atomic_init(&doc->refs, 1);
	doc->whole = k3sup_doc_ref(whole);
	doc->value = value;
	*ret = doc;
	return 0;
}

int k3sup__doc_new(k3sup__json *value, k3sup_doc **ret)
{
	int r = make(value, NULL, ret);

	if (r < 0)
		k3sup__json_unref(value);
	return r;
}

const k3sup__json *k3sup__doc_value(const k3sup_doc *doc)
{
	return doc->value;
}

k3sup_doc *k3sup_doc_ref(k3sup_doc *doc)
{
	if (doc)
		atomic_fetch_add_explicit(&doc->refs, 1, memory_order_relaxed);
	return doc;
}

k3sup_doc *k3sup_doc_unref(k3sup_doc *doc)
{
	if (doc && atomic_fetch_sub_explicit(&doc->refs, 1, memory_order_acq_rel) == 1) {
		if (doc->whole)
			k3sup_doc_unref(doc->whole);
		else
			k3sup__json_unref(doc->value);
		free(doc->text);
		free(doc);
	}
	return NULL;
}

int k3sup_doc_parse(const char *json, size_t len, k3sup_doc **ret_doc)
{
	k3sup__json *value = NULL;
	int r;

	if (!json || !ret_doc)
		return -EINVAL;
	r = k3sup__json_parse(json, len, &value);
	if (r < 0)
		return r;
	return k3sup__doc_new(value, ret_doc);
}

const char *k3sup_doc_json(k3sup_doc *doc)
{
	return doc ? doc->text : NULL;
}

static int find(k3sup_doc *doc, const char *path, k3sup__json **ret)
{
	if (!doc || !path || (path[0] != '\0' && path[0] != '/'))
		return -EINVAL;
	*ret = k3sup__json_pointer(doc->value, path);
	return *ret ? 0 : -ENOENT;
}

int k3sup_doc_get(k3sup_doc *doc, const char *path, k3sup_doc **ret_part)
{
	k3sup__json *part;
	int r = ret_part ? find(doc, path, &part) : -EINVAL;

	return r < 0 ? r : make(part, doc->whole ? doc->whole : doc, ret_part);
}

int64_t k3sup_doc_len(k3sup_doc *doc, const char *path)
{
	k3sup__json *part;
	int r = find(doc, path, &part);

	if (r < 0)
		return r;
	return k3sup__json_is_container(part) ? (int64_t)k3sup__json_len(part) : -EPROTOTYPE;
}

int k3sup_doc_str(k3sup_doc *doc, const char *path, const char **ret_text)
{
	k3sup__json *part;
	int r = ret_text ? find(doc, path, &part) : -EINVAL;

	if (r < 0)
		return r;
	if (k3sup__json_is_null(part))
		return -ENOENT;
	if (!k3sup__json_as_str(part))
		return -EPROTOTYPE;
	*ret_text = k3sup__json_as_str(part);
	return 0;
}

int k3sup_doc_i64(k3sup_doc *doc, const char *path, int64_t *ret_value)
{
	k3sup__json *part;
	int r = ret_value ? find(doc, path, &part) : -EINVAL;

	if (r < 0)
		return r;
	if (k3sup__json_is_null(part))
		return -ENOENT;
	return k3sup__json_as_i64(part, ret_value) ? 0 : -EPROTOTYPE;
}
