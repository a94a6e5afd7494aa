/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real processes in a process table of their own (sandbox.h). Most of them run un-chrooted below a --root directory.
 */
#include "fake.h"

#include "node/identify.h"

#define SERVER_TITLE "/usr/local/bin/k3s server"

static struct fake_spec server_spec(const struct scratch *s)
{
	return (struct fake_spec){.root = s->path, .file = BIN1 "/k3s-server", .title = SERVER_TITLE};
}

static k3sup_node *make_node(const struct scratch *s, const char *root)
{
	struct k3sup_node_opts opts = {.struct_size = sizeof(opts), .root = root};
	k3sup_node *node = NULL;

	assert_int_equal(k3sup_node_new(s->ctx, &opts, &node), 0);
	return node;
}

/* One scan of the node in `root`, with the installed file if there is one. */
static struct k3sup__sighting scan_root(struct scratch *s, const char *root)
{
	k3sup_node *node = make_node(s, root);
	struct k3sup__place installed = K3SUP__PLACE_NONE;
	struct k3sup__sighting sighting;

	if (k3sup__installed_find(s->op, node, NULL, &installed) < 0)
		k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__identify_scan(s->op, node, &installed, &sighting), 0);
	k3sup__place_clear(&installed);
	k3sup_node_unref(node);
	return sighting;
}

static struct k3sup__sighting scan(struct scratch *s)
{
	return scan_root(s, s->path);
}

static const char *reason_of(const struct k3sup__sighting *sighting, pid_t pid)
{
	for (size_t i = 0; i < k3sup__json_len(sighting->passed_over); i++) {
		k3sup__json *one = k3sup__json_element(sighting->passed_over, i);

		if (k3sup__json_number(one, "pid", 0) == pid)
			return k3sup__json_text(one, "reason");
	}
	return "(not listed)";
}

static void assert_one(const struct k3sup__sighting *sighting, pid_t pid)
{
	if (sighting->count != 1)
		fail_msg("%zu candidates, and process %d: %s", sighting->count, (int)pid, reason_of(sighting, pid));
	assert_int_equal(k3sup__process_pid(sighting->candidates[0].process), pid);
}

/* Starts one process, and it must not be a candidate, for this reason (NULL: it is not even listed). */
static void assert_dropped(struct scratch *s, const struct fake_spec *spec, const char *reason)
{
	pid_t pid = fake_start(spec);
	struct k3sup__sighting sighting = scan(s);
	const char *given = reason_of(&sighting, pid);

	if (sighting.count != 0 || strstr(given, reason != NULL ? reason : "(not listed)") == NULL)
		fail_msg("%s \"%s\": %zu candidates, \"%s\"", spec->file, spec->title, sighting.count, given);
	assert_int_equal(k3sup__sighting_judge(s->op, &sighting), K3SUP_E_NO_K3S);
	k3sup__op_forgive(s->op);
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
}

static void assert_found(struct scratch *s, const struct fake_spec *spec, enum k3sup__role role)
{
	pid_t pid = fake_start(spec);
	struct k3sup__sighting sighting = scan(s);

	assert_one(&sighting, pid);
	assert_int_equal(sighting.candidates[0].role, role);
	assert_int_equal(k3sup__sighting_judge(s->op, &sighting), 0);
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
}

static void a_server_is_found_with_all_that_names_it(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	_free_ char *cwd = k3sup__fmt("%s" DATA_DIR "/server", s->path);
	struct k3sup__sighting sighting;
	const struct k3sup__candidate *c;
	k3sup_doc *info;
	const char *text;
	int64_t number;
	pid_t pid;

	fake_install_data(s->path, BIN1);
	spec.cwd = cwd;
	pid = fake_start(&spec);
	sighting = scan(s);
	assert_one(&sighting, pid);
	c = &sighting.candidates[0];
	assert_int_equal(c->role, K3SUP__ROLE_SERVER);
	assert_string_equal(c->comm, "k3s-server");
	assert_string_equal(c->asset_hash, HASH1);
	assert_string_equal(c->exe, BIN1 "/k3s");
	assert_string_equal(c->data_dir, DATA_DIR);
	assert_false(c->exe_deleted || c->unpacking || c->image);
	assert_int_equal(c->ppid, getpid());
	info = k3sup_process_info(c->process);
	assert_int_equal(k3sup_doc_i64(info, "/pid", &number), 0);
	assert_int_equal(number, pid);
	assert_int_equal(k3sup_doc_str(info, "/boot_id", &text), 0);
	assert_int_equal(strlen(text), 36);
	assert_int_equal(k3sup_doc_i64(info, "/pid_ns", &number), 0);
	assert_int_equal(k3sup_doc_i64(info, "/start_time", &number), 0);
	assert_int_equal(k3sup_doc_str(info, "/role", &text), 0);
	assert_string_equal(text, "server");
	assert_int_equal(k3sup_doc_str(info, "/exe", &text), 0);
	assert_string_equal(text, BIN1 "/k3s");
	assert_false(k3sup__process_ended(c->process));
	fake_stop(pid);
	assert_true(k3sup__process_ended(c->process));
	k3sup__sighting_clear(&sighting);
}

static void nothing_is_found_where_nothing_runs(void **state)
{
	struct scratch *s = *state;
	struct k3sup__sighting sighting = scan(s);

	assert_int_equal(sighting.count, 0);
	assert_int_equal(k3sup__json_len(sighting.passed_over), 0);
	assert_int_equal(k3sup__sighting_judge(s->op, &sighting), K3SUP_E_NO_K3S);
	k3sup__sighting_clear(&sighting);
}

static void an_agent_tells_its_data_dir_by_its_program(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = s->path, .file = "/srv/k3s/data/" HASH1 "/bin/k3s-agent", .title = "/usr/local/bin/k3s agent"};
	struct k3sup__sighting sighting;
	pid_t pid;

	fake_install_data(s->path, "/srv/k3s/data/" HASH1 "/bin");
	fake_install_data(s->path, BIN1);
	pid = fake_start(&spec);
	sighting = scan(s);
	assert_one(&sighting, pid);
	assert_int_equal(sighting.candidates[0].role, K3SUP__ROLE_AGENT);
	assert_string_equal(sighting.candidates[0].data_dir, "/srv/k3s");
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
	/* The default directory is where the wrapper may unpack whatever --data-dir says. */
	spec.file = BIN1 "/k3s-agent";
	pid = fake_start(&spec);
	sighting = scan(s);
	assert_one(&sighting, pid);
	assert_null(sighting.candidates[0].data_dir);
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
}

static void a_chrooted_k3s_belongs_to_the_node_of_that_root(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	struct k3sup__sighting sighting;
	pid_t pid;

	fake_install_data(s->path, BIN1);
	spec.chroot_there = true;
	spec.cwd = DATA_DIR "/server";
	pid = fake_start(&spec);
	sighting = scan(s);
	assert_one(&sighting, pid);
	assert_string_equal(sighting.candidates[0].exe, BIN1 "/k3s");
	assert_string_equal(sighting.candidates[0].data_dir, DATA_DIR);
	k3sup__sighting_clear(&sighting);
	sighting = scan_root(s, "/");
	assert_int_equal(sighting.count, 0);
	assert_string_equal(reason_of(&sighting, pid), "its root directory is not the node's");
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
}

static void a_k3s_below_the_root_of_another_node_is_not_the_hosts(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	struct k3sup__sighting sighting;
	pid_t pid;

	fake_install_data(s->path, BIN1);
	assert_int_equal(mkdirat(s->fd, "other", 0755), 0);
	pid = fake_start(&spec);
	{
		_free_ char *other = k3sup__fmt("%s/other", s->path);

		sighting = scan_root(s, other);
	}
	assert_int_equal(sighting.count, 0);
	assert_string_equal(reason_of(&sighting, pid), "its program is not a k3s inside the node's root");
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
}

/* The rest of the host's tree must not be written to: a mount of our own hides it. */
static void with_own_var_lib(void)
{
	assert_int_equal(mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755"), 0);
}

/* Nor must its units. */
static void with_own_units(void)
{
	assert_int_equal(mount("tmpfs", "/etc", "tmpfs", 0, "mode=755"), 0);
}

static void the_hosts_k3s_is_found_in_its_own_mount_namespace_too(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = "", .file = BIN1 "/k3s-server", .title = SERVER_TITLE, .cwd = DATA_DIR "/server"};
	struct k3sup__sighting sighting;

	with_own_var_lib();
	with_own_units();
	fake_install_data("", BIN1);
	write_text("", "/etc/systemd/system/k3s.service", "[Service]\nExecStart=/usr/local/bin/k3s server\n");
	for (int private_tmp = 0; private_tmp < 2; private_tmp++) {
		pid_t pid;

		spec.by_init = spec.new_mnt = private_tmp != 0;
		pid = fake_start(&spec);
		if (private_tmp != 0)
			fake_cgroup(pid, "0::/system.slice/k3s.service\n");
		sighting = scan_root(s, "/");
		assert_one(&sighting, pid);
		assert_int_equal(sighting.candidates[0].unit_main, private_tmp);
		assert_string_equal(sighting.candidates[0].exe, BIN1 "/k3s");
		assert_string_equal(sighting.candidates[0].data_dir, DATA_DIR);
		k3sup__sighting_clear(&sighting);
		fake_stop(pid);
	}
	assert_int_equal(umount2("/etc", MNT_DETACH), 0);
	assert_int_equal(umount2("/var/lib", MNT_DETACH), 0);
}

/* Everything about it is right but for its mount namespace: only a unit can vouch for it. */
static void nobody_vouches_for_a_foreign_mount_namespace_but_a_unit(void **state)
{
	static const struct {
		const char *group, *unit;
		mode_t mode;
		bool by_init, vouched;
	} cases[] = {
		{"0::/system.slice/k3s.service\n", "k3s.service", 0644, true, true},
		{"1:name=systemd:/system.slice/k3s.service/delegated\n0::/\n", "k3s.service", 0644, true, true},
		{"0::/../../system.slice/k3s-west.service\n", "k3s-west.service", 0644, true, true},
		{"0::/system.slice/k3s@a.service\n", "k3s@.service", 0644, true, true},
		{"0::/system.slice/k3s.service\n", "k3s.service", 0644, false, false}, /* a shim's child, below it */
		{"0::/system.slice/k3s.service\n", "k3s.service", 0666, true, false},
		{"0::/system.slice/k3s.service\n", "other.service", 0644, true, false},
		{"0::/\n", "k3s.service", 0644, true, false},
		{"0::/kubepods.slice/kubepods-pod1.slice/cri-1.scope\n", "k3s.service", 0644, true, false},
		{"0::/kubepods/pod1/1/system.slice/k3s.service\n", "k3s.service", 0644, true, false},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/k3s.service\n", "k3s.service", 0644, true, false},
	};
	struct scratch *s = *state;
	struct fake_spec spec = {.root = "", .file = BIN1 "/k3s-server", .title = SERVER_TITLE, .cwd = DATA_DIR "/server", .new_mnt = true};

	with_own_var_lib();
	fake_install_data("", BIN1);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_free_ char *unit = k3sup__fmt("/etc/systemd/system/%s", cases[i].unit);
		struct k3sup__sighting sighting;
		pid_t pid;

		with_own_units();
		write_text("", unit, "[Service]\nExecStart=/usr/local/bin/k3s server\n");
		assert_int_equal(chmod(unit, cases[i].mode), 0);
		spec.by_init = cases[i].by_init;
		pid = fake_start(&spec);
		fake_cgroup(pid, cases[i].group);
		sighting = scan_root(s, "/");
		if (cases[i].vouched)
			assert_one(&sighting, pid);
		else if (sighting.count != 0 || strstr(reason_of(&sighting, pid), "in another mount namespace, and no service") == NULL)
			fail_msg("case %zu: %zu candidates, %s", i, sighting.count, reason_of(&sighting, pid));
		k3sup__sighting_clear(&sighting);
		fake_stop(pid);
		assert_int_equal(umount2("/etc", MNT_DETACH), 0);
	}
	assert_int_equal(umount2("/var/lib", MNT_DETACH), 0);
}

/* OpenRC: supervise-daemon is its parent, and OpenRC's own records say of which service. */
static void a_service_of_openrc_is_named(void **state)
{
	struct scratch *s = *state;
	struct fake_spec daemon = {.root = s->path, .file = "/sbin/supervise-daemon", .title = "supervise-daemon"};
	_free_ char *program = k3sup__fmt("%s" BIN1 "/k3s-server", s->path), *pid_text = NULL;
	struct k3sup__sighting sighting;
	pid_t parent, pid;

	fake_install_data(s->path, BIN1);
	fake_install(s->path, daemon.file, "", NULL);
	daemon.starts = program;
	parent = fake_start(&daemon);
	pid_text = k3sup__fmt("%d\n", (int)parent);
	write_text(s->path, "/run/k3s-west.pid", pid_text);
	write_text(s->path, "/run/openrc/daemons/other/001", "exec=/usr/sbin/other\npidfile=/run/other.pid\n");
	write_text(s->path, "/run/openrc/daemons/k3s-west/001", "exec=/usr/local/bin/k3s\nargv_0=/usr/local/bin/k3s\npidfile=/run/k3s-west.pid\n");
	for (int i = 0; i < 2; i++) {
		sighting = scan(s);
		assert_int_equal(sighting.count, 1);
		pid = k3sup__process_pid(sighting.candidates[0].process);
		assert_int_equal(sighting.candidates[0].ppid, parent);
		assert_int_equal(sighting.candidates[0].keeper, i == 0 ? K3SUP__KEEPER_NONE : K3SUP__KEEPER_OPENRC);
		if (i == 1) {
			assert_string_equal(sighting.candidates[0].unit, "k3s-west");
			assert_true(sighting.candidates[0].unit_main);
		}
		assert_int_not_equal(pid, parent);
		k3sup__sighting_clear(&sighting);
		write_text(s->path, "/etc/init.d/k3s-west", "#!/sbin/openrc-run\n"); /* without its script the name is nobody's */
	}
	fake_stop(parent);
}

/* As an upgrade pod sees it: another root directory, the host's tree bind-mounted at /host, and with own_mnt not even the mounts are shared. */
static int scan_from_a_pod(struct scratch *s, pid_t expected, bool own_mnt)
{
	_free_ char *pod = k3sup__fmt("%s/pod", s->path), *host = k3sup__fmt("%s/host", pod), *proc = k3sup__fmt("%s/proc", pod);
	struct k3sup__sighting sighting;
	int r = 0;

	if (own_mnt && unshare(CLONE_NEWNS) < 0)
		return 9;
	if (mount("/", host, NULL, MS_BIND | MS_REC, NULL) < 0 || mount("/proc", proc, NULL, MS_BIND | MS_REC, NULL) < 0)
		return 10;
	if (chroot(pod) < 0 || chdir("/") < 0)
		return 11;
	sighting = scan_root(s, "/host");
	if (sighting.count != 1 || k3sup__process_pid(sighting.candidates[0].process) != expected)
		r = 12;
	else if (!k3sup__streq(sighting.candidates[0].exe, BIN1 "/k3s") || !k3sup__streq(sighting.candidates[0].data_dir, DATA_DIR))
		r = 13;
	k3sup__sighting_clear(&sighting);
	return r;
}

static void the_hosts_k3s_is_found_from_a_pod(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = "", .file = BIN1 "/k3s-server", .title = SERVER_TITLE, .cwd = DATA_DIR "/server"};
	_free_ char *host = k3sup__fmt("%s/pod/host", s->path), *proc = k3sup__fmt("%s/pod/proc", s->path);
	int status;
	pid_t pid;

	with_own_var_lib();
	make_dirs(host);
	make_dirs(proc);
	fake_install_data("", BIN1);
	pid = fake_start(&spec);
	for (int i = 0; i < 4; i++) {
		bool own_mnt = i % 2 == 0;
		pid_t pod;

		if (i == 2) /* and all once more with a program that was deleted */
			assert_int_equal(unlink(BIN1 "/k3s"), 0);
		pod = fork();
		if (pod == 0)
			_exit(scan_from_a_pod(s, pid, own_mnt));
		assert_int_equal(waitpid(pod, &status, 0), pod);
		assert_int_equal(WEXITSTATUS(status), 0);
		if (!own_mnt) {
			assert_int_equal(umount2(host, MNT_DETACH), 0);
			assert_int_equal(umount2(proc, MNT_DETACH), 0);
		}
	}
	fake_stop(pid);
	assert_int_equal(umount2("/var/lib", MNT_DETACH), 0);
}

static void an_unprivileged_impostor_is_dropped(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);

	assert_int_equal(chmod(s->path, 0755), 0);
	fake_install_data(s->path, BIN1);
	spec.uid = 65534;
	assert_dropped(s, &spec, "uid 65534");
}

static void a_containers_k3s_is_dropped(void **state)
{
	struct scratch *s = *state;
	_free_ char *container = k3sup__fmt("%s/run/container", s->path);
	struct fake_spec spec = {.root = container, .file = BIN1 "/k3s-server", .title = SERVER_TITLE, .chroot_there = true, .new_mnt = true};

	fake_install_data(s->path, BIN1);
	fake_install_data(container, BIN1);
	assert_dropped(s, &spec, "another mount namespace");
	spec.new_mnt = false;
	assert_dropped(s, &spec, "its root directory is not the node's");
	/* Un-chrooted, in another mount namespace, its program inside the node's root. */
	spec = server_spec(s);
	spec.new_mnt = true;
	assert_dropped(s, &spec, "another mount namespace");
}

static void a_k3s_of_another_pid_namespace_is_dropped(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	struct k3sup__sighting sighting;
	pid_t middle;
	int ready[2];
	char byte;

	fake_install_data(s->path, BIN1);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	middle = fork();
	if (middle == 0) {
		(void)setpgid(0, 0);
		if (unshare(CLONE_NEWPID) < 0)
			_exit(1);
		if (fork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			fake_exec(&spec, ready[1]);
		}
		close(ready[1]);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	sighting = scan(s);
	assert_int_equal(sighting.count, 0);
	assert_int_equal(k3sup__json_len(sighting.passed_over), 1);
	assert_string_equal(k3sup__json_text(k3sup__json_element(sighting.passed_over, 0), "reason"), "it is in another pid namespace");
	k3sup__sighting_clear(&sighting);
	assert_int_equal(kill(middle, SIGKILL), 0);
	assert_int_equal(waitpid(middle, NULL, 0), middle);
}

static void a_program_that_others_could_change_is_dropped(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	_free_ char *bin = k3sup__fmt("%s" BIN1, s->path), *k3s = k3sup__fmt("%s" BIN1 "/k3s", s->path);

	fake_install_data(s->path, BIN1);
	assert_int_equal(chmod(bin, 0777), 0);
	assert_dropped(s, &spec, "somebody else than root could change its program");
	assert_int_equal(chmod(bin, 0755), 0);
	assert_found(s, &spec, K3SUP__ROLE_SERVER);
	assert_int_equal(chown(k3s, 65534, 65534), 0);
	assert_dropped(s, &spec, "somebody else than root could change its program");
}

static void a_program_elsewhere_is_no_k3s_whatever_its_name_and_title(void **state)
{
	static const char *const places[] = {"/opt/data/91c5/bin", "/tmp/x", "/data/" HASH1, DATA_DIR "/data/" HASH1 "0/bin"};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(places); i++) {
		_free_ char *file = k3sup__fmt("%s/k3s-server", places[i]);
		struct fake_spec spec = {.root = s->path, .file = file, .title = SERVER_TITLE};

		fake_install_data(s->path, places[i]);
		assert_dropped(s, &spec, "its program is not a k3s inside the node's root");
	}
}

static void a_deleted_program_is_still_k3s(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	_free_ char *k3s = k3sup__fmt("%s" BIN1 "/k3s", s->path);

	for (int chrooted = 0; chrooted < 2; chrooted++) {
		struct k3sup__sighting sighting;
		pid_t pid;

		fake_install(s->path, BIN1 "/k3s", "", NULL);
		if (chrooted == 0)
			fake_install_data(s->path, BIN1);
		spec.chroot_there = chrooted != 0;
		pid = fake_start(&spec);
		assert_int_equal(unlink(k3s), 0);
		sighting = scan(s);
		assert_one(&sighting, pid);
		assert_true(sighting.candidates[0].exe_deleted);
		assert_string_equal(sighting.candidates[0].exe, BIN1 "/k3s");
		assert_string_equal(sighting.candidates[0].asset_hash, HASH1);
		k3sup__sighting_clear(&sighting);
		fake_stop(pid);
	}
}

static void a_deleted_program_that_others_could_write_is_dropped(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	_free_ char *k3s = k3sup__fmt("%s" BIN1 "/k3s", s->path);
	struct k3sup__sighting sighting;
	pid_t pid;

	fake_install_data(s->path, BIN1);
	pid = fake_start(&spec);
	assert_int_equal(chmod(k3s, 0777), 0);
	assert_int_equal(unlink(k3s), 0);
	sighting = scan(s);
	assert_int_equal(sighting.count, 0);
	assert_string_equal(reason_of(&sighting, pid), "somebody else than root could change its program");
	k3sup__sighting_clear(&sighting);
	fake_stop(pid);
}

/* v1.21: the one real file is called containerd, and so is the real containerd's process. */
static void the_2021_layout_is_known(void **state)
{
	static const char *const links[] = {"k3s", "k3s-server", NULL};
	struct scratch *s = *state;
	struct fake_spec server = server_spec(s), containerd = {.root = s->path, .file = BIN1 "/containerd", .title = "containerd "};
	pid_t pid;

	fake_install(s->path, BIN1 "/containerd", "", links);
	pid = fake_start(&containerd);
	assert_found(s, &server, K3SUP__ROLE_SERVER);
	fake_stop(pid);
	assert_dropped(s, &containerd, NULL);
}

static void other_commands_of_k3s_are_not_it(void **state)
{
	struct scratch *s = *state;
	const struct fake_spec specs[] = {
		{.root = s->path, .file = BIN1 "/kubectl", .title = "k3s kubectl"},
		{.root = s->path, .file = BIN1 "/k3s-etcd-snapshot", .title = "/usr/local/bin/k3s etcd-snapshot"},
	};
	const struct fake_spec by_title[] = {
		{.root = s->path, .file = BIN1 "/k3s", .title = "/usr/local/bin/k3s", .args = {"kubectl", "get", "pods", "-l", "app=server"}},
		{.root = s->path, .file = BIN1 "/k3s", .title = "k3s", .args = {"token", "list", "--server", "https://x:6443"}},
		{.root = s->path, .file = BIN1 "/k3s", .title = "/usr/local/bin/k3s kubectl logs server"},
		{.root = s->path, .file = BIN1 "/k3s", .title = "k3s", .args = {"-d", "server", "kubectl"}},
	};

	fake_install_data(s->path, BIN1);
	for (size_t i = 0; i < ELEMENTSOF(specs); i++)
		assert_dropped(s, &specs[i], NULL);
	for (size_t i = 0; i < ELEMENTSOF(by_title); i++)
		assert_dropped(s, &by_title[i], "neither server nor agent");
}

static void where_the_name_says_k3s_the_title_decides(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = s->path, .file = BIN1 "/k3s", .title = "/usr/local/bin/k3s", .args = {"--debug", "-d", "/x", "server"}};

	fake_install_data(s->path, BIN1);
	assert_found(s, &spec, K3SUP__ROLE_SERVER);
	spec = (struct fake_spec){.root = s->path, .file = BIN1 "/k3s", .title = "k3s agent"};
	assert_found(s, &spec, K3SUP__ROLE_AGENT);
	spec.title = "/usr/local/bin/k3s ";
	assert_dropped(s, &spec, "its title does not say server or agent");
}

static void a_log_pair_is_one_candidate_its_parent(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	_free_ char *cwd = k3sup__fmt("%s" DATA_DIR "/server", s->path);
	static const char *const files[] = {BIN1 "/k3s-server", BIN1 "/k3s"};
	static const char *const titles[] = {"/usr/local/bin/k3s ", "/usr/local/bin/k3s init"};
	static const char *const children[] = {"k3s server", "k3s agent", "k3s"};

	fake_install_data(s->path, BIN1);
	spec.child_cwd = cwd;
	for (size_t i = 0; i < 2 * 2 * 3; i++) {
		struct k3sup__sighting sighting;
		pid_t pid;

		spec.file = files[i % 2];
		spec.title = titles[i / 2 % 2];
		spec.child = children[i / 4]; /* "k3s agent": some releases of 2024 call a server so */
		pid = fake_start(&spec);
		sighting = scan(s);
		assert_one(&sighting, pid);
		assert_int_equal(sighting.candidates[0].role, K3SUP__ROLE_SERVER);
		assert_string_equal(sighting.candidates[0].data_dir, DATA_DIR);
		k3sup__sighting_clear(&sighting);
		fake_stop(pid);
	}
}

/* What is left when only the parent of a --log pair was killed. */
static void an_orphan_of_a_log_pair_is_a_candidate(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	struct k3sup__sighting sighting;
	pid_t pid, orphan;

	fake_install_data(s->path, BIN1);
	spec.child = "k3s server";
	pid = fake_start(&spec);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	sighting = scan(s);
	assert_int_equal(sighting.count, 1);
	orphan = k3sup__process_pid(sighting.candidates[0].process);
	assert_int_not_equal(orphan, pid);
	assert_string_equal(sighting.candidates[0].comm, "exe");
	assert_int_equal(sighting.candidates[0].role, K3SUP__ROLE_SERVER);
	assert_int_equal(kill(orphan, SIGKILL), 0);
	while (!k3sup__process_ended(sighting.candidates[0].process)) {
		struct pollfd end = {.fd = k3sup_process_pidfd(sighting.candidates[0].process), .events = POLLIN};

		assert_true(poll(&end, 1, -1) >= 0);
	}
	k3sup__sighting_clear(&sighting);
}

static void a_wrapper_that_unpacks_is_told_apart_from_an_image(void **state)
{
	static const char *const tails[] = {"embed/" HASH1 ".tar.zst", ""};
	struct scratch *s = *state;

	for (size_t i = 0; i < 2; i++) {
		struct fake_spec spec = {.root = s->path, .file = INSTALLED, .title = INSTALLED, .args = {"server", "--cluster-init"}};
		struct k3sup__sighting sighting;
		pid_t pid;

		fake_install(s->path, INSTALLED, tails[i], NULL);
		pid = fake_start(&spec);
		sighting = scan(s);
		assert_one(&sighting, pid);
		assert_int_equal(sighting.candidates[0].unpacking, i == 0);
		assert_int_equal(sighting.candidates[0].image, i == 1);
		assert_int_equal(sighting.candidates[0].role, K3SUP__ROLE_SERVER);
		assert_string_equal(sighting.candidates[0].exe, INSTALLED);
		assert_string_equal(sighting.candidates[0].asset_hash, "");
		k3sup__sighting_clear(&sighting);
		fake_stop(pid);
		spec.args[0] = "kubectl";
		assert_dropped(s, &spec, "neither server nor agent");
	}
}

/* A container as a node (k3d): k3s is its pid 1, the file that runs is the installed one, and a swap leaves it deleted. */
static void an_images_k3s_is_found_before_and_after_a_swap(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = {.root = s->path, .file = "/bin/k3s", .title = "/bin/k3s init", .child = "/bin/k3s server"};
	_free_ char *file = k3sup__fmt("%s/bin/k3s", s->path), *new = k3sup__fmt("%s/bin/new", s->path);
	pid_t pid;

	fake_install(s->path, "/bin/k3s", "", NULL);
	fake_install(s->path, "/bin/new", "", NULL);
	pid = fake_start(&spec);
	for (int swapped = 0; swapped < 2; swapped++) {
		struct k3sup__sighting sighting;

		if (swapped != 0)
			assert_int_equal(rename(new, file), 0);
		sighting = scan(s);
		assert_one(&sighting, pid);
		assert_true(sighting.candidates[0].image);
		assert_int_equal(sighting.candidates[0].exe_deleted, swapped);
		assert_string_equal(sighting.candidates[0].exe, "/bin/k3s");
		assert_int_equal(sighting.candidates[0].role, K3SUP__ROLE_SERVER);
		k3sup__sighting_clear(&sighting);
	}
	fake_stop(pid);
}

static void supervisors_and_bystanders_are_never_chosen(void **state)
{
	struct scratch *s = *state;
	const struct fake_spec specs[] = {
		{.root = s->path, .file = "/sbin/supervise-daemon", .title = "supervise-daemon", .args = {"k3s", "--start", INSTALLED, "--", "server"}},
		{.root = s->path, .file = "/usr/bin/sudo", .title = "sudo", .args = {"k3s", "server"}},
	};

	for (size_t i = 0; i < ELEMENTSOF(specs); i++) {
		fake_install(s->path, specs[i].file, "", NULL);
		assert_dropped(s, &specs[i], NULL);
	}
}

static void two_servers_are_ambiguous(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	struct k3sup__sighting sighting;
	pid_t a, b;

	fake_install_data(s->path, BIN1);
	a = fake_start(&spec);
	b = fake_start(&spec);
	sighting = scan(s);
	assert_int_equal(sighting.count, 2);
	assert_int_equal(k3sup__sighting_judge(s->op, &sighting), K3SUP_E_AMBIGUOUS);
	assert_int_equal(k3sup__json_len(k3sup__json_member(k3sup__op_evidence(s->op), "candidates")), 2);
	assert_sentence(s, "2 processes could be");
	k3sup__sighting_clear(&sighting);
	fake_stop(a);
	fake_stop(b);
}

static void a_server_and_an_agent_of_one_build_are_one_k3s(void **state)
{
	struct scratch *s = *state;
	struct fake_spec server = server_spec(s), agent = {.root = s->path, .file = BIN1 "/k3s-agent", .title = "/usr/local/bin/k3s agent"};
	struct k3sup__sighting sighting;
	pid_t a, b;

	fake_install_data(s->path, BIN1);
	fake_install_data(s->path, BIN2);
	for (int same = 1; same >= 0; same--) {
		if (same == 0)
			agent.file = BIN2 "/k3s-agent";
		a = fake_start(&server);
		b = fake_start(&agent);
		sighting = scan(s);
		assert_int_equal(sighting.count, 2);
		assert_int_equal(k3sup__sighting_judge(s->op, &sighting), same != 0 ? 0 : K3SUP_E_AMBIGUOUS);
		k3sup__op_forgive(s->op);
		k3sup__sighting_clear(&sighting);
		fake_stop(a);
		fake_stop(b);
	}
}

/* Without CAP_SYS_PTRACE nothing of root's can be examined: that is not "no k3s". */
static void missing_rights_do_not_look_like_no_k3s(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	int status;
	pid_t pid, looker;

	assert_int_equal(chmod(s->path, 0755), 0);
	fake_install_data(s->path, BIN1);
	pid = fake_start(&spec);
	looker = fork();
	if (looker == 0) {
		k3sup_node *node = make_node(s, s->path);
		struct k3sup__sighting sighting;
		int r;

		if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		r = k3sup__identify_scan(s->op, node, NULL, &sighting);
		_exit(r == -EPERM || r == -EACCES ? 0 : 2);
	}
	assert_int_equal(waitpid(looker, &status, 0), looker);
	assert_int_equal(WEXITSTATUS(status), 0);
	fake_stop(pid);
}

static void the_list_of_the_passed_over_is_bounded(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	struct k3sup__sighting sighting;
	pid_t pids[40];

	assert_int_equal(chmod(s->path, 0755), 0);
	fake_install_data(s->path, BIN1);
	spec.uid = 65534;
	for (size_t i = 0; i < ELEMENTSOF(pids); i++)
		pids[i] = fake_start(&spec);
	sighting = scan(s);
	assert_int_equal(sighting.count, 0);
	assert_int_equal(k3sup__json_len(sighting.passed_over), 32);
	k3sup__sighting_clear(&sighting);
	for (size_t i = 0; i < ELEMENTSOF(pids); i++)
		fake_stop(pids[i]);
}

/* Processes that start, execute and end at any time while the table is read. */
static void vanishing_processes_are_normal(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	pid_t pid, churn;

	fake_install_data(s->path, BIN1);
	fake_install(s->path, BIN1 "/k3s-token", "", NULL);
	pid = fake_start(&spec);
	churn = fork();
	if (churn == 0) {
		_free_ char *token = k3sup__fmt("%s" BIN1 "/k3s", s->path);

		(void)setpgid(0, 0);
		for (;;) {
			pid_t one = vfork();

			if (one == 0) {
				execl(token, "k3s", "token", (char *)NULL); /* ends at once: descriptor 3 is not there */
				_exit(1);
			}
			if (one > 0)
				(void)waitpid(one, NULL, 0);
		}
	}
	(void)setpgid(churn, churn);
	for (int i = 0; i < 300; i++) {
		struct k3sup__sighting sighting = scan(s);

		assert_one(&sighting, pid);
		k3sup__sighting_clear(&sighting);
	}
	fake_stop(churn);
	fake_stop(pid);
}

static void the_verb_says_what_the_scan_saw(void **state)
{
	struct scratch *s = *state;
	struct fake_spec spec = server_spec(s);
	k3sup_node *node = make_node(s, s->path);
	k3sup_process *process = NULL;
	k3sup_op *op = NULL;
	const char *text;
	int64_t number;
	pid_t pid;

	fake_install_data(s->path, BIN1);
	fake_install(s->path, INSTALLED, "embed/" HASH1 ".tar.zst", NULL);
	assert_int_equal(k3sup_identify(node, NULL, &op), 0);
	assert_int_equal(k3sup_op_wait(op, -1), K3SUP_E_NO_K3S);
	assert_int_equal(k3sup_doc_len(k3sup_op_result(op), "/candidates"), 0);
	k3sup_op_unref(op);
	pid = fake_start(&spec);
	assert_int_equal(k3sup_identify(node, NULL, &op), 0);
	assert_int_equal(k3sup_op_wait(op, -1), 0);
	assert_int_equal(k3sup_doc_i64(k3sup_op_result(op), "/candidates/0/pid", &number), 0);
	assert_int_equal(number, pid);
	assert_int_equal(k3sup_doc_str(k3sup_op_result(op), "/installed", &text), 0);
	assert_string_equal(text, INSTALLED);
	assert_int_equal(k3sup_op_process(op, 0, &process), 0);
	assert_int_equal(k3sup_op_process(op, 1, &process), -ENOENT);
	k3sup_op_unref(op);
	assert_int_equal(k3sup__process_pid(process), pid);
	k3sup_process_unref(process);
	assert_int_equal(k3sup_identify(NULL, NULL, &op), -EINVAL);
	k3sup_node_unref(node);
	fake_stop(pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_server_is_found_with_all_that_names_it),
		TEST(nothing_is_found_where_nothing_runs),
		TEST(an_agent_tells_its_data_dir_by_its_program),
		TEST(a_chrooted_k3s_belongs_to_the_node_of_that_root),
		TEST(a_k3s_below_the_root_of_another_node_is_not_the_hosts),
		TEST(the_hosts_k3s_is_found_in_its_own_mount_namespace_too),
		TEST(nobody_vouches_for_a_foreign_mount_namespace_but_a_unit),
		TEST(a_service_of_openrc_is_named),
		TEST(the_hosts_k3s_is_found_from_a_pod),
		TEST(an_unprivileged_impostor_is_dropped),
		TEST(a_containers_k3s_is_dropped),
		TEST(a_k3s_of_another_pid_namespace_is_dropped),
		TEST(a_program_that_others_could_change_is_dropped),
		TEST(a_program_elsewhere_is_no_k3s_whatever_its_name_and_title),
		TEST(a_deleted_program_is_still_k3s),
		TEST(a_deleted_program_that_others_could_write_is_dropped),
		TEST(the_2021_layout_is_known),
		TEST(other_commands_of_k3s_are_not_it),
		TEST(where_the_name_says_k3s_the_title_decides),
		TEST(a_log_pair_is_one_candidate_its_parent),
		TEST(an_orphan_of_a_log_pair_is_a_candidate),
		TEST(a_wrapper_that_unpacks_is_told_apart_from_an_image),
		TEST(an_images_k3s_is_found_before_and_after_a_swap),
		TEST(supervisors_and_bystanders_are_never_chosen),
		TEST(two_servers_are_ambiguous),
		TEST(a_server_and_an_agent_of_one_build_are_one_k3s),
		TEST(missing_rights_do_not_look_like_no_k3s),
		TEST(the_list_of_the_passed_over_is_bounded),
		TEST(vanishing_processes_are_normal),
		TEST(the_verb_says_what_the_scan_saw),
	};

	if (under_valgrind())
		return 77;
	sandbox_enter();
	return cmocka_run_group_tests(tests, fake_build, fake_remove);
}
