/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which build may follow which: pure functions over what is known. The public face is k3sup_policy_check().
 */
#ifndef K3SUP_NODE_POLICY_H
#define K3SUP_NODE_POLICY_H

#include <k3sup/node.h>

#include "node/checks.h"

/*
 * Adds one check per policy, always all and in this order: k3s, arch, downgrade, pre-release, packaging, skip-minor, agent-before-server, floor,
 * build-date. Empty text is
 * unknown as NULL is. Unknown is never a pass where a rule needs to know:
 *
 *   k3s, arch                                      the payload's kind and architecture: unknown is refused
 *   downgrade, pre-release, packaging, skip-minor  the payload's version: unknown is refused. The installed one: unknown is a warning, since a torn file must be
 *                                                  replaceable; the floor, if there is one, still decides, and stands for it where minors are counted
 *   agent-before-server                            both versions once a server is named; none named is a warning for what may be an agent
 *   floor                                          the payload's version once there is a floor; a floor that cannot be read is refused
 *   build-date                                     neither: only programs inside know it, so that it comes to light when they are unpacked, if at all
 *
 * What the caller allows is allowed also where it is unknown.
 *
 * A newer minor may be the older build: v1.26.0 is from before v1.25.10 (k3s-io/k3s#7537). As in the k3s-upgrade image since then, the months of the dates decide: patches of
 * several minors that belong together are built days apart, in any order.
 */
void k3sup__policy_judge(const struct k3sup_policy_opts *opts, struct k3sup__checks *checks);
/* The last of them alone, for when the payload is unpacked. */
void k3sup__policy_judge_date(const struct k3sup_policy_opts *opts, struct k3sup__checks *checks);

#endif
