/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include "swap/package.h"

static void put(struct scratch *s, const char *path, const char *content)
{
	_free_ char *dir = strdup(path);

	assert_non_null(dir);
	for (char *slash = strchr(dir, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdirat(s->fd, dir, 0755);
		*slash = '/';
	}
	put_file(s->fd, path, content, 0644);
}

/* Whose the file is; owner NULL: nobody's. */
static void assert_owner(struct scratch *s, const char *path, const char *owner)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = s->path};
	k3sup_node *node = NULL;
	_free_ char *found = NULL;
	int r;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	r = k3sup__package_of(s->op, node, path, &found);
	k3sup_node_unref(node);
	if (r != (owner != NULL) || (owner && !strstr(found, owner)))
		fail_msg("%s: %d, %s", path, r, found ? found : "nobody's");
}

static void without_a_database_no_file_is_owned(void **state)
{
	assert_owner(*state, "/usr/bin/k3s", NULL);
	assert_owner(*state, "/usr/local/bin/k3s", NULL);
}

static void dpkgs_lists_are_searched_for_whole_lines(void **state)
{
	struct scratch *s = *state;

	put(s, "var/lib/dpkg/info/k3s:amd64.list", "/.\n/usr\n/usr/bin/k3s-agent\n/usr/bin/k3s");
	put(s, "var/lib/dpkg/info/other.list", "/opt/bin/k3s.old\n/x/opt/bin/k3s\n");
	put(s, "var/lib/dpkg/info/other.md5sums", "/opt/bin/k3s\n");
	assert_owner(s, "/usr/bin/k3s", "the dpkg package k3s");
	assert_owner(s, "/opt/bin/k3s", NULL);
	assert_owner(s, "/usr/bin/k3", NULL);
}

static void a_merged_usr_is_seen(void **state)
{
	struct scratch *s = *state;

	put(s, "var/lib/dpkg/info/k3s.list", "/bin/k3s\n");
	assert_owner(s, "/usr/bin/k3s", NULL); /* two directories */
	assert_int_equal(symlinkat("usr/bin", s->fd, "bin"), 0);
	assert_owner(s, "/usr/bin/k3s", "the dpkg package k3s");
	assert_owner(s, "/usr/local/bin/k3s", NULL);
}

static void diversions_move_the_claim(void **state)
{
	struct scratch *s = *state;

	put(s, "var/lib/dpkg/info/k3s.list", "/usr/bin/k3s\n");
	put(s, "var/lib/dpkg/info/mine.list", "/usr/bin/helper\n");
	put(s, "var/lib/dpkg/diversions", "/usr/bin/k3s\n/usr/bin/k3s.distrib\n:\n");
	assert_owner(s, "/usr/bin/k3s", NULL); /* the administrator diverted the package's file */
	assert_owner(s, "/usr/bin/k3s.distrib", "the dpkg package k3s");
	put(s, "var/lib/dpkg/diversions", "/usr/bin/k3s\n/usr/bin/k3s.distrib\nmine\n");
	assert_owner(s, "/usr/bin/k3s", NULL);
	put(s, "var/lib/dpkg/info/mine.list", "/usr/bin/helper\n/usr/bin/k3s\n");
	assert_owner(s, "/usr/bin/k3s", "the dpkg package mine");
	assert_owner(s, "/usr/bin/k3s.distrib", "the dpkg package k3s");
}

static void apks_database_is_read(void **state)
{
	struct scratch *s = *state;

	put(s, "lib/apk/db/installed",
		"C:Q1\nP:busybox\nF:bin\nR:busybox\n\nP:k3s\nV:1.30\nF:usr\nF:usr/bin\nR:k3s\na:0:0:755\nF:etc/init.d\nR:k3s\n\n");
	assert_owner(s, "/usr/bin/k3s", "the apk package k3s");
	assert_owner(s, "/etc/init.d/k3s", "the apk package k3s");
	assert_owner(s, "/bin/busybox", "the apk package busybox");
	assert_owner(s, "/usr/k3s", NULL);
	assert_owner(s, "/usr/local/bin/k3s", NULL);
	assert_owner(s, "/k3s", NULL);
}

static void where_rpm_rules_usr_is_its_own(void **state)
{
	struct scratch *s = *state;

	put(s, "var/lib/rpm/rpmdb.sqlite", "SQLite");
	assert_owner(s, "/usr/bin/k3s", "rpm");
	assert_owner(s, "/usr/local/bin/k3s", NULL);
	assert_owner(s, "/opt/bin/k3s", NULL);
	/* Debian has rpm as a tool. */
	put(s, "var/lib/dpkg/status", "");
	assert_owner(s, "/usr/bin/k3s", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scratch_test(without_a_database_no_file_is_owned),
		scratch_test(dpkgs_lists_are_searched_for_whole_lines),
		scratch_test(a_merged_usr_is_seen),
		scratch_test(diversions_move_the_claim),
		scratch_test(apks_database_is_read),
		scratch_test(where_rpm_rules_usr_is_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
