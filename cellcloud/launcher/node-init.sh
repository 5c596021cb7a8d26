#!/bin/bash
# The first process of a node: gives it /proc, /sys, /dev, /run and libvirt directories of its own, then keeps its
# virtlogd and libvirtd running. When it ends, the kernel ends everything in the node.
# usage: node-init.sh DIRECTORY NAME [device of /dev to show]...
set -eu
umask 022
home=$1 name=$2
shift 2

read -r outer_pid _ </proc/self/stat # /proc still is the machine's
hostname "$name"
mount --make-rprivate /
mount -t proc proc /proc
umount --lazy /sys # with the control groups mounted below it
mount -t sysfs sysfs /sys

dev=$home/dev
mount -t tmpfs -o mode=755 tmpfs "$dev"
mkdir -p "$dev"/{pts,shm,net}
for device in null zero full random urandom tty net/tun "$@"; do
    cp -a "/dev/$device" "$dev/$device"
done
for device in "$@"; do
    chmod 666 "$dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$dev/shm"
ln -sfn pts/ptmx "$dev/ptmx"
ln -sfn /proc/self/fd "$dev/fd"
mount --rbind "$dev" /dev

mount --bind "$home/etc" /etc/libvirt
for kind in lib cache log; do
    mount --bind "$home/$kind" "/var/$kind/libvirt"
done
mount --bind "$home/hosts" /etc/hosts
mkdir -p "$home/run/guests"
mount --bind "$home/guests" "$home/run/guests"
mount --rbind "$home/run" /run

for setting in ipv4/ip_forward=0 \
    ipv4/conf/all/rp_filter=0 ipv4/conf/default/rp_filter=0 \
    ipv6/conf/all/disable_ipv6=1 ipv6/conf/default/disable_ipv6=1 \
    bridge/bridge-nf-call-iptables=0 bridge/bridge-nf-call-arptables=0; do
    echo "${setting#*=}" >"/proc/sys/net/${setting%=*}"
done
ip link set lo up

keep() {
    while :; do
        "$@" </dev/null || echo "$1 ended with $?" >&2
        sleep 0.3
    done
}
keep virtlogd &
keep libvirtd --pid-file /run/libvirt/libvirtd.pid &
echo "$outer_pid" >"$home/pid.new"
mv "$home/pid.new" "$home/pid"
while :; do
    wait || true
    sleep 1
done
