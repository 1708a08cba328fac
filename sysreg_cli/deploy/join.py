"""``sysreg-deploy --join FILE``: make this machine a worker of a cluster. All of it, or nothing."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sysreg_cli.addresses import HostPort
from sysreg_cli.cluster.etcd import EtcdStore
from sysreg_cli.cluster.joining import Asker, Invitation, JoinAnswer, host_user, join_user, read_invitation
from sysreg_cli.cluster.keys import DESIRED, JoinPart, join_key
from sysreg_cli.cluster.membership import CredentialFiles, access
from sysreg_cli.cluster.port import Expected, Put, Store
from sysreg_cli.cluster.records import decode, encode
from sysreg_cli.deploy.machine import PUBLIC
from sysreg_cli.deploy.record import Record
from sysreg_cli.deploy.worker import SECRET, settings_text
from sysreg_cli.errors import (
    Changed,
    Conflict,
    NotAuthenticated,
    NotAuthorized,
    Unavailable,
    UsageError,
)
from sysreg_cli.settings import DEFAULT_PATH, ClusterSettings, RegistrySettings, Settings

_MAX_BYTES = 64 * 1024
#: for which the controller may take to answer, in seconds
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.2
_USELESS = "make a new one on the controller: system registry-host-add"


def join(
    path: str, present: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Settings:
    """Join with the file at ``path``, and return the settings of the worker, which are written.

    ``present`` are the settings of this machine. Raises SysregError, OSError; then nothing has changed here.
    """
    _require_new(present)
    invitation = read_invitation(_read(path), now())
    settings = _settings(invitation, present)
    files = CredentialFiles(settings.cluster.directory)
    if files.directory.exists():
        raise Conflict(f"{files.directory} exists", next_step="move it away if no cluster needs it")
    record = Record.load(settings.paths.state)
    made = [one for one in (files.directory, *files.directory.parents) if not one.exists()]
    try:
        _write_tls(invitation, files)
        password = _exchange(invitation, settings, files)
        SECRET.write(files.password, f"{password}\n".encode())
        _require_login(settings)
    except BaseException:
        shutil.rmtree(files.directory, ignore_errors=True)
        raise
    _record(record, made, files)
    PUBLIC.write(DEFAULT_PATH, settings_text(settings).encode())
    return settings


def _require_new(present: Settings) -> None:
    """Raise Conflict if this machine is a controller or a worker already, or has settings of its own."""
    if present.cluster.endpoints:
        name = f"host {present.cluster.host}" if present.cluster.host else "its controller"
        raise Conflict(
            f"this machine belongs to a cluster already, as {name}",
            next_step="sysreg-deploy repairs it; sysreg-deploy --remove takes it out",
        )
    if not Record.load(present.paths.state).is_empty:
        raise Conflict("this machine is a controller already", next_step="sysreg-deploy --remove ends that")
    if present != Settings():
        raise Conflict(
            f"{DEFAULT_PATH} has settings, and --join writes it anew", next_step=f"move {DEFAULT_PATH} away"
        )


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise UsageError(f"--join: {path}: {error.strerror}") from None


def _settings(invitation: Invitation, present: Settings) -> Settings:
    """Return the settings of the worker. Raises UsageError for an invitation that makes no sense."""
    try:
        endpoints = tuple(map(HostPort.parse, invitation.endpoints))
    except ValueError as error:
        raise UsageError(f"the join file makes no sense: {error}", next_step=_USELESS) from None
    names = dict.fromkeys((*invitation.host_names, *filter(None, [invitation.address])))
    return dataclasses.replace(
        present,
        registry=RegistrySettings(host_names=tuple(names), port=invitation.port),
        cluster=ClusterSettings(endpoints=endpoints, host=invitation.host, user=host_user(invitation.host)),
    )


def _write_tls(invitation: Invitation, files: CredentialFiles) -> None:
    files.directory.mkdir(mode=0o755, parents=True)
    PUBLIC.write(files.tls.ca, invitation.ca.encode())
    PUBLIC.write(files.tls.certificate, invitation.certificate.encode())
    SECRET.write(files.tls.key, invitation.key.encode())


def _exchange(invitation: Invitation, settings: Settings, files: CredentialFiles) -> str:
    """Ask to be let in, and return the password of the host's user. Raises SysregError."""
    SECRET.write(files.password, invitation.password.encode())
    cluster = dataclasses.replace(settings.cluster, user=join_user(invitation.host))
    store = EtcdStore(access(cluster))
    asker = Asker(invitation.host)
    key = join_key(invitation.host, JoinPart.REQUEST)
    try:
        store.transact([Expected(key)], [Put(key, encode(asker.request))])
    except Changed:
        raise Conflict("the join file was used already", next_step=_USELESS) from None
    except (NotAuthenticated, NotAuthorized):
        raise NotAuthorized(
            f"the cluster refuses the join file of host {invitation.host}: it was used already, a newer one"
            " was made, or the host was deleted",
            next_step=_USELESS,
        ) from None
    except Unavailable as error:
        raise Unavailable(
            error.message,
            next_step=f"if etcd runs and a newer join file was made, or the host was deleted, {_USELESS}",
        ) from None
    try:
        return asker.open(_answer(store, invitation.host))
    finally:
        store.close()


def _answer(store: Store, host: str) -> JoinAnswer:
    deadline = time.monotonic() + _ANSWER_SECONDS
    key = join_key(host, JoinPart.ANSWER)
    while True:
        if entry := store.get(key):
            return decode(JoinAnswer, entry.value, key)
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"the controller did not answer within {_ANSWER_SECONDS:g} s",
                next_step=f"see journalctl -u sysreg-agent there; then {_USELESS}",
            )
        time.sleep(_POLL_SECONDS)


def _require_login(settings: Settings) -> None:
    """Raise SysregError unless the host's own user may read what is desired."""
    store = EtcdStore(access(settings.cluster))
    try:
        store.list(DESIRED)
    finally:
        store.close()


def _record(record: Record, made: list[Path], files: CredentialFiles) -> None:
    """Write down what was made, so that --remove removes it."""
    record.make_directory(record.directory)
    record.directories += [str(one) for one in reversed(made) if str(one) not in record.directories]
    if DEFAULT_PATH.exists():
        record.keep(DEFAULT_PATH)
    record.take(files.tls.ca, files.tls.certificate, files.tls.key, files.password, DEFAULT_PATH)
    record.save()
