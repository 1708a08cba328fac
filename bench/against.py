"""Runs the benchmarks of this checkout and of another one in turns, so that both meet the same machine.

    sudo .venv/bin/python -m bench.against OTHER_CHECKOUT [--rounds N] [SCRIPT...]

OTHER_CHECKOUT is a checkout of another commit in which ``devstack/prepare.sh test`` has run. Without SCRIPT
the scripts are commands, token_server and garbage. Prints the processor time that the command needs to
start, as a ratio of the two checkouts. Then prints each benchmark under the name of its checkout.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
_SCRIPTS = ("commands", "token_server", "garbage")


def processor_time(argv: Sequence[str]) -> float:
    """Return the seconds of processor time that a process and its children use."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare_start(other: Path, arguments: Sequence[str], rounds: int) -> float:
    """Return the median ratio, over rounds that take turns, of the start of our command to the other's."""
    ratios = [
        processor_time([str(HERE / ".venv/bin/system"), *arguments])
        / processor_time([str(other / ".venv/bin/system"), *arguments])
        for _ in range(rounds)
    ]
    return statistics.median(ratios)


def run(checkout: Path, script: str) -> None:
    """Run one benchmark in a checkout and print what it says. A bound that is not kept is part of that."""
    print(f"--- {script} in {checkout}", flush=True)
    environment = {**os.environ, "PYTHONPATH": ""}
    command = [str(checkout / ".venv/bin/python"), "-m", f"bench.{script}"]
    subprocess.run(command, cwd=checkout, env=environment, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", nargs="?", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("scripts", nargs="*", default=_SCRIPTS, metavar="SCRIPT")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.other is None:  # as one of all benchmarks
        print("bench.against: no OTHER_CHECKOUT to compare with")
        return
    other = options.other.resolve()
    for arguments in ((), ("--help",), ("registry-image-list", "--help")):
        ratio = compare_start(other, arguments, options.rounds * 20)
        print(
            f"start of system {' '.join(arguments)}: {ratio:.2f} x the processor time of {other}", flush=True
        )
    for script in options.scripts:
        for _ in range(options.rounds):
            run(other, script)
            run(HERE, script)


if __name__ == "__main__":
    main()
