/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libk3sup: upgrade a k3s node, safe to repeat, safe to cut, honest about what it saw. This header includes all others.
 */
#ifndef K3SUP_H
#define K3SUP_H

#include <k3sup/api.h>
#include <k3sup/certs.h>
#include <k3sup/ctx.h>
#include <k3sup/doc.h>
#include <k3sup/error.h>
#include <k3sup/node.h>
#include <k3sup/op.h>
#include <k3sup/process.h>
#include <k3sup/rotate.h>
#include <k3sup/swap.h>
#include <k3sup/upgrade.h>
#include <k3sup/version.h>

#endif
