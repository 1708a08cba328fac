"""Fails a renewal at each of its failpoints: the agent is killed, or the disk is full from there on.

``python -m tests.soak.renewal`` takes about 6 minutes. After each fault the next start of the agent has to
leave exactly the old or exactly the new certificate, and the renewal has to go live then.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.functional.renewal.renewed import KINDS, RenewedController


def sweep(kind: str, directory: Path) -> Counter[str]:
    """Fail at each failpoint. Return how many times which certificate was left in use."""
    left: Counter[str] = Counter()
    with RenewedController.temporary(kind, directory) as renewed:
        failpoints = renewed.trace(directory / "trace")
        for number, name in enumerate(failpoints, 1):
            faults = ["kill", "ENOSPC+"] if name.split()[0] == "write" else ["kill"]
            for fault in faults:
                live = renewed.fail_at(number, fault)
                left[f"{fault}: {live}"] += 1
                print(f"{kind} {number}/{len(failpoints)} {name}, {fault}: {live}", flush=True)
    return left


def main() -> int:
    begun = time.monotonic()
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as directory:
            left = sweep(kind, Path(directory))
        print(f"{kind}: {dict(left)}, no violation", flush=True)
    print(f"{time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
