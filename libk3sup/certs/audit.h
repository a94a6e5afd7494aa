/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One look at all certificates of a node. audit.c keeps what is shared: reading, rows, problems; authority.c, pair.c, listener.c and kubeconfig.c each know one kind of file.
 *
 * A row is a certificate with k3s's own status for it. A problem is what k3s's check does not see; it is either something that needs a person ("act") or that a start of k3s
 * puts right ("start"), or a note.
 */
#ifndef K3SUP_CERTS_AUDIT_H
#define K3SUP_CERTS_AUDIT_H

#include "base/root.h"
#include "base/x509.h"
#include "certs/inventory.h"

#define K3SUP__DAY 86400
#define K3SUP__CA_WINDOW (365 * (int64_t)K3SUP__DAY) /* k3s pkg/certmonitor warns of authorities so early */

enum k3sup__remedy {
	K3SUP__NOTE,  /* good to know */
	K3SUP__START, /* the next start of k3s puts it right */
	K3SUP__ACT,   /* stays wrong until somebody does something */
};

#define K3SUP__AUDIT_DIRS 16

struct k3sup__audit {
	k3sup_op *op;
	const struct k3sup__root *root;
	const char *data_dir;        /* inside the root; all paths are below it */
	bool prepared;               /* files that a person has prepared: their modes and owners say nothing */
	bool server;                 /* else an agent */
	const char *const *services; /* NULL: all; only pairs and the listener are chosen by it */
	struct k3sup__pki *pki;
	int64_t now;    /* seconds since 1970 */
	int64_t window; /* a leaf that ends within it is WARNING, seconds */

	struct k3sup__certs cas[K3SUP__N_CAS];       /* of the server, empty where one is missing or unreadable */
	struct k3sup__certs agent_cas[K3SUP__N_CAS]; /* the agent's copies, of two of them */
	char admin[K3SUP__SHA256_HEX];               /* the live admin certificate, "" if there is none */

	k3sup__json *certificates, *problems, *unknown;
	size_t counts[4]; /* rows by status, in the order of status_names */
	bool needs_action;

	struct {
		char *name;
		struct k3sup__place place;
	} dirs[K3SUP__AUDIT_DIRS]; /* found once each */
	size_t n_dirs;
};

int k3sup__audit_open(struct k3sup__audit *audit) _must_check_; /* after op, root, data_dir, now and window are set */
void k3sup__audit_close(struct k3sup__audit *audit);

struct k3sup__cert_file {
	char *text; /* with a NUL behind */
	size_t len;
	struct stat st;
};

/*
 * A file by its path below the data-dir, or, if that begins with a slash, inside the root. 1: ret holds it; 0: it is not there; K3SUP_E_PARSE after a problem was noted
 * (it is no regular file, too large, unreadable); -ENOMEM, K3SUP_E_CANCELLED. Private keys are in there: k3sup__cert_file_clear() wipes.
 */
int k3sup__audit_read(struct k3sup__audit *audit, const char *path, struct k3sup__cert_file *ret) _must_check_;
void k3sup__cert_file_clear(struct k3sup__cert_file *file);

/* Reads and decodes a certificate file; rows are the caller's affair. 1, 0, K3SUP_E_PARSE after a problem was noted, -ENOMEM, K3SUP_E_CANCELLED. */
int k3sup__audit_certs(struct k3sup__audit *audit, const char *path, enum k3sup__remedy if_damaged, struct k3sup__certs *ret) _must_check_;
int k3sup__audit_keys(struct k3sup__audit *audit, const char *path, enum k3sup__remedy if_damaged, struct k3sup__keys *ret) _must_check_;

void k3sup__audit_problem(struct k3sup__audit *audit, enum k3sup__remedy remedy, const char *path, const char *problem, const char *fmt, ...)
	_printf_(5, 6);
/* Adds rows for all certificates of a file. kind: "leaf", "ca", "listener", "loopback", "served" or "kubeconfig"; service: NULL if it belongs to none. What a status means is the caller's affair. */
void k3sup__audit_rows(struct k3sup__audit *audit, const char *kind, const char *service, const char *path, const struct k3sup__certs *certs);
/* Says in a problem that a certificate is not valid now or soon not any more. */
void k3sup__audit_dates(struct k3sup__audit *audit, const char *path, const struct k3sup__cert *cert, int64_t window, enum k3sup__remedy if_bad);
/* Valid now, and not over within the window. */
bool k3sup__audit_lasts(const struct k3sup__audit *audit, const struct k3sup__cert *cert, int64_t window);
/* Is this service among the chosen ones? */
bool k3sup__audit_wants(const struct k3sup__audit *audit, const char *service);

/* The kinds of files. 0, -ENOMEM, K3SUP_E_CANCELLED: whatever is wrong on the node is a problem in the list. */
int k3sup__audit_authorities(struct k3sup__audit *audit) _must_check_; /* first: the others compare with what it finds */
int k3sup__audit_pairs(struct k3sup__audit *audit) _must_check_;
int k3sup__audit_listener(struct k3sup__audit *audit) _must_check_;
/* Only the certificate in dynamic-cert.json, without a word about it. 1, 0: there is none that can be read, -ENOMEM, K3SUP_E_CANCELLED. */
int k3sup__audit_listener_certs(struct k3sup__audit *audit, struct k3sup__certs *ret) _must_check_;
extern const char k3sup__listener_path[];                         /* below the data-dir */
int k3sup__audit_others(struct k3sup__audit *audit) _must_check_; /* what belongs to no service: nothing where services are chosen */
int k3sup__audit_kubeconfigs(struct k3sup__audit *audit, const char *const *more) _must_check_; /* more: paths inside the root, or NULL */
int k3sup__audit_unknown(struct k3sup__audit *audit) _must_check_;

#endif
