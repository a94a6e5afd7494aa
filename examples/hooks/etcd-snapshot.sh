#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# For k3sup-upgrade --before-stop: a snapshot of the embedded etcd, while the old k3s still serves. Where there is none it has nothing to do.
# A second run makes a second one: each has a name of its own, and k3s itself removes those that are too many.
set -eu

root=${K3SUP_ROOT:-/}
if [ "${K3SUP_ROLE:-}" = agent ] || [ ! -d "${root%/}${K3SUP_DATA_DIR:?}/server/db/etcd" ]; then
	echo "no embedded etcd here"
	exit 0
fi
set -- "${K3SUP_K3S:?}" etcd-snapshot save --data-dir "$K3SUP_DATA_DIR" --name "before-$(echo "${K3SUP_TO:-upgrade}" | tr '+' '-')"
[ "$root" = / ] || set -- chroot "$root" "$@"
exec "$@"
