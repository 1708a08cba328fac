"""What the options and the environment of one run of `system` say."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sysreg_cli.cli import global_options
from sysreg_cli.cli.global_options import TextOption
from sysreg_cli.errors import CredentialsMissing, SysregError, UsageError
from sysreg_cli.text import printable

if TYPE_CHECKING:
    from sysreg_cli.settings import Settings

DEFAULT_TIMEOUT = 60.0


class CredentialKind(Enum):
    """How the caller proves who they are, with the options for it; the first option says whose they are."""

    TOKEN = (global_options.OS_AUTH_TOKEN,)
    APPLICATION_CREDENTIAL = (
        global_options.OS_APPLICATION_CREDENTIAL_ID,
        global_options.OS_APPLICATION_CREDENTIAL_SECRET,
    )
    PASSWORD = (global_options.OS_USERNAME, global_options.OS_PASSWORD)


@dataclass
class Invocation:
    """Options and environment of one run. The callbacks in ``options.py`` write the options."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    #: TextOptions on the command line, by name
    texts: dict[str, str] = field(default_factory=dict)
    debug: bool = False
    #: one of options.FORMATS
    format: str = "table"
    #: the columns that -c names; empty for all columns
    columns: Sequence[str] = ()
    #: the value of --sort-column, "" without this option
    sort_column: str = ""
    #: the value of --timeout, None without this option
    given_timeout: float | None = None
    #: the exit status if the command raises nothing; ``report`` sets it
    exit_code: int = 0

    @property
    def timeout(self) -> float:
        """Seconds to connect, and between two bytes of a response."""
        return self.given_timeout or DEFAULT_TIMEOUT

    def text(self, option: TextOption) -> str:
        """Return the option's value, else its variable's, else "".

        Raises UsageError for a value that is not UTF-8, unless it is the name of a file.
        """
        value = self.texts.get(option.name, self.environ.get(option.variable, ""))
        if option.metavar != "FILE":
            require_utf8(value, f"{option.flag} ({option.variable})")
        return value

    def required(self, option: TextOption) -> str:
        """Return ``text(option)``. Raises CredentialsMissing, naming option and variable, if it is ""."""
        if value := self.text(option):
            return value
        raise CredentialsMissing(
            f"no {option.name.removeprefix('os_').replace('_', ' ')} was given",
            next_step=f"set {option.variable} (source openrc), or give {option.flag}",
        )

    def password(self) -> str:
        """Return the password; ask a terminal for it if neither option nor variable gives it."""
        option = global_options.OS_PASSWORD
        if not self.text(option) and on_terminal():
            self.texts[option.name] = ask_secret(f"Password for {self.text(global_options.OS_USERNAME)}: ")
        return self.required(option)

    def token(self) -> str:
        """Return the Keystone token. Raises UsageError for a text that cannot be one."""
        token = self.text(global_options.OS_AUTH_TOKEN)
        if not (token.isascii() and token.isprintable()):
            raise UsageError("the Keystone token has characters that no token has")
        return token

    def credential_kind(self) -> CredentialKind:
        """Return the kind of credentials to use.

        A kind with an option on the command line goes before one that only the environment names.
        """
        for kind in CredentialKind:
            if any(self.texts.get(option.name) for option in kind.value):
                return kind
        return next((kind for kind in CredentialKind if self.text(kind.value[0])), CredentialKind.PASSWORD)

    def has_credential_options(self) -> bool:
        """Whether the command line names credentials, and not only the environment."""
        return any(option.name in self.texts for kind in CredentialKind for option in kind.value)

    @functools.cached_property
    def settings(self) -> Settings:
        """sysreg.conf. Raises SettingsError."""
        from sysreg_cli.settings import load

        return load(environ=self.environ)

    def report(self, error: SysregError) -> None:
        """Show a failure and go on. The process will end with the highest exit status reported."""
        show_error(str(error))
        self.exit_code = max(self.exit_code, error.exit_code)


def show_error(message: str) -> None:
    """Print one line on stderr. Control characters of a server or a user are escaped."""
    print(f"system: {printable(message)}", file=sys.stderr)


def require_utf8(value: str, what: str) -> None:
    """Raise UsageError that names ``what`` if the bytes behind ``value`` were not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not UTF-8") from None


def on_terminal() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_secret(prompt: str) -> str:
    """Ask on the terminal, without echo. Raises UsageError for a reply that is not UTF-8."""
    import getpass

    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except UnicodeDecodeError:
        raise UsageError(f"the reply to `{prompt.rstrip(': ')}` is not UTF-8") from None
