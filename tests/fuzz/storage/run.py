"""Damages many storages at random, and prints what a delete or a collection then does wrong.

    sudo .venv/bin/python -m tests.fuzz.storage.run [--stores N] [--first SEED]

Each seed makes one storage. About 2 s for each. It is no part of `make soak` yet, because deletes beside some
damaged links still fail: the registry answers 500.
"""

from __future__ import annotations

import argparse
import sys

from devstack.controller import Controller
from tests.fuzz.storage.trial import Fuzzer


def main() -> int:
    """Run the trials. Returns 1 if something went wrong in one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stores", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    options = parser.parse_args()
    count = 0
    with Controller.temporary() as controller:
        fuzzer = Fuzzer(controller)
        for seed in range(options.first, options.first + options.stores):
            for problem in fuzzer.run(seed):
                count += 1
                print(problem, flush=True)
    print(f"{options.stores} storages, {count} problems; {dict(fuzzer.outcomes)}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
