"""A new token-signing key while people push and pull: nobody is refused, also when it is cut short."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from tests.controller.clients import REGISTRY
from tests.controller.debian_root import ON_BOTH
from tests.controller.installation import passwords, serves, wait_until_served
from tests.controller.load import load, prepare
from tests.controller.machine import Machine
from tests.controller.machine_factory import DEPLOY

pytestmark = ON_BOTH

ROTATE = (DEPLOY, "--rotate-token-key")
_ROLLING_OVER = "^/[^ ]*/python[^ ]* /[^ ]*/sysreg-deploy --rotate-token-key"
_TOKEN_FILES = "/etc/sysreg/token"


def status_of(machine: Machine, token: str) -> str:
    """The status with which the registry answers a token."""
    return machine.run(
        *("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {token}"),
        f"https://{REGISTRY}/v2/",
    ).stdout


def token(machine: Machine, scope: str = "testuser/small:pull") -> str:
    """A token of the live token server."""
    user = f"testuser:{passwords(machine)['testuser']}"
    url = f"https://registry.local:9002/token/?service=registry.local:9001&scope=repository:{scope}"
    return str(machine.json("curl", "-sk", "-u", user, url)["token"])


def slow_upload(machine: Machine, seconds: int) -> subprocess.Popen[str]:
    """Begin to send a layer, so slowly that it takes so long; prints the status and the uptime in the end."""
    bearer = token(machine, "testuser/slow:push,pull")
    headers = f'-H "Authorization: Bearer {bearer}" -H "Content-Type: application/octet-stream"'
    machine.shell(f"head -c {seconds * 100_000} /dev/zero >/root/layer")
    started = machine.shell(
        f"curl -skf -X POST {headers} -D - -o /dev/null https://{REGISTRY}/v2/testuser/slow/blobs/uploads/"
        " | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p'"
    ).stdout.strip()
    words = f"curl -sk -X PATCH {headers} -H Expect: --limit-rate 100k -T /root/layer"
    process = machine.popen(
        "bash", "-c", f"{words} -o /dev/null -w '%{{http_code}} ' '{started}'; cut -d ' ' -f1 /proc/uptime"
    )
    machine.wait_until(
        lambda: (
            'handler="blob_upload_chunk"} 1'
            in machine.run("curl", "-s", "http://127.0.0.1:9003/metrics").stdout
        ),
        "the registry receives it",
        20,
    )
    return process


def until_it_waits(machine: Machine) -> str:
    """Roll over until the old tokens have to run out, then Ctrl-C; returns what it output."""
    process = machine.popen("timeout", "--signal=INT", "--preserve-status", "120", *ROTATE)
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C is safe" in line:
            break
    for other in ((DEPLOY,), (DEPLOY, "--remove")):
        assert "sysreg-deploy is under way" in machine.run(*other, status=1).stderr
    machine.run("pkill", "-INT", "-f", "--", _ROLLING_OVER)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130, "".join(lines) + rest + errors
    return "".join(lines) + rest + errors


def let_old_tokens_run_out(machine: Machine, seconds: float) -> None:
    """As if so much time had passed since the switch."""
    path = machine.file("/var/lib/sysreg/deploy.json")
    record = json.loads(path.read_text())
    assert time.time() - 60 < record["retired"] <= time.time()
    record["retired"] -= seconds
    path.write_text(json.dumps(record))


def names(machine: Machine) -> set[str]:
    """The files beside the token-signing key."""
    return {path.name for path in machine.file(_TOKEN_FILES).iterdir()}


@pytest.mark.timeout(300)
def test_nobody_is_refused_while_the_token_key_rolls_over(deployed: Machine) -> None:
    prepare(deployed)
    old_key = deployed.file(f"{_TOKEN_FILES}/signing.key").read_bytes()
    restarted = deployed.show("sysreg-token-server.service", "ActiveEnterTimestampMonotonic")
    with load(deployed) as clients:
        clients.another_round()
        old = token(deployed)
        output = until_it_waits(deployed)
        assert "run it again to finish" in output
        assert "may be refused" not in output
        assert deployed.file(f"{_TOKEN_FILES}/signing.key").read_bytes() != old_key
        new = token(deployed)
        assert (status_of(deployed, old), status_of(deployed, new)) == ("200", "200"), "both are trusted now"
        clients.another_round()

        unfinished = deployed.run(DEPLOY, "--check", status=1)
        assert "finish the rollover of the token-signing key" in unfinished.stdout
        let_old_tokens_run_out(deployed, 362)
        finished = deployed.run(DEPLOY)
        assert "the old token-signing key is trusted no more" in finished.stdout
        clients.another_round()
        assert clients.failures() == []
        print(f"rounds: {clients.rounds()}")
    assert (status_of(deployed, old), status_of(deployed, new)) == ("401", "200")
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
    assert names(deployed) == {"signing.key", "signing.crt", "trusted.crt"}
    assert deployed.shell("nft list tables").stdout == ""
    assert deployed.show("sysreg-token-server.service", "ActiveEnterTimestampMonotonic") == restarted


@pytest.mark.timeout(300)
def test_a_rollover_that_is_killed_anywhere_is_finished_by_the_next_run(deployed: Machine) -> None:
    assert serves(deployed)
    old_key = deployed.file(f"{_TOKEN_FILES}/signing.key").read_bytes()
    places = 0
    # each run gets on from where the one before was killed: before a file is written or takes its name, or
    # before a command
    for place in range(1, 200, 3):
        environ = {"SYSREG_AGENT_FAILPOINT": f"{place}:kill"}
        process = deployed.popen(*ROTATE, environ=environ)
        assert process.stdout is not None
        waits = any("Ctrl-C is safe" in line for line in process.stdout)
        if waits:
            deployed.run("pkill", "-INT", "-f", "--", _ROLLING_OVER)
        process.communicate(timeout=60)
        wait_until_served(deployed, 60)
        if waits:
            break
        places += 1
    assert places >= 3
    let_old_tokens_run_out(deployed, 362)
    for place in range(1, 200, 3):
        killed = deployed.run(DEPLOY, environ={"SYSREG_AGENT_FAILPOINT": f"{place}:kill"}, status=None)
        wait_until_served(deployed, 60)
        if killed.returncode == 0:
            break
    assert deployed.run(DEPLOY, "--check").stdout == "no change\n"
    assert names(deployed) == {"signing.key", "signing.crt", "trusted.crt"}
    assert deployed.file(f"{_TOKEN_FILES}/signing.key").read_bytes() != old_key
    assert deployed.shell("nft list tables").stdout == ""


def test_a_restart_waits_for_an_upload_and_without_nftables_says_what_it_means(deployed: Machine) -> None:
    upload = slow_upload(deployed, seconds=4)
    deployed.shell("rm /etc/sysreg/registry.env")  # something that the registry reads at its start
    assert "restart docker-registry.service" in deployed.run(DEPLOY).stdout
    status, ended = upload.communicate(timeout=20)[0].split()
    assert status == "202"
    restarted = int(deployed.show("docker-registry.service", "ActiveEnterTimestampMonotonic"))
    assert restarted > float(ended) * 1e6 - 50_000, "it did not wait, and held everybody else meanwhile"

    deployed.shell("ln -s /bin/false /usr/local/sbin/nft; rm /etc/sysreg/registry.env")
    output = deployed.run(DEPLOY).stdout
    assert (
        "refused for a moment while docker-registry.service restarts: nft failed: exit status 1\n" in output
    )
    assert serves(deployed)
