"""The users of etcd and their rights. Each user has one role, with the same name."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from sysreg_cli.cluster.gateway import below, encode
from sysreg_cli.cluster.port import EPOCH, Rights, User
from sysreg_cli.cluster.servers import Access, Limits, Servers
from sysreg_cli.errors import Conflict, NotAuthenticated, NotAuthorized, NotFound, SysregError

#: the fields of a permission as the gateway has them; what has its default is absent
_Permission = Mapping[str, Any]


class EtcdAdministration:
    """See ``port.Administration``."""

    def __init__(self, access: Access, limits: Limits | None = None) -> None:
        """``access`` is that of the user root. Raises SettingsError."""
        self._servers = Servers(access, limits or Limits())

    def put_user(self, user: User, rights: Rights) -> None:
        try:
            self._call("user/add", {"name": user.name, "password": user.password})
        except Conflict:
            self._call("user/changepw", {"name": user.name, "password": user.password})
        for role in self._call("user/get", {"name": user.name}).get("roles") or ():
            if role != user.name:
                self._call("user/revoke", {"name": user.name, "role": role})
        self._put_role(user.name, rights)
        self._call("user/grant", {"user": user.name, "role": user.name})

    def remove_user(self, name: str) -> None:
        for call, body in (("user/delete", {"name": name}), ("role/delete", {"role": name})):
            with contextlib.suppress(NotFound):
                self._call(call, body)

    def user_revisions(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for endpoint in self._servers.access.endpoints:
            access = dataclasses.replace(self._servers.access, endpoints=(endpoint,))
            with (
                contextlib.suppress(SysregError),
                contextlib.closing(Servers(access, self._servers.limits)) as one,
            ):
                # 3.4 does not have this call
                answer = one.call("auth/status", {}, "see the revision of its users")
                found[str(endpoint)] = int(answer.get("authRevision", 0))
        return found

    def _put_role(self, name: str, rights: Rights) -> None:
        with contextlib.suppress(Conflict):
            self._call("role/add", {"name": name})
        present = self._call("role/get", {"role": name}).get("perm") or ()
        wanted = list(_permissions(rights))
        for permission in present:
            if permission not in wanted:
                place = {field: permission[field] for field in ("key", "range_end") if field in permission}
                self._call("role/revoke", {"role": name, **place})
        for permission in wanted:
            if permission not in present:
                self._call("role/grant", {"name": name, "perm": permission})

    def _call(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        # each of these may be done twice: the second time, etcd says that it is done
        return self._servers.call(f"auth/{path}", body, "change its users")


def _permissions(rights: Rights) -> Iterator[_Permission]:
    """Yield what etcd answers for these rights. READ is the default, so it is absent there."""
    yield {"key": encode(EPOCH)}
    yield from (below(prefix) for prefix in rights.reads)
    yield from ({"permType": "READWRITE", "key": encode(key)} for key in rights.writes)


def enable_passwords(access: Access, limits: Limits | None = None) -> None:
    """Make the user root with the password of ``access``, and let etcd ask everybody for a password.

    If etcd asks for passwords already, only that login is tried. Raises what the methods of ``port.Store``
    raise, NotAuthenticated for another password than the one in use.
    """
    limits = limits or Limits()
    nobody = Servers(dataclasses.replace(access, user=""), limits)
    root = {"name": access.user, "password": access.password()}
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("user/add", root),
        ("user/changepw", root),  # after a call that ended half-way, the user may have another password
        ("role/add", {"name": access.user}),
        ("user/grant", {"user": access.user, "role": access.user}),
        ("enable", {}),
    )
    for path, body in calls:
        try:
            nobody.call(f"auth/{path}", body, "enable passwords")
        except Conflict:
            continue
        except (NotAuthenticated, NotAuthorized):
            break  # it asks for passwords already
    Servers(access, limits).call("auth/user/get", {"name": access.user}, "see its users")
