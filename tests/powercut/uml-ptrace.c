/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into user-mode Linux. Its 6.1 keeps 2696 bytes of a processor's extended state, and a host's kernel takes nothing but the whole of it: where
 * there is more (AMX), setting the state is EFAULT and no machine boots. So the rest is read from the process and given back.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...)
{
	static long (*next)(enum __ptrace_request request, ...);
	static char state[32768];
	struct iovec whole = {state, sizeof(state)};
	const struct iovec *given;
	void *where, *data;
	va_list args;
	long pid, r;

	va_start(args, request);
	pid = va_arg(args, long);
	where = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "ptrace");
	r = next(request, pid, where, data);
	if (r == 0 || request != PTRACE_SETREGSET || errno != EFAULT)
		return r;
	given = data;
	r = next(PTRACE_GETREGSET, pid, where, &whole);
	if (r < 0 || given->iov_len > whole.iov_len)
		return r;
	memcpy(state, given->iov_base, given->iov_len);
	return next(PTRACE_SETREGSET, pid, where, &whole);
}
