"""The options with a text value that every command takes. ``delegation`` reads this table before any import.

``options.py`` makes click options of it, and ``manual.py`` the list of environment variables.
"""

from __future__ import annotations


class TextOption:
    """The option ``--os-username`` with the variable OS_USERNAME, or ``--agent`` with SYSREG_AGENT."""

    def __init__(self, flag: str, metavar: str, help: str) -> None:
        self.flag = flag
        self.metavar = metavar
        self.help = help
        #: the name of the click parameter
        self.name = flag.removeprefix("--").replace("-", "_")
        self.variable = ("" if self.name.startswith("os_") else "SYSREG_") + self.name.upper()


REGISTRY = TextOption("--registry", "HOST:PORT", "HOST:PORT of the registry; from sysreg.conf if not given.")
REGISTRY_CA = TextOption(
    "--registry-ca", "FILE", "File with the certificates (PEM) to trust for the registry, and no others."
)
AGENT = TextOption("--agent", "WHERE", "The agent: path of its socket, or its https URL.")
OS_USERNAME = TextOption("--os-username", "NAME", "Keystone user.")
OS_PASSWORD = TextOption(
    "--os-password",
    "PASSWORD",
    "Password of the Keystone user; asked for on a terminal if not given. Better in OS_PASSWORD: every user"
    " of the machine can see an argument.",
)
OS_PROJECT_NAME = TextOption(
    "--os-project-name", "NAME", "Keystone project. Roles count only in the administrators' project."
)
OS_USER_DOMAIN_NAME = TextOption("--os-user-domain-name", "NAME", "Domain of the user.")
OS_PROJECT_DOMAIN_NAME = TextOption("--os-project-domain-name", "NAME", "Domain of the project.")
OS_AUTH_URL = TextOption("--os-auth-url", "URL", "URL of Keystone.")
OS_REGION_NAME = TextOption("--os-region-name", "NAME", "Region; accepted, not needed.")
OS_INTERFACE = TextOption("--os-interface", "NAME", "Kind of Keystone endpoint; accepted, not needed.")
OS_CACERT = TextOption("--os-cacert", "FILE", "File with the certificates (PEM) to trust for Keystone.")
OS_AUTH_TOKEN = TextOption("--os-auth-token", "TOKEN", "Keystone token, in place of user and password.")
OS_APPLICATION_CREDENTIAL_ID = TextOption(
    "--os-application-credential-id", "ID", "Application credential, in place of user and password."
)
OS_APPLICATION_CREDENTIAL_SECRET = TextOption(
    "--os-application-credential-secret", "SECRET", "Secret of the application credential."
)

#: all of them, in the order in which help lists them
TEXT_OPTIONS = tuple(value for value in list(globals().values()) if isinstance(value, TextOption))

#: every option of the program that takes a value, and every other
WITH_VALUE = (*(option.flag for option in TEXT_OPTIONS), "--column", "-c", "--format", "-f", "--timeout")
FLAGS = ("--debug", "--help", "-h", "--version")
