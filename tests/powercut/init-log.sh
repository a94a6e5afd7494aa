#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The first program of the machine that replay.py starts: puts dm-log-writes between file system and disk, works, unmounts, ends.
B=/bin/busybox
$B mount -t proc proc /proc
word() { $B tr ' ' '\n' </proc/cmdline | $B sed -n "s/^k3sup_$1=//p"; }
$B mount -t tmpfs tmpfs /run
md=/usr/lib/uml/modules/$($B uname -r)/kernel/drivers/md
begin() {
	$B insmod "$md/dm-mod.ko" && $B insmod "$md/dm-log-writes.ko" &&
		/usr/sbin/dmsetup create --noudevsync log --table "0 $($B blockdev --getsz /dev/ubda) log-writes /dev/ubda /dev/ubdb" &&
		$B mount -t "$(word fs)" /dev/dm-0 /mnt
}
work() {
	n=1
	while [ "$n" -le "$(word count)" ]; do
		"$(word driver)" "$(word how)" /mnt "$(word template)" "$(word blocks)" "$n" 1 || return 1
		/usr/sbin/dmsetup message log 0 mark "ACK-$n"
		n=$((n + 1))
	done
}
begin && work && $B umount /mnt && /usr/sbin/dmsetup remove --noudevsync log && echo RECORDED
$B poweroff -f
