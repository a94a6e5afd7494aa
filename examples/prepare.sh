#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Steps of your own before an upgrade, as a command of it or before it:
#
#     k3sup-upgrade --before-write /path/to/prepare.sh /opt/k3s
#
# It may be cut anywhere and run again: a step is marked behind its end and asked for before its beginning, so that one that was not finished is done again, from its start, and
# one that was finished is not. Hence each step has to bear being done twice, and no more. Change a step's key when you change what it does.
set -eu

# step KEY COMMAND...
step() {
	key=$1
	shift
	asked=0
	k3sup-status --marked "$key" >/dev/null || asked=$?
	case $asked in
	0) return 0 ;;
	9) ;;
	*) exit "$asked" ;;
	esac
	echo "$key"
	"$@"
	k3sup-status --mark "$key" >/dev/null
}

# reboot_once KEY: true when the node was booted since the key was marked. Else it is marked, and somebody has to boot the node: this ends with 75, and the next run goes on.
reboot_once() {
	case $(k3sup-status --marked "$1" || true) in
	*earlier*) return 0 ;;
	esac
	k3sup-status --mark "$1" >/dev/null
	echo "$1: boot this node, then run once more"
	exit 75
}

# Here are yours. These two show the form.
make_directory() {
	mkdir -p "${PREPARE_DIR:-/var/lib/prepare}"
}
write_settings() {
	# A file is replaced as a whole, so that a cut leaves the old one or the new one.
	${PREPARE_SLOW:-true}
	echo "prepared for ${K3SUP_TO:-a new version}" >"${PREPARE_DIR:-/var/lib/prepare}/settings.new"
	mv "${PREPARE_DIR:-/var/lib/prepare}/settings.new" "${PREPARE_DIR:-/var/lib/prepare}/settings"
}

step prepare-directory-1 make_directory
step prepare-settings-1 write_settings
[ -z "${PREPARE_REBOOT:-}" ] || reboot_once prepare-reboot-1
