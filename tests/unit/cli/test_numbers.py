"""Every option that takes a number or a time says in plain words what is expected."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest

from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.main import system as group
from sysreg_cli.cli.options import Number, Time, Timeout
from tests.unit.cli.conftest import Outcome

_EXPECTED = {
    Number: "is not a whole number",
    Time: "is not a time such as 45m, 12h, 30d or 8w",
    Timeout: "is not a number of seconds above 0",
}
_TEXTS = (click.types.StringParamType, click.Choice, click.types.BoolParamType)


def _options() -> list[tuple[str, click.Option]]:
    """Every option whose value is neither text nor a choice, with its command."""
    context = click.Context(group, info_name="system")
    commands = [group, *(group.get_command(context, name) for name in COMMANDS)]
    return [
        (command.name or "", option)
        for command in commands
        if command
        for option in command.params
        if isinstance(option, click.Option) and type(option.type) not in _TEXTS
    ]


_NUMBERS = _options()


@pytest.mark.parametrize(
    ("command", "option"), _NUMBERS, ids=[f"{command} {option.opts[0]}" for command, option in _NUMBERS]
)
def test_what_is_no_number_is_refused_with_what_is_expected(
    system: Callable[..., Outcome], command: str, option: click.Option
) -> None:
    flag = option.opts[0]
    for value in ("abc", "", "-1", "1e99", "99999999999999", "50%"):
        words = (flag, value, "registry-image-list") if command == "system" else (command, flag, value)
        code, out, err = system(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith(f"system: {flag}: {value!r} {_EXPECTED[type(option.type)]}")


def test_the_options_with_numbers_are_all_of_them() -> None:
    metavars = {"N", "SECONDS", "PERCENT", "TIME"}
    context = click.Context(group, info_name="system")
    shown = {
        (command.name, option.opts[0])
        for command in (group.get_command(context, name) for name in COMMANDS)
        if command
        for option in command.params
        if isinstance(option, click.Option) and option.metavar in metavars
    }
    assert shown == {(command, option.opts[0]) for command, option in _NUMBERS if command != "system"}


def test_the_limits_are_in_the_message(system: Callable[..., Outcome]) -> None:
    for value in ("abc", "601"):
        _, _, err = system("certificate-install", "-m", "ssl_ca", "--wait", value, "ca.pem")
        assert err == f"system: --wait: {value!r} is not a whole number of seconds from 0 to 600\n"
