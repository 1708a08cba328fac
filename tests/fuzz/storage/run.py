"""Damages many storages at random, and prints what a delete, a collection or a remedy then does wrong.

In as many others, it compares what registry-usage promises with what is freed.

    sudo .venv/bin/python -m tests.fuzz.storage.run [--stores N] [--first SEED] [--processes N]

Each seed makes one storage. 2,000 take 20 minutes in two processes on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from devstack.controller import Controller
from devstack.errors import DevstackError
from tests.fuzz.storage.freed import check_freed
from tests.fuzz.storage.trial import Fuzzer


def main() -> int:
    """Run the trials. Returns 1 if something went wrong in one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stores", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.stores)
    shares = [seeds[number :: options.processes] for number in range(options.processes)]
    outcomes: Counter[str] = Counter()
    with ProcessPoolExecutor(options.processes) as pool:
        for found in pool.map(_run, shares):
            outcomes += found
    problems = outcomes.pop("problems", 0)
    print(f"{options.stores} storages, {problems} problems; {dict(outcomes)}")
    return int(problems > 0)


def _run(seeds: Sequence[int]) -> Counter[str]:
    """Run the trials of ``seeds`` on one controller."""
    with contextlib.ExitStack() as stack:
        fuzzer = Fuzzer(_start(stack))
        for seed in seeds:
            for problem in (*fuzzer.run(seed), *check_freed(fuzzer, seed)):
                fuzzer.outcomes["problems"] += 1
                print(problem, flush=True)
    return fuzzer.outcomes


def _start(stack: contextlib.ExitStack) -> Controller:
    """Start a controller. Controllers that start at the same time may choose the same port."""
    for _ in range(3):
        with contextlib.suppress(DevstackError):
            return stack.enter_context(Controller.temporary())
    return stack.enter_context(Controller.temporary())


if __name__ == "__main__":
    sys.exit(main())
