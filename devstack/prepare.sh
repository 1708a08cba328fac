#!/bin/sh
# Install what `make run` (arguments: run, and the number of workers) or `make test` (argument: test) needs: Debian
# packages that are missing, as root or with sudo, and the two virtual environments. A second call takes well under a
# second.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .run
exec 9>.run/prepare.lock
flock 9

say() { echo "prepare: $*" >&2; }

case ${2:-0} in
[0-9]) ;;
*)
    say "HOSTS=$2 is no number of workers: give one from 0 to 9"
    exit 2
    ;;
esac

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        say "needs root for: $*"
        say "run make as root, or install sudo"
        exit 1
    fi
}

packages() {
    case $1 in
    run) lists=packages/run.txt ;;
    hosts) lists=packages/hosts.txt ;;
    deb) lists=packages/deb.txt ;;
    *)
        lists="packages/run.txt packages/test.txt"
        more=packages/test-$(. /etc/os-release && echo "${VERSION_CODENAME:-}").txt
        [ ! -e "$more" ] || lists="$lists $more"
        ;;
    esac
    # shellcheck disable=SC2086
    grep -hv '^#' $lists
}

# A line may name alternatives, as in a|b: any of them will do, the first is the one to install.
missing() {
    for line in $(packages "$1"); do
        # shellcheck disable=SC2046
        dpkg-query --show --showformat '${db:Status-Status}\n' $(echo "$line" | tr '|' ' ') 2>/dev/null |
            grep -qx installed || echo "${line%%|*}"
    done
}

# Debian starts a daemon as soon as it is installed. The embedded controller runs its own, on the same ports.
install_packages() {
    say "installing $*"
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 0755 /usr/sbin/policy-rc.d
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    log=.run/apt.log
    if ! { as_root apt-get -q update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        say "apt-get failed; the whole log is $log"
        exit 1
    fi
}

python_new_enough() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-} python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && python_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    say "no Python 3.11 or later with venv; set PYTHON=/path/to/python3"
    exit 1
}

# venv DIRECTORY STAMP PIP-ARGUMENTS...: built when missing or broken, brought up to date when STAMP changed
venv() {
    directory=$1 stamp=$2
    shift 2
    if [ "$(cat "$directory/stamp" 2>/dev/null)" = "$stamp" ] && "$directory/bin/python" -c '' 2>/dev/null; then
        return
    fi
    say "filling $directory"
    "$directory/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$directory"
    "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@" </dev/null
    echo "$stamp" >"$directory/stamp"
}

wanted=$(missing "$1")
if [ "${2:-0}" != 0 ]; then
    wanted="$wanted $(missing hosts)"
fi
# shellcheck disable=SC2086
[ -z "${wanted# }" ] || install_packages $wanted
[ "$1" != deb ] || exit 0
case $1,${2:-0} in
test,*) releases="bookworm trixie" ;;
*,0) releases= ;;
*) releases=$(. /etc/os-release && echo "$VERSION_CODENAME") ;;
esac
etcd=/var/cache/sysreg-tests
for release in $releases; do
    [ ! -d "$etcd/etcd-$release" ] || continue
    say "fetching etcd of Debian $release"
    as_root devstack/fetch_etcd.sh $etcd "$release" >.run/etcd.log 2>&1 </dev/null ||
        { tail -n 20 .run/etcd.log >&2 && say "etcd cannot be had; the whole log is .run/etcd.log" && exit 1; }
done
python=$(find_python)
# In compat mode the checkout stands on sys.path; the default is an import hook, which slows every start.
venv .venv "$(cat setup.cfg setup.py pyproject.toml | sha256sum)" \
    --config-settings editable_mode=compat --editable '.[test]' &
venv .venv-keystone "keystone gunicorn" keystone gunicorn
wait $!
