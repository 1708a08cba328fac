"""The files of ``etc/``, as they come with the package, with this controller's values filled in."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import sysreg_cli
from sysreg_cli.errors import SysregError

_CHECKOUT = Path(sysreg_cli.__file__).resolve().parent.parent / "etc"
_MARK = re.compile(r"@([a-z_]+)@")


def root() -> Path:
    """The ``etc`` tree of this installation: in the checkout, or among the wheel's data.

    Raises SysregError if the package was installed without it.
    """
    for place in (_CHECKOUT, Path(sys.prefix) / "share/sysreg/etc"):
        if (place / "sysreg/sysreg.conf").is_file():
            return place
    raise SysregError(
        f"{sys.prefix}/share/sysreg/etc is missing",
        next_step="install the package again (pip install sysreg-cli)",
    )


def render(values: Mapping[str, str]) -> dict[str, bytes]:
    """Path on the controller -> content, with each ``@name@`` replaced. Raises SysregError."""
    here = root()
    found = {}
    for path in sorted(here.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found[f"/etc/{path.relative_to(here)}"] = fill(path.read_text(), values, path.name).encode()
    return found


def fill(text: str, values: Mapping[str, str], name: str) -> str:
    """``text`` with each ``@name@`` replaced; ``@system-service`` and its like have no second ``@``."""

    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise SysregError(f"{name} asks for {match[0]}, which is not known") from None

    return _MARK.sub(value, text)
