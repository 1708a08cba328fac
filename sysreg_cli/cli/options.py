"""Options that every command takes, and what they and the environment say: the Invocation.

A command is declared with ``command(...)`` and gets the Invocation with ``click.pass_obj``. The options
stand before or behind the command's name (`system --timeout 5 registry-image-list` and `system
registry-image-list --timeout 5`); behind wins. An option wins over its environment variable.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from sysreg_cli.errors import CredentialsMissing, SysregError, UsageError
from sysreg_cli.text import printable

if TYPE_CHECKING:
    from sysreg_cli.settings import Settings

FORMATS = ("table", "json", "yaml", "value", "csv")
DEFAULT_TIMEOUT = 60.0

# Options with a text that an environment variable may give too: (option, variable, metavar, help).
_TEXTS = (
    ("--registry", "SYSREG_REGISTRY", "HOST:PORT", "The registry; from sysreg.conf if not given."),
    ("--registry-ca", "SYSREG_REGISTRY_CA", "FILE", "Trust the certificates in FILE (PEM), and no others."),
    ("--agent", "SYSREG_AGENT", "WHERE", "The agent: path of its socket, or https URL."),
    ("--os-username", "OS_USERNAME", "NAME", "Keystone user."),
    (
        "--os-password",
        "OS_PASSWORD",
        "PASSWORD",
        "Keystone password. Better in OS_PASSWORD: an argument is seen by every user of the machine.",
    ),
    ("--os-project-name", "OS_PROJECT_NAME", "NAME", "Keystone project."),
    ("--os-user-domain-name", "OS_USER_DOMAIN_NAME", "NAME", "Domain of the user."),
    ("--os-project-domain-name", "OS_PROJECT_DOMAIN_NAME", "NAME", "Domain of the project."),
    ("--os-auth-url", "OS_AUTH_URL", "URL", "Where Keystone is."),
    ("--os-region-name", "OS_REGION_NAME", "NAME", "Region; accepted, not needed."),
    ("--os-interface", "OS_INTERFACE", "NAME", "Kind of endpoint; accepted, not needed."),
    ("--os-cacert", "OS_CACERT", "FILE", "Trust the certificates in FILE for Keystone."),
    ("--os-auth-token", "OS_AUTH_TOKEN", "TOKEN", "Keystone token, in place of a password."),
    (
        "--os-application-credential-id",
        "OS_APPLICATION_CREDENTIAL_ID",
        "ID",
        "Keystone application credential.",
    ),
    ("--os-application-credential-secret", "OS_APPLICATION_CREDENTIAL_SECRET", "SECRET", "Its secret."),
)
_VARIABLES = {option.lstrip("-").replace("-", "_"): variable for option, variable, _, _ in _TEXTS}
# Kinds of credentials, the one that goes first first; the first option of each says whose they are.
_KINDS = {
    "token": ("os_auth_token",),
    "application_credential": ("os_application_credential_id", "os_application_credential_secret"),
    "password": ("os_username", "os_password"),
}


@dataclass
class Invocation:
    """What the options and the environment say; one for each run of `system`."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    given: dict[str, Any] = field(default_factory=dict)
    # What the process ends with when nothing is raised; report() sets it.
    exit_code: int = 0

    @property
    def debug(self) -> bool:
        return bool(self.given.get("debug"))

    @property
    def timeout(self) -> float:
        """Seconds to connect, and between two bytes of an answer."""
        return float(self.given.get("timeout", DEFAULT_TIMEOUT))

    @property
    def format(self) -> str:
        """One of FORMATS."""
        return str(self.given.get("format", "table"))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns asked for with -c; empty means all."""
        return tuple(self.given.get("columns", ()))

    def text(self, name: str) -> str:
        """The option (`os_username`) if given, else its variable (`OS_USERNAME`), else an empty text."""
        if name in self.given:
            return str(self.given[name])
        return self.environ.get(_VARIABLES[name], "")

    def required(self, name: str) -> str:
        """Like text(), but raises CredentialsMissing, naming option and variable, when it is empty."""
        if value := self.text(name):
            return value
        option = "--" + name.replace("_", "-")
        raise CredentialsMissing(
            f"no {name.removeprefix('os_').replace('_', ' ')} was given",
            next_step=f"set {_VARIABLES[name]} (source openrc), or give {option}",
        )

    def password(self) -> str:
        """The password, asked for on a terminal when neither option nor variable gives it."""
        if not self.text("os_password") and sys.stdin.isatty() and sys.stderr.isatty():
            import getpass

            self.given["os_password"] = getpass.getpass(
                f"Password for {self.text('os_username')}: ", stream=sys.stderr
            )
        return self.required("os_password")

    def credential_kind(self) -> str:
        """Whether the caller means a `token`, an `application_credential`, or user and `password`.

        A kind of which an option was given goes before one that only the environment names.
        """
        for kind, names in _KINDS.items():
            if any(self.given.get(name) for name in names):
                return kind
        return next((kind for kind, names in _KINDS.items() if self.text(names[0])), "password")

    @functools.cached_property
    def settings(self) -> Settings:
        """sysreg.conf. Raises SettingsError."""
        from sysreg_cli.settings import load

        return load(environ=self.environ)

    def report(self, error: SysregError) -> None:
        """Show a failure now and go on; the process will end with the highest exit code reported."""
        show_error(str(error))
        self.exit_code = max(self.exit_code, error.exit_code)


def show_error(message: str) -> None:
    """One line on stderr; what a server or a user put into the message can't steer the terminal."""
    print(f"system: {printable(message)}", file=sys.stderr)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    name = parameter.name or ""
    if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        context.ensure_object(Invocation).given[name] = value


def _check_timeout(context: click.Context, parameter: click.Parameter, value: float | None) -> None:
    if value is not None and not 0 < value <= 86400:
        raise UsageError(f"--timeout: {value:g} is not a number of seconds between 0 and 86400")
    _remember(context, parameter, value)


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, **{"expose_value": False, "callback": _remember, **attributes})


def _output_options(hidden: bool) -> list[click.Parameter]:
    return [
        _option(
            "-f",
            "--format",
            type=click.Choice(FORMATS),
            hidden=hidden,
            help="How the result is shown; table if not given.",
        ),
        _option(
            "-c",
            "--column",
            "columns",
            multiple=True,
            metavar="NAME",
            hidden=hidden,
            help="Show this column only (repeat for more).",
        ),
    ]


def global_options(hidden: bool = False) -> list[click.Parameter]:
    """Debug, timeout, trust and credentials; hidden in the help of commands, shown in `system --help`."""
    return [
        _option("--debug", is_flag=True, hidden=hidden, help="Show the traceback of a failure."),
        _option(
            "--timeout",
            type=float,
            metavar="SECONDS",
            hidden=hidden,
            callback=_check_timeout,
            help="Time to connect, and between two bytes of an answer; 60 if not given.",
        ),
        *(
            _option(option, metavar=metavar, hidden=hidden, help=f"{text}  [{variable}]")
            for option, variable, metavar, text in _TEXTS
        ),
    ]


def group_options() -> list[click.Parameter]:
    """What stands before the command's name."""
    return [*_output_options(hidden=False), *global_options()]


class Command(click.Command):
    """A command that also takes the global options, and -f/-c if ``output`` says that it prints a result."""

    def __init__(self, *args: Any, output: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params = [*self.params, *_output_options(hidden=not output), *global_options(hidden=True)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from sysreg_cli.cli.manual import write_epilog

        write_epilog(self.name or "", formatter)


def command(name: str, *, output: bool = False) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command of `system`; its docstring is its help. Register it in ``commands.COMMANDS``."""

    def declare(function: Callable[..., Any]) -> Command:
        return click.command(name, cls=Command, output=output)(function)

    return declare
