/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node: one host as the library sees it. A root directory, a proc mount, a data-dir, a k3s file. And what can be known about k3s
 * there without touching it: which build a file is, which processes are k3s.
 */
#ifndef K3SUP_NODE_H
#define K3SUP_NODE_H

#include <k3sup/api.h>

/* k3sup_node_opts.flags */
#define K3SUP_NODE_ALLOW_GROUP_WRITABLE 1u /* path components may be writable by their group (Debian's root:staff /usr/local) */
#define K3SUP_NODE_IS_CONTAINER 2u         /* the node is a container (k3d): its k3s may be process 1, whose end is the container's */

struct k3sup_node_opts {
	uint32_t struct_size;
	uint32_t flags;       /* K3SUP_NODE_* */
	const char *root;     /* the node's root directory, a path of the caller; NULL: "/" */
	const char *proc;     /* its proc mount, a path of the caller, of our own pid namespace; NULL: "/proc" */
	const char *data_dir; /* k3s's data-dir, inside the root; NULL: observed from the running k3s, else its unit, its configuration, its environment, else the default */
	const char *k3s;      /* the installed k3s file, inside the root; NULL: looked for in the usual places */
	const char *state_dir; /* where the journal is kept, inside the root; NULL: "/var/lib/k3sup". The lock is always there */
	const char *reserved;  /* NULL */
};

struct k3sup_build_read_opts {
	uint32_t struct_size;
	uint32_t flags;       /* K3SUP_BUILD_READ_* */
	const char *path;     /* a path of the caller; NULL if fd is given */
	const char *reserved; /* NULL */
	int32_t fd;           /* read at its own offset 0, stays the caller's; counts only with K3SUP_BUILD_READ_FD */
	uint32_t reserved2;   /* 0 */
};

#define K3SUP_BUILD_READ_FD 1u          /* fd counts, path is ignored */
#define K3SUP_BUILD_READ_ARCHIVE 2u     /* the archive inside must have the SHA-256 that it is named by: one more hash */
#define K3SUP_BUILD_READ_RUN_VERSION 4u /* run it with --version, too */

/* k3sup_policy_opts.flags */
#define K3SUP_POLICY_ALLOW_DOWNGRADE 1u  /* older builds, pre-releases and packagings, also below the floor */
#define K3SUP_POLICY_ALLOW_SKIP_MINOR 2u /* skipped minor versions */

/* What is known. NULL or "" is unknown; a version that does not follow k3sup_version_compare()'s grammar is unknown, too. */
struct k3sup_policy_opts {
	uint32_t struct_size;
	uint32_t flags;              /* K3SUP_POLICY_* */
	const char *installed;       /* the version of the installed build */
	const char *payload;         /* the version of the one that is to follow */
	const char *floor;           /* the highest version installed here before; NULL: there is none */
	const char *server;          /* the version of the server that this agent belongs to; NULL: nobody says */
	const char *role;            /* "server" or "agent" */
	const char *payload_kind;    /* "wrapper" or "inner", as k3sup_build_read() says; anything else is not k3s */
	const char *payload_arch;    /* as k3sup_build_read() says */
	const char *node_arch;       /* in the same words; NULL: this machine's */
	const char *installed_built; /* when the installed build was made, in RFC 3339 */
	const char *payload_built;   /* and the one that is to follow */
};

struct k3sup_identify_opts {
	uint32_t struct_size;
	uint32_t flags; /* 0 */
};

K3SUP_BEGIN_DECLS

/**
 * k3sup_node_new() - name a node.
 * @opts: NULL: this host.
 * @ret_node: owned by the caller; keeps @ctx alive. Untouched on failure.
 *
 * Opens the root directory and the proc mount and keeps both. Refuses a proc mount of another pid namespace: a pid number read there would name
 * a different process here. Nothing is created on disk and no k3s needs to be there.
 *
 * Blocking: no. Returns 0, or -EINVAL (a path inside the root that is not absolute), -E2BIG, -ENOMEM, -EMFILE,
 * K3SUP_E_ROOT, K3SUP_E_FOREIGN_PROC. Since: 0.1
 */
K3SUP_API int k3sup_node_new(k3sup_ctx *ctx, const struct k3sup_node_opts *opts, k3sup_node **ret_node) K3SUP_MUST_CHECK;

/** k3sup_node_ref() - take one more reference. NULL is fine. Since: 0.1 */
K3SUP_API k3sup_node *k3sup_node_ref(k3sup_node *node);

/** k3sup_node_unref() - give a reference back; always returns NULL. The last one gives the node's lock back as soon as no operation uses it. Since: 0.1 */
K3SUP_API k3sup_node *k3sup_node_unref(k3sup_node *node);

/**
 * k3sup_node_lock() - take the node's lock, so that several verbs run as one.
 *
 * Verbs that change something take the lock by themselves; those called on a handle that holds it reuse it. The lock belongs to the handle: another
 * handle, in the same process too, gets K3SUP_E_BUSY. The kernel gives it back when the process dies.
 * On disk: creates <root>/var/lib/k3sup (0700) and the file "lock" (0600) in it if they are missing; both stay.
 * Capabilities: to write there. Blocking: no.
 * Returns 1, or 0 if this handle held it already; K3SUP_E_BUSY, K3SUP_E_STATE_DIR, K3SUP_E_UNTRUSTED, -EROFS and other -errno. Since: 0.1
 */
K3SUP_API int k3sup_node_lock(k3sup_node *node) K3SUP_MUST_CHECK;

/* what k3sup_node_marked() says */
#define K3SUP_MARKED 1         /* in this boot */
#define K3SUP_MARKED_EARLIER 2 /* before the node was booted last */

/**
 * k3sup_node_mark() - remember that a step of the caller's own is done.
 * @key: chosen by the caller, who makes it say what exactly is done ("firewall-v2"): 1 to 200 printable ASCII characters, no blanks.
 *
 * For what a caller prepares around an upgrade: mark a step behind its end, and ask before its beginning, so that a run that was cut repeats what it had not finished and nothing else.
 * Already so: the key is marked; it keeps its first time and boot. The newest 256 keys are remembered.
 * On disk: <state-dir>/marks, replaced durably, and marks-lock. Cut at any time the key is marked or not. Needs no lock of the node: also within a command of k3sup_upgrade().
 * Threads: any, one at a time on a handle. Blocking: for the writes of others. Capabilities: to write there.
 * Returns 1, or 0 if it was marked; -EINVAL, K3SUP_E_STATE_DIR (not ours, or damaged), -ENOSPC and other -errno. Since: 0.1
 */
K3SUP_API int k3sup_node_mark(k3sup_node *node, const char *key) K3SUP_MUST_CHECK;

/**
 * k3sup_node_marked() - is it?
 *
 * Changes nothing. Returns 0: no; K3SUP_MARKED: in this boot; K3SUP_MARKED_EARLIER: the node was booted since, which is how a step that reboots knows that it has happened. Errors as
 * above. Since: 0.1
 */
K3SUP_API int k3sup_node_marked(k3sup_node *node, const char *key) K3SUP_MUST_CHECK;

/** k3sup_node_unlock() - give it back. Returns 1, or 0 if this handle did not hold it, -EBUSY while an operation uses it. Since: 0.1 */
K3SUP_API int k3sup_node_unlock(k3sup_node *node);

/**
 * k3sup_build_read() - what k3s binary is this file? Read without executing it.
 * @ret_op: its result holds path, size, sha256, arch, kind ("wrapper" or "inner"), version, commit, go, asset_hash ("H"), asset_check.
 *
 * Facts come from ELF headers, Go build info and the name of the embedded archive (source: k3s scripts/package-cli, pkg/data); what cannot
 * be established is absent, never guessed. H names the archive; it says which build a running process was unpacked from.
 *
 * A name is a text that any file may hold. asset_check says why H is believed: "digest": an archive in the file has that SHA-256; "frame": it is the only name, and there is
 * one archive that is whole by its own structure (changed bytes in it would not be seen); "name": it is the only name, and of a gzip archive (releases before 2021),
 * which cannot be checked. With K3SUP_BUILD_READ_ARCHIVE it is "digest" or, for gzip, "name"; without it "digest" where several names or archives make it necessary.
 * With K3SUP_BUILD_READ_RUN_VERSION a sealed copy of the bytes that were read is run as `k3s --version`, as in k3sup_swap(); said_version is what it says.
 *
 * Status is 0 on success: nothing changes. No point of no return.
 * Errors: K3SUP_E_PAYLOAD_*, K3SUP_E_VERSION_MISMATCH. Since: 0.1
 */
K3SUP_API int k3sup_build_read(k3sup_ctx *ctx, const struct k3sup_build_read_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

/**
 * k3sup_policy_check() - may this build follow that one?
 * @opts: NULL: nothing is known, and all is refused.
 * @ret_doc: {ok, changed: false, checks: [{name, decision, text, error}], error}: one check for each of the policies "k3s", "arch", "downgrade" (an older X.Y.Z),
 *     "pre-release" (one that came before the installed build of the same X.Y.Z), "packaging" (an older k3sN of the same version), "skip-minor",
 *     "agent-before-server", "floor", "build-date" (a month before the installed build's: a fix of that may be missing; days do not count, since what belongs together is built
 *     days apart; a build that does not say its date passes). decision is "pass", "warn" (it cannot be told, and that is no reason to refuse), "allowed" (refused, but for a flag) or "refuse".
 *     error is that of the first refusal: K3SUP_E_PAYLOAD_NOT_K3S, K3SUP_E_PAYLOAD_ARCH, K3SUP_E_POLICY_*. Owned by the caller.
 *
 * A pure function of what it is given, but for the machine's architecture. Unknown is never a pass where a policy needs to know: an unknown payload is refused
 * (K3SUP_E_POLICY_UNKNOWN), as are a named server and a floor that are no versions. An unknown installed version is a warning only, since a torn file must be replaceable;
 * the floor decides all the same.
 *
 * Blocking: no. Threads: any. On disk: nothing.
 * Returns 0 whatever the decisions are, or -EINVAL (a role that is neither), -E2BIG, -ENOMEM. Since: 0.1
 */
K3SUP_API int k3sup_policy_check(const struct k3sup_policy_opts *opts, k3sup_doc **ret_doc) K3SUP_MUST_CHECK;

/**
 * k3sup_identify() - which processes are this node's k3s?
 * @opts: NULL for the defaults.
 * @ret_op: result: candidates[] with pid, role, build, evidence, and the bystanders that came near with the rule that dropped each.
 *
 * Proof: real, effective, saved and file system uid 0; our pid namespace; the node's root; an executable inside the root, owned by root and writable
 * by nobody else, that is data/<H>/bin/{k3s,containerd} or the installed k3s file; comm; process 1's or our mount namespace, or (PrivateTmp=) a service of the node:
 * its control group, its unit file or init script that only root can write, and that the service manager itself started it. Titles and arguments can be written by anybody
 * and are hints only (k3s itself overwrites them). The k3s of a container, `k3s kubectl` and the like, and shims are never candidates. Of a --log pair the parent is
 * the candidate, and worker_pid its child.
 * Each candidate is held by a pidfd from here on: k3sup_op_process() hands it out.
 *
 * Status is 0 when exactly one k3s was found, or several of different roles that share one file; K3SUP_E_NO_K3S, or K3SUP_E_ROOTLESS or
 * K3SUP_E_RKE2 if one of those was seen instead; K3SUP_E_AMBIGUOUS (evidence: candidates); K3SUP_E_FOREIGN_PROC if none was seen by who could not see one: a root that is
 * mounted in a pod without the host's pid namespace. All verbs that have to know say so.
 * On disk: nothing. Capabilities: CAP_SYS_PTRACE to read /proc/PID/exe of root's processes. Since: 0.1
 */
K3SUP_API int k3sup_identify(k3sup_node *node, const struct k3sup_identify_opts *opts, k3sup_op **ret_op) K3SUP_MUST_CHECK;

K3SUP_END_DECLS

#endif
