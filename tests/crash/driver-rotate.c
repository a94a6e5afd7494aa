/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What certs_cut.py stops and fails as "rotate": k3sup_rotate() of a whole server's certificates, in a context without a worker thread. Clock, processes and service manager are those of
 * tests/law (machine.c), and live in a file: who is killed leaves a k3s that is stopped, and a guard that waits.
 *
 *   driver-rotate make TOP            a node in TOP/root with a set of leafs, which is in TOP/a, too; and three more sets, TOP/b to TOP/d
 *   driver-rotate rotate TOP          one run
 *   driver-rotate upgrade TOP         one run of k3sup_upgrade() to another build, with a rotation
 *   driver-rotate later TOP SECONDS   so much time without us: what waits comes; prints the build that runs, and how often a k3s was started
 *   driver-rotate slow TOP MS         one run on a disk that takes so long for each sync; the guard's time runs meanwhile
 *   driver-rotate memory TOP N        a run of the rotation whose Nth allocation fails, and all after it if N is below 0; N = 0: says how many there are
 *   driver-rotate upgrade-memory TOP N    likewise of the upgrade
 *   driver-rotate serve               does what the lines of stdin say, and answers each with what was said and a line "= STATUS STRUCK":
 *       copy FROM TO                  TO is as FROM from now on
 *       learn TOP                     one rotation; what certificates it has seen is remembered, which makes all that come faster
 *       run CALL WHEN ERRNO VERB TOP ...    one run as above, whose WHENth call of that number (CALL -1: none) fails, or ends it by a kill (ERRNO 0);
 *                                           CALL -2: none, and the calls are listed at which a kill leaves what no other one has left
 *
 * for powercut/certs_power.py, on a machine whose power is cut:
 *
 *   driver-rotate certs-rotate TOP ...   rotates for ever, from one of three sets of leafs to the next; prints "ACK n rotated SET" for what is promised to be durable
 *   driver-rotate certs-upgrade TOP ...  the same with another build each time, in one window; prints "ACK n upgraded SET". certs-upgrade-lazy: nothing of it is synced, which must be found out
 *   driver-rotate finish TOP             k3s is started, as by a boot, and one rotation more, to the fourth set
 *   driver-rotate finish-upgrade TOP     the same with an upgrade to the first build
 *
 * and programs with a mistake: "no-guard TOP" rotates, and nobody waits to start k3s; "twice TOP" upgrades and then rotates, with a restart for each; "no-key TOP" rotates under another key
 * each time.
 *
 * Exit status: 0 the goal held already (later: k3s does not run), 10 it was reached (k3s runs), 1 anything else.
 */
#include "../law/law.h"

#include "alloc-hook.h"
#include "driver.h"
#include "leafs.h"
#include "strike.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

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

static struct strike *strike; /* NULL: nobody is served */

static void others(bool do_it)
{
	static bool armed;

	if (do_it)
		armed = hook.armed;
	hook.armed = !do_it && armed;
	if (strike)
		strike->paused = true;
	if (write(-1, do_it ? "others" : "ours", do_it ? 6 : 4) >= 0)
		abort();
	if (strike)
		strike->paused = do_it;
}

unsigned __real_node_installed(void);
unsigned __wrap_node_installed(void);
void __real_node_start_k3s(unsigned build);
void __wrap_node_start_k3s(unsigned build);

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

int __real_fsync(int fd);
int __wrap_fsync(int fd);
static int64_t sync_ms; /* of the machine's clock */
static bool lazy;

int __wrap_fsync(int fd)
{
	if (lazy)
		return 0;
	if (sync_ms)
		machine_wait(sync_ms);
	return __real_fsync(fd);
}

/* ---- the machine ---- */

static const struct setup setup = {.managed = true, .certs = true};
static char key[16] = "k";
#define IN_TURN 3           /* sets of leafs; the last one is for the end */
static unsigned target = 2; /* to which an upgrade leads */

/* file: where it is kept; NULL: nowhere, it is as new */
static void map_machine(const char *file)
{
	int fd = file ? open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

	/* The rest is about what a power cut takes away, and of no use here. */
	need(!file || (fd >= 0 && ftruncate(fd, offsetof(struct machine, steps)) == 0), file);
	machine = mmap(NULL, sizeof(*machine), PROT_READ | PROT_WRITE, MAP_SHARED | (file ? 0 : MAP_ANONYMOUS), fd, 0);
	need(machine != MAP_FAILED, "memory");
	(void)k3sup__close(fd);
	for (unsigned i = 1; i <= BUILDS && !builds[i].at; i++)
		make_build(i);
}

static void place_machine(const char *top)
{
	(void)snprintf(machine->top, sizeof(machine->top), "%s", top);
	(void)snprintf(machine->root, sizeof(machine->root), "%s/root", top);
	machine->seconds = SECONDS;
	machine->boottime_ms = 1000000;
	machine->armed = NEVER;
}

static int make(const char *top)
{
	place_machine(top);
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
		.key = key,
		.restart = K3SUP_RESTART_SERVICE,
		.probe = K3SUP_PROBE_NONE,
	};

	return k3sup_rotate(node, &opts, op);
}

/* To another build, with a rotation; without one where the mistake is to restart twice. */
static int start_upgrade(k3sup_node *node, char **argv, k3sup_op **op)
{
	const bool rotates = strcmp(argv[1], "twice") != 0;
	_free_ char *payload = k3sup__fmt("%s/payload/%u/k3s", machine->top, target);
	struct k3sup_upgrade_opts opts = {
		.struct_size = sizeof(opts),
		.flags = K3SUP_UPGRADE_ALLOW_DOWNGRADE | K3SUP_UPGRADE_NO_UNPACK_AHEAD | (rotates ? K3SUP_UPGRADE_ROTATE_CERTS : 0),
		.stable_ms = -1,
		.payload = payload,
		.rotate_key = rotates ? key : NULL,
		.restart = K3SUP_RESTART_SERVICE,
		.probe = K3SUP_PROBE_NONE,
	};

	return payload ? k3sup_upgrade(node, &opts, op) : -ENOMEM;
}

static bool upgrades(const char *verb)
{
	return strstr(verb, "upgrade") != NULL;
}

static int rotate(char **argv)
{
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = machine->root};
	int r = 0;

	if (strcmp(argv[1], "no-key") == 0)
		(void)snprintf(key, sizeof(key), "%u", machine->starts);
	if (upgrades(argv[1]) || strcmp(argv[1], "no-key") == 0)
		return drive(&where, start_upgrade, argv);
	if (strcmp(argv[1], "twice") == 0)
		r = drive(&where, start_upgrade, argv);
	return r < 0 ? r : drive(&where, start, argv) | r;
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

/* The machine has booted just now, and k3s with it. */
static int after_boot(char **argv, bool for_ever)
{
	int r;

	map_machine(NULL);
	place_machine(argv[2]);
	machine_new(&setup);
	for (unsigned n = 1;; n++) {
		leafs_set = for_ever ? n % IN_TURN : IN_TURN;
		target = for_ever ? leafs_set + 1 : 1;
		(void)snprintf(key, sizeof(key), for_ever ? "%u" : "last", n);
		r = rotate(argv);
		if (r <= 0 || !for_ever)
			return r;
		printf("ACK %u %s %c\n", n, upgrades(argv[1]) ? "upgraded" : "rotated", leaf_sets[leafs_set]);
		(void)fflush(stdout);
	}
}

static int one(const char *verb, char **argv)
{
	_free_ char *file = k3sup__fmt("%s/machine", argv[2]);

	(void)mkdir(argv[2], 0755);
	map_machine(file);
	if (strcmp(verb, "make") == 0)
		return make(argv[2]);
	if (strcmp(verb, "later") == 0) {
		machine_wait(atoll(argv[3]) * 1000);
		printf("build %u, %u starts\n", machine_build(), machine->starts);
		return machine_build() > 0;
	}
	/* Fails, and marks in the trace where the loader's calls end and ours begin. */
	if (write(-1, "begin", 5) >= 0)
		return -1;
	if (strike && strike->call != STRIKE_NONE) {
		strike->state = machine;
		strike->state_len = offsetof(struct machine, steps);
		strike_arm(strike);
	}
	return strstr(verb, "memory") ? with_little_memory(argv) : rotate(argv);
}

static int exit_status(int r)
{
	return r == 0 ? 0 : r > 0 ? 10 : 1;
}

#define WORDS 8
#define HANGS 60 /* s */

/* words: "run" and what follows */
static int run_apart(char **words)
{
	pid_t pid;
	int status = 0;

	strike->call = atoi(words[1]);
	strike->when = (unsigned)atoi(words[2]);
	strike->error = atoi(words[3]);
	strike->paused = strike->struck = false;
	strike->listed = 0;
	decoded_remembered = strstr(words[4], "memory") == NULL;
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)alarm(HANGS);
		status = exit_status(one(words[4], words + 3));
		(void)fflush(stdout);
		_exit(status);
	}
	need(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
	for (unsigned i = 0; i < strike->listed; i++)
		printf("%d %u\n", strike->list[i].call, strike->list[i].when);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int serve_one(char **words, int n)
{
	char *rotation[] = {words[0], words[0], words[1], NULL};
	int r;

	if (n == 3 && strcmp(words[0], "copy") == 0) {
		node_remove(words[2]);
		copy_tree(words[1], words[2]);
		return 0;
	}
	if (n == 2 && strcmp(words[0], "learn") == 0) {
		strike->call = STRIKE_NONE;
		r = exit_status(one("rotate", rotation));
		decode_wanted();
		return r;
	}
	return n >= 6 && strcmp(words[0], "run") == 0 ? run_apart(words) : 2;
}

static int serve(void)
{
	char line[1024];

	strike = mmap(NULL, sizeof(*strike), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(strike != MAP_FAILED, "memory");
	decoded_prepare();
	while (fgets(line, sizeof(line), stdin)) {
		char *words[WORDS + 1] = {NULL}, *rest = NULL;
		int status, n = 0;

		for (char *word = strtok_r(line, " \n", &rest); word && n < WORDS; word = strtok_r(NULL, " \n", &rest))
			words[n++] = word;
		status = serve_one(words, n);
		printf("\n= %d %d\n", status, strike->struck);
		(void)fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";
	const bool for_ever = strncmp(verb, "certs-", 6) == 0, slow = strcmp(verb, "slow") == 0;
	const bool more = slow || strstr(verb, "memory") || strcmp(verb, "later") == 0;
	int r;

	(void)umask(0); /* no mode may depend on it */
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		return exit_status(serve());
	if (argc < 3 || (!for_ever && argc != 3 + more))
		return 2;
	lazy = strcmp(verb, "certs-upgrade-lazy") == 0;
	sync_ms = slow ? atoll(argv[3]) : 0;
	r = for_ever || strncmp(verb, "finish", 6) == 0 ? after_boot(argv, for_ever) : one(verb, argv);
	return exit_status(r);
}
