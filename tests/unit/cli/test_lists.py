"""Each command that prints a list takes --sort-column, and refuses what it cannot sort by."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable

import pytest

from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.options import Command
from tests.unit.cli.conftest import Outcome


def _commands() -> dict[str, Command]:
    places = {name: place.split(":") for name, (place, _) in COMMANDS.items()}
    return {name: getattr(importlib.import_module(module), it) for name, (module, it) in places.items()}


def _calls(command: Command, function: str) -> bool:
    """Whether the command calls a function, also through other functions of its module."""
    assert command.callback is not None
    module = inspect.getmodule(command.callback)
    assert module is not None
    functions = {
        it.name: it for it in ast.parse(inspect.getsource(module)).body if isinstance(it, ast.FunctionDef)
    }
    seen, pending = set(), [command.callback.__name__]
    while pending:
        name = pending.pop()
        if name in functions and name not in seen:
            seen.add(name)
            names = (node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name))
            pending += list(names)
        elif name == function:
            return True
    return False


# It shows what it installed: one object, but several for CA certificates in json.
_NO_LISTS = {"certificate-install"}
LISTS = sorted({name for name, command in _commands().items() if _calls(command, "show_list")} - _NO_LISTS)


def test_lists_are_found() -> None:
    assert {"certificate-list", "certificate-request", "registry-image-tags", "registry-usage"} <= set(LISTS)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_can_be_sorted(name: str) -> None:
    options = {option for parameter in _commands()[name].params for option in parameter.opts}
    assert "--sort-column" in options
    assert _calls(_commands()[name], "check_list"), "an unknown column is refused before anybody is asked"


def test_requests_are_sorted_only_as_a_list(system: Callable[..., Outcome]) -> None:
    code, _, error = system("certificate-request", "--sort-column", "uuid")
    assert (code, error) == (2, "system: --sort-column sorts a list; give --list, too\n")
    code, _, error = system("certificate-request", "--list", "--sort-column", "color")
    assert code == 2
    assert "--sort-column" in error
