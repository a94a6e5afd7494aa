#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# For k3sup-upgrade --before-stop on a server with embedded etcd: refuses unless the member here is healthy, which it only is while the cluster has a quorum: a server that stops
# while another one is down takes the cluster with it. Needs curl. ETCD_URL names another address.
set -eu

tls=${K3SUP_ROOT:-/}
tls=${tls%/}${K3SUP_DATA_DIR:?}/server/tls/etcd
if [ "${K3SUP_ROLE:-}" = agent ] || [ ! -f "$tls/client.crt" ]; then
	echo "no embedded etcd here"
	exit 0
fi
answer=$(curl --silent --show-error --max-time 10 --cacert "$tls/server-ca.crt" --cert "$tls/client.crt" --key "$tls/client.key" "${ETCD_URL:-https://127.0.0.1:2379}/health")
echo "$answer"
case $answer in
*'"health":"true"'*) ;;
*) exit 1 ;;
esac
