"""The files of ``etc/``, which come with the package, with the values of this controller."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import sysreg_cli
from sysreg_cli.errors import SysregError

_CHECKOUT = Path(sysreg_cli.__file__).resolve().parent.parent / "etc"
_PLACEHOLDER = re.compile(r"@([a-z_]+)@")


def root() -> Path:
    """The ``etc`` tree of this installation, in the checkout or the wheel's data. Raises SysregError."""
    for directory in (_CHECKOUT, Path(sys.prefix) / "share/sysreg/etc"):
        if (directory / "sysreg/sysreg.conf").is_file():
            return directory
    raise SysregError(
        f"{sys.prefix}/share/sysreg/etc is missing",
        next_step="install the package again (pip install sysreg-cli)",
    )


def render(values: Mapping[str, str]) -> dict[str, bytes]:
    """Return path on the controller -> content, with each ``@name@`` replaced. Raises SysregError."""
    directory = root()
    files = [
        path for path in sorted(directory.rglob("*")) if path.is_file() and not path.name.startswith(".")
    ]
    return {
        f"/etc/{path.relative_to(directory)}": fill(path.read_text(), values, path.name).encode()
        for path in files
    }


def fill(text: str, values: Mapping[str, str], name: str) -> str:
    """Return ``text`` with each ``@name@`` replaced. ``@system-service`` has no second ``@``, and stays."""

    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise SysregError(f"{name} has the placeholder {match[0]}, which is not known") from None

    return _PLACEHOLDER.sub(value, text)
