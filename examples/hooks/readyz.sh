#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# For k3sup-upgrade --before-stop, and for --health: is the API server ready, as it says itself? An agent has none to ask.
set -eu

if [ "${K3SUP_ROLE:-}" = agent ]; then
	echo "an agent has no API server"
	exit 0
fi
root=${K3SUP_ROOT:-/}
set -- "${K3SUP_K3S:-/usr/local/bin/k3s}" kubectl get --raw /readyz
[ "$root" = / ] || set -- chroot "$root" "$@"
exec "$@"
