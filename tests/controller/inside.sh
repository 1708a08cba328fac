#!/bin/sh
# Makes a machine of the namespaces in which it is started, and becomes its systemd.
#   inside.sh LOWER DIRECTORY   LOWER: overlay's lower directories; DIRECTORY holds upper/, work/, root/, share/
# machine.py starts it under `unshare`, so the host's mounts and network stay as they are.
set -e
lower=$1 directory=$2
root=$directory/root

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work" "$root"
cd "$root"
mount -t proc -o nosuid,noexec,nodev proc proc
mount -t sysfs -o nosuid,noexec,nodev,ro sysfs sys
mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 sys/fs/cgroup
for place in run dev; do
    mount -t tmpfs -o mode=0755,size=2g tmpfs "$place"
done
case $0 in
# The checkout is needed inside: leave /tmp, and keep systemd-tmpfiles from emptying it.
/tmp/*) ln -sf /dev/null etc/tmpfiles.d/tmp.conf ;;
*) mount -t tmpfs -o mode=1777,size=2g tmpfs tmp ;;
esac
mkdir -p dev/pts dev/shm run/share
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount --bind "$directory/share" run/share
while read -r name mode major minor; do
    mknod -m "$mode" "dev/$name" c "$major" "$minor"
done <<NODES
null 666 1 3
zero 666 1 5
full 666 1 7
random 666 1 8
urandom 666 1 9
tty 666 5 0
NODES
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
# docker and containerd make overlays in these directories, and an overlay can't be on an overlay
for place in var/lib/docker var/lib/containerd var/lib/containers; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=0711 tmpfs "$place"
done

ip link set lo up
# Not 127.0.0.0/8: docker skips the verification of certificates there.
ip address add 198.51.100.10/32 dev lo
hostname controller-0

mkdir .host
pivot_root . .host
umount -l /.host
rmdir /.host
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system
