"""The users and groups of our sysusers.d file; systemd-sysusers makes them. See sysusers.d(5)."""

from __future__ import annotations

import contextlib
import grp
import pwd
import shlex
from dataclasses import dataclass

from sysreg_cli.deploy.items import Change, Context, File, command
from sysreg_cli.errors import SysregError


@dataclass(frozen=True)
class Accounts:
    """All accounts of one sysusers.d file."""

    source: File
    restarts: tuple[str, ...] = ()

    def _missing(self) -> list[str]:
        missing = []
        for line in self.source.content.decode().splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["g"] and not _has_group(words[1]):
                missing.append(f"group {words[1]}")
            elif words[:1] == ["u"] and not _has_user(words[1]):
                missing.append(f"user {words[1]}")
            elif words[:1] == ["m"] and not _is_member(words[1], words[2]):
                missing.append(f"member {words[1]} of {words[2]}")
        return missing

    def compare(self, context: Context) -> Change | None:
        missing = self._missing()
        return Change(f"create {', '.join(missing)}") if missing else None

    def apply(self, context: Context) -> None:
        record = context.record
        record.accounts += [one for one in self._missing() if one not in record.accounts]
        record.save()
        command("systemd-sysusers", str(self.source.path))

    def remove(self, context: Context) -> str:
        """Only those that weren't there before us; memberships go with them, or one by one."""
        removed = []
        for kind, name, group in reversed([_parts(one) for one in context.record.accounts]):
            if kind == "user" and _has_user(name):
                command("userdel", name)
            elif kind == "group" and _has_group(name):
                command("groupdel", name)
            elif kind == "member" and _has_user(name) and _is_member(name, group):
                with contextlib.suppress(SysregError):
                    command("gpasswd", "--delete", name, group)
                continue
            else:
                continue
            removed.append(f"{kind} {name}")
        context.record.accounts.clear()
        return f"removed {', '.join(removed)}" if removed else ""


def _parts(account: str) -> tuple[str, str, str]:
    words = account.split()
    return words[0], words[1], words[-1]


def _has_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def _has_group(name: str) -> bool:
    with contextlib.suppress(KeyError):
        grp.getgrnam(name)
        return True
    return False


def _is_member(user: str, group: str) -> bool:
    with contextlib.suppress(KeyError):
        return user in grp.getgrnam(group).gr_mem
    return False
