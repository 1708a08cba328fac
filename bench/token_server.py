"""Token requests with a warm credential against docker-registry's authenticated ``GET /v2/``, side by side.

    python -m bench.token_server [--seconds N] [--rounds N]

Both on the embedded controller, over TLS with keep-alive, wrk with 8 connections, each with one log line per
request. The rounds alternate, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import base64
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import KEYSTONE, REGISTRY, TOKEN_SERVER

CONNECTIONS = 8
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


@dataclass(frozen=True)
class Figures:
    """One run of wrk: requests per second, 99th percentile of the latency in ms, responses other than 2xx."""

    rate: float
    p99: float
    failed: int


def wrk(url: str, header: str, seconds: int, directory: Path) -> Figures:
    """Load ``url`` with ``header``, which stands in a file, not among the arguments."""
    script = directory / "headers.lua"
    script.touch(mode=0o600)
    script.write_text(f'wrk.headers["Authorization"] = "{header}"\n')
    command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    p99 = re.search(r"99%\s+([0-9.]+)(us|ms|s|m)\b", out)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", out)
    if p99 is None or rate is None:
        sys.exit(f"wrk says something else:\n{out}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return Figures(
        float(rate.group(1)),
        float(p99.group(1)) * _UNITS[p99.group(2)],
        int(failed.group(1)) if failed else 0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5, help="length of one round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    registry: list[Figures] = []
    server: list[Figures] = []
    with (
        Controller.temporary(Options(programs=(KEYSTONE, REGISTRY, TOKEN_SERVER))) as controller,
        tempfile.TemporaryDirectory() as directory,
    ):
        pair = f"testuser:{controller.passwords['testuser']}"
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
        query = f"service={controller.address}&scope=repository:testuser/bench:pull"
        token_url = f"{controller.token_url}?{query}"
        bearer = controller.client("testuser").token(
            controller.token_url, controller.address, "repository:testuser/bench:pull"
        )
        for _ in range(options.rounds):
            registry.append(
                wrk(f"{controller.url}/v2/", f"Bearer {bearer}", options.seconds, Path(directory))
            )
            server.append(wrk(token_url, basic, options.seconds, Path(directory)))
    if any(figures.failed for figures in (*registry, *server)):
        sys.exit(f"some requests failed: {registry} {server}")
    for name, rounds in (("docker-registry GET /v2/", registry), ("token server, warm", server)):
        rates = " ".join(f"{figures.rate:.0f}" for figures in rounds)
        p99s = " ".join(f"{figures.p99:.1f}" for figures in rounds)
        print(f"{name:26} req/s: {rates}   p99 ms: {p99s}")
    ratio = statistics.median(token.rate / other.rate for token, other in zip(server, registry, strict=True))
    token_p99, registry_p99 = (
        statistics.median(figures.p99 for figures in rounds) for rounds in (server, registry)
    )
    print(f"ratio (d), median of the rounds: {ratio:.2f} (wanted: at least 3)")
    print(f"p99: {token_p99:.1f} ms against {registry_p99:.1f} ms (wanted: not above)")


if __name__ == "__main__":
    main()
