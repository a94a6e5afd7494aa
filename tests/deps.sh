#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The one list of what this project needs from Debian, and the one place that installs it.
#
#   tests/deps.sh check GROUP...     names what is missing; exit 2 if anything is
#   tests/deps.sh install GROUP...   installs what is missing (root), with no network if nothing is; exit 2 if that cannot be done
#   tests/deps.sh openrc             prints the path of a supervise-daemon that can run from where it is
#
# Groups: build, tests, lint; demo (with build) is what examples/demo.sh needs; etcd, which Debian starts as a service, is for a test that is skipped without.
set -eu

packages() {
	case $1 in
	build) echo gcc libc6-dev cmake ninja-build pkgconf libuv1-dev libssl-dev zlib1g-dev libjansson-dev libyaml-dev ;;
	tests)
		echo g++ clang-14 libclang-rt-14-dev binutils libcmocka-dev abigail-tools valgrind strace iproute2 util-linux \
			openssl zstd systemd-container procps python3 python3-pytest python3-pytest-xdist python3-jsonschema
		go_is_there || echo golang-go
		# The power cuts. Debian has user-mode Linux for PCs only; of busybox any kind will do, and the two exclude each other.
		case $(dpkg --print-architecture 2>/dev/null) in amd64 | i386) echo user-mode-linux dmsetup xfsprogs btrfs-progs e2fsprogs ;; esac
		[ -x /bin/busybox ] || echo busybox-static
		;;
	demo)
		echo strace util-linux mount python3
		go_is_there || echo golang-go
		;;
	etcd) echo etcd-server curl ;;
	lint)
		echo clang-format-14 clang-tidy-14 shellcheck git
		command -v gofmt >/dev/null || echo golang-go
		;;
	*)
		echo "deps.sh: unknown group '$1' (build, tests, lint, demo, etcd)" >&2
		return 1
		;;
	esac
}

# Any Go from 1.19 on will do, wherever it came from.
go_is_there() {
	command -v go >/dev/null || return 1
	minor=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
	[ "${minor:-0}" -ge 19 ]
}

missing() {
	for group in "$@"; do
		for name in $(packages "$group"); do
			state=$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) || state=
			[ "$state" = installed ] || echo "$name"
		done
	done | sort -u | tr '\n' ' '
}

install() {
	lacking=$(missing "$@")
	[ -n "$lacking" ] || return 0
	if [ "$(id -u)" != 0 ]; then
		echo "deps.sh: not installed, and only root can: apt-get install $lacking" >&2
		return 2
	fi
	echo "deps.sh: installing $lacking" >&2
	# The lists of packages may be missing or too old for what the mirror has by now: refresh them only then.
	# shellcheck disable=SC2086
	get install -y --no-install-recommends $lacking || { get update && get install -y --no-install-recommends $lacking; } || return 2
}

get() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null >&2
}

# OpenRC's supervise-daemon is unpacked into a cache and never installed: k3s's installer and this library look for /sbin/openrc-run to tell which
# service manager a host has, so installing openrc would make a systemd host look like an OpenRC host.
# To run it: LD_LIBRARY_PATH as printed, RC_SVCNAME=NAME, NAME as first argument, and a directory /run/openrc for its fifo, which tests should make in
# a mount namespace of their own (unshare -m, a tmpfs on /run), for the same reason.
openrc() {
	cache=${K3SUP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/k3sup}/openrc
	if ! runs "$cache"; then
		mkdir -p "$cache"
		work=$(mktemp -d "$cache.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		(cd "$work" && { download || { [ "$(id -u)" = 0 ] && get update && download; }; }) || {
			echo "deps.sh: openrc is not in $cache and cannot be downloaded" >&2
			return 2
		}
		for deb in "$work"/*.deb; do
			dpkg-deb -x "$deb" "$work/root"
		done
		rm -rf "$cache"
		mv "$work/root" "$cache"
		runs "$cache" || {
			echo "deps.sh: the supervise-daemon in $cache does not run" >&2
			return 2
		}
	fi
	echo "$cache/sbin/supervise-daemon"
	echo "deps.sh: run it with LD_LIBRARY_PATH=$(library_path "$cache")" >&2
}

download() {
	# Not through get(): apt's sandbox user cannot write into a private directory, and as root it says so for each file.
	apt-get -q download openrc librc1 libeinfo1 -o APT::Sandbox::User=root </dev/null >&2
}

library_path() {
	echo "$1"/lib/*-linux-gnu*
}

runs() {
	# It wants its service's name twice, even for --version.
	[ -x "$1/sbin/supervise-daemon" ] &&
		LD_LIBRARY_PATH=$(library_path "$1") RC_SVCNAME=name "$1/sbin/supervise-daemon" name --version >/dev/null 2>&1
}

verb=${1:-}
[ $# -eq 0 ] || shift
if [ "$verb" != openrc ] && [ $# -eq 0 ]; then
	sed -n '3,9s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
if [ "$verb" != openrc ]; then
	for group in "$@"; do
		packages "$group" >/dev/null || exit 2
	done
fi
command -v dpkg-query >/dev/null || {
	echo "deps.sh: this is no Debian; it needs: $(for group in build tests lint; do packages "$group"; done | tr '\n' ' ')" >&2
	exit 2
}
case $verb in
check)
	lacking=$(missing "$@")
	[ -z "$lacking" ] || {
		echo "$lacking"
		exit 2
	}
	;;
install) install "$@" ;;
openrc) openrc ;;
*)
	echo "deps.sh: unknown verb '$verb'" >&2
	exit 2
	;;
esac
