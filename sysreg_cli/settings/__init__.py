"""The settings of all parts, ``/etc/sysreg/sysreg.conf`` (docs/contracts.rst, "Files and settings").

A new setting is a line in the first of these modules:

    schema  every key: its default, and how its text is parsed
    loader  reads the file, and reports every problem of it with its line
"""

from sysreg_cli.settings.loader import DEFAULT_PATH, load, parse
from sysreg_cli.settings.schema import (
    AgentSettings,
    CertificateSettings,
    KeystoneSettings,
    PathSettings,
    RegistrySettings,
    Settings,
    TokenServerSettings,
)

__all__ = [
    "DEFAULT_PATH",
    "AgentSettings",
    "CertificateSettings",
    "KeystoneSettings",
    "PathSettings",
    "RegistrySettings",
    "Settings",
    "TokenServerSettings",
    "load",
    "parse",
]
