"""Reads with which environment and arguments systemd starts a unit: systemd.exec(5)."""

from __future__ import annotations

import glob
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sysreg_cli.errors import Unavailable
from sysreg_cli.host.services import split_command
from sysreg_cli.settings import AgentSettings

_SECONDS = 20
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_PROPERTIES = "ExecStart,Environment,EnvironmentFiles"
_FILE = re.compile(r"(.+) \(ignore_errors=(?:yes|no)\)")
_ARGUMENTS = re.compile(r"argv\[\]=(.*?) ; ")


@dataclass(frozen=True, slots=True)
class UnitEnvironment:
    """What a unit and its drop-ins say. Empty if systemd does not know the unit."""

    variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    @classmethod
    def read(cls, settings: AgentSettings, unit: str) -> UnitEnvironment:
        """Ask systemd. Empty if ``restart_command`` shows that something else starts the services.

        Raises Unavailable if systemd runs and does not answer, SettingsError, OSError.
        """
        manager = Path(split_command(settings.restart_command, "restart_command")[0]).name
        if manager != "systemctl" or not _BOOTED.is_dir():
            return cls()
        command = ["systemctl", "show", f"--property={_PROPERTIES}", "--", unit]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable(
                f"with which environment systemd starts {unit} is not known: {shlex.join(command)}: {error}"
            ) from None
        return cls.parse(done.stdout)

    @classmethod
    def parse(cls, properties: str) -> UnitEnvironment:
        """Parse the output of ``systemctl show``. Raises OSError if a file of the unit can't be read."""
        variables: dict[str, str] = {}
        files: list[str] = []
        arguments: tuple[str, ...] = ()
        for line in properties.splitlines():
            name, _, value = line.partition("=")
            if name == "Environment":
                variables |= dict(_assignment(word) for word in shlex.split(value))
            elif name == "EnvironmentFiles" and (found := _FILE.fullmatch(value)):
                files += sorted(glob.glob(found[1]))  # noqa: PTH207 - systemd takes absolute patterns
            elif name == "ExecStart" and (found := _ARGUMENTS.search(value)):
                arguments = tuple(found[1].split())
        for file in files:  # they win over Environment=
            variables |= dict(_of_file(Path(file).read_text(encoding="utf-8", errors="replace")))
        return cls(variables, arguments)


def _of_file(text: str) -> Iterator[tuple[str, str]]:
    for line in text.replace("\\\n", "").splitlines():
        name, value = _assignment(line.strip())
        if "=" in line and not name.startswith(("#", ";")):
            try:
                yield name, " ".join(shlex.split(value))
            except ValueError:  # a quotation mark that is not closed
                yield name, value


def _assignment(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()
