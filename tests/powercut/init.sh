#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The first program of the machine that powercut.py starts: mounts the disk, says READY, works until the power goes.
B=/bin/busybox
$B mount -t proc proc /proc
word() { $B tr ' ' '\n' </proc/cmdline | $B sed -n "s/^k3sup_$1=//p"; }
$B mount -t tmpfs tmpfs /run
$B mount -t "$(word fs)" /dev/ubda /mnt || {
	echo MOUNTFAIL
	$B poweroff -f
}
echo READY
"$(word driver)" "$(word how)" /mnt "$(word template)" "$(word blocks)" 1 0
echo "WORKER ENDED $?"
$B poweroff -f
