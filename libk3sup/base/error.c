/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/error.h>

#include "base/util.h"

#define CODE(name, sentence) \
	{ \
		name, #name, sentence \
	}

struct code {
	int code;
	const char *name;
	const char *sentence;
};

static const struct code codes[] = {
	CODE(K3SUP_E_BUSY, "another run holds this node's lock"),
	CODE(K3SUP_E_CANCELLED, "the operation was cancelled"),
	CODE(K3SUP_E_CALLBACK, "the progress callback asked to stop"),
	CODE(K3SUP_E_TIMEOUT, "the given time is over"),
	CODE(K3SUP_E_UNSUPPORTED, "this system lacks what the guarantee needs"),
	CODE(K3SUP_E_PARSE, "the text is not what it should be"),
	CODE(K3SUP_E_INTERNAL, "a rule of libk3sup itself was broken, please report it"),
	CODE(K3SUP_E_ROOT, "the node's root is not a directory that can be opened"),
	CODE(K3SUP_E_FOREIGN_PROC, "the proc mount is missing, or does not show the node's processes"),
	CODE(K3SUP_E_UNTRUSTED, "somebody else than root could change this path"),
	CODE(K3SUP_E_ESCAPE, "the path cannot be followed inside the node's root"),
	CODE(K3SUP_E_STATE_DIR, "the state directory is not ours alone, or is damaged"),
	CODE(K3SUP_E_DATA_DIR_SPACE, "the data-dir has no room for what the new k3s unpacks"),
	CODE(K3SUP_E_DATA_DIR, "the data-dir is not the one that this k3s keeps its things in"),
	CODE(K3SUP_E_CONFIG, "k3s does not start with its configuration, as it is written now"),
	CODE(K3SUP_E_PAYLOAD_MISSING, "the payload cannot be opened"),
	CODE(K3SUP_E_PAYLOAD_NOT_FILE, "the payload is not a regular file"),
	CODE(K3SUP_E_PAYLOAD_EMPTY, "the payload is empty"),
	CODE(K3SUP_E_PAYLOAD_NOT_K3S, "the payload is not a k3s binary"),
	CODE(K3SUP_E_PAYLOAD_ARCH, "the payload is for another architecture"),
	CODE(K3SUP_E_PAYLOAD_TRUNCATED, "the payload is truncated"),
	CODE(K3SUP_E_PAYLOAD_CHANGED, "the payload changed while it was read"),
	CODE(K3SUP_E_DIGEST_MISMATCH, "the payload does not have the expected digest"),
	CODE(K3SUP_E_SUMS, "the list of digests cannot be used"),
	CODE(K3SUP_E_SIGNATURE, "the signature does not fit"),
	CODE(K3SUP_E_KEY, "the key cannot be used"),
	CODE(K3SUP_E_VERSION_MISMATCH, "the payload is another version than the expected one"),
	CODE(K3SUP_E_GZIP, "the gzip file is damaged or unpacks to too much"),
	CODE(K3SUP_E_PAYLOAD_CORRUPT, "the archive inside the payload is damaged"),
	CODE(K3SUP_E_TARGET_MISSING, "there is no installed k3s file"),
	CODE(K3SUP_E_TARGET_DANGLING, "the installed k3s file is a link to nothing"),
	CODE(K3SUP_E_TARGET_LOOP, "the installed k3s file is a link in a circle"),
	CODE(K3SUP_E_TARGET_NOT_FILE, "the installed k3s file is not a regular file"),
	CODE(K3SUP_E_TARGET_READONLY, "the directory of the installed k3s file cannot be written"),
	CODE(K3SUP_E_TARGET_CHANGED, "somebody else replaced the installed k3s file meanwhile"),
	CODE(K3SUP_E_TARGET_BUSY, "some process holds the new file open for writing"),
	CODE(K3SUP_E_TARGET_AMBIGUOUS, "several k3s files are installed and nothing says which one runs"),
	CODE(K3SUP_E_TARGET_MANAGED, "the installed k3s file is managed by the operating system"),
	CODE(K3SUP_E_TARGET_PACKAGE_OWNED, "the installed k3s file belongs to a package"),
	CODE(K3SUP_E_TARGET_NOEXEC, "programs in the directory of the installed k3s file cannot be executed"),
	CODE(K3SUP_E_TARGET_IMMUTABLE, "the installed k3s file or its directory is immutable"),
	CODE(K3SUP_E_TARGET_LINKED, "the installed k3s file has other hard links"),
	CODE(K3SUP_E_TARGET_MOUNTED, "the installed k3s file is a mount of its own"),
	CODE(K3SUP_E_BACKUP_MISSING, "there is no backup to go back to"),
	CODE(K3SUP_E_BACKUP_DAMAGED, "the backup is not the file that was kept"),
	CODE(K3SUP_E_NO_K3S, "no k3s of this node is running"),
	CODE(K3SUP_E_AMBIGUOUS, "more than one process could be this node's k3s"),
	CODE(K3SUP_E_GONE, "the process is gone"),
	CODE(K3SUP_E_REFUSED_PID, "this process is never signalled"),
	CODE(K3SUP_E_NOT_RESTARTED, "nothing started k3s again in time"),
	CODE(K3SUP_E_WRONG_BUILD, "the k3s that runs is not the wanted build"),
	CODE(K3SUP_E_NOT_STABLE, "k3s starts and ends again and again"),
	CODE(K3SUP_E_ROOTLESS, "no k3s of this node is running, and a user's own one is not supported"),
	CODE(K3SUP_E_RKE2, "no k3s of this node is running, and rke2 is not supported"),
	CODE(K3SUP_E_NOT_READY, "k3s runs and stays, but is not ready"),
	CODE(K3SUP_E_POLICY_DOWNGRADE, "the payload is older than the installed build"),
	CODE(K3SUP_E_POLICY_PRERELEASE, "the payload is a pre-release that came before the installed build"),
	CODE(K3SUP_E_POLICY_PACKAGING, "the payload is an older packaging of the installed version"),
	CODE(K3SUP_E_POLICY_SKIP_MINOR, "a minor version would be skipped"),
	CODE(K3SUP_E_POLICY_AGENT_FIRST, "an agent would be newer than its server"),
	CODE(K3SUP_E_POLICY_FLOOR, "the payload is older than what was installed here before"),
	CODE(K3SUP_E_POLICY_UNKNOWN, "a version that a policy needs to know is not known"),
	CODE(K3SUP_E_POLICY_BUILD_DATE, "the payload was built before the installed build"),
	CODE(K3SUP_E_NO_SERVICE, "no service manager that can be asked owns this k3s"),
	CODE(K3SUP_E_NOT_SUPERVISED, "nothing would start k3s again"),
	CODE(K3SUP_E_SERVICE_MASKED, "the service is masked"),
	CODE(K3SUP_E_SERVICE_TAKES_US, "the stop of the service would end this program"),
	CODE(K3SUP_E_SERVICE, "the service manager does not do what it is told"),
	CODE(K3SUP_E_GUARD, "the start guard cannot be armed, or has gone off"),
	CODE(K3SUP_E_CONFINED, "a service that was started from here would be confined, or end with this program"),
	CODE(K3SUP_E_RUNNING, "k3s runs: its certificates are only touched while it is stopped"),
	CODE(K3SUP_E_AUTHORITY, "an authority is missing, damaged or over: no start could issue new certificates"),
	CODE(K3SUP_E_BACKUP, "there is no such backup, or it is not whole, or from before a change of authorities"),
	CODE(K3SUP_E_CLOCK, "the clock shows a time that cannot be"),
	CODE(K3SUP_E_UNPACK, "the payload cannot unpack itself here"),
	CODE(K3SUP_E_TORN, "what is unpacked already is torn, and cannot be put aside"),
	CODE(K3SUP_E_HOOK, "a command of the caller refused"),
	CODE(K3SUP_E_ROLLED_BACK, "the new build failed; the one before was put back and runs"),
	CODE(K3SUP_E_FAILED_BEFORE, "this very payload failed on this node before"),
	CODE(K3SUP_E_NOT_ROTATED, "k3s runs, but its certificates are not all there, right and new"),
};

/*
 * What system calls of files, processes and sockets answer. A table of our own: strerror(3) may allocate and speaks the host's language, and
 * strerrordesc_np(3) came with glibc 2.32 only. The sign is turned so that both tables are searched alike.
 */
#define SYSTEM(name, sentence) \
	{ \
		-name, #name, sentence \
	}

static const struct code system_codes[] = {
	SYSTEM(EPERM, "this is not permitted"),
	SYSTEM(ENOENT, "there is no such file or directory"),
	SYSTEM(ESRCH, "there is no such process"),
	SYSTEM(EINTR, "a signal interrupted the call"),
	SYSTEM(EIO, "input or output failed"),
	SYSTEM(ENXIO, "there is no such device or address"),
	SYSTEM(E2BIG, "there is too much of it: arguments, or options of a newer library"),
	SYSTEM(ENOEXEC, "this file cannot be executed"),
	SYSTEM(EBADF, "the descriptor is not open for this"),
	SYSTEM(ECHILD, "there is no such child process"),
	SYSTEM(EAGAIN, "it would have to wait, or something is short for now"),
	SYSTEM(ENOMEM, "memory ran out"),
	SYSTEM(EACCES, "access is denied"),
	SYSTEM(EFAULT, "the address is bad"),
	SYSTEM(ENOTBLK, "this is not a block device"),
	SYSTEM(EBUSY, "it is in use"),
	SYSTEM(EEXIST, "the file exists already"),
	SYSTEM(EXDEV, "the two are on different file systems"),
	SYSTEM(ENODEV, "there is no such device"),
	SYSTEM(ENOTDIR, "a component of the path is not a directory"),
	SYSTEM(EISDIR, "this is a directory"),
	SYSTEM(EINVAL, "an argument is not valid"),
	SYSTEM(ENFILE, "too many files are open in the system"),
	SYSTEM(EMFILE, "this process has too many open files"),
	SYSTEM(ENOTTY, "this is not a terminal, or the request does not fit it"),
	SYSTEM(ETXTBSY, "the program file is open for writing, or is being executed"),
	SYSTEM(EFBIG, "the file is too large"),
	SYSTEM(ENOSPC, "no space is left on the device"),
	SYSTEM(ESPIPE, "this cannot be positioned"),
	SYSTEM(EROFS, "the file system is read-only"),
	SYSTEM(EMLINK, "there are too many links"),
	SYSTEM(EPIPE, "nobody reads the other end"),
	SYSTEM(EDOM, "the argument is outside of the function's domain"),
	SYSTEM(ERANGE, "the result cannot be represented"),
	SYSTEM(EDEADLK, "waiting would be for ever: a deadlock"),
	SYSTEM(ENAMETOOLONG, "the name is too long"),
	SYSTEM(ENOLCK, "no locks are available"),
	SYSTEM(ENOSYS, "this kernel has no such system call"),
	SYSTEM(ENOTEMPTY, "the directory is not empty"),
	SYSTEM(ELOOP, "too many symbolic links, or one where none may be"),
	SYSTEM(ENODATA, "there is no such data or attribute"),
	SYSTEM(ETIME, "the timer expired"),
	SYSTEM(ENOPKG, "a part of the kernel is not installed"),
	SYSTEM(EREMOTE, "the object is remote"),
	SYSTEM(ENOLINK, "the link to the server is cut"),
	SYSTEM(EPROTO, "the protocol was broken"),
	SYSTEM(EBADMSG, "the message is bad, or a checksum does not fit"),
	SYSTEM(EOVERFLOW, "the value is too large for its type"),
	SYSTEM(EILSEQ, "the bytes are no valid characters"),
	SYSTEM(EUSERS, "there are too many users"),
	SYSTEM(ENOTSOCK, "this is not a socket"),
	SYSTEM(EDESTADDRREQ, "a destination address is needed"),
	SYSTEM(EMSGSIZE, "the message is too long"),
	SYSTEM(EPROTOTYPE, "this is of another type"),
	SYSTEM(ENOPROTOOPT, "the protocol has no such option"),
	SYSTEM(EPROTONOSUPPORT, "the protocol is not supported"),
	SYSTEM(ESOCKTNOSUPPORT, "the socket type is not supported"),
	SYSTEM(EOPNOTSUPP, "the operation is not supported"),
	SYSTEM(EPFNOSUPPORT, "the protocol family is not supported"),
	SYSTEM(EAFNOSUPPORT, "the address family is not supported"),
	SYSTEM(EADDRINUSE, "the address is in use"),
	SYSTEM(EADDRNOTAVAIL, "the address is not available"),
	SYSTEM(ENETDOWN, "the network is down"),
	SYSTEM(ENETUNREACH, "the network cannot be reached"),
	SYSTEM(ENETRESET, "the network dropped the connection"),
	SYSTEM(ECONNABORTED, "the connection was aborted"),
	SYSTEM(ECONNRESET, "the other side reset the connection"),
	SYSTEM(ENOBUFS, "no buffer space is left"),
	SYSTEM(EISCONN, "the socket is connected already"),
	SYSTEM(ENOTCONN, "the socket is not connected"),
	SYSTEM(ESHUTDOWN, "the other end was shut down"),
	SYSTEM(ETIMEDOUT, "the connection timed out"),
	SYSTEM(ECONNREFUSED, "the connection was refused"),
	SYSTEM(EHOSTDOWN, "the host is down"),
	SYSTEM(EHOSTUNREACH, "the host cannot be reached"),
	SYSTEM(EALREADY, "it is under way already"),
	SYSTEM(EINPROGRESS, "it still runs"),
	SYSTEM(ESTALE, "the file handle is stale"),
	SYSTEM(EUCLEAN, "the file system needs repair"),
	SYSTEM(EREMOTEIO, "input or output failed on the other side"),
	SYSTEM(EDQUOT, "the disk quota is used up"),
	SYSTEM(ENOMEDIUM, "there is no medium"),
	SYSTEM(EMEDIUMTYPE, "this is the wrong kind of medium"),
	SYSTEM(ECANCELED, "it was cancelled"),
	SYSTEM(ENOKEY, "a needed key is missing"),
	SYSTEM(EKEYEXPIRED, "the key has expired"),
	SYSTEM(EKEYREVOKED, "the key was revoked"),
	SYSTEM(EKEYREJECTED, "the key was rejected"),
	SYSTEM(EOWNERDEAD, "the owner died"),
	SYSTEM(ENOTRECOVERABLE, "the state cannot be recovered"),
	SYSTEM(EHWPOISON, "the memory page is broken"),
};

static const struct code *find(int code)
{
	if (code > 0)
		code = -code; /* INT_MIN stays what it is, and is in no table */
	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if (codes[i].code == code)
			return &codes[i];
	for (size_t i = 0; i < ELEMENTSOF(system_codes); i++)
		if (system_codes[i].code == code)
			return &system_codes[i];
	return NULL;
}

const char *k3sup_strerror(int code)
{
	const struct code *found = find(code);

	if (found)
		return found->sentence;
	return code == 0 ? "success" : "unknown error";
}

const char *k3sup_error_name(int code)
{
	const struct code *found = find(code);

	if (found)
		return found->name;
	return code == 0 ? "OK" : "UNKNOWN";
}
