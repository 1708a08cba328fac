"""What `system` costs, as ratios against bare clients measured side by side in one run.

    sudo .venv/bin/python -m bench.commands [--rounds N]

Starts an embedded controller of its own, with 1,000 repositories, then one with 20.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import AGENT, KEYSTONE, REGISTRY, TOKEN_SERVER
from devstack.seeding import seed

_SYSTEM = str(Path(sys.executable).parent / "system")
_PROGRAMS = (KEYSTONE, REGISTRY, TOKEN_SERVER, AGENT)
_CLIENTS = str(Path(__file__).with_name("clients.py"))


def seconds(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Wall time of the whole process."""
    begin = time.perf_counter()
    subprocess.run(argv, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def compare(
    rounds: int, environment: Mapping[str, str], ours: Sequence[str], other: Sequence[str]
) -> tuple[float, float]:
    """The median times of two commands that take turns."""
    pairs = [(seconds(ours, environment), seconds(other, environment)) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    listing = [_SYSTEM, "registry-image-list"]
    bare_python = [sys.executable, "-c", "pass"]

    with Controller.temporary(Options(programs=_PROGRAMS)) as controller:
        environment = controller.environ()
        seed(controller, (f"bench/image-{number:04}" for number in range(1000)))
        filtered = [*listing, "--filter-out-untagged", "-f", "value"]
        bare = [sys.executable, _CLIENTS, "bare"]
        assert _output(filtered, environment) == _output(bare, environment)
        ours, other = compare(rounds, environment, filtered, bare)
        ratio = f"{ours / other:.2f} x (at most 0.20)"
        print(f"(a) 1,000 images filtered: {ours:.2f} s, bare client {other:.2f} s: {ratio}")
        slow = seconds([sys.executable, _CLIENTS, "sequential"], environment)
        print(f"(b) sequential client: {slow:.1f} s: system is {slow / ours:.0f} times faster")
        health = [_SYSTEM, "registry-health-query"]
        ours, start = compare(rounds, environment, health, bare_python)
        print(
            f"(c) registry-health-query: {ours:.2f} s (at most 2 s): {ours / start:.0f} x a bare interpreter"
        )

    with Controller.temporary(Options(programs=_PROGRAMS)) as controller:
        environment = controller.environ()
        seed(controller, (f"bench/image-{number:04}" for number in range(20)))
        ours, start = compare(rounds * 3, environment, listing, bare_python)
        print(
            f"(d) list of 20 images: {ours * 1000:.0f} ms, bare interpreter {start * 1000:.0f} ms:"
            f" {ours / start:.1f} x"
        )
        ours, start = compare(rounds * 3, environment, [_SYSTEM, "--help"], bare_python)
        print(f"    system --help: {ours * 1000:.0f} ms: {ours / start:.1f} x")


def _output(argv: Sequence[str], environment: Mapping[str, str]) -> bytes:
    return subprocess.run(argv, env=environment, check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()
