/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's half of TLS over a socket that does not block. Trusts exactly the authorities it is given: a library context, a store, protocols and ciphers of its
 * own, so neither the host's trust store nor what its openssl.cnf says of TLS counts. (libssl reads that file once per process, into the host's own default
 * context, as the host's first use of libssl would; there is no way to keep it from that but one that would keep the host from it, too.) No SIGPIPE. OpenSSL's
 * error queue of the calling thread is empty afterwards, as after each use of libssl.
 */
#ifndef K3SUP_BASE_TLS_H
#define K3SUP_BASE_TLS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/util.h"

struct k3sup__tls;

/*
 * PEM texts. The authorities need not be roots; ca NULL: nothing is believed and nothing refused, for those who only want to see what is shown. cert (with its chain) and key:
 * what we show if we are asked; NULL: nothing.
 */
struct k3sup__tls_terms {
	const char *ca, *cert, *key;
};

/* fd stays the caller's and must outlive this. 0, -ENOMEM, K3SUP_E_PARSE (some text holds no certificate or no key, or they do not belong together). */
int k3sup__tls_new(int fd, const struct k3sup__tls_terms *terms, struct k3sup__tls **ret) _must_check_;
void k3sup__tls_free(struct k3sup__tls *tls);

/*
 * What was read or written (0: the peer has ended it), 0 for a handshake that is done. -EAGAIN: wait until the socket can do what k3sup__tls_wants() says,
 * and call again with the same arguments. -EPROTO: k3sup__tls_why() has the reason, in words.
 */
int k3sup__tls_handshake(struct k3sup__tls *tls) _must_check_;
ssize_t k3sup__tls_read(struct k3sup__tls *tls, void *buf, size_t len) _must_check_;
ssize_t k3sup__tls_write(struct k3sup__tls *tls, const void *buf, size_t len) _must_check_;
/* What the other side has shown of itself, also if the handshake failed behind that: PEM, its own certificate first; owned. Without authorities only. -ENODATA: nothing. */
int k3sup__tls_shown(const struct k3sup__tls *tls, char **ret_pem) _must_check_;
short k3sup__tls_wants(const struct k3sup__tls *tls);
const char *k3sup__tls_why(const struct k3sup__tls *tls);

#endif
