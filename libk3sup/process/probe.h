/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a running k3s whether it is ready. Only sockets that this very process listens on are asked, whichever port they have; over TLS only what the node's own
 * authority signed is believed. No child, no proxy, no name service, nothing of the host's trust.
 *
 *   kubelet      http://127.0.0.1:10248/healthz, 200 "ok"; no credential
 *   supervisor   https://...:6443/ping, 200 "pong"; no credential (k3s pkg/server/router.go). At another port: that socket of a server which answers so
 *   apiserver    https://...:6443/readyz, 200 "ok", as the node's own admin; on an agent through its load-balancer (port 6444), as its kubelet
 *   auto         a server: supervisor, and kubelet where it listens for it (not with --disable-agent). An agent: kubelet, unless its main port (10250) is there
 *                and the one of healthz is not: then it was switched off
 */
#ifndef K3SUP_PROCESS_PROBE_H
#define K3SUP_PROCESS_PROBE_H

#include "node/identify.h"

/*
 * kind: K3SUP_PROBE_*, but not NONE. Status: 1 it is ready, 0 there is nothing to ask (auto only); K3SUP_E_NOT_READY with a sentence, which may pass; other
 * errors (no right to look) will not. Facts and evidence: probes, [{name, address, ok, status, text}]. Each socket gets 5 s whatever the other side
 * does, or what is left until the deadline, but at least 1 s.
 */
int k3sup__probe_op(k3sup_node *node, const struct k3sup__candidate *candidate, uint32_t kind, int64_t deadline, k3sup_op **ret_op) _must_check_;

#endif
