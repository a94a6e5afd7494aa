/* SPDX-License-Identifier: Apache-2.0 */
#include "elfmake.h"
#include "fake.h"
#include "node/identify.h"

static void put_k3s(struct scratch *s, const char *path, const char *hash)
{
	_free_ char *data = k3sup__fmt("embed/%s.tar.zst", hash), *dir = strdup(path);
	struct elf_spec spec = {.data = data, .data_len = strlen(data)};
	unsigned char *elf;
	size_t len;
	int fd;

	assert_non_null(dir);
	for (char *slash = strchr(dir, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdirat(s->fd, dir, 0755);
		*slash = '/';
	}
	elf = elf_make(&spec, &len);
	fd = openat(s->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, elf, len), 0);
	close(fd);
	free(elf);
}

/* Code, or 0 if `path` was found. */
static int find(struct scratch *s, const char *k3s, const char *running_hash, const char *path)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path, .k3s = k3s};
	struct k3sup__place place = K3SUP__PLACE_NONE;
	k3sup_node *node = NULL;
	int r;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	k3sup__op_forgive(s->op);
	r = k3sup__installed_find(s->op, node, running_hash, &place);
	k3sup_node_unref(node);
	if (r == 0) {
		assert_string_equal(place.path, path);
		assert_true(place.fd >= 0);
	} else {
		assert_int_equal(place.dirfd, -1);
	}
	k3sup__place_clear(&place);
	return r;
}

static void each_usual_place_is_looked_at(void **state)
{
	static const char *const places[] = {"/usr/local/bin/k3s", "/opt/bin/k3s", "/usr/bin/k3s", "/bin/k3s"};
	struct scratch *s = *state;

	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_MISSING);
	assert_sentence(s, "no k3s file is installed");
	for (size_t i = 0; i < ELEMENTSOF(places); i++) {
		put_k3s(s, places[i] + 1, ELF_HASH);
		assert_int_equal(find(s, NULL, NULL, places[i]), 0);
		assert_int_equal(unlinkat(s->fd, places[i] + 1, 0), 0);
	}
}

static void links_are_followed_and_one_file_counts_once(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/bin/k3s", ELF_HASH);
	assert_int_equal(symlinkat("usr/bin", s->fd, "bin"), 0);
	assert_int_equal(mkdirat(s->fd, "opt", 0755), 0);
	assert_int_equal(symlinkat("/usr/bin", s->fd, "opt/bin"), 0);
	assert_int_equal(find(s, NULL, NULL, "/usr/bin/k3s"), 0);
}

static void among_several_the_running_build_decides(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/local/bin/k3s", ELF_HASH);
	put_k3s(s, "opt/bin/k3s", ELF_HASH2);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_AMBIGUOUS);
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_evidence(s->op), "installed")), 2);
	assert_sentence(s, "2 k3s files are installed (/usr/local/bin/k3s, /opt/bin/k3s)");
	assert_int_equal(find(s, NULL, ELF_HASH, "/usr/local/bin/k3s"), 0);
	assert_int_equal(find(s, NULL, ELF_HASH2, "/opt/bin/k3s"), 0);
	assert_int_equal(find(s, NULL, "1111111111111111111111111111111111111111111111111111111111111111", ""), K3SUP_E_TARGET_AMBIGUOUS);
	put_k3s(s, "opt/bin/k3s", ELF_HASH);
	assert_int_equal(find(s, NULL, ELF_HASH, ""), K3SUP_E_TARGET_AMBIGUOUS);
	assert_int_equal(find(s, "/opt/bin/k3s", NULL, "/opt/bin/k3s"), 0);
}

static void a_named_file_is_the_only_one(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/local/bin/k3s", ELF_HASH);
	put_k3s(s, "srv/k3s-armhf", ELF_HASH);
	assert_int_equal(find(s, "/srv/k3s-armhf", NULL, "/srv/k3s-armhf"), 0);
	assert_int_equal(find(s, "/srv/none", NULL, ""), K3SUP_E_TARGET_MISSING);
	assert_sentence(s, "/srv/none does not exist");
	assert_int_equal(find(s, "/nowhere/k3s", NULL, ""), K3SUP_E_TARGET_MISSING);
}

static void what_is_in_the_way_has_a_name(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/local/bin/x", ELF_HASH);
	assert_int_equal(symlinkat("nothing", s->fd, "usr/local/bin/k3s"), 0);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_DANGLING);
	assert_sentence(s, "/usr/local/bin/k3s is a symbolic link to nothing");
	assert_int_equal(unlinkat(s->fd, "usr/local/bin/k3s", 0), 0);
	assert_int_equal(symlinkat("/no/such/directory/k3s", s->fd, "usr/local/bin/k3s"), 0);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_DANGLING);
	assert_int_equal(unlinkat(s->fd, "usr/local/bin/k3s", 0), 0);
	assert_int_equal(symlinkat("k3s", s->fd, "usr/local/bin/k3s"), 0);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_LOOP);
	assert_int_equal(unlinkat(s->fd, "usr/local/bin/k3s", 0), 0);
	assert_int_equal(mkdirat(s->fd, "usr/local/bin/k3s", 0755), 0);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_NOT_FILE);
	put_k3s(s, "usr/bin/k3s", ELF_HASH);
	assert_int_equal(find(s, NULL, NULL, "/usr/bin/k3s"), 0);
}

static void a_file_that_others_can_change_is_refused(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/local/bin/k3s", ELF_HASH);
	put_k3s(s, "usr/bin/k3s", ELF_HASH2);
	assert_int_equal(fchmodat(s->fd, "usr/local/bin", 0777, 0), 0);
	/* The node may run either of them, so the good one is not taken for granted. */
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_UNTRUSTED);
	assert_sentence(s, "/usr/local/bin (mode 0777");
	assert_int_equal(find(s, NULL, ELF_HASH, ""), K3SUP_E_UNTRUSTED);
	assert_int_equal(find(s, NULL, ELF_HASH2, "/usr/bin/k3s"), 0);
	/* A directory without a k3s may be anybody's. */
	assert_int_equal(unlinkat(s->fd, "usr/local/bin/k3s", 0), 0);
	assert_int_equal(find(s, NULL, NULL, "/usr/bin/k3s"), 0);
}

static void put_unit(struct scratch *s, const char *name, const char *target, mode_t mode)
{
	_free_ char *path = k3sup__fmt("/etc/systemd/system/%s", name), *text = k3sup__fmt("[Service]\nExecStart=%s server\n", target);

	write_text(s->path, path, text);
	assert_int_equal(fchmodat(s->fd, path + 1, mode, 0), 0);
}

static void what_a_service_starts_counts(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/local/bin/k3s", ELF_HASH);
	put_k3s(s, "opt/bin/k3s", ELF_HASH2);
	put_k3s(s, "srv/k3s-armhf", ELF_HASH2);
	put_unit(s, "k3s.service", "/srv/k3s-armhf", 0666); /* anybody could have written that */
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_AMBIGUOUS);
	put_unit(s, "k3s.service", "/srv/k3s-armhf", 0644);
	assert_int_equal(find(s, NULL, NULL, "/srv/k3s-armhf"), 0);
	assert_int_equal(find(s, NULL, ELF_HASH, "/srv/k3s-armhf"), 0); /* replaced, and not restarted yet */
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "warnings")), 2);
	assert_int_equal(find(s, "/opt/bin/k3s", NULL, "/opt/bin/k3s"), 0);
	/* The same file by another name, and one of another service. */
	put_unit(s, "k3s-agent.service", "/srv/./k3s-armhf", 0644);
	assert_int_equal(find(s, NULL, NULL, "/srv/k3s-armhf"), 0);
	put_unit(s, "k3s-west.service", "/usr/local/bin/k3s", 0644);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_AMBIGUOUS);
	assert_int_equal(find(s, NULL, ELF_HASH, "/usr/local/bin/k3s"), 0);
	assert_int_equal(find(s, NULL, ELF_HASH2, "/srv/k3s-armhf"), 0);
}

static void a_service_whose_file_is_missing_is_no_leave_to_guess(void **state)
{
	struct scratch *s = *state;

	put_k3s(s, "usr/local/bin/k3s", ELF_HASH);
	put_unit(s, "k3s.service", "/opt/bin/k3s", 0644);
	assert_int_equal(find(s, NULL, NULL, ""), K3SUP_E_TARGET_MISSING);
	assert_sentence(s, "/opt/bin/k3s does not exist, but a service");
	assert_int_equal(find(s, NULL, ELF_HASH2, ""), K3SUP_E_TARGET_MISSING);
	assert_int_equal(find(s, NULL, ELF_HASH, "/usr/local/bin/k3s"), 0); /* that one runs */
	/* What an uninstalled k3s left beside the one that is used. */
	put_unit(s, "k3s-agent.service", "/usr/local/bin/k3s", 0644);
	assert_int_equal(find(s, NULL, NULL, "/usr/local/bin/k3s"), 0);
}

static void what_started_a_process_is_its_file(void **state)
{
	struct scratch *s = *state;
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	struct k3sup__candidate running = {.asset_hash = ELF_HASH2, .target = strdup("/opt/bin/k3s")};
	struct k3sup__place place = K3SUP__PLACE_NONE;
	k3sup_node *node = NULL;

	put_k3s(s, "usr/local/bin/k3s", ELF_HASH);
	put_k3s(s, "opt/bin/k3s", ELF_HASH);
	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	assert_int_equal(k3sup__installed_of(s->op, node, &running, &place), 0);
	assert_string_equal(place.path, "/opt/bin/k3s");
	k3sup__place_clear(&place);
	assert_int_equal(unlinkat(s->fd, "opt/bin/k3s", 0), 0);
	assert_int_equal(k3sup__installed_of(s->op, node, &running, &place), 0);
	assert_string_equal(place.path, "/usr/local/bin/k3s");
	k3sup__place_clear(&place);
	k3sup_node_unref(node);
	free(running.target);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_usual_place_is_looked_at),
		TEST(links_are_followed_and_one_file_counts_once),
		TEST(among_several_the_running_build_decides),
		TEST(a_named_file_is_the_only_one),
		TEST(what_is_in_the_way_has_a_name),
		TEST(a_file_that_others_can_change_is_refused),
		TEST(what_a_service_starts_counts),
		TEST(a_service_whose_file_is_missing_is_no_leave_to_guess),
		TEST(what_started_a_process_is_its_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
