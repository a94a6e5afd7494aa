/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules. Genuine: role x era x phase x supervisor x place. Disguises: what users, containers, administrators and k3s itself leave in a process table that looks like k3s.
 */
#include "zoo.h"

void zoo_use_program(const char *dir)
{
	(void)snprintf(fake_program, sizeof(fake_program), "%s", dir);
}

uint64_t zoo_random(struct table *t)
{
	uint64_t x = t->random += 0x9e3779b97f4a7c15u; /* splitmix64 */

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

#define PICK(t, list) ((list)[zoo_random(t) % ELEMENTSOF(list)])

static void tell(struct table *t, const char *text)
{
	size_t used = strlen(t->story);

	(void)snprintf(t->story + used, sizeof(t->story) - used, "%s%s", used > 0 ? "; " : "", text);
}

/* ---- genuine ---- */

static const char *const data_dirs[] = {DATA_DIR, "/srv/k3s", "/srv/my data", "/opt/k3s data/x"};

/* data/<H>/bin of an era: which file is real, which are links to it. */
static void install_inner(const char *data_dir, bool year2021)
{
	static const char *const links_2021[] = {"k3s", "k3s-server", "k3s-agent", "kubectl", "k3s-etcd-snapshot", NULL};
	static const char *const links[] = {"containerd", "k3s-server", "k3s-agent", "kubectl", "k3s-etcd-snapshot", NULL};
	_free_ char *path = k3sup__fmt("%s/data/" HASH1 "/bin/%s", data_dir, year2021 ? "containerd" : "k3s");
	_free_ char *shim = k3sup__fmt("%s/data/" HASH1 "/bin/containerd-shim-runc-v2", data_dir), *server = k3sup__fmt("%s/server", data_dir);

	if (access(shim, F_OK) == 0)
		return;
	fake_install("", path, "", year2021 ? links_2021 : links);
	fake_install("", shim, "", NULL);
	make_dirs(server);
}

static void group_of_unit(struct table *t, pid_t pid, const char *unit)
{
	static const char *const forms[] = {"0::/system.slice/%s\n", "12:pids:/\n3:cpu,cpuacct:/\n1:name=systemd:/system.slice/%s\n0::/\n",
		"1:name=systemd:/system.slice/%s\n0::/system.slice/%s\n", "0::/system.slice/%s/init\n", "0::/../../system.slice/%s\n",
		"0::/system.slice/system-k3s.slice/%s/a/b\n"};
	const char *form = PICK(t, forms), *at = strstr(form, "%s");
	_free_ char *once = k3sup__fmt("%.*s%s%s", (int)(at - form), form, unit, at + 2), *text = NULL;

	at = strstr(once, "%s");
	text = at != NULL ? k3sup__fmt("%.*s%s%s", (int)(at - once), once, unit, at + 2) : strdup(once);
	fake_cgroup(pid, text);
}

enum supervisor { PLAIN, SYSTEMD, PRIVATE_TMP, OPENRC };

static void write_unit(const struct table *t, const char *path, const char *role)
{
	_free_ char *text =
		k3sup__fmt("[Service]\nType=notify\nKillMode=process\nRestart=always\nExecStart=%s \\\n    %s \\\n\n", t->installed, role);

	write_text("", path, text);
}

/* systemd: the unit's file, the group of each process; the parent is process 1, which we are. */
static void put_into_unit(struct table *t, const struct member *m, const struct member *child, const char *role)
{
	static const char *const dirs[] = {"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"};
	static const char *const names[] = {"k3s", "k3s-west", "k3s-1"};
	_free_ char *unit = strcmp(role, "agent") == 0 ? k3sup__fmt("k3s-agent.service") : k3sup__fmt("%s.service", PICK(t, names));
	_free_ char *path = k3sup__fmt("%s/%s", PICK(t, dirs), unit);

	write_unit(t, path, role);
	group_of_unit(t, m->pid, unit);
	if (child != NULL)
		group_of_unit(t, child->pid, unit);
}

/* OpenRC: a supervise-daemon that started it, and OpenRC's own record of that. */
static void start_openrc(struct table *t, const char *file, const char *role)
{
	struct fake_spec daemon = {.root = "",
		.file = "/usr/local/sbin/supervise-daemon",
		.title = "supervise-daemon",
		.starts = file,
		.args = {role, "--start", INSTALLED, "--", role}};
	_free_ char *pid_file = k3sup__fmt("/run/k3s-%s.pid", role), *script = k3sup__fmt("/etc/init.d/k3s-%s", role);
	_free_ char *record = k3sup__fmt("/run/openrc/daemons/k3s-%s/001", role), *text = k3sup__fmt("exec=%s\npidfile=%s\n", INSTALLED, pid_file);
	_free_ char *number = NULL;
	struct member *m;

	fake_install("", daemon.file, "", NULL);
	m = zoo_start(t, &daemon, "supervise-daemon");
	m->partner = true;
	number = k3sup__fmt("%d\n", (int)m->pid);
	write_text("", pid_file, number);
	write_text("", record, text);
	write_text("", script, "#!/sbin/openrc-run\nsupervisor=supervise-daemon\n");
	zoo_child(t, m, "k3s under supervise-daemon")->genuine = true;
}

static const char *title_of(struct table *t, const char *role, struct fake_spec *spec)
{
	static const char *const servers[] = {"/usr/local/bin/k3s server", "k3s server", "./k3s server", "/usr/local/bin/k3s agent",
		"/opt/my bin/k3s server", HOME "/k3s server"};
	static const char *const agents[] = {"/usr/local/bin/k3s agent", "k3s agent", "/opt/bin/k3s agent"};

	switch (zoo_random(t) % 4) {
	case 0: /* not titled yet, or never */
		spec->args[0] = "--debug";
		spec->args[1] = role;
		spec->args[2] = "--cluster-init";
		return "/usr/local/bin/k3s";
	case 1: /* the moment before */
		return "/usr/local/bin/k3s ";
	default:
		return strcmp(role, "server") == 0 ? PICK(t, servers) : PICK(t, agents);
	}
}

/* One that still is the wrapper, or an image's, which has none: the installed file runs. */
static void start_installed(struct table *t, const char *role, enum supervisor supervisor, bool image)
{
	struct fake_spec spec = {
		.root = "", .file = t->installed, .title = t->installed, .args = {role, "--token", "x"}, .new_mnt = supervisor == PRIVATE_TMP};
	struct member *m;

	if (image) {
		(void)unlink(t->installed);
		fake_install("", t->installed, "", NULL);
		t->swaps = false; /* a wrapper does not follow an image's k3s without being asked for */
	}
	m = zoo_start(t, &spec, image ? "an image's k3s" : "a wrapper that unpacks");
	m->genuine = true;
	if (supervisor == SYSTEMD || supervisor == PRIVATE_TMP)
		put_into_unit(t, m, NULL, role);
}

static void start_inner(struct table *t, const char *role, const char *data_dir, enum supervisor supervisor, bool year2021, bool deleted)
{
	_free_ char *file = k3sup__fmt("%s/data/" HASH1 "/bin/k3s-%s", data_dir, role), *cwd = k3sup__fmt("%s/server", data_dir);
	_free_ char *real = k3sup__fmt("%s/data/" HASH1 "/bin/%s", data_dir, year2021 ? "containerd" : "k3s"),
		    *worker = k3sup__fmt("k3s %s", role);
	bool server = strcmp(role, "server") == 0, pair = one_in(t, 3);
	struct fake_spec spec = {.root = "", .file = file, .new_mnt = supervisor == PRIVATE_TMP};
	struct member *m, *child = NULL;

	install_inner(data_dir, year2021);
	if (supervisor == OPENRC) {
		start_openrc(t, file, role);
		return;
	}
	if (pair) {
		spec.title = year2021 ? "/usr/local/bin/k3s " : "/usr/local/bin/k3s init";
		spec.child = one_in(t, 4) ? "k3s" : worker;
		spec.child_cwd = server ? cwd : NULL;
	} else {
		spec.title = title_of(t, role, &spec);
		spec.cwd = server ? cwd : NULL;
	}
	m = zoo_start(t, &spec, pair ? "the parent of a --log pair" : "k3s");
	m->genuine = true;
	if (pair) {
		child = zoo_child(t, m, "the child of a --log pair");
		child->partner = true;
	}
	if (supervisor != PLAIN)
		put_into_unit(t, m, child, role);
	if (deleted)
		assert_int_equal(unlink(real), 0);
}

static void start_genuine(struct table *t, const char *role, const char *data_dir, enum supervisor supervisor, bool year2021)
{
	static const char *const names[] = {"plain", "systemd", "systemd, PrivateTmp", "openrc"};
	unsigned phase = (unsigned)(zoo_random(t) % 8);
	_free_ char *text = k3sup__fmt("%s (%s, %s%s)", role, names[supervisor],
		phase == 0           ? "unpacking"
			: phase == 1 ? "image"
				     : data_dir,
		year2021 ? ", 2021" : "");

	tell(t, text);
	if (phase <= 1 && supervisor != OPENRC)
		start_installed(t, role, supervisor, phase == 1);
	else
		start_inner(t, role, data_dir, supervisor, year2021, one_in(t, 6));
}

void zoo_place(struct table *t)
{
	static const char *const places[] = {INSTALLED, INSTALLED, "/opt/bin/k3s", "/var/usrlocal/bin/k3s"};
	static const char *const named_places[] = {INSTALLED, "/opt/bin/k3s", "/usr/local/lib/k3s-west", "/opt/rancher/k3s-armhf"};
	static const enum supervisor supervisors[] = {PLAIN, SYSTEMD, SYSTEMD, PRIVATE_TMP, PRIVATE_TMP, OPENRC};
	bool unit;

	t->supervisor = PICK(t, supervisors);
	unit = t->supervisor == SYSTEMD || t->supervisor == PRIVATE_TMP;
	t->installed = unit ? PICK(t, named_places) : PICK(t, places);
	t->swaps = true;
	t->vantage = (unsigned)(zoo_random(t) % 3);
	fake_install("", t->installed, ZOO_OLD, NULL);
	if (strcmp(t->installed, "/var/usrlocal/bin/k3s") == 0) { /* as on ostree, here for the one file */
		make_dirs("/usr/local/bin");
		assert_int_equal(symlink("../../../var/usrlocal/bin/k3s", INSTALLED), 0);
	}
	if (unit && one_in(t, 3)) {
		tell(t, "a stale copy");
		fake_install("", strcmp(t->installed, "/opt/bin/k3s") == 0 ? INSTALLED : "/opt/bin/k3s", ZOO_OLD, NULL);
	}
}

void zoo_genuine(struct table *t)
{
	const char *data_dir = PICK(t, data_dirs), *role = one_in(t, 3) ? "agent" : "server";
	bool year2021 = one_in(t, 4), unit = t->supervisor == SYSTEMD || t->supervisor == PRIVATE_TMP;

	if (one_in(t, 5)) {
		tell(t, "no k3s");
		if (unit)
			write_unit(t, "/etc/systemd/system/k3s.service", role);
	} else if (unit && one_in(t, 5)) { /* a server and an agent that share one file */
		tell(t, "server and agent");
		start_inner(t, "server", data_dir, SYSTEMD, year2021, false);
		start_inner(t, "agent", data_dir, one_in(t, 2) ? PLAIN : PRIVATE_TMP, year2021, false);
	} else {
		start_genuine(t, role, data_dir, (enum supervisor)t->supervisor, year2021);
	}
}

/* ---- disguises ---- */

static void give_to_stranger(const char *path)
{
	_free_ char *copy = strdup(path);

	/* And all that leads there, below the stranger's home. */
	while (strlen(copy) >= strlen(HOME)) {
		assert_int_equal(lchown(copy, NOBODY, NOBODY), 0);
		*strrchr(copy, '/') = '\0';
	}
}

static void install_for_stranger(const char *path, const char *const *links)
{
	fake_install("", path, ZOO_OLD, links);
	give_to_stranger(path);
}

/* A user's program under k3s's names. */
static void users_program(struct table *t)
{
	static const char *const names[] = {"k3s-server", "k3s-agent", "exe", "k3s", "containerd", "rke2"};
	static const char *const titles[] = {"/usr/local/bin/k3s server", HOME "/k3s server", "k3s init", "k3s agent"};
	_free_ char *file = k3sup__fmt(HOME "/%s", PICK(t, names));
	struct fake_spec spec = {.root = "", .file = file, .title = PICK(t, titles), .uid = NOBODY};

	(void)unlink(file);
	install_for_stranger(file, NULL);
	zoo_start(t, &spec, "a user's program under a name of k3s");
}

/* A user runs the node's own unpacked program, or its installed file: everybody may execute them. */
static void nodes_program_by_user(struct table *t)
{
	struct fake_spec spec = {
		.root = "", .file = BIN1 "/k3s-server", .title = "/usr/local/bin/k3s server", .cwd = DATA_DIR "/server", .uid = NOBODY};

	install_inner(DATA_DIR, false);
	if (one_in(t, 2))
		spec = (struct fake_spec){.root = "", .file = t->installed, .title = t->installed, .args = {"server"}, .uid = NOBODY};
	if (access(spec.file, X_OK) == 0)
		zoo_start(t, &spec, "a user who runs the node's own program");
}

/* A user's own k3s in a directory of the right shape, within the user's own systemd. */
static void users_own_k3s(struct table *t)
{
	static const char *const links[] = {"k3s-server", NULL};
	struct fake_spec spec = {
		.root = "", .file = HOME "/.rancher/k3s/data/" HASH2 "/bin/k3s-server", .title = "k3s server", .uid = NOBODY, .new_mnt = one_in(t, 2)};
	struct member *m;

	if (access(spec.file, F_OK) < 0)
		install_for_stranger(HOME "/.rancher/k3s/data/" HASH2 "/bin/k3s", links);
	m = zoo_start(t, &spec, "a user's own k3s");
	fake_cgroup(m->pid, one_in(t, 2) ? "0::/user.slice/user-65534.slice/user@65534.service/app.slice/k3s.service\n" : "0::/\n");
}

/* Root runs a file that a user can change. */
static void users_file_by_root(struct table *t)
{
	static const char *const links[] = {"k3s-server", NULL};
	struct fake_spec spec = {.root = "", .file = HOME "/data/" HASH1 "/bin/k3s-server", .title = "/usr/local/bin/k3s server"};

	if (access(spec.file, F_OK) < 0)
		install_for_stranger(HOME "/data/" HASH1 "/bin/k3s", links);
	zoo_start(t, &spec, "a user's file that root runs");
	if (one_in(t, 3))
		(void)unlink(HOME "/data/" HASH1 "/bin/k3s");
}

/* Editors, pagers, playbooks, drivers; and any program that is called k3s. */
static void administrators_program(struct table *t)
{
	static const struct fake_spec specs[] = {
		{.root = "", .file = "/opt/tools/k3s", .title = "/usr/local/bin/k3s server"},
		{.root = "", .file = "/opt/tools/k3s", .title = HOME "/k3s server"},
		{.root = "", .file = "/opt/tools/sudo", .title = "sudo", .args = {"k3s", "server"}},
		{.root = "", .file = "/opt/tools/vim", .title = "vim", .args = {"/etc/rancher/k3s", "config-server.yaml"}},
		{.root = "", .file = "/opt/tools/zfs-driver", .title = "zfs-driver", .args = {"--nodename=xx.k3s", "--plugin=agent"}},
		{.root = "", .file = "/opt/tools/k3s-server", .title = "k3s server"},
		{.root = "", .file = "/opt/tools/supervise-daemon", .title = "supervise-daemon", .args = {"k3s", "--start", INSTALLED, "--", "server"}},
	};
	const struct fake_spec *spec = &PICK(t, specs);

	(void)unlink(spec->file);
	fake_install("", spec->file, "", NULL);
	zoo_start(t, spec, "an administrator's program");
}

/* k3s's other commands, its containerd, and the shims that outlive it. */
static void k3s_commands(struct table *t)
{
	static const struct fake_spec specs[] = {
		{.root = "", .file = BIN1 "/kubectl", .title = "k3s kubectl", .args = {"logs", "rancher-agent"}},
		{.root = "", .file = BIN1 "/k3s-etcd-snapshot", .title = "/usr/local/bin/k3s etcd-snapshot"},
		{.root = "", .file = BIN1 "/k3s", .title = "k3s", .args = {"token", "list", "--server", "https://x:6443"}},
		{.root = "", .file = BIN1 "/containerd", .title = "containerd "},
		{.root = "", .file = BIN1 "/containerd-shim-runc-v2", .title = BIN1 "/containerd-shim-runc-v2", .args = {"-namespace", "k8s.io"}},
	};
	const struct fake_spec *spec = &PICK(t, specs);
	struct member *m;

	install_inner(DATA_DIR, false);
	if (access(spec->file, X_OK) < 0)
		return;
	m = zoo_start(t, spec, "another command of k3s");
	if (one_in(t, 2))
		group_of_unit(t, m->pid, "k3s.service");
}

/* A container: its own mount namespace, its own root or the host's, its own process table or the host's. */
static void container(struct table *t)
{
	struct fake_spec spec = {.root = "", .file = BIN1 "/k3s-server", .title = "/usr/local/bin/k3s server", .new_mnt = true};
	bool own_root = one_in(t, 2), own_pids = one_in(t, 3);
	struct member *m;

	if (own_root) {
		static const char *const links[] = {"k3s-server", NULL};

		spec.root = CONTAINER;
		spec.chroot_there = true;
		if (access(CONTAINER BIN1 "/k3s", F_OK) < 0)
			fake_install(CONTAINER, BIN1 "/k3s", "", links);
	} else {
		install_inner(DATA_DIR, false);
		if (access(spec.file, X_OK) < 0)
			return;
	}
	spec.new_pid = own_pids;
	m = zoo_start(t, &spec, own_root ? "a container's k3s" : "a container's process that runs the host's k3s");
	if (own_pids) {
		m->partner = false;
		return;
	}
	fake_cgroup(m->pid,
		one_in(t, 2) ? "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope/system.slice/k3s.service\n"
			     : "1:name=systemd:/kubepods/pod1/1\n0::/\n");
}

/* Something below a shim, in the unit's own group. */
static void shims_child(struct table *t)
{
	struct fake_spec shim = {
		.root = "", .file = BIN1 "/containerd-shim-runc-v2", .title = "shim", .starts = BIN1 "/k3s-server", .new_mnt = true};
	struct member *m, *child;

	install_inner(DATA_DIR, false);
	if (access(shim.starts, X_OK) < 0)
		return;
	m = zoo_start(t, &shim, "a shim");
	child = zoo_child(t, m, "what a shim started");
	write_unit(t, "/etc/systemd/system/k3s.service", "server");
	group_of_unit(t, m->pid, "k3s.service");
	group_of_unit(t, child->pid, "k3s.service");
}

void zoo_disguises(struct table *t)
{
	static void (*const kinds[])(struct table * t) = {users_program, users_program, nodes_program_by_user, users_own_k3s,
		users_file_by_root, administrators_program, administrators_program, k3s_commands, container, container, shims_child};
	unsigned n = (unsigned)(zoo_random(t) % 9);

	for (unsigned i = 0; i < n && t->count + 2 < MAX_MEMBERS; i++)
		PICK(t, kinds)(t);
}
