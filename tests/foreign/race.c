/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Others that move things while a swap finds its way: root in a container that has the node's files mounted (racer), and any user (renamer).
 */
#include "foreign.h"

#include <grp.h>
#include <k3sup.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../unit/node/elfmake.h"
#include "base/digest.h"
#include <sys/mman.h>

#define BIN PLACE "/usr/local/bin"

#if defined(__aarch64__)
#define MACHINE EM_AARCH64
#elif defined(__arm__)
#define MACHINE EM_ARM
#elif defined(__s390x__)
#define MACHINE EM_S390
#elif defined(__riscv)
#define MACHINE EM_RISCV
#else
#define MACHINE EM_X86_64
#endif

static void put_k3s(const char *path, const char *version)
{
	_free_ char *data = k3sup__fmt("embed/%s.tar.zst %s ", k3sup__streq(version, "v1.30.4+k3s1") ? ELF_HASH : ELF_HASH2, version);
	struct elf_spec spec = {.machine = MACHINE,
		.is32 = sizeof(void *) == 4,
		.big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,
		.data = data,
		.data_len = strlen(data)};
	size_t len;
	_free_ unsigned char *elf = elf_make(&spec, &len);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, elf, len), 0);
	close(fd);
}

static void make_dirs(const char *const *dirs)
{
	for (; *dirs; dirs++)
		assert_true(mkdir(*dirs, 0755) == 0 || errno == EEXIST);
}

/* Names, contents, inodes and times of all that lies outside. */
static struct k3sup__digest *sum;

static int add_to_sum(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	_free_ char *line = k3sup__fmt("%s %o %u %ju %lld %lld.%09ld %d", path, (unsigned)st->st_mode, (unsigned)st->st_uid,
		(uintmax_t)st->st_ino, (long long)st->st_size, (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec, type);

	(void)ftw;
	return k3sup__digest_update(sum, line, strlen(line));
}

static void sum_up(const char *dir, char hex[static K3SUP__SHA256_HEX])
{
	assert_int_equal(k3sup__digest_new(&sum), 0);
	assert_int_equal(nftw(dir, add_to_sum, 16, FTW_PHYS), 0);
	assert_int_equal(k3sup__digest_finish(sum, hex), 0);
	k3sup__digest_freep(&sum);
}

static int swap(const char *payload)
{
	struct k3sup_ctx_opts inside = {.struct_size = sizeof(inside), .flags = K3SUP_CTX_INLINE};
	struct k3sup_node_opts where = {.struct_size = sizeof(where), .root = PLACE, .k3s = "/usr/local/bin/k3s"};
	struct k3sup_swap_opts opts = {.struct_size = sizeof(opts), .payload = payload, .flags = K3SUP_SWAP_ALLOW_DOWNGRADE};
	k3sup_ctx *ctx = NULL;
	k3sup_node *node = NULL;
	k3sup_op *op = NULL;
	int r = k3sup_ctx_new(&inside, &ctx);

	if (r == 0)
		r = k3sup_node_new(ctx, &where, &node);
	if (r == 0)
		r = k3sup_swap(node, &opts, &op);
	if (r == 0)
		r = k3sup_op_wait(op, -1);
	k3sup_op_unref(op);
	k3sup_node_unref(node);
	k3sup_ctx_unref(ctx);
	return r;
}

/* The control: what a script does. */
static int copy_over(const char *payload)
{
	_free_ char *text = NULL;
	size_t len;
	int fd, r = k3sup__read_file(AT_FDCWD, payload, 1 << 20, &text, &len);

	fd = r < 0 ? -1 : open(BIN "/k3s", O_WRONLY | O_TRUNC | O_CLOEXEC);
	r = fd < 0 ? -1 : k3sup__write_full(fd, text, len);
	k3sup__close(fd);
	return r < 0 ? r : 1;
}

static void move_things(unsigned *swaps)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		/* the file, its directory and the one above become links that lead out, by "..", by an absolute path, and back */
		(void)renameat2(AT_FDCWD, BIN "/k3s", AT_FDCWD, PLACE "/link-file", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, BIN "/k3s", AT_FDCWD, PLACE "/link-file", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, BIN, AT_FDCWD, PLACE "/link-dir", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, BIN, AT_FDCWD, PLACE "/link-dir", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, BIN "/k3s", AT_FDCWD, PLACE "/dir", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, BIN "/k3s", AT_FDCWD, PLACE "/dir", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, PLACE "/usr/local", AT_FDCWD, PLACE "/link-up", RENAME_EXCHANGE);
		(void)renameat2(AT_FDCWD, PLACE "/usr/local", AT_FDCWD, PLACE "/link-up", RENAME_EXCHANGE);
		(*swaps)++;
	}
}

struct tally {
	unsigned changed, already, refused, others;
};

static void race(int (*replace)(const char *payload), unsigned rounds, bool until_hurt, const char *before, struct tally *t, unsigned *ret_swaps)
{
	unsigned *swaps = mmap(NULL, sizeof(*swaps), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char now[K3SUP__SHA256_HEX];
	pid_t pid;

	assert_true(swaps != MAP_FAILED);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		move_things(swaps);
	for (unsigned i = 0; i < rounds || *swaps < rounds; i++) {
		int r = replace(i % 2 ? "/payload/old" : "/payload/new");

		t->changed += r == 1;
		t->already += r == 0;
		/* Whatever was seen half-way has a name; nothing is lost for good. */
		if (r < 0 && (r <= -10000 || r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -ESTALE || r == -ELOOP || r == -EBUSY || r == -EEXIST))
			t->refused++;
		else if (r < 0 && t->others++ < 5)
			printf("racer: unexpected: %s\n", k3sup_error_name(r));
		if (until_hurt) {
			sum_up("/outside", now);
			if (!k3sup__streq(now, before))
				break;
		}
	}
	kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	*ret_swaps = *swaps;
	munmap(swaps, sizeof(*swaps));
}

int racer(unsigned rounds)
{
	static const char *const dirs[] = {PLACE, PLACE "/usr", PLACE "/usr/local", BIN, PLACE "/dir", "/outside", "/outside/bin",
		"/outside/local", "/outside/local/bin", "/payload", NULL};
	char before[K3SUP__SHA256_HEX], after[K3SUP__SHA256_HEX], hurt[K3SUP__SHA256_HEX];
	struct tally t = {0}, control = {0};
	unsigned swaps, control_swaps;

	make_dirs(dirs);
	put_k3s("/outside/k3s", "v1.30.4+k3s1");
	put_k3s("/outside/bin/k3s", "v1.30.4+k3s1");
	put_k3s("/outside/local/bin/k3s", "v1.30.4+k3s1");
	put_k3s(BIN "/k3s", "v1.30.4+k3s1");
	put_k3s("/payload/old", "v1.30.4+k3s1");
	put_k3s("/payload/new", "v1.30.5+k3s1");
	assert_int_equal(symlink("/outside/k3s", PLACE "/link-file"), 0);
	assert_int_equal(symlink("../../../../../outside/bin", PLACE "/link-dir"), 0);
	assert_int_equal(symlink("/outside/local", PLACE "/link-up"), 0);
	sum_up("/outside", before);
	race(swap, rounds, false, before, &t, &swaps);
	sum_up("/outside", after);
	race(copy_over, rounds, true, before, &control, &control_swaps);
	sum_up("/outside", hurt);
	printf("racer: %u rounds of the racer, swaps: %u changed, %u already so, %u refused, %u otherwise; canaries outside: %s; copying "
	       "over: %s after %u\n",
		swaps, t.changed, t.already, t.refused, t.others, k3sup__streq(before, after) ? "untouched" : "CHANGED",
		k3sup__streq(before, hurt) ? "NOT CAUGHT" : "caught", control.changed + control.already);
	return k3sup__streq(before, after) && !k3sup__streq(before, hurt) && t.others == 0 && t.refused > 0 ? 0 : 1;
}

/* ---- any user ---- */

static void rename_like_mad(void)
{
	char one[64], other[80];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)snprintf(one, sizeof(one), PLACE "/tmp/%d", (int)getpid());
	(void)snprintf(other, sizeof(other), "%s.b", one);
	if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0 || mkdir(one, 0755) < 0)
		_exit(1);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user takes it away */
	for (;;)
		if (rename(one, other) < 0 || rename(other, one) < 0)
			_exit(1);
}

/* What another library would ask; whether it was told to try again, or has no such call to rely on (before 5.6). */
static bool openat2_gives_up(int root)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	int fd = (int)syscall(SYS_openat2, root, "usr/../usr/local/../local/bin/../bin/k3s", &how, sizeof(how));

	if (fd >= 0)
		close(fd);
	return fd < 0 && (errno == EAGAIN || errno == ENOSYS);
}

int renamer(unsigned rounds)
{
	static const char *const dirs[] = {PLACE, PLACE "/usr", PLACE "/usr/local", BIN, PLACE "/tmp", "/payload", NULL};
	static const char *const paths[] = {"/usr/local/../local/bin/../bin/k3s", "/bin/k3s", "/tmp/../usr/local/bin/k3s"};
	unsigned refused = 0, swaps = 0, gave_up = 0, looked = 0;
	int64_t give_up = k3sup__deadline(120000);
	struct k3sup__root root;
	pid_t pids[2];

	make_dirs(dirs);
	assert_int_equal(chmod(PLACE "/tmp", 01777), 0);
	assert_int_equal(symlink("usr/../usr/local/bin", PLACE "/bin"), 0);
	put_k3s(BIN "/k3s", "v1.30.4+k3s1");
	put_k3s("/payload/old", "v1.30.4+k3s1");
	put_k3s("/payload/new", "v1.30.5+k3s1");
	assert_int_equal(k3sup__root_open(NULL, PLACE, &root), 0);
	for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			rename_like_mad();
	}
	/* Until the control has seen them at it. */
	for (; looked < rounds || (gave_up == 0 && k3sup__now_ms() < give_up); looked++) {
		struct k3sup__place place = K3SUP__PLACE_NONE;
		int r = k3sup__root_find(NULL, &root, paths[looked % ELEMENTSOF(paths)], K3SUP__TRUSTED, &place);

		if (r < 0 || place.fd < 0) {
			refused++;
			printf("renamer: %s: %s\n", paths[looked % ELEMENTSOF(paths)], k3sup_error_name(r));
		}
		k3sup__place_clear(&place);
		gave_up += openat2_gives_up(root.fd);
		if (looked % 100 == 0) {
			r = swap(swaps++ % 2 ? "/payload/old" : "/payload/new");
			if (r != 1) {
				refused++;
				printf("renamer: swap: %s\n", k3sup_error_name(r));
			}
		}
	}
	for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
		int status;

		if (waitpid(pids[i], &status, WNOHANG) != 0) {
			printf("renamer: it ended by itself\n");
			refused++;
		}
		kill(pids[i], SIGKILL);
		(void)waitpid(pids[i], NULL, 0);
	}
	printf("renamer: %u look-ups, %u swaps, %u refused; openat2(RESOLVE_IN_ROOT) gave up %u times\n", looked, swaps, refused, gave_up);
	k3sup__root_close(&root);
	return refused == 0 && gave_up > 0 ? 0 : 1;
}
