/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors. A function that can fail returns int (or int64_t): below 0 is an error, 0 is "done" or "already so", above 0 is "changed".
 * What the kernel refused comes back as -errno; what this library refused has a code of its own from -10000 downwards (clear of errno,
 * of libuv's and of libbpf's ranges). Codes are append-only; none is ever renumbered or reused.
 */
#ifndef K3SUP_ERROR_H
#define K3SUP_ERROR_H

#include <k3sup/api.h>

/* about the run */
#define K3SUP_E_BUSY (-10001)        /* another run, or another handle, holds this node's lock */
#define K3SUP_E_CANCELLED (-10002)   /* k3sup_op_cancel() was called in time */
#define K3SUP_E_CALLBACK (-10003)    /* the progress callback asked to stop; the library never makes this code by itself */
#define K3SUP_E_TIMEOUT (-10004)     /* the time the caller gave is over */
#define K3SUP_E_UNSUPPORTED (-10005) /* this kernel or file system lacks what the guarantee needs */
#define K3SUP_E_PARSE (-10006)       /* text that is not what it should be: a version, JSON, YAML */
#define K3SUP_E_INTERNAL (-10007)    /* a rule of the library itself was broken: please report it */

/* about the node and its paths */
#define K3SUP_E_ROOT (-10020)           /* the node's root directory is missing or is no directory */
#define K3SUP_E_FOREIGN_PROC (-10021)   /* the proc mount is none, of another pid namespace, or not of the node's where no k3s is seen */
#define K3SUP_E_UNTRUSTED (-10022)      /* somebody else than root could change a component of this path */
#define K3SUP_E_ESCAPE (-10023)         /* a path that cannot be followed inside the node's root (magic link, not a path) */
#define K3SUP_E_STATE_DIR (-10024)      /* our own state directory is not ours alone, or its contents are damaged */
#define K3SUP_E_DATA_DIR_SPACE (-10025) /* the data-dir has no room for what the new k3s unpacks */
#define K3SUP_E_DATA_DIR (-10026)       /* the data-dir is not the one that this k3s keeps its things in */
#define K3SUP_E_CONFIG (-10027)         /* k3s does not start with its configuration, as it is written now */

/* about the payload */
#define K3SUP_E_PAYLOAD_MISSING (-10040)   /* no such file, or it cannot be opened */
#define K3SUP_E_PAYLOAD_NOT_FILE (-10041)  /* a directory, a fifo, a device */
#define K3SUP_E_PAYLOAD_EMPTY (-10042)     /* zero bytes */
#define K3SUP_E_PAYLOAD_NOT_K3S (-10043)   /* a script, another program, something else */
#define K3SUP_E_PAYLOAD_ARCH (-10044)      /* for another architecture */
#define K3SUP_E_PAYLOAD_TRUNCATED (-10045) /* its own headers promise more bytes than there are */
#define K3SUP_E_PAYLOAD_CHANGED (-10046)   /* it changed while it was read */
#define K3SUP_E_DIGEST_MISMATCH (-10047)   /* its SHA-256 is not the expected one, or two expectations disagree */
#define K3SUP_E_SUMS (-10048)              /* a list of digests that cannot be believed, or does not name the artifact exactly once */
#define K3SUP_E_SIGNATURE (-10049)         /* it is not signed by the given key, or the signature cannot be read */
#define K3SUP_E_KEY (-10050)               /* no public key, or none that is strong enough */
#define K3SUP_E_VERSION_MISMATCH (-10051)  /* it is another version than the expected one */
#define K3SUP_E_GZIP (-10052)              /* a damaged gzip file, one with something behind its end, or one that unpacks to far too much */
#define K3SUP_E_PAYLOAD_CORRUPT (-10053)   /* the archive inside is damaged: k3s would fail to unpack it */

/* about the target, the installed k3s file */
#define K3SUP_E_TARGET_MISSING (-10060)       /* there is no such file (and none of the usual places has one) */
#define K3SUP_E_TARGET_DANGLING (-10061)      /* a symbolic link to nothing */
#define K3SUP_E_TARGET_LOOP (-10062)          /* symbolic links in a circle */
#define K3SUP_E_TARGET_NOT_FILE (-10063)      /* not a regular file */
#define K3SUP_E_TARGET_READONLY (-10064)      /* its directory cannot be written: read-only, or not ours */
#define K3SUP_E_TARGET_CHANGED (-10065)       /* somebody else replaced it while we worked */
#define K3SUP_E_TARGET_BUSY (-10066)          /* some process holds the new file open for writing; it could not be executed */
#define K3SUP_E_TARGET_AMBIGUOUS (-10067)     /* several k3s files are installed and nothing says which one the node runs */
#define K3SUP_E_TARGET_MANAGED (-10068)       /* in a store of the operating system: /nix/store, /gnu/store, /ostree, /k3os */
#define K3SUP_E_TARGET_PACKAGE_OWNED (-10069) /* belongs to a package of the node's package manager */
#define K3SUP_E_TARGET_NOEXEC (-10070)        /* its file system is mounted noexec */
#define K3SUP_E_TARGET_IMMUTABLE (-10071)     /* it or its directory is immutable or append-only */
#define K3SUP_E_TARGET_LINKED (-10072)        /* it has other hard links, which would stay the old file */
#define K3SUP_E_TARGET_MOUNTED (-10073)       /* it is a mount of its own: no other file can take its name */
#define K3SUP_E_BACKUP_MISSING (-10074)       /* there is none to go back to, or none can be named */
#define K3SUP_E_BACKUP_DAMAGED (-10075)       /* it is not the file that was kept: its SHA-256 is another one */

/* about processes */
#define K3SUP_E_NO_K3S (-10080)        /* no k3s of this node runs */
#define K3SUP_E_AMBIGUOUS (-10081)     /* more than one process could be it; the evidence lists them */
#define K3SUP_E_GONE (-10082)          /* the process of this handle is no more */
#define K3SUP_E_REFUSED_PID (-10083)   /* a process that is never signalled: pid 1, ourselves, a supervisor */
#define K3SUP_E_NOT_RESTARTED (-10084) /* k3s was told to end, and nothing started it again in time */
#define K3SUP_E_WRONG_BUILD (-10085)   /* the k3s that came back is not the wanted build */
#define K3SUP_E_NOT_STABLE (-10086)    /* the wanted build starts, and ends again and again */
#define K3SUP_E_ROOTLESS (-10087)      /* no k3s of this node runs but a user's own one, which is not supported */
#define K3SUP_E_RKE2 (-10088)          /* no k3s of this node runs but rke2, which is not supported */
#define K3SUP_E_NOT_READY (-10089)     /* the wanted build runs and stays, but a probe or the caller's command says that it is not ready */

/* about policy: which build may follow which */
#define K3SUP_E_POLICY_DOWNGRADE (-10100)   /* the payload is older than the installed build */
#define K3SUP_E_POLICY_PRERELEASE (-10101)  /* the payload is a pre-release that came before the installed build */
#define K3SUP_E_POLICY_PACKAGING (-10102)   /* the same Kubernetes version, but an older packaging (k3sN) */
#define K3SUP_E_POLICY_SKIP_MINOR (-10103)  /* a minor version would be skipped */
#define K3SUP_E_POLICY_AGENT_FIRST (-10104) /* an agent would be newer than its server */
#define K3SUP_E_POLICY_FLOOR (-10105)       /* the payload is older than the highest version that was installed here */
#define K3SUP_E_POLICY_UNKNOWN (-10106)     /* a version that a policy needs to know is not known */
#define K3SUP_E_POLICY_BUILD_DATE (-10107)  /* the payload is a newer version, but was built in an earlier month than the installed build */

/* about the service that runs k3s */
#define K3SUP_E_NO_SERVICE (-10120)       /* no service manager that can be asked has such a service, or owns this k3s */
#define K3SUP_E_NOT_SUPERVISED (-10121)   /* nothing would start k3s again */
#define K3SUP_E_SERVICE_MASKED (-10122)   /* masked by the operator: its manager will not start it */
#define K3SUP_E_SERVICE_TAKES_US (-10123) /* its stop would end this program, too */
#define K3SUP_E_SERVICE (-10124)          /* its manager does not do what it is told, or does not answer */
#define K3SUP_E_GUARD (-10125)            /* nobody would start k3s again if we were killed, or somebody has started it too early */
#define K3SUP_E_CONFINED (-10126)         /* what this program starts would be confined as it is, or end with it: in a container, say */

/* about certificates */
#define K3SUP_E_RUNNING (-10140)     /* k3s runs: its certificates are only touched while it is stopped */
#define K3SUP_E_AUTHORITY (-10141)   /* an authority is missing, damaged or over: no start could issue new certificates */
#define K3SUP_E_BACKUP (-10142)      /* there is no such backup, or it is not whole, or from before a change of authorities */
#define K3SUP_E_CLOCK (-10143)       /* the clock shows a time that cannot be */
#define K3SUP_E_NOT_ROTATED (-10150) /* k3s runs, but its certificates are not all there, right and new */

/* about what k3s unpacks of itself */
#define K3SUP_E_UNPACK (-10160) /* the payload cannot unpack itself here, or not to what its own list says */
#define K3SUP_E_TORN (-10161)   /* what is unpacked already is torn, and cannot be put aside: it is used, or somebody else's */

/* about an upgrade */
#define K3SUP_E_HOOK (-10170)          /* a command of the caller refused */
#define K3SUP_E_ROLLED_BACK (-10171)   /* the new build failed; the one before was put back and runs */
#define K3SUP_E_FAILED_BEFORE (-10172) /* this very payload failed on this node before */

K3SUP_BEGIN_DECLS

/**
 * k3sup_strerror() - one English sentence for a code, without a full stop.
 * @code: what a function returned; the sign does not matter.
 *
 * Ownership: static text, for every int there is. It never allocates, so it works when memory is gone.
 * Threads: any.
 * Since: 0.1
 */
K3SUP_API const char *k3sup_strerror(int code);

/**
 * k3sup_error_name() - the name of a code: "K3SUP_E_BUSY", "ENOENT", or "UNKNOWN".
 * @code: what a function returned; the sign does not matter.
 *
 * Ownership: static text. Threads: any. It never allocates.
 * Since: 0.1
 */
K3SUP_API const char *k3sup_error_name(int code);

K3SUP_END_DECLS

#endif
