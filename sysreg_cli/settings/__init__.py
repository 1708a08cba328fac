"""The settings of all parts, ``/etc/sysreg/sysreg.conf`` (docs/contracts.rst, "Files and settings").

CONTRIBUTING.rst, "Add a setting", says how to add one. The modules:

    schema  every key: its default, and how its text is parsed
    loader  reads the file, and reports every problem of it with its line
"""

from sysreg_cli.settings.loader import DEFAULT_PATH, load, parse
from sysreg_cli.settings.schema import (
    MAX_DURATION,
    MAX_GRACE,
    AgentSettings,
    AlarmSettings,
    CertificateSettings,
    ClusterSettings,
    DirectorySource,
    ImageSettings,
    KeystoneSettings,
    PathSettings,
    RegistrySettings,
    RetentionSettings,
    SecretSource,
    Settings,
    TokenServerSettings,
    duration,
)

__all__ = [
    "DEFAULT_PATH",
    "MAX_DURATION",
    "MAX_GRACE",
    "AgentSettings",
    "AlarmSettings",
    "CertificateSettings",
    "ClusterSettings",
    "DirectorySource",
    "ImageSettings",
    "KeystoneSettings",
    "PathSettings",
    "RegistrySettings",
    "RetentionSettings",
    "SecretSource",
    "Settings",
    "TokenServerSettings",
    "duration",
    "load",
    "parse",
]
