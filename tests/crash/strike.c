/* SPDX-License-Identifier: Apache-2.0 */
#include "strike.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __x86_64__

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* The one place from which the filter lets calls pass; it sees the address behind the instruction. */
long strike_call(long number, long a, long b, long c, long d, long e, long f);
extern const char strike_behind[];

__asm__(".text\n"
	".globl strike_call, strike_behind\n"
	".type strike_call, @function\n"
	"strike_call:\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	mov %r9, %r8\n"
	"	mov 8(%rsp), %r9\n"
	"	syscall\n"
	"strike_behind:\n"
	"	ret\n");

static struct strike *now;
static unsigned count;

/* What changes no file, whatever becomes of it. Locks and memory go with the process. */
static bool only_reads(long call, long flags)
{
	static const int calls[] = {SYS_newfstatat, SYS_statx, SYS_fstatfs, SYS_readlinkat, SYS_faccessat2, SYS_getdents64, SYS_read,
		SYS_pread64, SYS_fgetxattr, SYS_close, SYS_fcntl, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_eventfd2, SYS_pipe2,
		SYS_futex, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_getpid, SYS_getrandom, SYS_uname, SYS_getcwd};

	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (calls[i] == call)
			return true;
	return call == SYS_openat && !(flags & (O_CREAT | O_TRUNC | O_TMPFILE) & ~O_DIRECTORY);
}

#define CALLS 512
#define MOST_STATE 65536

static void list(long call, long flags)
{
	static unsigned counts[CALLS];
	static unsigned char before[MOST_STATE];
	static bool changed = true;

	if (call == SYS_brk) /* is never struck */
		return;
	if (now->paused) {
		changed = true;
		return;
	}
	if (call >= CALLS || now->state_len > MOST_STATE || now->listed == STRIKE_MOST)
		_exit(4);
	counts[call]++;
	if (changed || memcmp(before, now->state, now->state_len) != 0) {
		now->list[now->listed].call = (int)call;
		now->list[now->listed++].when = counts[call];
		memcpy(before, now->state, now->state_len);
	}
	changed = !only_reads(call, flags);
}

static void on_call(int signo, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signo;
	if (now->call == STRIKE_LISTS)
		list(info->si_syscall, regs[REG_RDX]);
	else if (!now->paused && ++count == now->when) {
		now->struck = true;
		if (now->error == 0)
			(void)strike_call(SYS_kill, strike_call(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
		if (info->si_syscall == SYS_close) /* whatever it answers, Linux has let go of the descriptor: the other end of a pipe sees that */
			(void)strike_call(SYS_close, regs[REG_RDI], 0, 0, 0, 0, 0);
		regs[REG_RAX] = -now->error;
		return;
	}
	regs[REG_RAX] = strike_call(info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]);
}

#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(what))
#define IF(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), then, otherwise)
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)

void strike_arm(struct strike *strike)
{
	const uint64_t behind = (uint64_t)(uintptr_t)strike_behind;
	const struct sock_filter one = IF(strike->call, 0, 4), all = IF(SYS_rt_sigreturn, 4, 0);
	struct sock_filter filter[] = {
		LOAD(offsetof(struct seccomp_data, arch)),
		IF(AUDIT_ARCH_X86_64, 0, 6),
		LOAD(offsetof(struct seccomp_data, nr)),
		strike->call == STRIKE_LISTS ? all : one,
		LOAD(offsetof(struct seccomp_data, instruction_pointer)),
		IF(behind, 0, 3),
		LOAD(offsetof(struct seccomp_data, instruction_pointer) + 4),
		IF(behind >> 32, 0, 1),
		ANSWER(SECCOMP_RET_ALLOW),
		ANSWER(SECCOMP_RET_TRAP),
	};
	const struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};
	struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO};

	now = strike;
	if (sigaction(SIGSYS, &action, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0) {
		perror("a filter of calls");
		_exit(3);
	}
}

#else

void strike_arm(struct strike *strike)
{
	(void)strike;
	(void)fprintf(stderr, "not on this machine\n");
	_Exit(3);
}

#endif
