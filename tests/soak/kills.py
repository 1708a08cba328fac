"""Kills the agent, the daemon of a worker, or etcd before each step of a change of the CA.

    sudo .venv/bin/python -m tests.soak.kills

Takes about 15 minutes. After each kill the worker has to trust what the registry serves, and nothing else,
and registry-host-list has to say so.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.functional.worker.kills import KillableSite


def main() -> int:
    begun, outcomes, bad = time.monotonic(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as directory, KillableSite.running(Path(directory)) as site:
        kills = site.kills()
        for kill in kills:
            violations, outcome = site.change(kill)
            outcomes[f"{kill.who}: {outcome}"] += 1
            bad += bool(violations)
            print(f"{kill}: {outcome}; {'; '.join(violations) or 'all is true'}", flush=True)
    print(f"{len(kills)} kills, {dict(sorted(outcomes.items()))}, {bad} with something untrue")
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
