#!/bin/sh
# Run a command in a Debian root, with this machine's network, its trust in package sources, and namespaces of
# its own.
#   chroot.sh ROOT UPPER COMMAND...   UPPER: a directory that takes all changes (upper/, work/, root/), or -
set -eu
[ "${1-}" = --inside ] || exec unshare --mount --propagation private "$0" --inside "$@"
root=$2 upper=$3
shift 3
if [ "$upper" != - ]; then
    mkdir -p "$upper/upper" "$upper/work" "$upper/root"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$upper/upper,workdir=$upper/work" "$upper/root"
    root=$upper/root
fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
# what this machine needs to reach the sources of packages
for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [ -e "$path" ] || continue
    touch "$root$path"
    mount --bind "$path" "$root$path"
done
apt-config dump Acquire | grep -v '^Acquire::\(Languages\|Changelogs\)' >"$root/etc/apt/apt.conf.d/90host" || true
# nothing is started in a root that is no machine
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
status=0
chroot "$root" env -u PIP_FIND_LINKS DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@" || status=$?
rm -f "$root/usr/sbin/policy-rc.d"
exit $status
