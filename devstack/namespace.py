"""A network and mount namespace for one controller, so that registry.local is no loopback address.

docker skips TLS verification where the registry's name resolves to 127.0.0.0/8. Inside, 198.51.100.10 stands
on lo, and /etc, /usr/local/share and the state of dpkg's triggers are the host's with a writable layer in
memory above: whatever a certificate test installs there is gone with the namespace. Processes and all other
files are the host's.
"""

from __future__ import annotations

from pathlib import Path

from devstack.endpoints import HOST_NAME, NAMESPACE_ADDRESS

_SCRIPT = """\
set -e
root=$1
shift
ip link set lo up
ip address add {address}/32 dev lo
mkdir -p "$root/layers"
mount -t tmpfs -o mode=0755 layers "$root/layers"
for tree in etc usr/local/share var/lib/dpkg var/lib/ca-certificates-java; do
    [ -d "/$tree" ] || continue
    mkdir -p "$root/layers/$tree/upper" "$root/layers/$tree/work"
    mount -t overlay overlay -o "lowerdir=/$tree,upperdir=$root/layers/$tree/upper,workdir=$root/layers/$tree/work" "/$tree"
done
printf '127.0.0.1 localhost\\n{address} {name}\\n' > /etc/hosts
exec "$@"
"""  # noqa: E501


def enter_new(root: Path) -> list[str]:
    """Words to put before a command line to run it in a new namespace; the process stays the same one."""
    script = _SCRIPT.format(address=NAMESPACE_ADDRESS, name=HOST_NAME)
    unshare = ["unshare", "--net", "--mount", "--propagation", "private"]
    return [*unshare, "--", "sh", "-c", script, "namespace", str(root)]


def enter(pid: int) -> list[str]:
    """Words to put before a command line to run it in the namespaces of process ``pid``."""
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--"]
