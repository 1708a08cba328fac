"""Bytes that are not UTF-8, in arguments and in the environment: never an internal error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from sysreg_cli.cli.commands import COMMANDS
from sysreg_cli.cli.global_options import TEXT_OPTIONS, TextOption
from tests.unit.cli.conftest import Outcome
from tools import write_reference

pytestmark = pytest.mark.usefixtures("no_pauses")

EVERY = write_reference.commands()
# what Python makes of the byte ff in an argument or a variable
ODD = os.fsdecode(b"a\xff")
NOWHERE = {"SYSREG_REGISTRY": "localhost:1", "SYSREG_AGENT": "/nowhere", "OS_AUTH_URL": "http://localhost:1"}
TEXTS = [option for option in TEXT_OPTIONS if option.metavar != "FILE"]


def line(outcome: Outcome) -> tuple[int, str]:
    """The exit status, and the one line on stderr."""
    code, _, err = outcome
    assert code in (1, 2)
    assert err.count("\n") == 1
    assert "internal error" not in err
    return code, err


@pytest.mark.parametrize("option", TEXTS, ids=lambda option: option.variable)
@pytest.mark.parametrize("command", ["registry-image-list", "certificate-list"])
def test_a_variable_is_named_if_it_is_used(
    system: Callable[..., Outcome], command: str, option: TextOption
) -> None:
    environ = {**NOWHERE, "OS_PROJECT_NAME": "admin", option.variable: ODD}
    if option.variable == "OS_APPLICATION_CREDENTIAL_SECRET":
        environ["OS_APPLICATION_CREDENTIAL_ID"] = "1f"
    code, err = line(system(command, **environ))
    if code == 2:
        assert option.variable in err
    if command == "registry-image-list" and option.variable in ("OS_USERNAME", "OS_PASSWORD"):
        assert code == 2


@pytest.mark.parametrize("variable", ["SYSREG_REGISTRY_CA", "OS_CACERT", "SYSREG_CONF"])
def test_the_name_of_a_file_may_be_of_any_bytes(
    system: Callable[..., Outcome], tmp_path: Path, ca_file: Path, variable: str
) -> None:
    path = os.path.join(tmp_path, ODD)  # noqa: PTH118
    Path(path).write_bytes(b"" if variable == "SYSREG_CONF" else ca_file.read_bytes())
    _, err = line(system("registry-image-list", **NOWHERE, **{variable: path}))
    assert "connection refused" in err


def cases() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        parameters = EVERY[name].params
        arguments = [parameter for parameter in parameters if isinstance(parameter, click.Argument)]
        filled = tuple("alpine:v1" for _ in arguments)
        required = ("-m", "ssl_ca") if name == "certificate-install" else ()
        found += [(name, ODD, *required)] if arguments else []
        for option in parameters:
            if isinstance(option, click.Option) and not option.is_flag:
                found.append((name, *required, *filled, option.opts[0], ODD))
    return found


@pytest.mark.parametrize("words", cases(), ids=lambda words: " ".join(words).replace(ODD, "odd"))
def test_no_argument_is_an_internal_error(system: Callable[..., Outcome], words: tuple[str, ...]) -> None:
    code, out, err = system(*words, **NOWHERE)
    if code == 0:  # a command that reads no variable, such as help, uses no option but its own
        assert not EVERY[words[0]].variables
        return
    line((code, out, err))


def test_a_passphrase_is_named(system: Callable[..., Outcome], ca_file: Path) -> None:
    for words, environ in ((["-p", ODD], {}), ([], {"SYSREG_PASSPHRASE": ODD})):
        arguments = ["certificate-install", "-m", "ssl_ca", str(ca_file), *words]
        code, err = line(system(*arguments, **NOWHERE, **environ))
        assert code == 2
        assert "SYSREG_PASSPHRASE" in err
