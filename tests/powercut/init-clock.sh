#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The first program of the machine that test_clock.py starts: rotates the same certificates with its clock at each of some times.
B=/bin/busybox
$B mount -t proc proc /proc
word() { $B tr ' ' '\n' </proc/cmdline | $B sed -n "s/^k3sup_$1=//p"; }
$B mount -t tmpfs tmpfs /run
for at in $(word times | $B tr , ' '); do
	$B rm -rf /run/node
	$B cp -a "$(word tree)" /run/node
	$B date -u -s "@$at" >/dev/null
	echo "AT $at"
	"$(word program)" rotate --json --root /run/node --rotate-key k
	echo "EXIT $?"
	(cd /run/node && $B find . -type f ! -name lock | $B sort | $B xargs "$B" sha256sum | $B sha256sum)
done
echo DONE
$B poweroff -f
