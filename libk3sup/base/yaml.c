/* SPDX-License-Identifier: Apache-2.0 */
#include "base/yaml.h"

#include <k3sup/error.h>

#include <yaml.h>

#define MAX_TEXT ((size_t)1 << 20)
#define MAX_DEPTH 64u
#define MAX_ANCHORS 1000u
/* Of the value with every alias written out; otherwise a few lines could stand for a document of any size ("billion laughs"). */
#define MAX_NODES 100000u
#define MAX_SCALARS ((size_t)8 << 20)

/* What a value costs. */
struct cost {
	size_t nodes;
	size_t bytes;    /* of its scalars */
	unsigned height; /* levels of nesting in it; 1: a scalar */
};

struct anchor {
	char *name;
	k3sup__json *value; /* NULL while it is being read: it cannot contain itself */
	struct cost cost;
};

struct reader {
	yaml_parser_t parser;
	struct anchor *anchors;
	size_t n_anchors;
	size_t nodes;
	size_t bytes;
	char **ret_why;
	bool go;       /* k3sup__yaml_pairs() */
	bool has_mark; /* a byte order mark within the text */
};

static void reader_clear(struct reader *reader)
{
	for (size_t i = 0; i < reader->n_anchors; i++) {
		free(reader->anchors[i].name);
		k3sup__json_unref(reader->anchors[i].value);
	}
	free(reader->anchors);
	yaml_parser_delete(&reader->parser);
}

static int refuse(struct reader *reader, int code, const yaml_mark_t *at, const char *sentence)
{
	if (reader->ret_why)
		*reader->ret_why = k3sup__fmt("line %zu: %s", at->line + 1, sentence);
	return code;
}

/* What yaml.v2, an older libyaml, takes for something: a colon at the end of a text in a flow, a tag that is none, a byte order mark anywhere. */
static bool go_may_read(const struct reader *reader, const char *problem)
{
	return reader->go &&
		(reader->has_mark || k3sup__streq(problem, "found unexpected ':'") ||
			k3sup__streq(problem, "did not find expected whitespace or line break"));
}

static int next_event(struct reader *reader, yaml_event_t *ret)
{
	const char *problem;

	yaml_parser_t *parser = &reader->parser;

	if (yaml_parser_parse(parser, ret))
		return 0;
	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	problem = parser->problem ? parser->problem : "not YAML";
	/* The reader, which decodes bytes, sets no mark for its problem. */
	return refuse(reader, go_may_read(reader, problem) ? K3SUP_E_UNSUPPORTED : K3SUP_E_PARSE,
		parser->error == YAML_READER_ERROR ? &parser->mark : &parser->problem_mark, problem);
}

static int spend(struct reader *reader, const struct cost *cost, const yaml_event_t *event)
{
	reader->nodes += cost->nodes;
	reader->bytes += cost->bytes;
	if (reader->nodes > MAX_NODES || reader->bytes > MAX_SCALARS)
		return refuse(reader, -EFBIG, &event->start_mark, "too many values");
	return 0;
}

static struct anchor *find_anchor(struct reader *reader, const yaml_char_t *name)
{
	/* The latest of a name counts. */
	for (size_t i = reader->n_anchors; i-- > 0;)
		if (k3sup__streq(reader->anchors[i].name, (const char *)name))
			return &reader->anchors[i];
	return NULL;
}

/* Makes room for the anchored value that begins; *ret_slot is its place, SIZE_MAX if it has no anchor. */
static int begin_anchor(struct reader *reader, const yaml_event_t *event, const yaml_char_t *name, size_t *ret_slot)
{
	struct anchor *bigger;

	*ret_slot = SIZE_MAX;
	if (!name)
		return 0;
	if (reader->n_anchors == MAX_ANCHORS)
		return refuse(reader, -EFBIG, &event->start_mark, "too many anchors");
	bigger = realloc(reader->anchors, (reader->n_anchors + 1) * sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	reader->anchors = bigger;
	bigger[reader->n_anchors] = (struct anchor){.name = strdup((const char *)name)};
	if (!bigger[reader->n_anchors].name)
		return -ENOMEM;
	*ret_slot = reader->n_anchors++;
	return 0;
}

static void end_anchor(struct reader *reader, size_t slot, k3sup__json *value, const struct cost *cost)
{
	if (slot == SIZE_MAX)
		return;
	reader->anchors[slot].value = k3sup__json_ref(value);
	reader->anchors[slot].cost = *cost;
}

static bool is_plain(const yaml_event_t *event)
{
	return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && event->data.scalar.plain_implicit;
}

static bool is_null(const yaml_event_t *event)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
	const char *text = (const char *)event->data.scalar.value;

	if (!is_plain(event))
		return false;
	for (size_t i = 0; i < ELEMENTSOF(nulls); i++)
		if (event->data.scalar.length == strlen(nulls[i]) && k3sup__streq(text, nulls[i]))
			return true;
	return false;
}

static int scalar_value(struct reader *reader, const yaml_event_t *event, k3sup__json **ret)
{
	const char *text = (const char *)event->data.scalar.value;
	_free_ char *go = NULL;
	int r = reader->go && is_plain(event) && !is_null(event) ? k3sup__yaml_go_scalar(text, &go) : 0;

	if (r < 0)
		return r;
	/* They make other values of a text, or fail (resolve.go); and in a flow yaml.v2 takes a comma for a part of the tag, libyaml does not. */
	if (reader->go && event->data.scalar.tag)
		return refuse(reader, K3SUP_E_UNSUPPORTED, &event->start_mark, "a tag, by which k3s may read another value than is written");
	*ret = is_null(event) ? k3sup__json_null() : r > 0 ? k3sup__json_str(go) : k3sup__json_strn(text, event->data.scalar.length);
	return *ret ? 0 : -ENOMEM;
}

static int read_scalar(struct reader *reader, const yaml_event_t *event, struct cost *ret_cost, k3sup__json **ret)
{
	size_t slot;
	int r;

	*ret_cost = (struct cost){.nodes = 1, .bytes = event->data.scalar.length, .height = 1};
	r = spend(reader, ret_cost, event);
	if (r == 0)
		r = begin_anchor(reader, event, event->data.scalar.anchor, &slot);
	if (r == 0)
		r = scalar_value(reader, event, ret);
	if (r < 0)
		return r;
	end_anchor(reader, slot, *ret, ret_cost);
	return 0;
}

static int read_alias(struct reader *reader, const yaml_event_t *event, unsigned depth, struct cost *ret_cost, k3sup__json **ret)
{
	const struct anchor *anchor = find_anchor(reader, event->data.alias.anchor);
	int r;

	if (!anchor)
		return refuse(reader, K3SUP_E_PARSE, &event->start_mark, "an alias of an anchor that is not there");
	if (!anchor->value)
		return refuse(reader, K3SUP_E_PARSE, &event->start_mark, "a value that contains itself");
	if (depth + anchor->cost.height > MAX_DEPTH)
		return refuse(reader, -EFBIG, &event->start_mark, "nested too deeply");
	*ret_cost = anchor->cost;
	r = spend(reader, ret_cost, event);
	if (r < 0)
		return r;
	/* A copy, so that nobody who changes one of them changes the other. */
	*ret = k3sup__json_copy(anchor->value);
	return *ret ? 0 : -ENOMEM;
}

static int read_value(struct reader *reader, const yaml_event_t *event, unsigned depth, struct cost *ret_cost, k3sup__json **ret);

static void add_cost(struct cost *sum, const struct cost *part)
{
	sum->nodes += part->nodes;
	sum->bytes += part->bytes;
	if (part->height + 1 > sum->height)
		sum->height = part->height + 1;
}

static int read_sequence(struct reader *reader, unsigned depth, struct cost *cost, k3sup__json *array)
{
	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t event = {0};
		k3sup__json *value = NULL;
		struct cost part;
		int r = next_event(reader, &event);

		if (r < 0 || event.type == YAML_SEQUENCE_END_EVENT)
			return r;
		r = read_value(reader, &event, depth + 1, &part, &value);
		if (r < 0)
			return r;
		add_cost(cost, &part);
		k3sup__json_add(array, value);
	}
}

/* Go prints whatever is a key. */
static int no_text(struct reader *reader, const yaml_event_t *event)
{
	return refuse(reader, reader->go ? K3SUP_E_UNSUPPORTED : K3SUP_E_PARSE, &event->start_mark, "a key that is no text");
}

/* The text of a key. Keys are scalars, or aliases of scalars. */
static int read_key(struct reader *reader, const yaml_event_t *event, struct cost *ret_cost, char **ret)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
	const char *text = (const char *)event->data.scalar.value;
	int r;

	if (event->type == YAML_ALIAS_EVENT)
		r = read_alias(reader, event, 0, ret_cost, &value);
	else if (event->type == YAML_SCALAR_EVENT)
		r = read_scalar(reader, event, ret_cost, &value);
	else
		return no_text(reader, event);
	if (r < 0)
		return r;
	if (event->type == YAML_ALIAS_EVENT || (reader->go && is_plain(event)))
		text = reader->go && k3sup__json_is_null(value) ? "" : k3sup__json_as_str(value);
	else if (memchr(text, 0, event->data.scalar.length))
		text = NULL;
	if (!text)
		return no_text(reader, event);
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static bool is_merge(const yaml_event_t *key)
{
	return key->type == YAML_SCALAR_EVENT && key->data.scalar.plain_implicit && k3sup__streq((const char *)key->data.scalar.value, "<<");
}

static bool can_be_merged(const k3sup__json *value)
{
	if (!k3sup__json_is_container(value))
		return false;
	for (size_t i = 0; !k3sup__json_is_object(value) && i < k3sup__json_len(value); i++)
		if (!k3sup__json_is_object(k3sup__json_element(value, i)))
			return false;
	return true;
}

static int read_mapping(struct reader *reader, unsigned depth, struct cost *cost, k3sup__json *object)
{
	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t key_event = {0};
		_cleanup_(yaml_event_delete) yaml_event_t event = {0};
		_free_ char *key = NULL;
		k3sup__json *value = NULL;
		struct cost part;
		int r = next_event(reader, &key_event);

		if (r < 0 || key_event.type == YAML_MAPPING_END_EVENT)
			return r;
		r = read_key(reader, &key_event, &part, &key);
		if (r == 0) {
			add_cost(cost, &part);
			r = next_event(reader, &event);
		}
		if (r == 0)
			r = read_value(reader, &event, depth + 1, &part, &value);
		if (r < 0)
			return r;
		add_cost(cost, &part);
		if (depth == 0 && reader->go && !is_merge(&key_event)) {
			k3sup__json *pair = k3sup__json_array();

			k3sup__json_add(pair, k3sup__json_str(key));
			k3sup__json_add(pair, value);
			k3sup__json_add(object, pair);
			continue;
		}
		/* Go's yaml.v2 forgets what is merged into the ordered map that k3s reads (decode.go, mappingSlice), so k3s does not see it. */
		if (!is_merge(&key_event)) {
			k3sup__json_set(object, key, value);
			continue;
		}
		r = reader->go && !can_be_merged(value)
			? refuse(reader, K3SUP_E_PARSE, &event.start_mark, "a merge of something else than keys and values")
			: 0;
		k3sup__json_unref(value);
		if (r < 0)
			return r;
	}
}

static bool has_text(k3sup__json *list)
{
	for (size_t i = 0; i < k3sup__json_len(list); i++)
		if (k3sup__json_as_str(k3sup__json_element(list, i)))
			return true;
	return false;
}

static int read_container(struct reader *reader, const yaml_event_t *event, unsigned depth, struct cost *ret_cost, k3sup__json **ret)
{
	const bool mapping = event->type == YAML_MAPPING_START_EVENT;
	_cleanup_(k3sup__json_unrefp) k3sup__json *value = mapping && !(reader->go && depth == 0) ? k3sup__json_object() : k3sup__json_array();
	struct cost cost = {.nodes = 1, .height = 1};
	size_t slot;
	int r;

	if (!value)
		return -ENOMEM;
	r = spend(reader, &cost, event);
	if (r == 0)
		r = begin_anchor(reader, event, mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor, &slot);
	if (r == 0)
		r = mapping ? read_mapping(reader, depth, &cost, value) : read_sequence(reader, depth, &cost, value);
	/* Of an empty list Go makes an empty list of keys, and of some others a list of empty ones. */
	if (r == 0 && !mapping && reader->go && depth == 0 && k3sup__json_len(value) > 0)
		r = refuse(reader, has_text(value) ? K3SUP_E_PARSE : K3SUP_E_UNSUPPORTED, &event->start_mark,
			"a list where k3s wants keys and values");
	if (r < 0)
		return r;
	end_anchor(reader, slot, value, &cost);
	*ret_cost = cost;
	*ret = value;
	value = NULL;
	return 0;
}

/* The value that begins with this event. depth: how many containers it is in. */
static int read_value(struct reader *reader, const yaml_event_t *event, unsigned depth, struct cost *ret_cost, k3sup__json **ret)
{
	if (depth >= MAX_DEPTH)
		return refuse(reader, -EFBIG, &event->start_mark, "nested too deeply");
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return read_scalar(reader, event, ret_cost, ret);
	case YAML_ALIAS_EVENT:
		return read_alias(reader, event, depth, ret_cost, ret);
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		return read_container(reader, event, depth, ret_cost, ret);
	default:
		return refuse(reader, K3SUP_E_PARSE, &event->start_mark, "a value is missing");
	}
}

/* Skips what comes before the first value. 0 without a value if there is none. */
static int read_first(struct reader *reader, k3sup__json **ret)
{
	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t event = {0};
		struct cost cost;
		int r = next_event(reader, &event);

		if (r < 0 || event.type == YAML_STREAM_END_EVENT)
			return r;
		if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT) {
			_cleanup_(yaml_event_delete) yaml_event_t behind = {0};

			r = read_value(reader, &event, 0, &cost, ret);
			/* Its document ends here, or it is none. */
			return r < 0 ? r : next_event(reader, &behind);
		}
	}
}

static int parse(struct reader *reader, const char *text, size_t len, k3sup__json **ret)
{
	_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
	int r;

	if (!yaml_parser_initialize(&reader->parser))
		return -ENOMEM;
	if (len > MAX_TEXT)
		return refuse(reader, -EFBIG, &(yaml_mark_t){0}, "more than 1 MiB of text");
	reader->has_mark = len > 1 && memmem(text + 1, len - 1, "\xef\xbb\xbf", 3);
	yaml_parser_set_input_string(&reader->parser, (const unsigned char *)text, len);
	r = read_first(reader, &value);
	if (r < 0)
		return r;
	if (!value)
		value = k3sup__json_null();
	if (!value || k3sup__json_broken(value))
		return -ENOMEM;
	*ret = value;
	value = NULL;
	return 0;
}

int k3sup__yaml_parse(const char *text, size_t len, k3sup__json **ret, char **ret_why)
{
	_cleanup_(reader_clear) struct reader reader = {.ret_why = ret_why};

	return parse(&reader, text, len, ret);
}

int k3sup__yaml_pairs(const char *text, size_t len, k3sup__json **ret, char **ret_why)
{
	_cleanup_(reader_clear) struct reader reader = {.ret_why = ret_why, .go = true};
	_cleanup_(k3sup__json_unrefp) k3sup__json *value = NULL;
	int r = parse(&reader, text, len, &value);

	if (r < 0)
		return r;
	if (k3sup__json_as_str(value))
		return refuse(&reader, K3SUP_E_PARSE, &(yaml_mark_t){0}, "a text where k3s wants keys and values");
	*ret = k3sup__json_is_null(value) ? k3sup__json_array() : k3sup__json_ref(value);
	return *ret ? 0 : -ENOMEM;
}
