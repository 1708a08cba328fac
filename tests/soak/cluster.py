"""Faults of etcd and of the connections to it, one after the other at random, on both versions.

``python -m tests.soak.cluster`` takes 20 minutes, or as many seconds as its argument says. A writer writes
numbered keys all the time. After each fault, a follower has to have seen each of them once and in order.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter

from sysreg_cli.cluster.port import PREFIX
from tests.etcd_cluster import RELEASES, EtcdCluster
from tests.functional.cluster.conftest import TOKEN_SECONDS
from tests.functional.cluster.numbered import Numbered
from tests.functional.cluster.test_faults import FAULTS

_SECONDS = 1200.0


def soak(release: str, seconds: float, seed: int) -> None:
    """Make faults for so long. Raises AssertionError if a change is missed, or seen too late."""
    chance, done = random.Random(seed), Counter[str]()
    longest, written, states = 0.0, 0, 0
    with EtcdCluster.running(release, f"--auth-token-ttl={TOKEN_SECONDS}") as etcd:
        end = time.monotonic() + seconds
        for number in itertools.count():
            fault = chance.choice(FAULTS)
            with Numbered(etcd, f"{PREFIX}soak{number}/", chance.randrange(3)).running() as numbered:
                begun = time.monotonic()
                with fault(etcd, numbered):
                    numbered.wait_for_news()
                    longest = max(longest, time.monotonic() - begun)
                etcd.wait_ready()
                numbered.wait_for_news()
                numbered.finish()
            done[fault.__name__] += 1
            written, states = written + len(numbered.written), states + numbered.states
            if time.monotonic() > end:
                break
    print(
        f"{release}: {sum(done.values())} faults ({dict(done)}), {written} writes, {states} states seen,"
        f" none missed, twice or out of order; from a fault to the next change seen {longest:.1f} s at most",
        flush=True,
    )


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else _SECONDS
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    for release in RELEASES:
        soak(release, seconds / len(RELEASES), seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
