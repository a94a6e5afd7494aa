/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What certs_cut.py stops and fails as "rotate": k3sup_rotate() of a whole server's certificates, in a context without a worker thread. Clock, processes and service manager are those of
 * tests/law (machine.c), and live in a file: who is killed leaves a k3s that is stopped, and a guard that waits.
 *
 *   driver-rotate make TOP            a node in TOP/root, and in TOP/next the leafs that a start makes where there are none
 *   driver-rotate rotate TOP          one run
 *   driver-rotate later TOP SECONDS   so much time without us: what waits comes
 *   driver-rotate memory TOP N        a run whose Nth allocation fails, and all after it if N is below 0; N = 0: says how many there are
 *
 * and a program with a mistake: "no-guard TOP" rotates, and nobody waits to start k3s.
 *
 * Exit status: 0 the goal held already (later: k3s does not run), 10 it was reached (k3s runs), 1 anything else.
 */
#include "../law/law.h"

#include "alloc-hook.h"
#include "driver.h"

#include "../unit/certs/tree.h"

#include <sys/mman.h>

#include "base/sockets.h"

#define SECONDS 1800000000

/* ---- what law.h wants besides: nobody cuts here, and no file of ours is noted ---- */

bool point(void)
{
	return false;
}

char *leafs_complaint(void)
{
	return NULL;
}

/* ---- what others do is neither struck nor fails ---- */

static void others(bool do_it)
{
	static bool armed;

	if (do_it)
		armed = hook.armed;
	hook.armed = !do_it && armed;
	if (write(-1, do_it ? "others" : "ours", do_it ? 6 : 4) >= 0)
		abort();
}

unsigned __real_node_installed(void);
unsigned __wrap_node_installed(void);
void __real_node_start_k3s(unsigned build);
void __wrap_node_start_k3s(unsigned build);
int __wrap_k3sup__listeners_find(const k3sup_process *process, const k3sup_process *worker, struct k3sup__listeners *ret);

unsigned __wrap_node_installed(void)
{
	unsigned build;

	others(true);
	build = __real_node_installed();
	others(false);
	return build;
}

void __wrap_node_start_k3s(unsigned build)
{
	others(true);
	__real_node_start_k3s(build);
	others(false);
}

/* It serves nothing: what is on the wire is another test's subject. */
int __wrap_k3sup__listeners_find(const k3sup_process *process, const k3sup_process *worker, struct k3sup__listeners *ret)
{
	(void)process;
	(void)worker;
	*ret = (struct k3sup__listeners){0};
	return 0;
}

/* ---- certificates ---- */

static char *next_path(const char *path, const char *kind)
{
	return k3sup__fmt("%s/next/%s%s", machine->top, path, kind);
}

static void put_all_leafs(struct tree *t)
{
	for (size_t i = 0; i < k3sup__n_pairs; i++)
		put_leaf(t, &k3sup__pairs[i], NOW - DAYS(1), NOW + DAYS(364), NULL, NULL);
	put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW + DAYS(364), NULL);
}

void leafs_prepare(void)
{
	_free_ char *pool = k3sup__fmt("%s/pool", machine->top), *next = k3sup__fmt("%s/next", machine->top);
	void *state = NULL;
	struct tree *t;

	need(tree_setup(&state) == 0, "certificates");
	t = state;
	put_listener(t, &t->cas[K3SUP__CA_SERVER], NOW + DAYS(364), NULL);
	copy_tree(t->s->path, pool);
	put_all_leafs(t);
	copy_tree(t->s->path, next);
	tree_teardown(&state);
}

/* To the disk, too: what a start of k3s leaves after a power cut is not ours to answer for. */
static void put_next(const char *path, const char *kind, mode_t mode)
{
	_free_ char *from = next_path(path, kind), *to = k3sup__fmt("%s" DATA_DIR "/%s%s", machine->root, path, kind);
	struct file f = read_whole(from);
	int fd;

	if (f.at)
		write_whole(to, &f, mode);
	free(f.at);
	fd = open(to, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)fsync(fd);
	(void)close(fd);
}

static bool is_live(const char *path, const char *kind)
{
	_free_ char *live = k3sup__fmt("%s" DATA_DIR "/%s%s", machine->root, path, kind);

	return is_there(live);
}

/* As k3s does it: a pair of which something is not there, and the listener's if it is told to (k3s pkg/daemons/control/deps, pkg/cluster/https.go). */
void leafs_start(void)
{
	_free_ char *trigger = at(DATA_DIR "/server/tls/dynamic-cert-regenerate");

	for (size_t i = 0; i < k3sup__n_pairs; i++) {
		const struct k3sup__pair *pair = &k3sup__pairs[i];
		bool only = pair->flags & K3SUP__PAIR_KEY_ONLY;

		if (is_live(pair->path, ".key") && (only || is_live(pair->path, ".crt")))
			continue;
		if (!only)
			put_next(pair->path, ".crt", 0644);
		put_next(pair->path, ".key", 0600);
	}
	if (unlink(trigger) == 0)
		put_next(LISTENER, "", 0600);
}

/* ---- the machine ---- */

static void map_machine(const char *top)
{
	_free_ char *path = k3sup__fmt("%s/machine", top);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	/* The rest is about what a power cut takes away, and of no use here. */
	need(fd >= 0 && ftruncate(fd, offsetof(struct machine, steps)) == 0, path);
	machine = mmap(NULL, sizeof(*machine), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(machine != MAP_FAILED, path);
	close(fd);
	for (unsigned i = 1; i <= BUILDS; i++)
		make_build(i);
}

static int make(const char *top)
{
	const struct setup setup = {.managed = true, .certs = true};

	(void)mkdir(top, 0755);
	map_machine(top);
	(void)snprintf(machine->top, sizeof(machine->top), "%s", top);
	(void)snprintf(machine->root, sizeof(machine->root), "%s/root", top);
	machine->seconds = SECONDS;
	machine->boottime_ms = 1000000;
	machine->armed = NEVER;
	node_prepare();
	node_make(&setup);
	machine_new(&setup);
	return machine_build() == 1 ? 1 : -1;
}

static int start(k3sup_node *node, char **argv, k3sup_op **op)
{
	struct k3sup_rotate_opts opts = {
		.struct_size = sizeof(opts),
		.stable_ms = -1,
		.guard_delay_ms = strcmp(argv[1], "no-guard") == 0 ? -1 : 0,
		.key = "k",
		.restart = K3SUP_RESTART_SERVICE,
		.probe = K3SUP_PROBE_NONE,
	};

	return k3sup_rotate(node, &opts, op);
}

static int rotate(char **argv)
{
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = machine->root};

	return drive(&where, start, argv);
}

/* Blocks that the operation has not given back count as a failure. */
static int with_little_memory(char **argv)
{
	static char out[BUFSIZ]; /* the C library would keep one */
	const int fail_at = atoi(argv[3]);
	int r;

	(void)setvbuf(stdout, out, _IOLBF, sizeof(out));
	hook_arm(1u << OURS | 1u << JANSSON | 1u << YAML | 1u << ZLIB | 1u << LIBC, (unsigned)abs(fail_at), fail_at < 0);
	r = rotate(argv);
	hook.armed = false;
	printf("%u allocations, %u failed, %u kept\n", hook.count, hook.failed, hook_kept);
	return r;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";
	const bool memory = strcmp(verb, "memory") == 0, later = strcmp(verb, "later") == 0;
	int r;

	if (argc != (memory || later ? 4 : 3))
		return 2;
	(void)umask(0); /* no mode may depend on it */
	if (strcmp(verb, "make") == 0)
		return make(argv[2]) == 1 ? 10 : 1;
	map_machine(argv[2]);
	if (later) {
		machine_wait(atoll(argv[3]) * 1000);
		return machine_build() == 1 ? 10 : 0;
	}
	/* Fails, and marks in the trace where the loader's calls end and ours begin. */
	if (write(-1, "begin", 5) >= 0)
		return 2;
	r = memory ? with_little_memory(argv) : rotate(argv);
	return r == 0 ? 0 : r > 0 ? 10 : 1;
}
