#!/bin/sh
# Build the Debian packages of this checkout into dist/, from a copy: the build leaves nothing in the checkout.
# Debian 12 fills the package's virtual environment from PyPI; Debian 13 needs no network.
set -eu
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir -p "$copy/sysreg" dist.new
tar --exclude=./.git --exclude='./.venv*' --exclude=./.run --exclude=./dist --exclude=./dist.new --exclude='*.egg-info' \
    --exclude=__pycache__ --exclude='./.*_cache' -cf - . | tar -xf - -C "$copy/sysreg"
build_dep="apt-get -q -y --no-install-recommends build-dep $copy/sysreg"
[ "$(id -u)" = 0 ] || build_dep="sudo $build_dep"
$build_dep >"$copy/log" 2>&1 || {
    tail -n 30 "$copy/log" >&2
    exit 1
}
(cd "$copy/sysreg" && dpkg-buildpackage --no-sign --build=binary) >"$copy/log" 2>&1 || {
    tail -n 30 "$copy/log" >&2
    rm -rf dist.new
    exit 1
}
mv "$copy"/*.deb "$copy"/*.changes "$copy"/*.buildinfo dist.new/
rm -rf dist
mv dist.new dist
ls -l dist/*.deb
