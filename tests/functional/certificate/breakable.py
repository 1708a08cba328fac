"""A controller whose agent and services a test can break, and what is true of it afterwards.

Registry and token server are those of an embedded controller. The agent is a process of the test. It restarts
services with a script that obeys the file ``fault``. The installed files and the presented certificates are
read without the code under test.
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

import psutil
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import REGISTRY, TOKEN_SERVER
from devstack.supervisor import MARK
from devstack.waiting import wait_until
from tests.certificates import Issued, authority, bundle, pems_in, rsa_key, server
from tests.functional.agent_process import AgentProcess
from tests.tls_clients import presented_chain

HOST = "registry.local"
PROBE_SECONDS = 3
ROLLBACK = "/v1/certificate/certificate_rollback"
INSTALL = "/v1/certificate/certificate_install"

# $1 is restart or reload, $2 the unit. curl talks to supervisord, because supervisorctl takes half a second
# to start, and a second to see whether a service stays up. The file `fault` says what fails:
#   restart-fails      the command fails, and does not touch the service
#   down               a restart stops the service;   down-once: only the first restart
#   deaf               a reload does nothing;          deaf-once: only the first reload
#   frozen             a reload stops the process;     frozen-once: until the next reload
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
    """A file that an operator installs, and the chain that must then be live."""

    pem: bytes
    leaf: Issued
    chain: tuple[Issued, ...]

    @property
    def der(self) -> list[bytes]:
        return [issued.certificate.public_bytes(Encoding.DER) for issued in self.chain]


class Certificates:
    """Bundles of one root, with both types of key in turn, and with no, one and two intermediates."""

    def __init__(self) -> None:
        self.root = authority()
        self._count = 0

    def new(self) -> Bundle:
        self._count += 1
        issuers = [self.root]
        for depth in range(self._count % 3):
            issuers.insert(0, authority(f"Intermediate {self._count}.{depth}", issuers[0]))
        key = rsa_key(number=self._count % 4) if self._count % 2 else None
        leaf = server(issuers[0], key=key)
        chain = (leaf, *issuers) if self._count % 2 else (leaf, *issuers[:-1])
        return Bundle(bundle(*chain), leaf, chain)


class BreakableController:
    """See the module."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.certificates = Certificates()
        self.service_script = controller.paths.root / "service"
        self._fault = controller.paths.root / "fault"
        self._agent: AgentProcess | None = None
        self._agent_log = controller.paths.root / "log" / "agent-of-the-test.log"

    @classmethod
    @contextlib.contextmanager
    def temporary(cls) -> Iterator[BreakableController]:
        with Controller.temporary(Options(programs=(REGISTRY, TOKEN_SERVER))) as controller:
            breakable = cls(controller)
            script = breakable.service_script
            script.write_text(_SCRIPT.format(root=controller.paths.root))
            script.chmod(0o755)
            settings = controller.paths.settings.read_text()
            for command in ("restart", "reload"):
                settings = re.sub(
                    rf"(?m)^{command}_command = .*",
                    f"{command}_command = {script} {command} {{unit}}",
                    settings,
                )
            settings = settings.replace("[agent]\n", f"[agent]\nprobe_timeout = {PROBE_SECONDS}\n")
            controller.paths.settings.write_text(settings)
            breakable.set_service_fault("none")
            try:
                yield breakable
            finally:
                breakable.stop_agent()

    def set_certificate(self, **keys: str) -> None:
        """Give the agent that starts next these keys of the section [certificate]."""
        lines = "".join(f"{name} = {text}\n" for name, text in keys.items())
        settings = self.controller.paths.settings
        settings.write_text(settings.read_text().replace("[certificate]\n", f"[certificate]\n{lines}"))

    # the agent

    def start_agent(self) -> None:
        """Start the agent, after the end of the one before, and wait until it answers."""
        self.stop_agent()
        environment = {
            "PATH": os.environ["PATH"],
            "SYSREG_CONF": str(self.controller.paths.settings),
            MARK: str(self.controller.paths.root),
        }
        self._agent = AgentProcess(environment, self._agent_log)
        wait_until(lambda: self.agent_ended() or self._healthy(), 60, what="the agent serves")
        assert not self.agent_ended(), self._agent_log.read_text()[-3000:]

    def set_agent_fault(self, fault: str) -> None:
        """Give the running agent a value of its failpoint variable (see ``sysreg_cli.host.failpoint``)."""
        assert self._agent is not None
        self._agent.set_fault(fault)

    def agent_ended(self) -> bool:
        assert self._agent is not None
        return self._agent.status is not None

    def signal_agent(self, number: int) -> None:
        """Send a signal to the agent, unless it has ended."""
        assert self._agent is not None
        self._agent.send(number)

    def agent_stopped(self) -> bool:
        """Whether the agent is stopped, as it is at a failpoint with ``stop``."""
        assert self._agent is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._agent.pid).status() == psutil.STATUS_STOPPED
        return False

    def agent_has_open(self, path: str) -> bool:
        """Whether the agent has the file open, as it has a lock for which it waits."""
        assert self._agent is not None
        descriptors = Path(f"/proc/{self._agent.pid}/fd").iterdir()
        return any(os.path.realpath(descriptor) == path for descriptor in descriptors)

    def wait_for_agents_end(self) -> None:
        wait_until(self.agent_ended, 10, what="the agent ends")

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        if self._agent is not None:
            self._agent.send(number)
            self._agent.wait(60)
            self._agent = None

    def kill_agent(self) -> None:
        """Kill the agent in the middle of whatever it does."""
        assert self._agent is not None
        self._agent.send(signal.SIGKILL)

    def _healthy(self) -> bool:
        return self._curl("http://agent/health").startswith('{"status"')

    def _curl(self, *arguments: str, data: bytes = b"") -> str:
        socket = str(self.controller.paths.agent_socket)
        return subprocess.run(
            ["curl", "-s", "--max-time", "100", "--noproxy", "*", "--unix-socket", socket, *arguments],
            input=data,
            capture_output=True,
            timeout=110,
        ).stdout.decode()

    def install(self, wanted: Bundle, *fields: str) -> str:
        """Install as an old StarlingX client does; returns "", or what went wrong.

        ``fields`` of the form are ``name=text``.
        """
        form = ("mode=docker_registry", "file=@-;filename=x", *fields)
        options = [argument for field in form for argument in ("-F", field)]
        response = self._curl(*options, f"http://agent{INSTALL}", data=wanted.pem)
        return str(json.loads(response)["error"]) if response else "no answer"

    def roll_back(self) -> str:
        """Go back to the certificate before the one in use; returns "", or what went wrong."""
        response = self._curl("-X", "POST", f"http://agent{ROLLBACK}")
        return str(json.loads(response)["error"]) if response else "no answer"

    # the services

    def set_service_fault(self, fault: str) -> None:
        self._fault.write_text(fault)

    def restart_services(self, *, but: str) -> None:
        """Restart registry and token server, except that ``but`` stays down."""
        for program in self.controller.programs:
            self.controller.stop_program(program)
        for program in self.controller.programs:
            if program != but:
                self.controller.supervisor.call("startProcess", program, False)

    # what is true

    @property
    def ports(self) -> list[int]:
        return [self.controller.ports[name] for name in ("registry", "token_server", "agent")]

    def violations(self, *allowed: Bundle) -> list[str]:
        """What contradicts that one of ``allowed`` is in use, live and trusted, and nothing else is left."""
        tls, state = self.controller.paths.tls, self.controller.paths.state
        current = tls / "current"
        chain_pem = (current / "server.crt").read_bytes()
        certificates = x509.load_pem_x509_certificates(chain_pem)
        chain = [certificate.public_bytes(Encoding.DER) for certificate in certificates]
        problems = []
        if chain not in [bundle.der for bundle in allowed]:
            problems.append("the files hold neither the old nor the new chain")
        key = load_pem_private_key((current / "server.key").read_bytes(), None)
        if key.public_key() != certificates[0].public_key():
            problems.append("the key in use does not belong to the certificate")
        problems += [
            f"port {port} presents another chain"
            for port in self.ports
            if presented_chain(port, HOST) != chain
        ]
        trust = self.controller.trust_directory
        anchors = pems_in(trust.glob("sysreg-*.crt"))
        if [ssl.PEM_cert_to_DER_cert(pem.decode()) for pem in anchors] != [chain[-1]]:
            problems.append(f"docker trusts {len(anchors)} anchors, or another than the last of the chain")
        if (state / "certificate-journal").exists():
            problems.append("the journal says that a change is under way")
        leftovers = [path for root in (tls, state, trust) for path in root.glob(".sysreg-*")]
        problems += [f"left over: {path}" for path in [*leftovers, *tls.glob("previous")]]
        in_use = current.resolve().name
        names = [path.name for path in (tls / "generations").iterdir()]
        newest = max(filter(str.isdigit, names), default=in_use)
        if newest != in_use:
            problems.append(f"an unfinished generation is left: {newest}")
        return problems
