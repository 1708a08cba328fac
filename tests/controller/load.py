"""Clients that push and pull in loops, while a test changes the controller."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.controller.clients import REGISTRY, login, make_image, push, start_runtimes
from tests.controller.installation import passwords
from tests.controller.machine import Machine

# Each round is a push or a pull by a client of its own, and none tries again by itself. One line a round.
_COMMANDS = {
    # a new repository and no memory of where the layer is: it is uploaded each time
    "skopeo push": "rm -f /var/lib/containers/cache/*.boltdb; skopeo copy -q --dest-creds {user}"
    " oci:/root/oci:1 docker://{registry}/testuser/pushed$RANDOM:1",
    "skopeo pull": "rm -rf /root/down; skopeo copy -q --src-creds {user} docker://{registry}/testuser/small:1"
    " dir:/root/down",
    "docker pull": "docker rmi -f {registry}/testuser/small:1 >/dev/null; docker pull -q"
    " {registry}/testuser/small:1",
    "containerd pull": "ctr images rm {registry}/testuser/small:1 >/dev/null; ctr images pull"
    " --hosts-dir /etc/containerd/certs.d --user {user} {registry}/testuser/small:1",
}
PULLS = ("skopeo pull", "docker pull", "containerd pull")


@dataclass
class Load:
    """The loops of ``clients``, which are names of commands."""

    machine: Machine
    clients: Collection[str]

    def _lines(self, client: str) -> list[str]:
        return self.machine.file(f"/root/load/{client}").read_text().splitlines()

    def rounds(self) -> dict[str, int]:
        """How many rounds each client has done."""
        return {client: self._lines(client).count("done") for client in self.clients}

    def failures(self) -> list[str]:
        """What clients printed in rounds that failed."""
        return [
            f"{client}: {line}" for client in self.clients for line in self._lines(client) if line != "done"
        ]

    def another_round(self) -> None:
        """Wait until every client has done a whole round that began after this call."""
        before = self.rounds()
        self.machine.wait_until(
            lambda: all(count >= before[client] + 2 for client, count in self.rounds().items()),
            "every client has done another round",
            60,
        )


@contextmanager
def load(machine: Machine, clients: Collection[str] = tuple(_COMMANDS)) -> Iterator[Load]:
    """Let clients push and pull in loops. ``prepare`` has to be called before."""
    user = f"testuser:{passwords(machine)['testuser']}"
    script = ["mkdir -p /root/load; cd /root/load; touch go-on"]
    for client in clients:
        command = _COMMANDS[client].format(user=user, registry=REGISTRY)
        script.append(
            f"(while [ -e go-on ]; do output=$({{ {command}; }} 2>&1) && echo done"
            f' || echo "$(date +%T.%N) $output" | tr "\\n" " "; done >"{client}") &'
        )
    script.append("wait")
    running = machine.popen("bash", "-c", "\n".join(script))
    try:
        logs = [machine.file(f"/root/load/{client}") for client in clients]
        machine.wait_until(lambda: all(log.exists() for log in logs), "the loops run", 20)
        yield Load(machine, clients)
    finally:
        machine.file("/root/load/go-on").unlink(missing_ok=True)
        try:
            running.communicate(timeout=60)
        except subprocess.TimeoutExpired as error:
            error.add_note(machine.run("ps", "-eo", "lstart,args").stdout + machine.run("ss", "-tnp").stdout)
            raise


def prepare(machine: Machine) -> None:
    """Everything that the loops need."""
    start_runtimes(machine)
    login(machine, "testuser")
    make_image(machine, "small", 300_000)
    push(machine, "small", "testuser/small:1")
    machine.shell(
        f"skopeo copy -q --src-creds testuser:{passwords(machine)['testuser']}"
        f" docker://{REGISTRY}/testuser/small:1 oci:/root/oci:1"
    )
