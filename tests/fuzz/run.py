"""`make fuzz`: atheris, guided by the coverage of sysreg_cli.pki, for ten minutes; then joined files, and Go.

A finding is left in the working directory as libFuzzer's crash-* or timeout-* file; it becomes a test in
tests/unit/pki, and then goes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the fuzzer in a child: libFuzzer leaves the process when its time is up. Exit 1 on a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--work", type=Path, default=ROOT / ".run" / "fuzz")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.work, options.seconds)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    before = set(options.work.glob("*-*"))
    start = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz.run", "--child", "--seconds", str(options.seconds)]
    done = subprocess.run([*command, "--work", str(options.work)], cwd=ROOT, check=False)
    findings = set(options.work.glob("*-*")) - before
    took = time.monotonic() - start
    # the child must import pki under instrumentation, and first there
    from tests.fuzz import against_go, joined

    print(f"fuzz: {dict(joined.run(5000))} of 5,000 joined files")
    accepted, refused = against_go.run(options.seconds / 10, seed=int(start))
    print(f"fuzz: {accepted} bent chains accepted, {len(refused)} of them refused by Go")
    for number, chain in enumerate(refused):
        path = options.work / f"go-{number}.pem"
        path.write_bytes(chain)
        findings.add(path)
    if done.returncode or findings:
        print(f"fuzz: found something after {took:.0f} s: {', '.join(map(str, findings))}")
        return 1
    print(f"fuzz: nothing found in {took:.0f} s")
    return 0


def fuzz(work: Path, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["sysreg_cli.pki"]):
        from tests.fuzz import mutate, target

    corpus = work / "corpus"
    corpus.mkdir(exist_ok=True)
    for seed in mutate.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        # libFuzzer's own mutations too: they do what tests/fuzz/mutate.py does not
        bent = atheris.Mutate(data, max_size) if random.random() < 0.1 else mutate.mutate(data, random)
        return bent[:max_size]

    started = time.monotonic()
    count = 0

    def one_input(data: bytes) -> None:
        nonlocal count
        count += 1
        target.one_input(data)
        if time.monotonic() - started > seconds:
            shown = ", ".join(f"{what} {number}" for what, number in sorted(target.outcomes.items()))
            print(f"fuzz: {count} inputs; {shown}", flush=True)
            os._exit(0)

    arguments = [
        sys.argv[0],
        str(corpus),
        f"-artifact_prefix={work}/",
        f"-max_total_time={seconds + 60}",
        "-max_len=66000",
        "-timeout=30",
        "-rss_limit_mb=1500",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, one_input, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
