#!/bin/sh
# Writes constraints.txt: the newest releases of everything that setup.cfg requires, each with the SHA-256 of its files.
# Operators install from it, so that they get what was tested, and nothing that somebody put in its place since.
set -eu
cd "$(dirname "$0")/.."
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
# PYTHON: the oldest one that is supported. Newer ones need no more packages.
"${PYTHON:-python3}" -m venv "$directory/venv"
"$directory/venv/bin/python" -m pip install --quiet pip-tools
sed -n '/^install_requires/,/^\[/{s/^ \+\([^#]\)/\1/p}' setup.cfg >"$directory/requirements.in"
{
    echo "# Written by tools/write_constraints.sh (make constraints) from setup.cfg."
    "$directory/venv/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --output-file - "$directory/requirements.in"
} >"$directory/constraints.txt"
mv "$directory/constraints.txt" constraints.txt
chmod 0644 constraints.txt
