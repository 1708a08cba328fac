#!/bin/sh
# Unpack Debian's etcd of the releases $2... below the directory $1, such as etcd-bookworm. Nothing is installed:
# the package would start a server. apt checks the signatures.
set -eu
cache=$1
shift
mkdir -p "$cache"
exec 9>"$cache/etcd.lock"
flock 9

for release; do
    [ ! -d "$cache/etcd-$release" ] || continue
    # the mirror of this machine
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | head -n 1)
    new=$(mktemp -d "$cache/etcd-new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    mkdir -p "$new/empty" "$new/lists/partial" "$new/cache/archives/partial" "$new/root"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$new/sources.list"
    apt() {
        apt-get -q -o Dir::Etc::sourcelist="$new/sources.list" -o Dir::Etc::sourceparts="$new/empty" \
            -o Dir::State::lists="$new/lists" -o Dir::Cache="$new/cache" -o Acquire::Languages=none \
            -o APT::Sandbox::User=root "$@"
    }
    (cd "$new" && apt update && apt download etcd-server etcd-client)
    for package in "$new"/*.deb; do
        dpkg-deb --extract "$package" "$new/root"
    done
    chmod 755 "$new/root"
    mv "$new/root" "$cache/etcd-$release"
    rm -rf "$new"
done
