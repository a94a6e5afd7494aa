/* SPDX-License-Identifier: Apache-2.0 */
#include "swap/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/attrs.h"
#include "base/child.h"
#include "node/datadir.h"
#include "node/version.h"
#include "node/warn.h"

#define TIME_MS 600000 /* two seconds on an ordinary machine, minutes on an SD card */
#define MAX_OUTPUT 16384
#define PLACES 2
#define DEEPEST 4

/* What is there, in the places that k3s would look into, and what was done. */
struct unpacking {
	k3sup_op *op;
	k3sup_node *node;
	const struct k3sup__unpack *want;
	const char *dirs[PLACES];
	size_t count;
	struct k3sup__unpacked now[PLACES];
	k3sup__json *torn;
	char *before; /* where current led */
	unsigned relabelled;
	bool ran, put_aside, dropped;
};

static void unpacking_clear(struct unpacking *u)
{
	for (size_t i = 0; i < u->count; i++)
		k3sup__unpacked_clear(&u->now[i]);
	k3sup__json_unref(u->torn);
	free(u->before);
}

/* ---- telling ---- */

static char *current_of(const struct k3sup__unpacked *u)
{
	_close_ int fd = u->data.fd < 0 ? -1 : openat(u->data.fd, "current", O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? NULL : k3sup__link_text(fd);
}

/* Of a server and an agent with a data-dir each the second one comes behind the first. */
static void tell(k3sup_op *op, k3sup__json *one)
{
	k3sup__json *first = k3sup__json_member(k3sup__op_facts(op), "unpacked"), *others;

	if (!first) {
		k3sup__json_set(k3sup__op_facts(op), "unpacked", one);
		return;
	}
	others = k3sup__json_array();
	k3sup__json_add(others, one);
	k3sup__json_set(first, "others", others);
}

static void report(struct unpacking *u, const struct k3sup__unpacked *there)
{
	_free_ char *current = current_of(&u->now[0]);
	k3sup__json *one = k3sup__json_object(), *links;

	k3sup__json_set_str(one, "action", u->ran ? "unpack" : "none");
	k3sup__json_set_str(one, "path", there->path);
	k3sup__json_set_bool(one, "checked", there->form == K3SUP__UNPACKED_WHOLE);
	k3sup__json_set_int(one, "files", there->files);
	k3sup__json_set_int(one, "bytes", (int64_t)there->bytes);
	if (u->relabelled > 0)
		k3sup__json_set_int(one, "relabelled", u->relabelled);
	if (k3sup__json_len(u->torn) > 0)
		k3sup__json_set(one, "torn", k3sup__json_ref(u->torn));
	if (current) {
		links = k3sup__json_object();
		k3sup__json_set_str(links, "now", current);
		if (u->before && !k3sup__streq(u->before, current))
			k3sup__json_set_str(links, "before", u->before);
		k3sup__json_set(one, "current", links);
	}
	tell(u->op, one);
}

void k3sup__unpack_skip(k3sup_op *op, const char *reason)
{
	k3sup__json *one = k3sup__json_object();

	k3sup__json_set_str(one, "action", "skip");
	k3sup__json_set_str(one, "reason", reason);
	tell(op, one);
}

/* ---- looking ---- */

static bool is_there(const struct k3sup__unpacked *u)
{
	return u->form == K3SUP__UNPACKED_WHOLE || u->form == K3SUP__UNPACKED_UNKNOWN;
}

/* Whichever k3s will choose: releases do not agree in which order they look, so none of the copies may be torn. */
static int look(struct unpacking *u)
{
	u->dirs[u->count++] = u->want->data_dir;
	if (!k3sup__streq(u->want->data_dir, K3SUP__DEFAULT_DATA_DIR))
		u->dirs[u->count++] = K3SUP__DEFAULT_DATA_DIR;
	for (size_t i = 0; i < PLACES; i++)
		u->now[i] = K3SUP__UNPACKED_EMPTY;
	for (size_t i = 0; i < u->count; i++) {
		int r = k3sup__unpacked_look(u->op, u->node, u->dirs[i], u->want->build, false, &u->now[i]);

		if (r < 0)
			return r;
	}
	u->before = current_of(&u->now[0]);
	return 0;
}

static const struct k3sup__unpacked *find_whole(const struct unpacking *u)
{
	for (size_t i = 0; i < u->count; i++)
		if (is_there(&u->now[i]))
			return &u->now[i];
	return NULL;
}

/* ---- torn ones ---- */

static int put_aside(struct unpacking *u, const struct k3sup__unpacked *torn)
{
	k3sup__json *one = k3sup__json_object();
	int r = k3sup__unpacked_put_aside(u->op, u->node, torn);

	k3sup__json_set_str(one, "path", torn->path);
	k3sup__json_set_str(one, "why", torn->why);
	k3sup__json_set_bool(one, "put_aside", r >= 0);
	k3sup__json_add(u->torn, one);
	if (r == K3SUP_E_TORN)
		k3sup__json_set(k3sup__op_evidence(u->op), "torn", k3sup__json_ref(u->torn));
	if (r >= 0)
		k3sup__warn(u->op, "%s was torn (%s): no k3s would ever have repaired it, and it is unpacked anew", torn->path, torn->why);
	return r;
}

static int put_all_aside(struct unpacking *u)
{
	int r = 0;

	u->torn = k3sup__json_array();
	for (size_t i = 0; r >= 0 && i < u->count; i++)
		if (u->now[i].form == K3SUP__UNPACKED_TORN) {
			r = put_aside(u, &u->now[i]);
			u->put_aside |= r >= 0;
		}
	return r;
}

/* ---- running it ---- */

static bool is_before_21(const struct k3sup__build *build)
{
	struct k3sup__version version;

	return k3sup__version_parse(build->version, strlen(build->version), &version) == 0 && version.major == 1 && version.minor < 21;
}

static bool says_full(const char *output)
{
	return strstr(output, "no space left on device") != NULL || strstr(output, "disk quota exceeded") != NULL;
}

static int fail_said(struct unpacking *u, int code, const struct k3sup__child_result *said, const char *how)
{
	k3sup__json *evidence = k3sup__op_evidence(u->op);

	k3sup__json_set_str(evidence, "said", said->output);
	k3sup__json_set_int(evidence, said->exit_code < 0 ? "signal" : "exit_status", said->exit_code < 0 ? said->term_signal : said->exit_code);
	return k3sup__fail(u->op, code, "%s cannot unpack itself into %s: %s; k3s was not touched", u->want->shown, u->want->data_dir, how);
}

/* It has unpacked what is whole, or it has not; how it ended is a second question. */
static int judge(struct unpacking *u, const struct k3sup__child_result *said)
{
	const struct k3sup__unpacked *made = &u->now[0];
	bool full = says_full(said->output);
	_free_ char *how = NULL;

	if (made->form == K3SUP__UNPACKED_TORN)
		how = k3sup__fmt("it made %s, but that is torn (%s)", made->path, made->why);
	else if (said->timed_out)
		how = k3sup__fmt("it was not done after %d s", TIME_MS / 1000);
	else if (said->exit_code < 0)
		how = k3sup__fmt("signal %d ended it", said->term_signal);
	else if (made->form == K3SUP__UNPACKED_NONE)
		how = k3sup__fmt("%s (exit status %d)", full ? "there is no room" : "it did not make the directory", said->exit_code);
	/* The program inside was killed for some reason of the moment (no memory), or does not know an option: what was unpacked is whole. */
	if (is_there(made) && (said->exit_code >= 0 || said->timed_out || said->term_signal == SIGKILL))
		return 0;
	return how ? fail_said(u, full && !is_there(made) ? K3SUP_E_DATA_DIR_SPACE : K3SUP_E_UNPACK, said, how) : -ENOMEM;
}

static int run_child(struct unpacking *u, struct k3sup__child_result *said)
{
	const struct k3sup__unpack *want = u->want;
	_free_ char *variable = k3sup__fmt("K3S_DATA_DIR=%s", want->data_dir);
	/* No configuration of a user's, and no cluster. */
	const char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent",
		"KUBECONFIG=/dev/null", "KUBERC=off", variable, NULL};
	/* The variable counts since July 2024; before, the option did: in front of the command since v1.21, anywhere until then, though kubectl complains of it afterwards. */
	const char *const by_env[] = {"/k3s", "kubectl", "version", "--client", NULL};
	const char *const by_option[] = {"/k3s", "--data-dir", want->data_dir, "kubectl", "version", "--client", NULL};
	const char *const behind[] = {"/k3s", "kubectl", "version", "--client", "--data-dir", want->data_dir, NULL};
	struct k3sup__child_spec spec = {
		.argv = behind, .env = env, .root_fd = u->node->root.fd, .image = &want->fd, .deadline = k3sup__deadline(TIME_MS), .max_output = MAX_OUTPUT};
	struct stat own;

	if (!variable)
		return -ENOMEM;
	if (k3sup__data_dir_reads_env(want->build->version))
		spec.argv = by_env;
	else if (!is_before_21(want->build))
		spec.argv = by_option;
	/* chroot needs a capability, which nobody needs who is there already. */
	if (stat("/", &own) == 0 && own.st_dev == u->node->root.dev && own.st_ino == u->node->root.ino)
		spec.root_fd = -1;
	return k3sup__child_run(u->op, &spec, said);
}

static int look_again(struct unpacking *u)
{
	struct k3sup__unpacked again = K3SUP__UNPACKED_EMPTY;
	int r = k3sup__unpacked_look(u->op, u->node, u->dirs[0], u->want->build, false, &again);

	if (r >= 0) {
		k3sup__unpacked_clear(&u->now[0]);
		u->now[0] = again;
	}
	return r;
}

static int run(struct unpacking *u, bool *ret_refuse)
{
	struct k3sup__child_result said = {0};
	int r;

	r = run_child(u, &said);
	if (r < 0) {
		*ret_refuse = k3sup__op_checkpoint(u->op) < 0;
		return k3sup__fail(u->op, r, "%s cannot be executed: %s", u->want->shown, k3sup_strerror(r));
	}
	u->ran = true;
	r = look_again(u);
	if (r >= 0)
		r = judge(u, &said);
	/* Nobody has seen it yet, and it would be found there, and never repaired. */
	if (r < 0 && u->now[0].form == K3SUP__UNPACKED_TORN && k3sup__unpacked_put_aside(NULL, u->node, &u->now[0]) >= 0)
		(void)!k3sup__unpacked_drop_aside(NULL, &u->now[0]);
	if (r >= 0 && said.exit_code != 0)
		k3sup__log(u->op, K3SUP_LOG_INFO, "after unpacking, the program inside ended with %s %d: %s",
			said.exit_code < 0 ? "signal" : "exit status", said.exit_code < 0 ? said.term_signal : said.exit_code, said.output);
	k3sup__child_result_clear(&said);
	return r;
}

/* ---- labels ---- */

/*
 * The policy gives shims and runc types of their own when k3s makes them; what is made from a container may get another one, and new pods fail later. The running build's are
 * right by proof.
 */
static int relabel(struct unpacking *u, int from, int to, unsigned depth)
{
	int fd = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = k3sup__attrs_copy_label(from, to);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (!dir) {
		k3sup__close(fd);
		return -errno;
	}
	u->relabelled += r > 0;
	while (r >= 0 && (entry = readdir(dir)) != NULL) {
		_close_ int old = -1, new = -1;
		struct stat st;

		if (k3sup__streq(entry->d_name, ".") || k3sup__streq(entry->d_name, ".."))
			continue;
		old = openat(from, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		new = openat(to, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (old < 0 || new < 0) /* links; and what the running build does not have */
			continue;
		if (depth < DEEPEST && fstat(new, &st) == 0 && S_ISDIR(st.st_mode)) {
			r = relabel(u, old, new, depth + 1);
		} else {
			r = k3sup__attrs_copy_label(old, new);
			u->relabelled += r > 0;
		}
	}
	(void)closedir(dir);
	return r;
}

static int label(struct unpacking *u)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place like = K3SUP__PLACE_NONE;
	const struct k3sup__unpacked *made = &u->now[0];
	_close_ int from = -1, to = -1;
	int r;

	if (!u->want->like)
		return 0;
	r = k3sup__root_find(u->op, &u->node->root, u->want->like, u->node->trust_flags, &like);
	if (r == -ENOENT || (r >= 0 && like.fd < 0))
		return 0;
	if (r >= 0)
		r = from = k3sup__place_open(&like, O_RDONLY | O_DIRECTORY);
	if (r >= 0 && (to = openat(made->data.fd, made->hash, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		r = -errno;
	if (r >= 0)
		r = relabel(u, from, to, 0);
	return r < 0 ? k3sup__fail(u->op, r == -ENOMEM ? r : K3SUP_E_UNPACK, "%s cannot get the security labels of %s: %s", made->path,
			       u->want->like, k3sup_strerror(r))
		     : 0;
}

/* ---- all of it ---- */

/* k3s has synced nothing of it. One call, whatever the number of files. */
static int put_on_disk(struct unpacking *u, const struct k3sup__unpacked *there)
{
	_close_ int fd = openat(there->data.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && syncfs(fd) == 0)
		return 0;
	return k3sup__fail(u->op, -errno, "%s cannot be put on disk: %s", there->path, k3sup_strerror(-errno));
}

static int drop_asides(struct unpacking *u)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < u->count; i++) {
		r = k3sup__unpacked_drop_aside(u->op, &u->now[i]);
		u->dropped |= r > 0;
	}
	return r < 0 ? r : 0;
}

/* Who comes while k3s is about to start has nothing to gain but that. */
static bool want_is_met(const struct unpacking *u)
{
	return u->want->only_torn && !u->put_aside;
}

static int unpack(struct unpacking *u, bool *ret_refuse)
{
	const struct k3sup__unpacked *there;
	int r = look(u);

	if (r >= 0)
		r = put_all_aside(u);
	if (r < 0)
		return r;
	there = find_whole(u);
	if (want_is_met(u))
		return 0;
	if (!there) {
		r = run(u, ret_refuse);
		if (r >= 0)
			r = label(u);
		there = &u->now[0];
	}
	if (r >= 0)
		r = put_on_disk(u, there);
	if (r >= 0)
		r = drop_asides(u);
	if (r >= 0)
		report(u, there);
	return r;
}

int k3sup__unpack_run(k3sup_op *op, k3sup_node *node, const struct k3sup__unpack *want, bool *ret_refuse)
{
	_cleanup_(unpacking_clear) struct unpacking u = {.op = op, .node = node, .want = want};
	int r;

	*ret_refuse = true;
	if (!want->build->wrapper) {
		k3sup__unpack_skip(op, "it is no self-extracting k3s");
		return 0;
	}
	if (want->build->version[0] == '\0') {
		k3sup__unpack_skip(op, "its version is not known, so neither is where it unpacks itself");
		return 0;
	}
	k3sup__op_begin(op, "unpack", "having %s unpack itself into %s, unless it has", want->shown, want->data_dir);
	r = unpack(&u, ret_refuse);
	for (size_t i = 0; r < 0 && i < u.count; i++)
		k3sup__unpacked_take_back(&u.now[i]);
	return r < 0 ? r : u.ran || u.put_aside || u.dropped;
}
