"""The cluster of this controller, as the rest of the agent uses it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Protocol, cast

from cryptography import x509

from sysreg_cli.agent.hosts import rows
from sysreg_cli.agent.hosts.admission import Admission
from sysreg_cli.agent.hosts.authorities import AuthorityRollout
from sysreg_cli.agent.hosts.fleet import Fleet
from sysreg_cli.agent.hosts.rollout import HostsOutcome, Rollout
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.joining import write_invitation
from sysreg_cli.cluster.judgement import HostRecord, State, judge
from sysreg_cli.cluster.membership import access, own_name
from sysreg_cli.cluster.port import Administration, Store
from sysreg_cli.cluster.users import EtcdAdministration
from sysreg_cli.errors import CertificateRefused, Conflict, NotFound
from sysreg_cli.host.generations import Generations
from sysreg_cli.settings import Settings
from sysreg_cli.v1.certificates import Mode
from sysreg_cli.v1.hosts import HostsReport, JoinFile, RegistryHost


class Part(Protocol):
    """What runs beside the agent's calls."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Late:
    """Stands for what ``make`` returns, and makes it for the first call.

    A credential that cannot be read fails the calls that need it, and not the start of the agent, which has
    other things to do. Once it is repaired, they work.
    """

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: object | None = None

    def __getattr__(self, name: str) -> Any:
        self._made = self._made or self._make()
        return getattr(self._made, name)


class HostCluster:
    """The other hosts. Its methods may be called from any thread; they block, and raise SysregError."""

    def __init__(self, settings: Settings, store: Store, administration: Administration) -> None:
        self._settings = settings
        self._generations = Generations(settings.certificate.directory)
        self._fleet = Fleet(store)
        self._administration = administration
        self._admission = Admission(settings, store, administration)
        self.rollout = Rollout(settings, store, self._fleet)
        self._authorities = AuthorityRollout(settings, store, self._fleet)
        self._parts: tuple[Part, ...] = (self._fleet, self.rollout, self._authorities, self._admission)

    @classmethod
    def of(cls, settings: Settings) -> HostCluster:
        """Return the cluster of the section [cluster]. Connects to nothing, and reads no credential, yet.

        Raises SettingsError if the section names no etcd.
        """
        reached = access(settings.cluster)
        store = cast("Store", _Late(lambda: EtcdStore(reached)))
        return cls(settings, store, cast("Administration", _Late(lambda: EtcdAdministration(reached))))

    def start(self) -> None:
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        for part in self._parts:
            part.stop()

    def hosts(self) -> tuple[RegistryHost, ...]:
        """Return every host but this controller."""
        kept = self._kept()
        found = tuple(rows.row(judgement, kept) for judgement in self._fleet.overall_judgements())
        is_ahead = [host.state == State.AHEAD for host in found]
        if any(is_ahead) and (remedy := rows.remedy_of_servers(self._administration.user_revisions())):
            return tuple(
                replace(host, remedy=remedy) if ahead else host
                for host, ahead in zip(found, is_ahead, strict=True)
            )
        return found

    def hosts_of(self, mode: Mode) -> tuple[RegistryHost, ...]:
        """Return every host but this controller, with how it stands to the certificates of ``mode``."""
        fleet, kept = self._fleet, self._kept()
        found = fleet.judgements() if mode is Mode.DOCKER_REGISTRY else fleet.authority_judgements()
        return tuple(rows.row(judgement, kept) for judgement in found)

    def after_change(self, seconds: float) -> HostsReport:
        """Wait up to ``seconds`` for the hosts to settle, and return what came of it."""
        return self._report(self.rollout.outcome(seconds))

    def before_authorities(self, *, require_all: bool) -> frozenset[str]:
        """Return the hosts that are there, before the CA certificates of this controller change.

        ``require_all``: raise SysregError if one is down.
        """
        return self._authorities.begin(require_all=require_all)

    def after_authorities(self, was_there: Collection[str], seconds: float, *, by: str) -> HostsReport:
        """Have the hosts trust the CA certificates that ``by`` has changed here.

        Wait for those that were there up to ``seconds``, and return what came of it.
        """
        return self._report(self._authorities.outcome(seconds, was_there, by=by))

    def _report(self, outcome: HostsOutcome) -> HostsReport:
        kept = self._kept()
        return HostsReport(
            tuple(rows.row(one, kept) for one in outcome.judgements),
            rows.warnings(outcome.behind),
            outcome.problem,
        )

    def add(self, host: str) -> JoinFile:
        """Add a host. Raises UsageError and Conflict for a wrong name or one that is taken."""
        if host.lower() == own_name(self._settings.cluster):
            raise Conflict(f"{host} is the name of this controller", next_step="give the worker another one")
        spec, invitation = self._admission.add(host)
        shown = rows.row(judge(None, HostRecord(invitation.host, spec)), ())
        return JoinFile(shown, invitation.expires_at, write_invitation(invitation))

    def remove(self, host: str) -> RegistryHost:
        """Delete a host, and return it as it was. Raises NotFound."""
        removed = [one for one in self.hosts() if one.host == host]
        if not removed:
            raise NotFound(f"no host {host}", next_step="see the names with registry-host-list")
        self._admission.remove(host)
        return removed[0]

    def _kept(self) -> tuple[x509.Certificate, ...]:
        """Return the certificates of the registry that are kept here. A host may have seen an older one."""
        kept = []
        for name in self._generations.names():
            with contextlib.suppress(OSError, CertificateRefused):
                kept.append(self._generations.certificates(name)[0])
        return tuple(kept)
