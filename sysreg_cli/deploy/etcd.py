"""etcd on this controller: Debian's program in a unit of sysreg's, with TLS, passwords, and limits.

Debian's own unit would listen without TLS and without passwords as soon as the package is installed. So it is
masked first, and the operator installs the package then.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509

from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.membership import AuthorityFiles, access
from sysreg_cli.cluster.port import EPOCH, Expected, Put
from sysreg_cli.cluster.users import enable_passwords
from sysreg_cli.deploy.configs import ETCD_ENVIRONMENT
from sysreg_cli.deploy.daemons import AGENT
from sysreg_cli.deploy.file import File
from sysreg_cli.deploy.machine import PUBLIC, Attributes
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.deploy.units import ETCD, EnabledUnit, RunningUnit, unit_file_state, unit_property
from sysreg_cli.errors import Changed, Conflict, NotAuthenticated, SysregError
from sysreg_cli.pki.private_ca import Pair, issue, make_authority, revoke
from sysreg_cli.settings import ClusterSettings

PROGRAM = Path("/usr/bin/etcd")
#: Debian's package makes it
GROUP = "etcd"
#: where the unit's StateDirectory= is
DATA = Path("/var/lib/sysreg-etcd")
DEBIAN_UNIT = "etcd.service"

_PASSWORD_BYTES = 32
_QUOTA = 256 * 1024 * 1024
_SECRET = Attributes(0o600)


def disk_resources(cluster: ClusterSettings, unit: File) -> Iterator[Resource]:
    """Yield what etcd needs on the disk. ``unit`` is its unit file."""
    yield MaskedUnit(DEBIAN_UNIT)
    yield Installed(PROGRAM)
    yield unit
    yield ClusterKeys(cluster, restarts=(ETCD,), is_data=True)
    # it names the CA, so it comes after that
    yield File(ETCD_ENVIRONMENT, partial(environment, cluster), restarts=(ETCD,))
    yield Data(DATA, is_data=True)


def service_resources(cluster: ClusterSettings) -> Iterator[Resource]:
    """Yield the state of etcd's unit, and what is in etcd."""
    yield EnabledUnit(ETCD)
    yield RunningUnit(ETCD)
    yield Passwords(cluster)


def environment(cluster: ClusterSettings) -> bytes:
    """Return etcd's settings as an environment file. Raises OSError before there is a CA."""
    assert cluster.listen is not None
    files = AuthorityFiles(cluster.directory)
    # there is no other member
    peer = f"https://{HostPort('127.0.0.1', cluster.listen.port + 1)}"
    client = f"https://{cluster.listen}"
    values: dict[str, object] = {
        "NAME": "controller",
        "DATA_DIR": DATA / "data",
        "LISTEN_CLIENT_URLS": client,
        "ADVERTISE_CLIENT_URLS": client,
        "LISTEN_PEER_URLS": peer,
        "INITIAL_ADVERTISE_PEER_URLS": peer,
        "INITIAL_CLUSTER": f"controller={peer}",
        # another cluster has another CA, so it has another token
        "INITIAL_CLUSTER_TOKEN": f"sysreg-{hashlib.sha256(files.tls.ca.read_bytes()).hexdigest()[:16]}",
    }
    for name in ("", "PEER_"):
        values[f"{name}CERT_FILE"] = files.server_certificate
        values[f"{name}KEY_FILE"] = files.server_key
        values[f"{name}TRUSTED_CA_FILE"] = files.tls.ca
        values[f"{name}CLIENT_CERT_AUTH"] = "true"
    values |= {
        "CLIENT_CRL_FILE": files.revoked,
        "AUTO_COMPACTION_MODE": "periodic",
        "AUTO_COMPACTION_RETENTION": "1h",
        "QUOTA_BACKEND_BYTES": _QUOTA,
        # Debian's 3.5.16 forgets changes of users and roles that meet the writing of a batch to the disk
        "BACKEND_BATCH_LIMIT": 1,
        # a third of the silence after which a client leaves a server
        "EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL": "5s",
        # the passwords are random and long, so a slow hash protects nothing
        "BCRYPT_COST": 4,
        "AUTH_TOKEN_TTL": 3600,
        "PRE_VOTE": "true",
        "LOGGER": "zap",
        "LOG_LEVEL": "warn",
    }
    lines = "".join(f"ETCD_{name}={value}\n" for name, value in values.items())
    return f"# Written by sysreg-deploy from /etc/sysreg/sysreg.conf.\n{lines}".encode()


def ask_for_passwords(cluster: ClusterSettings) -> None:
    """Have a new etcd ask everybody for a password, and give it an epoch. Raises SysregError."""
    enable_passwords(access(cluster))
    with contextlib.suppress(Changed):
        EtcdStore(access(cluster)).transact([Expected(EPOCH)], [Put(EPOCH, secrets.token_hex(16).encode())])


@dataclass(frozen=True)
class ClusterKeys(Resource):
    """The CA of the cluster, the certificates of etcd and of its clients, and the password of etcd's root.

    What is good is kept. A CA is never replaced, because every host trusts it.
    """

    cluster: ClusterSettings
    key_group: str = GROUP

    @property
    def files(self) -> AuthorityFiles:
        return AuthorityFiles(self.cluster.directory)

    @property
    def names(self) -> tuple[str, ...]:
        """Where clients reach etcd: the names of its certificate."""
        assert self.cluster.listen is not None
        places = (self.cluster.listen, *self.cluster.endpoints)
        return tuple(dict.fromkeys((*(place.host for place in places), "127.0.0.1")))

    def compare(self, context: Context) -> Change | None:
        files = self.files
        if not files.tls.ca.exists():
            # the agent has mounted the directory, if there was one
            line = f"create a CA and certificates for etcd in {files.directory}"
            return Change(line, self._create, restarts=(AGENT.unit,))
        problems = self._problems()
        if problems:
            return Change(f"issue certificates for etcd anew: {'; '.join(problems)}", self._issue)
        if not files.revoked.exists():
            return Change(f"create {files.revoked}, the revoked certificates of hosts", self._complete)
        if not files.password.exists():
            return Change(f"create the password of etcd's user root in {files.password}", self._complete)
        wanted = {
            **dict.fromkeys(
                (files.tls.ca, files.tls.certificate, files.server_certificate, files.revoked), PUBLIC
            ),
            **dict.fromkeys((files.tls.key, files.password), _SECRET),
            files.server_key: Attributes(0o640, group=self.key_group),
        }
        if files.ca_key.exists():
            wanted[files.ca_key] = _SECRET
        return attributes_change(wanted)

    def _pairs(self) -> Iterator[tuple[Path, Path, tuple[str, ...]]]:
        files = self.files
        yield files.server_certificate, files.server_key, self.names
        yield files.tls.certificate, files.tls.key, ()

    def _problems(self) -> list[str]:
        """Say which certificates have to be issued anew. Raises SysregError for a damaged CA."""
        authority, now = self._authority_certificate(), datetime.now(UTC)
        problems = []
        for certificate, key, names in self._pairs():
            try:
                pair = Pair.load(key.read_bytes(), certificate.read_bytes())
                problem = pair.problem(authority, names, now)
            except FileNotFoundError as error:
                problem = f"lacks {error.filename}"
            except ValueError as error:
                problem = str(error)
            if problem:
                problems.append(f"{certificate} {problem}")
        return problems

    def _authority_certificate(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self.files.tls.ca.read_bytes())
        except ValueError:
            raise SysregError(
                f"{self.files.tls.ca}, the CA of the cluster, is damaged",
                next_step="restore it from a backup, because every host trusts it",
            ) from None

    def _create(self, context: Context) -> None:
        files = self.files
        context.record.make_directory(files.directory)
        context.record.take(files.ca_key, files.tls.ca)
        authority = make_authority(datetime.now(UTC))
        # the key first: a CA without its key would stay for ever
        _SECRET.write(files.ca_key, authority.key_pem)
        PUBLIC.write(files.tls.ca, authority.pem)
        self._issue(context)

    def _issue(self, context: Context) -> None:
        authority, now = self.files.authority(), datetime.now(UTC)
        for certificate, key, names in self._pairs():
            context.record.take(certificate, key)
            pair = issue(authority, names, now)
            attributes = Attributes(0o640, group=self.key_group) if names else _SECRET
            attributes.write(key, pair.key_pem)
            PUBLIC.write(certificate, pair.pem)
        self._complete(context)

    def _complete(self, context: Context) -> None:
        """Write what is missing beside the certificates."""
        files = self.files
        if not files.revoked.exists():
            context.record.take(files.revoked)
            PUBLIC.write(files.revoked, revoke(files.authority(), None, (), datetime.now(UTC)))
        if not files.password.exists():
            context.record.take(files.password)
            _SECRET.write(files.password, f"{secrets.token_urlsafe(_PASSWORD_BYTES)}\n".encode())

    def remove(self, context: Context) -> str:
        files = self.files
        paths = (
            *(files.password, files.tls.key, files.tls.certificate, files.server_key),
            *(files.server_certificate, files.revoked, files.tls.ca, files.ca_key),
        )
        hosts = files.certificate_of("").parent
        if hosts.is_dir():
            shutil.rmtree(hosts)
        lines = [context.record.put_back(path) for path in paths if context.record.owns(path)]
        return "; ".join(filter(None, lines))


@dataclass(frozen=True)
class MaskedUnit(Resource):
    """A unit of another package that must not start."""

    unit: str

    @property
    def _path(self) -> Path:
        return Path("/etc/systemd/system") / self.unit

    def compare(self, context: Context) -> Change | None:
        if unit_file_state(context.programs, self.unit) == "masked":
            return None
        if unit_property(context.programs, self.unit, "ActiveState") not in ("inactive", "failed", ""):
            raise Conflict(
                f"{self.unit} runs on this machine, and is not sysreg's",
                next_step="in section [cluster], name it in endpoints and leave listen out; or stop it"
                f" (systemctl disable --now {self.unit})",
            )
        return Change(f"mask {self.unit}, which would run etcd without TLS and passwords", self._mask)

    def _mask(self, context: Context) -> None:
        context.record.take(self._path)
        context.programs.change("systemctl", "mask", "--quiet", self.unit)

    def remove(self, context: Context) -> str:
        if not context.record.owns(self._path):
            return ""
        if PROGRAM.exists():
            context.record.files.remove(str(self._path))
            return f"left {self.unit} masked: unmasked, it would run etcd without TLS and passwords"
        return context.record.put_back(self._path)


@dataclass(frozen=True)
class Installed(Resource):
    """A program of a package that only the operator installs."""

    program: Path

    def compare(self, context: Context) -> Change | None:
        if self.program.exists():
            return None
        return Change(f"need {self.program}, which is not installed", self._refuse)

    def _refuse(self, _context: Context) -> None:
        raise SysregError(
            f"etcd is not installed: there is no {self.program}",
            next_step=f"install it (apt-get install etcd-server; {DEBIAN_UNIT} is masked, so nothing starts),"
            " then run sysreg-deploy again",
        )


@dataclass(frozen=True)
class Data(Resource):
    """What etcd stores. systemd makes the directory; a removal removes it."""

    path: Path

    def compare(self, context: Context) -> Change | None:
        return None

    def remove(self, context: Context) -> str:
        if not self.path.is_dir():
            return ""
        shutil.rmtree(self.path)
        return f"removed {self.path}"


@dataclass(frozen=True)
class Passwords(Resource):
    """etcd asks everybody for a password, and holds an epoch, by which clients notice a restore."""

    cluster: ClusterSettings

    def compare(self, context: Context) -> Change | None:
        change = Change("have etcd ask everybody for a password", self._enable)
        if unit_property(context.programs, ETCD, "ActiveState") != "active":
            return change
        try:
            return None if self._store().get(EPOCH) else change
        except NotAuthenticated:
            raise
        except SysregError:
            return change

    def _store(self) -> EtcdStore:
        return EtcdStore(access(self.cluster))

    def _enable(self, _context: Context) -> None:
        ask_for_passwords(self.cluster)
