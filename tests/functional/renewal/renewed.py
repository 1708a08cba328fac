"""A controller whose agent renews its certificate from a source that a test keeps."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devstack.waiting import wait_until
from tests.functional.certificate.breakable import HOST, BreakableController, Bundle
from tests.functional.renewal.sources import Certbot, CertManager, Renewer
from tests.kubernetes_api import KubernetesApi
from tests.tls_clients import presented_chain

#: how soon a renewal has to be live
MINUTE = 60.0
KINDS = ("certbot", "cert-manager")


class RenewedController:
    """The controller and its source. All certificates are of one CA."""

    def __init__(self, breakable: BreakableController, renewer: Renewer) -> None:
        self.breakable = breakable
        self.renewer = renewer
        breakable.set_certificate(**renewer.settings)

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, kind: str, directory: Path) -> Iterator[RenewedController]:
        """One whose agent runs with a good certificate from a source of ``kind``, kept in ``directory``."""
        with contextlib.ExitStack() as stack:
            breakable = stack.enter_context(BreakableController.temporary())
            renewer: Renewer
            if kind == "certbot":
                renewer = Certbot(directory / "letsencrypt")
            else:
                api = stack.enter_context(KubernetesApi().serving(directory))
                renewer = CertManager(api, directory / "admin.conf")
            renewed = cls(breakable, renewer)
            first = renewed.new()
            renewer.renew(first)
            breakable.start_agent()
            renewed.wait_for(first)
            yield renewed
            breakable.stop_agent()

    def new(self) -> Bundle:
        """A certificate that is not in the source yet."""
        return self.breakable.certificates.new()

    def renew(self) -> Bundle:
        """Renew, and wait until that is live."""
        new = self.new()
        self.renewer.renew(new)
        self.wait_for(new)
        return new

    def wait_for(self, wanted: Bundle) -> None:
        """Wait until ``wanted`` is live everywhere and nothing else is left of a change."""
        problems: list[str] = []

        def is_in_use() -> bool:
            problems[:] = self.breakable.violations(wanted)
            return not problems and not self.problem()

        try:
            wait_until(is_in_use, MINUTE, what="the renewal is live")
        except AssertionError as error:
            raise AssertionError(f"{error}: {problems}, {self.problem()}") from None

    def shown(self) -> dict[str, Any]:
        """What ``certificate-show`` says."""
        done = self.breakable.controller.system("certificate-show", "docker_registry", "-f", "json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def problem(self) -> str:
        """Why what the source holds is not in use, as the agent keeps it."""
        record = self.breakable.controller.paths.state / "certificate-source.json"
        return str(json.loads(record.read_bytes())["problem"])

    def wait_for_problem(self, text: str) -> None:
        wait_until(lambda: text in self.problem(), MINUTE, what=f"the agent says: {text}")

    def trace(self, file: Path) -> list[str]:
        """The failpoints of an undisturbed renewal, in order."""
        self.breakable.set_agent_fault(f"trace:{file}")
        self.renew()
        wait_until(lambda: file.read_text().splitlines()[-1] == "rename certificate-source.json")
        self.breakable.start_agent()
        return file.read_text().splitlines()

    def fail_at(self, number: int, fault: str) -> str:
        """Renew with a fault at a failpoint. Return what the next start of the agent leaves in use.

        That is "old" or "new". Raises AssertionError if it is anything else.
        """
        breakable = self.breakable
        old, new = self.renew(), self.new()
        breakable.set_agent_fault(f"{number}:{fault}")
        self.renewer.renew(new)
        if fault == "kill":
            breakable.wait_for_agents_end()
        else:
            # the agent's word, because it cannot keep its record while the disk is full
            wait_until(
                lambda: (
                    self.shown()["source_problem"] or presented_chain(breakable.ports[0], HOST) == new.der
                ),
                MINUTE,
                what="the renewal fails, or goes live",
            )
            # waits for the end of a renewal that may still go back
            breakable.stop_agent()
        self.renewer.hide()
        breakable.start_agent()
        assert breakable.violations(old, new) == [], (number, fault)
        live = "old" if presented_chain(breakable.ports[0], HOST) == old.der else "new"
        self.renewer.show()
        self.wait_for(new)
        return live
