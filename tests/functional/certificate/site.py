"""A controller whose agent and service commands a test can break, and a reader that trusts neither.

``Site`` runs registry and token server of an embedded controller, and the agent as a process of the test's
own. Services are restarted through a script that obeys the file ``fault``. What is installed and live is read
with openssl and from the files, never through the code under test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from devstack.controller import Controller
from devstack.programs import REGISTRY, TOKEN_SERVER
from devstack.supervisor import MARK
from devstack.waiting import wait_until
from sysreg_cli.host import failpoint
from tests.certificates import Issued, authority, bundle, rsa_key, server
from tests.functional.forked_agent import ForkedAgent

HOST = "registry.local"
PROBE_SECONDS = 3
INSTALL = "/v1/certificate/certificate_install"

# $1 is restart or reload, $2 the unit. supervisord is asked by curl: its own client takes half a second to
# start, and a second to see whether a service stays up. What stands in `fault` goes wrong:
#   restart-fails      the command fails, the service is not touched
#   down               the service is stopped and not started again;  down-once: only the first time
#   deaf               a reload does nothing;                         deaf-once: only the first time
#   frozen             the token server hangs;                        frozen-once: until the next reload
_SCRIPT = """\
#!/bin/sh
fault=$(cat {root}/fault)
case "$1 $fault" in
    "restart restart-fails-once" | "restart down-once" | "reload deaf-once" | "reload frozen-once")
        echo none > {root}/fault;;
esac
call() {{
    method=$1; shift
    for word; do params="$params<param><value>$word</value></param>"; done
    curl -sf --noproxy '*' --unix-socket {root}/run/supervisor.sock -H 'Content-Type: text/xml' \\
        -d "<methodCall><methodName>supervisor.$method</methodName><params>$params</params></methodCall>" \\
        http://localhost/RPC2 > /dev/null
    params=
}}
case "$1 $fault" in
    "restart restart-fails"*) echo 'the service manager is on fire' >&2; exit 1;;
    "restart down"*) call stopProcess $2; exit 0;;
    "reload deaf"*) exit 0;;
    "reload frozen"*) call signalProcess $2 STOP; exit 0;;
esac
if [ $1 = reload ]; then
    call signalProcess $2 CONT; call signalProcess $2 HUP
else
    call stopProcess $2; call startProcess $2 '<boolean>0</boolean>'
fi
"""


@dataclass(frozen=True)
class Bundle:
    """What an operator installs, and what must then be live."""

    pem: bytes
    leaf: Issued
    chain: tuple[Issued, ...]

    @property
    def der(self) -> list[bytes]:
        return [ssl.PEM_cert_to_DER_cert(one.pem.decode()) for one in self.chain]


class Certificates:
    """Bundles of one root: of both key types in turn, with no, one and two intermediates."""

    def __init__(self) -> None:
        self.root = authority()
        self._made = 0

    def new(self) -> Bundle:
        self._made += 1
        issuers = [self.root]
        for depth in range(self._made % 3):
            issuers.insert(0, authority(f"Intermediate {self._made}.{depth}", issuers[0]))
        key = rsa_key(number=self._made % 4) if self._made % 2 else None
        leaf = server(issuers[0], key=key)
        chain = (leaf, *issuers) if self._made % 2 else (leaf, *issuers[:-1])
        return Bundle(bundle(*chain), leaf, chain)


class Site:
    """See the module."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.fault = controller.root / "fault"
        self.certificates = Certificates()
        self._agent: ForkedAgent | None = None
        self.agent_log = controller.root / "log" / "agent-of-the-test.log"

    @classmethod
    @contextlib.contextmanager
    def temporary(cls) -> Iterator[Site]:
        with Controller.temporary(programs=(REGISTRY, TOKEN_SERVER)) as controller:
            script = controller.root / "service"
            script.write_text(_SCRIPT.format(root=controller.root))
            script.chmod(0o755)
            settings = controller.settings.read_text()
            for command in ("restart", "reload"):
                settings = re.sub(
                    rf"(?m)^{command}_command = .*",
                    f"{command}_command = {script} {command} {{unit}}",
                    settings,
                )
            settings = settings.replace("[agent]\n", f"[agent]\nprobe_timeout = {PROBE_SECONDS}\n")
            controller.settings.write_text(settings)
            site = cls(controller)
            site.set_fault("none")
            try:
                yield site
            finally:
                site.stop_agent()

    # the agent

    def start_agent(self, fault: str = "") -> None:
        """Start the agent, with a failpoint if ``fault`` says so, and wait until it answers."""
        environment = {
            "PATH": os.environ["PATH"],
            "SYSREG_CONF": str(self.controller.settings),
            MARK: str(self.controller.root),
        }
        if fault:
            environment[failpoint.VARIABLE] = fault
        self._agent = ForkedAgent(environment, self.agent_log)
        wait_until(lambda: self.agent_ended() or self._healthy(), 60, what="the agent serves")
        assert not self.agent_ended(), self.agent_log.read_text()[-3000:]

    def agent_ended(self) -> bool:
        assert self._agent is not None
        return self._agent.status is not None

    def agent_waits_for(self, path: str) -> bool:
        """Whether the agent has the file open."""
        assert self._agent is not None
        descriptors = Path(f"/proc/{self._agent.pid}/fd").iterdir()
        return any(os.path.realpath(one) == path for one in descriptors)

    def wait_for_the_agents_end(self) -> bool:
        wait_until(self.agent_ended, 10, what="the agent ends")
        return True

    def kill_agent(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        assert self._agent is not None
        self._agent.send(signal.SIGKILL)

    def restart_all(self, *, but: str) -> None:
        """Restart registry and token server, except that ``but`` stays down."""
        for program in self.controller.programs:
            self.controller.stop_program(program)
        for program in self.controller.programs:
            if program != but:
                self.controller.supervisor.call("startProcess", program, False)

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        if self._agent is not None:
            self._agent.send(number)
            self._agent.wait(60)
            self._agent = None

    def _healthy(self) -> bool:
        return self._curl("http://agent/health").startswith('{"status"')

    def _curl(self, *words: str, data: bytes = b"") -> str:
        socket = str(self.controller.agent_socket)
        return subprocess.run(
            ["curl", "-s", "--max-time", "100", "--noproxy", "*", "--unix-socket", socket, *words],
            input=data,
            capture_output=True,
            timeout=110,
        ).stdout.decode()

    def install(self, wanted: Bundle, *fields: str) -> str:
        """Install as an old StarlingX client does; returns "", or what went wrong.

        ``fields`` of the form are ``name=text``.
        """
        form = ("mode=docker_registry", "file=@-;filename=x", *fields)
        options = [word for field in form for word in ("-F", field)]
        response = self._curl(*options, f"http://agent{INSTALL}", data=wanted.pem)
        return str(json.loads(response)["error"]) if response else "no answer"

    def set_fault(self, fault: str) -> None:
        self.fault.write_text(fault)

    # what is true

    @property
    def ports(self) -> list[int]:
        return [self.controller.ports[name] for name in ("registry", "token_server", "agent")]

    def presented(self, port: int) -> list[bytes]:
        """The chain, DER, that the listener on ``port`` sends, asked with openssl."""
        shown = subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{port}", "-servername", HOST, "-showcerts"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        ).stdout.decode(errors="replace")
        found = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.DOTALL)
        return [ssl.PEM_cert_to_DER_cert(one) for one in found]

    def violations(self, *allowed: Bundle) -> list[str]:
        """What contradicts "exactly one of ``allowed``, in files, live and trusted, nothing half done"."""
        tls, state = self.controller.tls, self.controller.state
        current = tls / "current"
        chain_pem = (current / "server.crt").read_bytes()
        chain = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(chain_pem)]
        found = []
        if chain not in [one.der for one in allowed]:
            found.append("the files hold neither the old nor the new chain")
        key = load_pem_private_key((current / "server.key").read_bytes(), None)
        if key.public_key() != x509.load_der_x509_certificate(chain[0]).public_key():
            found.append("the key in use does not belong to the certificate")
        found += [
            f"port {port} presents another chain" for port in self.ports if self.presented(port) != chain
        ]
        trust = self.controller.trust_directory
        anchors = [one.read_bytes() for one in trust.glob("sysreg-*.crt")]
        if [ssl.PEM_cert_to_DER_cert(one.decode()) for one in anchors] != [chain[-1]]:
            found.append(f"docker trusts {len(anchors)} anchors, or another than the last of the chain")
        if (state / "certificate-journal").exists():
            found.append("the journal says that a change is under way")
        left = [
            *tls.glob(".sysreg-*"),
            *state.glob(".sysreg-*"),
            *trust.glob(".sysreg-*"),
            *tls.glob("previous"),
        ]
        found += [f"left over: {one}" for one in left]
        newest = max((tls / "generations").iterdir(), key=lambda one: one.name if one.name.isdigit() else "")
        if newest.name != current.resolve().name:
            found.append(f"an unfinished generation is left: {newest.name}")
        return found
