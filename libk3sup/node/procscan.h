/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading /proc/PID. Everything goes through the descriptor of that directory, which never becomes another process's: once the process is gone it answers ESRCH.
 */
#ifndef K3SUP_NODE_PROCSCAN_H
#define K3SUP_NODE_PROCSCAN_H

#include <sys/stat.h>

#include "base/util.h"

/* All return 0 or -errno; -ESRCH if the process is gone, -EACCES or -EPERM if we may not look. */
int k3sup__proc_open(int proc_fd, pid_t pid, int *ret_dirfd) _must_check_;
/* Real, effective, saved and file system uid. */
int k3sup__proc_uids(int dirfd, uid_t ret[static 4]) _must_check_;
/* The object behind one of the links ("root", "cwd", "ns/pid"). */
int k3sup__proc_stat(int dirfd, const char *link, struct stat *ret) _must_check_;
/* What "PID/exe" says, as this process sees it: one system call, for going through all processes. text has room for K3SUP__LINK_MAX. */
#define K3SUP__LINK_MAX 4097 /* procfs makes the text in one page */
int k3sup__proc_exe(int proc_fd, pid_t pid, char *text) _must_check_;
/* What the link says, as this process sees it; owned. */
int k3sup__proc_link(int dirfd, const char *link, char **ret) _must_check_;

/* One of the children of this process, 0 if it has none. -errno if /proc cannot be read. */
int k3sup__proc_child(int proc_fd, pid_t parent, pid_t *ret) _must_check_;

/* What a title or command line says its process does. */
enum k3sup__command { K3SUP__COMMAND_NONE, K3SUP__COMMAND_SERVER, K3SUP__COMMAND_AGENT, K3SUP__COMMAND_INIT, K3SUP__COMMAND_OTHER };

/*
 * The first 4 KiB of cmdline. Only for processes that run a program of k3s as root of the node: it is read from their memory, and that of a hostile one can be made to answer
 * never.
 */
int k3sup__proc_command(int dirfd, enum k3sup__command *ret) _must_check_;
/* The text of cmdline; changed in place, text[len] too. */
enum k3sup__command k3sup__command_parse(char *text, size_t len);

#endif
