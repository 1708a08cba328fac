"""What Tab and a hand-over cost, next to an empty `bash -c :` in the same run.

    sudo .venv/bin/python -m bench.hand [--rounds N]

Starts an embedded controller of its own for the completion that has to ask. Medians, in milliseconds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack.controller import Controller
from devstack.images import single
from devstack.options import Options
from devstack.programs import KEYSTONE, REGISTRY, TOKEN_SERVER
from sysreg_cli.cli.completion_cache import CacheOwner, remember_names, remember_tags

_SYSTEM = Path(sys.executable).with_name("system")
_COMPLETION = Path(__file__).resolve().parent.parent / "etc/bash_completion.d/system"
_NAMES = 1000

# Calls the function as readline does; prints microseconds and the number of completions, a line each round.
_TIMED = r"""
source "$1"
_sysreg_pause=0
read -r -a COMP_WORDS <<<"$2"
COMP_LINE=$2 COMP_POINT=${#2} COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
for ((round = 0; round < $3; round++)); do
    begin=${EPOCHREALTIME/[.,]/}
    _sysreg_system system
    echo $((${EPOCHREALTIME/[.,]/} - begin)) ${#COMPREPLY[@]}
    if [[ $4 ]]; then rm -rf "$HOME/.cache"; fi
done
"""


def complete(
    line: str, rounds: int, environ: Mapping[str, str], *, expected: int, forget: bool = False
) -> float:
    """Median milliseconds of completing ``line`` in a shell where the completion is loaded."""
    done = subprocess.run(
        ["bash", "--norc", "-c", _TIMED, "bash", str(_COMPLETION), line, str(rounds), "x" * forget],
        env=dict(environ),
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = [line.split() for line in done.stdout.splitlines()]
    # Where the command takes more than the 0.85 s that Tab waits, nothing is found, and nothing measured.
    times = [int(time_) / 1000 for time_, found in pairs if int(found) == expected]
    return statistics.median(times) if times else float("inf")


def run(argv: Sequence[str], rounds: int, environ: Mapping[str, str]) -> float:
    """Median milliseconds of a whole process."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run(argv, env=dict(environ), check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def cpu_of_children() -> float:
    """Milliseconds, user and system, of every child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        local(Path(directory), rounds)
    asking(rounds)


def local(home: Path, rounds: int) -> None:
    """What needs no registry."""
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "OS_USERNAME": "admin", "OS_PASSWORD": "none"}
    who = CacheOwner("", "", "", "", "admin", "")
    remember_names(who, [f"bench/image-{n:04}" for n in range(_NAMES)], environ)
    print(f"bash -c :                          {run(['bash', '-c', ':'], rounds, environ):7.1f} ms")
    static = complete("system registry-image-delete --d", rounds, environ, expected=1)
    print(f"static completion                  {static:7.1f} ms  (at most 5)")
    cached = complete("system registry-image-delete bench/i", rounds, environ, expected=_NAMES)
    print(f"cached name, {_NAMES} match           {cached:7.1f} ms  (at most 35)")
    one = complete("system registry-image-delete bench/image-0500", rounds, environ, expected=1)
    print(f"cached name, 1 of {_NAMES} matches    {one:7.1f} ms  (at most 35)")
    remember_tags(who, "bench/image-0500", [f"v{n:04}" for n in range(_NAMES)], environ)
    tags = complete("system registry-image-delete bench/image-0500:v", rounds, environ, expected=_NAMES)
    print(f"cached tag, {_NAMES} match            {tags:7.1f} ms  (at most 35)")

    platform = home / "platform"
    platform.mkdir()
    (platform / "system").write_text("#!/bin/sh\nexit 0\n")
    (platform / "system").chmod(0o755)
    path = f"{_SYSTEM.parent}:{platform}:/usr/bin:/bin"
    ways = {
        "direct": ([str(platform / "system"), "host-list"], environ),
        "handed": ([str(_SYSTEM), "host-list"], {**environ, "PATH": path}),
    }
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (argv, variables) in ways.items():
            before = cpu_of_children()
            wall[way].append(run(argv, 1, variables))
            cpu[way].append(cpu_of_children() - before)
    more, cost = (statistics.median(of["handed"]) - statistics.median(of["direct"]) for of in (wall, cpu))
    print(f"hand-over, beyond the command's own {more:6.1f} ms  (at most 60); {cost:.1f} ms of CPU")


def asking(rounds: int) -> None:
    """A name that isn't cached, next to the list command."""
    with Controller.temporary(Options(programs=(KEYSTONE, REGISTRY, TOKEN_SERVER))) as controller:
        environ = controller.environ()
        lister = {**environ, "XDG_CACHE_HOME": str(controller.paths.root)}
        line = "system registry-image-delete bench/"
        for number in range(20):
            controller.client().push(f"bench/image-{number:02}", "v1", single(seed=number))
        listings, completions = [], []
        for _ in range(rounds):
            # A cache of its own: what it leaves there must not answer the completion.
            listings.append(run([str(_SYSTEM), "registry-image-list", "-f", "value"], 1, lister))
            completions.append(complete(line, 1, environ, expected=20, forget=True))
        listing, uncached = statistics.median(listings), statistics.median(completions)
        print(f"uncached name {uncached:.0f} ms, list command {listing:.0f} ms: {uncached / listing:.2f} x")


if __name__ == "__main__":
    main()
