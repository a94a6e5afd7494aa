/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/durable.h"

/* ---- between the library and the kernel: what is called, what fails, where the process ends ---- */

static struct {
	char trace[512];    /* one letter a call: f sync of a file, d of a directory, l link, r rename */
	int fail_sync;      /* the number of the fsync that fails with EIO; 0: none */
	int interrupt_sync; /* so many fsyncs are interrupted first */
	int link_error;     /* errno of every linkat */
	int lease_error;    /* errno of every F_SETLEASE */
	int cut_at;         /* the number of the call that is never made: the process ends instead; 0: none */
	int calls;
	bool open_under_lease; /* somebody opens the file for writing while we hold the lease */
} kernel;

static void call(const char *letter)
{
	if (++kernel.calls == kernel.cut_at)
		_exit(99);
	if (*letter && strlen(kernel.trace) + 1 < sizeof(kernel.trace))
		strcat(kernel.trace, letter);
}

int fsync(int fd)
{
	struct stat st;

	if (kernel.interrupt_sync > 0) {
		kernel.interrupt_sync--;
		errno = EINTR;
		return -1;
	}
	(void)fstat(fd, &st);
	call(S_ISDIR(st.st_mode) ? "d" : "f");
	if (kernel.fail_sync > 0 && --kernel.fail_sync == 0) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	call("l");
	if (kernel.link_error) {
		errno = kernel.link_error;
		return -1;
	}
	return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	call("r");
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int unlinkat(int dir, const char *name, int flags)
{
	call("");
	return (int)syscall(SYS_unlinkat, dir, name, flags);
}

int fchmod(int fd, mode_t mode)
{
	call("");
	return (int)syscall(SYS_fchmod, fd, mode);
}

ssize_t write(int fd, const void *data, size_t len)
{
	call("");
	return syscall(SYS_write, fd, data, len);
}

int openat(int dir, const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	call("");
	return (int)syscall(SYS_openat, dir, name, flags | O_LARGEFILE, mode);
}

static int real_fcntl(int fd, int cmd, void *arg)
{
#ifdef SYS_fcntl64
	return (int)syscall(SYS_fcntl64, fd, cmd, arg);
#else
	return (int)syscall(SYS_fcntl, fd, cmd, arg);
#endif
}

int fcntl(int fd, int cmd, ...)
{
	char path[64];
	va_list ap;
	void *arg;
	int r;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd == F_SETLEASE && kernel.lease_error) {
		errno = kernel.lease_error;
		return -1;
	}
	r = real_fcntl(fd, cmd, arg);
	if (cmd == F_SETLEASE && r == 0 && kernel.open_under_lease) {
		kernel.open_under_lease = false;
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		assert_int_equal(open(path, O_WRONLY | O_NONBLOCK), -1);
		assert_int_equal(errno, EWOULDBLOCK);
	}
	return r;
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	return scratch_setup(state);
}

/* ---- the usual way ---- */

static struct k3sup__stage begin(struct scratch *s, const char *name, const char *content)
{
	struct k3sup__stage stage = K3SUP__STAGE_NONE;

	assert_int_equal(k3sup__stage_begin(s->op, s->fd, name, &stage), 0);
	assert_int_equal(k3sup__write_full(stage.fd, content, strlen(content)), 0);
	return stage;
}

/* Staged and sealed, with the attributes of what is there. */
static struct k3sup__stage stage_file(struct scratch *s, const char *name, const char *content)
{
	struct k3sup__stage stage = begin(s, name, content);
	_close_ int old_fd = openat(s->fd, name, O_RDONLY | O_CLOEXEC);

	assert_int_equal(k3sup__stage_seal(s->op, &stage, old_fd, 0755), 0);
	return stage;
}

static void the_new_file_takes_the_name_and_the_old_one_keeps_another(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	bool renamed = false;
	char path[80];
	ino_t old;

	put_file(s->fd, "k3s", "old", 0750);
	(void)snprintf(path, sizeof(path), "%s/k3s", s->path);
	assert_int_equal(setxattr(path, "user.k", "v", 1, 0), 0);
	old = stat_at(s->fd, "k3s").st_ino;
	stage = stage_file(s, "k3s", "new");
	assert_int_equal(stage.old.st_ino, old);
	assert_int_equal(fcntl(stage.fd, F_GETFL, 0) & O_ACCMODE, O_RDONLY);
	assert_content(s->fd, "k3s", "old");
	kernel.trace[0] = '\0';
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), 0);
	assert_true(renamed);
	/* old content, link under its temp's name, that over the backup; durable; then the new one; durable */
	assert_string_equal(kernel.trace, "flrdrd");
	assert_content(s->fd, "k3s", "new");
	assert_content(s->fd, "k3s.old", "old");
	assert_int_equal(stat_at(s->fd, "k3s.old").st_ino, old);
	assert_int_equal(stat_at(s->fd, "k3s.old").st_nlink, 1);
	assert_int_equal(stat_at(s->fd, "k3s").st_mode, S_IFREG | 0750);
	assert_int_equal(fgetxattr(stage.fd, "user.k", NULL, 0), 1);
	assert_null(stage.temp);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, NULL, NULL, &renamed), -EINVAL);
	k3sup__stage_drop(&stage);
	k3sup__stage_drop(&stage);
	assert_int_equal(count_entries(s->fd), 2);
}

static void a_first_file_gets_its_mode_whatever_the_umask(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	mode_t mask = umask(0777);
	bool renamed;

	stage = stage_file(s, "k3s", "new");
	umask(mask);
	assert_int_equal(stage.old.st_nlink, 0);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), 0);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "new");
	assert_int_equal(stat_at(s->fd, "k3s").st_mode, S_IFREG | 0755);
	assert_int_equal(count_entries(s->fd), 1);
}

static void the_temp_is_private_and_named_after_the_file(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	mode_t mask = umask(0);
	char name[256];

	stage = begin(s, "k3s", "new");
	umask(mask);
	assert_true(k3sup__startswith(stage.temp, ".k3s.k3sup-tmp-"));
	assert_int_equal(strlen(stage.temp), strlen(".k3s.k3sup-tmp-") + 8);
	assert_int_equal(stat_at(s->fd, stage.temp).st_mode, S_IFREG | 0600);
	assert_true(fcntl(stage.fd, F_GETFD, 0) & FD_CLOEXEC);
	k3sup__stage_drop(&stage);
	assert_int_equal(count_entries(s->fd), 0);

	/* 127 times two bytes and one: the cut must not fall within a character */
	for (size_t i = 0; i < 254; i += 2)
		memcpy(name + i, "\xc3\xa4", 2);
	memcpy(name + 254, "x", 2);
	mask = umask(0777);
	stage = begin(s, name, "new");
	umask(mask);
	assert_int_equal(stat_at(s->fd, stage.temp).st_mode, S_IFREG | 0600);
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), 0);
	assert_int_equal(strlen(stage.temp), 254);
	assert_memory_equal(stage.temp + strlen(stage.temp) - 8 - 11 - 2, "\xc3\xa4", 2);
	assert_int_equal(k3sup__stage_leftovers(s->op, s->fd, name, false), 1);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, NULL, NULL, &(bool){false}), 0);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, name, "new");
}

static void only_a_regular_file_is_replaced(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = K3SUP__STAGE_NONE;

	put_file(s->fd, "canary", "precious", 0600);
	symlinkat("canary", s->fd, "link");
	mkdirat(s->fd, "dir", 0755);
	mkfifoat(s->fd, "fifo", 0600);
	for (const char *const *name = (const char *const[]){"link", "dir", "fifo", NULL}; *name; name++)
		assert_int_equal(k3sup__stage_begin(s->op, s->fd, *name, &stage), K3SUP_E_TARGET_NOT_FILE);
	for (const char *const *name = (const char *const[]){"", ".", "..", "a/b", "/", NULL}; *name; name++)
		assert_int_equal(k3sup__stage_begin(s->op, s->fd, *name, &stage), -EINVAL);
	assert_content(s->fd, "canary", "precious");
	assert_int_equal(count_entries(s->fd), 4);
}

static void a_directory_held_by_path_only_will_do(void **state)
{
	struct scratch *s = *state;
	_close_ int dir = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(k3sup__sync_dir(dir), 0);
	assert_int_equal(k3sup__durable_write(s->op, dir, "journal", "text", 4, 0600), 0);
	assert_content(s->fd, "journal", "text");
	kernel.interrupt_sync = 3;
	assert_int_equal(k3sup__sync_dir(dir), 0);
	assert_int_equal(kernel.interrupt_sync, 0);
}

/* ---- writers ---- */

/* A child that holds what we hold, as a host that forks without exec does, until it is killed. */
static pid_t fork_holder(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_file_that_a_child_could_still_write_is_not_sealed(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	int64_t start;
	pid_t pid;

	put_file(s->fd, "k3s", "old", 0755);
	stage = begin(s, "k3s", "new");
	pid = fork_holder();
	start = k3sup__now_ms();
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), K3SUP_E_TARGET_BUSY);
	assert_in_range(k3sup__now_ms() - start, 1900, 20000);
	assert_sentence(s, "open for writing");
	end_child(pid);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "old");
	assert_int_equal(count_entries(s->fd), 1);
}

static void a_child_that_lets_go_in_time_is_waited_for(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = begin(s, "k3s", "new");
	pid_t pid = fork();

	if (pid == 0) {
		poll(NULL, 0, 150);
		_exit(0);
	}
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), pid); /* not before it was gone */
	k3sup__stage_drop(&stage);
}

static void waiting_for_writers_ends_when_the_operation_shall(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = begin(s, "k3s", "new");
	pid_t pid = fork_holder();

	k3sup_op_cancel(s->op);
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), K3SUP_E_CANCELLED);
	end_child(pid);
	k3sup__stage_drop(&stage);
}

static void somebody_who_opens_it_under_the_lease_does_not_kill_us(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = begin(s, "k3s", "new");

	kernel.open_under_lease = true;
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), 0);
	assert_false(kernel.open_under_lease);
	k3sup__stage_drop(&stage);
}

static void without_leases_nothing_is_promised(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = begin(s, "k3s", "new");

	kernel.lease_error = EINVAL;
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), K3SUP_E_UNSUPPORTED);
	assert_sentence(s, "leases");
	k3sup__stage_drop(&stage);
	assert_int_equal(k3sup__durable_write(s->op, s->fd, "journal", "x", 1, 0600), 0); /* nobody executes that */
}

/* ---- somebody else ---- */

static void a_target_that_changed_is_left_alone(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	bool renamed = true;

	put_file(s->fd, "k3s", "old", 0755);
	stage = stage_file(s, "k3s", "new");
	put_file(s->fd, "other", "other", 0755);
	renameat(s->fd, "other", s->fd, "k3s");
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), K3SUP_E_TARGET_CHANGED);
	assert_false(renamed);
	assert_content(s->fd, "k3s", "other");
	unlinkat(s->fd, "k3s", 0);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), K3SUP_E_TARGET_CHANGED);
	k3sup__stage_drop(&stage);
	assert_int_equal(count_entries(s->fd), 0);

	stage = stage_file(s, "k3s", "new");
	put_file(s->fd, "k3s", "appeared", 0755);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), K3SUP_E_TARGET_CHANGED);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "appeared");
	assert_int_equal(count_entries(s->fd), 1);
}

static void what_is_published_is_what_was_sealed(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	char temp[64];
	bool renamed;

	put_file(s->fd, "k3s", "old", 0755);
	stage = stage_file(s, "k3s", "new");
	put_file(s->fd, "other", "other", 0755);
	(void)snprintf(temp, sizeof(temp), "%s", stage.temp);
	renameat(s->fd, "other", s->fd, temp);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, NULL, NULL, &renamed), K3SUP_E_TARGET_CHANGED);
	assert_sentence(s, temp);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "old");

	stage = begin(s, "k3s", "new");
	put_file(s->fd, "other", "other", 0755);
	renameat(s->fd, "other", s->fd, stage.temp);
	assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), K3SUP_E_TARGET_CHANGED);
	k3sup__stage_drop(&stage);
}

static struct scratch *hook_scratch;
static int hook_result;

static int hook(k3sup_op *op)
{
	assert_ptr_equal(op, hook_scratch->op);
	assert_content(hook_scratch->fd, "k3s", "old");
	assert_content(hook_scratch->fd, "k3s.old", "old");
	strcat(kernel.trace, "H");
	return hook_result;
}

static int replacing_hook(k3sup_op *op)
{
	(void)op;
	put_file(hook_scratch->fd, "other", "other", 0755);
	assert_int_equal(renameat(hook_scratch->fd, "other", hook_scratch->fd, "k3s"), 0);
	return 0;
}

static void a_target_that_changes_while_the_hook_runs_is_left_alone(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	bool renamed;

	hook_scratch = s;
	put_file(s->fd, "k3s", "old", 0755);
	stage = stage_file(s, "k3s", "new");
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", replacing_hook, &renamed), K3SUP_E_TARGET_CHANGED);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "other");
	assert_content(s->fd, "k3s.old", "old");
}

static void the_hook_has_the_last_word_before_the_rename(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	bool renamed = true;

	hook_scratch = s;
	put_file(s->fd, "k3s", "old", 0755);
	put_file(s->fd, "k3s.old", "older", 0755);
	stage = stage_file(s, "k3s", "new");
	hook_result = K3SUP_E_CANCELLED;
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", hook, &renamed), K3SUP_E_CANCELLED);
	assert_false(renamed);
	assert_content(s->fd, "k3s", "old");
	/* again: the backup is there already, and is not linked again */
	hook_result = 0;
	kernel.trace[0] = '\0';
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", hook, &renamed), 0);
	assert_string_equal(kernel.trace, "fdHrd");
	assert_content(s->fd, "k3s", "new");
	assert_content(s->fd, "k3s.old", "old");
	k3sup__stage_drop(&stage);
	assert_int_equal(count_entries(s->fd), 2);
}

/* Nothing but NAME is ever seen in its directory. */
static void temp_and_backup_can_lie_elsewhere(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	_close_ int dir = -1, work = -1, old_fd = -1;
	bool renamed = false;

	assert_int_equal(mkdirat(s->fd, "dir", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "work", 0700), 0);
	dir = openat(s->fd, "dir", O_PATH | O_DIRECTORY | O_CLOEXEC);
	work = openat(s->fd, "work", O_PATH | O_DIRECTORY | O_CLOEXEC);
	put_file(dir, "k3s", "old", 0640);
	assert_int_equal(k3sup__stage_begin_in(s->op, dir, "k3s", work, &stage), 0);
	assert_int_equal(k3sup__write_full(stage.fd, "new", 3), 0);
	assert_int_equal(stat_at(work, stage.temp).st_size, 3);
	assert_true(k3sup__is_temp(stage.temp));
	old_fd = openat(dir, "k3s", O_RDONLY | O_CLOEXEC);
	assert_int_equal(k3sup__stage_finish(s->op, &stage, old_fd, 0755), 0);
	assert_int_equal(count_entries(dir), 1);
	kernel.trace[0] = '\0';
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "kept", NULL, &renamed), 0);
	assert_true(renamed);
	assert_string_equal(kernel.trace, "flrdrdd");
	assert_content(dir, "k3s", "new");
	assert_content(work, "kept", "old");
	assert_int_equal(stat_at(dir, "k3s").st_mode, S_IFREG | 0640);
	assert_int_equal(count_entries(dir), 1);
	assert_int_equal(count_entries(work), 1);
	k3sup__stage_drop(&stage);
	/* dropped before it is published: nothing is left */
	assert_int_equal(k3sup__stage_begin_in(s->op, dir, "k3s", work, &stage), 0);
	k3sup__stage_drop(&stage);
	assert_int_equal(count_entries(work), 1);
	assert_false(k3sup__is_temp("k3s"));
	assert_false(k3sup__is_temp(".k3sup-tmp-01234567"));
	assert_false(k3sup__is_temp(".k3s.k3sup-tmp-0123456g"));
}

static void directories_are_made_with_their_mode(void **state)
{
	struct scratch *s = *state;
	mode_t mask = umask(0777);

	assert_int_equal(k3sup__make_dir(s->op, s->fd, "dir", 0751, "dir"), 0);
	umask(mask);
	assert_string_equal(kernel.trace, "dd");
	assert_int_equal(stat_at(s->fd, "dir").st_mode, S_IFDIR | 0751);
	assert_int_equal(k3sup__make_dir(s->op, s->fd, "dir", 0700, "dir"), 0);
	assert_int_equal(stat_at(s->fd, "dir").st_mode, S_IFDIR | 0751);
	assert_int_equal(k3sup__make_dir(s->op, s->fd, "none/dir", 0700, "none/dir"), -ENOENT);
	assert_sentence(s, "none/dir");
}

/* ---- backups ---- */

static void where_links_are_refused_the_backup_is_a_copy(void **state)
{
	struct scratch *s = *state;
	char *big = malloc(700001);
	bool renamed;

	assert_non_null(big);
	memset(big, 'o', 700000);
	big[700000] = '\0';
	for (const int *error = (const int[]){EPERM, EMLINK, EOPNOTSUPP, EXDEV, 0}; *error; error++) {
		struct k3sup__stage stage;
		struct stat old;

		put_file(s->fd, "k3s", big, 0751);
		old = stat_at(s->fd, "k3s");
		stage = stage_file(s, "k3s", "new");
		kernel.link_error = *error;
		kernel.trace[0] = '\0';
		assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), 0);
		assert_string_equal(kernel.trace, "flfrdrd"); /* the copy is on disk before it gets its name */
		kernel.link_error = 0;
		k3sup__stage_drop(&stage);
		assert_content(s->fd, "k3s.old", big);
		assert_content(s->fd, "k3s", "new");
		assert_int_not_equal(stat_at(s->fd, "k3s.old").st_ino, old.st_ino);
		assert_int_equal(stat_at(s->fd, "k3s.old").st_mode, S_IFREG | 0751);
		assert_int_equal(count_entries(s->fd), 2);
	}
	free(big);
}

static void a_backup_that_cannot_be_made_stops_everything(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	bool renamed = true;

	put_file(s->fd, "k3s", "old", 0755);
	mkdirat(s->fd, "k3s.old", 0755);
	stage = stage_file(s, "k3s", "new");
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), -EISDIR);
	assert_sentence(s, "as k3s.old");
	assert_false(renamed);
	for (const char *const *name = (const char *const[]){"", "k3s", "a/b", NULL}; *name; name++)
		assert_int_equal(k3sup__stage_publish(s->op, &stage, *name, NULL, &renamed), -EINVAL);
	kernel.link_error = EIO;
	assert_int_equal(k3sup__stage_publish(s->op, &stage, "other", NULL, &renamed), -EIO);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "old");
	assert_int_equal(count_entries(s->fd), 2);
}

/* ---- failures of the disk ---- */

static void a_sync_that_fails_is_a_failure(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage;
	bool renamed;

	for (int i = 1; i <= 2; i++) { /* content, attributes */
		stage = begin(s, "k3s", "new");
		kernel.fail_sync = i;
		assert_int_equal(k3sup__stage_seal(s->op, &stage, -1, 0755), -EIO);
		k3sup__stage_drop(&stage);
	}
	assert_int_equal(count_entries(s->fd), 0);
	for (int i = 1; i <= 3; i++) { /* the old file, its second name, the new name */
		put_file(s->fd, "k3s", "old", 0755);
		stage = stage_file(s, "k3s", "new");
		kernel.fail_sync = i;
		assert_int_equal(k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed), -EIO);
		assert_int_equal(renamed, i == 3);
		assert_content(s->fd, "k3s", i == 3 ? "new" : "old");
		k3sup__op_forgive(s->op);
		k3sup__stage_drop(&stage);
	}
	assert_int_equal(count_entries(s->fd), 2);
}

static int own_mounts(void **state)
{
	(void)state;
	if (geteuid() == 0 && (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
		print_message("no mount namespace of our own\n");
	return 0;
}

static void a_full_disk_changes_nothing(void **state)
{
	struct scratch *s = *state;
	char *big = calloc(1, 1 << 20), path[96];
	int fd;

	need_root();
	(void)snprintf(path, sizeof(path), "%s/full", s->path);
	if (mkdir(path, 0755) < 0 || mount("tmpfs", path, "tmpfs", 0, "size=256k") < 0)
		skip();
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(fd, "journal", "old", 0640);
	assert_int_equal(k3sup__durable_write(s->op, fd, "journal", big, 1 << 20, 0600), -ENOSPC);
	assert_sentence(s, "journal");
	assert_content(fd, "journal", "old");
	assert_int_equal(count_entries(fd), 1);
	assert_int_equal(k3sup__durable_write(s->op, fd, "journal", "new", 3, 0600), 0);
	assert_content(fd, "journal", "new");
	assert_int_equal(stat_at(fd, "journal").st_mode, S_IFREG | 0640);
	close(fd);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
	free(big);
}

static void a_mount_point_is_refused_before_anything_is_written(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	char path[96], other[96];
	bool renamed;

	need_root();
	put_file(s->fd, "k3s", "old", 0755);
	put_file(s->fd, "other", "other", 0755);
	(void)snprintf(path, sizeof(path), "%s/k3s", s->path);
	(void)snprintf(other, sizeof(other), "%s/other", s->path);
	if (mount(other, path, NULL, MS_BIND, NULL) < 0)
		skip();
	assert_int_equal(k3sup__stage_begin(s->op, s->fd, "k3s", &stage), -EBUSY);
	assert_sentence(s, "mount point");
	assert_int_equal(count_entries(s->fd), 2);
	assert_int_equal(umount(path), 0);

	/* mounted onto itself later: still the same file, and the kernel refuses the rename */
	stage = stage_file(s, "k3s", "new");
	assert_int_equal(mount(path, path, NULL, MS_BIND, NULL), 0);
	assert_int_equal(k3sup__stage_publish(s->op, &stage, NULL, NULL, &renamed), -EBUSY);
	assert_sentence(s, "mount point");
	assert_int_equal(umount(path), 0);
	k3sup__stage_drop(&stage);
	assert_content(s->fd, "k3s", "old");
}

static void what_is_read_only_or_immutable_is_said(void **state)
{
	struct scratch *s = *state;
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	int flags = FS_IMMUTABLE_FL;
	bool renamed;
	int fd;

	need_root();
	put_file(s->fd, "k3s", "old", 0755);
	stage = stage_file(s, "k3s", "new");
	fd = openat(s->fd, "k3s", O_RDONLY | O_CLOEXEC);
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0) {
		assert_int_equal(k3sup__stage_publish(s->op, &stage, NULL, NULL, &renamed), -EPERM);
		assert_sentence(s, "immutable");
		flags = 0;
		assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
	}
	close(fd);
	k3sup__stage_drop(&stage);
	if (mount(s->path, s->path, NULL, MS_BIND, NULL) < 0 || mount(NULL, s->path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		skip();
	fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(k3sup__stage_begin(s->op, fd, "k3s", &stage), -EROFS);
	assert_sentence(s, "beside k3s");
	close(fd);
	assert_int_equal(umount(s->path), 0);
	assert_content(s->fd, "k3s", "old");
	assert_int_equal(count_entries(s->fd), 1);
}

/* ---- cut runs ---- */

static void leftovers_are_exactly_our_temps(void **state)
{
	static const char *const kept[] = {".k3s.k3sup-tmp-0123456", ".k3s.k3sup-tmp-012345678", ".k3s.k3sup-tmp-0123456G",
		".k3s.k3sup-tmp-0123ABCD", ".k3s2.k3sup-tmp-01234567", "k3s.k3sup-tmp-01234567", "k3s"};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(kept); i++)
		put_file(s->fd, kept[i], "kept", 0600);
	mkdirat(s->fd, ".k3s.k3sup-tmp-22222222", 0755);
	assert_int_equal(k3sup__stage_leftovers(s->op, s->fd, "k3s", true), 0);
	put_file(s->fd, ".k3s.k3sup-tmp-01234567", "cut", 0600);
	linkat(s->fd, "k3s", s->fd, ".k3s.k3sup-tmp-89abcdef", 0);
	symlinkat("k3s", s->fd, ".k3s.k3sup-tmp-11111111");
	assert_int_equal(k3sup__stage_leftovers(s->op, s->fd, "k3s", false), 3);
	assert_int_equal(count_entries(s->fd), ELEMENTSOF(kept) + 4);
	kernel.trace[0] = '\0';
	assert_int_equal(k3sup__stage_leftovers(s->op, s->fd, "k3s", true), 3);
	assert_string_equal(kernel.trace, "d");
	assert_int_equal(count_entries(s->fd), ELEMENTSOF(kept) + 1);
	assert_int_equal(stat_at(s->fd, "k3s").st_nlink, 1);
	assert_content(s->fd, "k3s", "kept");
	assert_int_equal(k3sup__stage_leftovers(s->op, s->fd, "k3s", true), 0);
	unlinkat(s->fd, ".k3s.k3sup-tmp-22222222", AT_REMOVEDIR);
}

/* A whole run; its end is 0 if all went well. Leftovers of earlier runs go first, as in a swap. */
static int whole_run(struct scratch *s)
{
	struct k3sup__stage stage = K3SUP__STAGE_NONE;
	bool renamed;
	int fd, r;

	if (k3sup__stage_leftovers(s->op, s->fd, "k3s", true) < 0)
		return 1;
	fd = openat(s->fd, "k3s", O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -1 : k3sup__stage_begin(s->op, s->fd, "k3s", &stage);
	if (r == 0)
		r = k3sup__write_full(stage.fd, "new", 3);
	if (r == 0)
		r = k3sup__stage_seal(s->op, &stage, fd, 0);
	if (r == 0)
		r = k3sup__stage_publish(s->op, &stage, "k3s.old", NULL, &renamed);
	k3sup__stage_drop(&stage);
	k3sup__close(fd);
	return r == 0 ? 0 : 1;
}

/* Ends a child at its call number n. False when there is no such call any more. */
static bool cut_run(struct scratch *s, int n)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		kernel.calls = 0;
		kernel.cut_at = n;
		_exit(whole_run(s));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 99 || WEXITSTATUS(status) == 0));
	return WEXITSTATUS(status) == 99;
}

static void cut_anywhere(struct scratch *s, int link_error)
{
	int points = 0;

	kernel.link_error = link_error;
	for (int n = 1;; n++) {
		_free_ char *now = NULL;
		bool cut;

		put_file(s->fd, "k3s", "old", 0755);
		put_file(s->fd, "k3s.old", "older", 0755);
		cut = cut_run(s, n);
		assert_int_equal(k3sup__read_file(s->fd, "k3s", 100, &now, NULL), 0);
		/* whole, and the old binary is there under one of its names */
		if (k3sup__streq(now, "new"))
			assert_content(s->fd, "k3s.old", "old");
		else
			assert_string_equal(now, "old");
		if (k3sup__streq(now, "old"))
			assert_int_equal(whole_run(s), 0);
		assert_true(k3sup__stage_leftovers(s->op, s->fd, "k3s", true) >= 0);
		assert_content(s->fd, "k3s", "new");
		assert_content(s->fd, "k3s.old", "old");
		assert_int_equal(count_entries(s->fd), 2);
		unlinkat(s->fd, "k3s", 0);
		unlinkat(s->fd, "k3s.old", 0);
		points += cut;
		if (!cut)
			break;
	}
	assert_in_range(points, 15, 200);
}

static void a_run_may_be_cut_at_any_call(void **state)
{
	if (under_valgrind())
		skip();
	cut_anywhere(*state, 0);
}

static void a_run_may_be_cut_at_any_call_where_links_are_refused(void **state)
{
	if (under_valgrind())
		skip();
	cut_anywhere(*state, EPERM);
}

#define durable_test(fn) cmocka_unit_test_setup_teardown(fn, setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		durable_test(the_new_file_takes_the_name_and_the_old_one_keeps_another),
		durable_test(a_first_file_gets_its_mode_whatever_the_umask),
		durable_test(the_temp_is_private_and_named_after_the_file),
		durable_test(only_a_regular_file_is_replaced),
		durable_test(a_directory_held_by_path_only_will_do),
		durable_test(a_file_that_a_child_could_still_write_is_not_sealed),
		durable_test(a_child_that_lets_go_in_time_is_waited_for),
		durable_test(waiting_for_writers_ends_when_the_operation_shall),
		durable_test(somebody_who_opens_it_under_the_lease_does_not_kill_us),
		durable_test(without_leases_nothing_is_promised),
		durable_test(a_target_that_changed_is_left_alone),
		durable_test(what_is_published_is_what_was_sealed),
		durable_test(the_hook_has_the_last_word_before_the_rename),
		durable_test(a_target_that_changes_while_the_hook_runs_is_left_alone),
		durable_test(temp_and_backup_can_lie_elsewhere),
		durable_test(directories_are_made_with_their_mode),
		durable_test(where_links_are_refused_the_backup_is_a_copy),
		durable_test(a_backup_that_cannot_be_made_stops_everything),
		durable_test(a_sync_that_fails_is_a_failure),
		durable_test(a_full_disk_changes_nothing),
		durable_test(a_mount_point_is_refused_before_anything_is_written),
		durable_test(what_is_read_only_or_immutable_is_said),
		durable_test(leftovers_are_exactly_our_temps),
		durable_test(a_run_may_be_cut_at_any_call),
		durable_test(a_run_may_be_cut_at_any_call_where_links_are_refused),
	};

	return cmocka_run_group_tests_name("durable", tests, own_mounts, NULL);
}
