"""No regular expression takes time that grows faster than the text: foreign text could stop a daemon."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

import sysreg_cli
from sysreg_cli import reference, settings
from sysreg_cli.errors import SysregError
from sysreg_cli.pki import pem
from sysreg_cli.registry.challenge import parse_bearer
from sysreg_cli.registry.pages import next_page
from sysreg_cli.token_server import credentials
from sysreg_cli.tokens.scope import parse_scopes

_SHORT, _FACTOR = 1_000, 16
#: Doubling the text doubles a linear time, and quadruples a quadratic one. Shorter times are noise.
_MAX_GROWTH, _NOISE = _FACTOR**1.6, 0.01
_UNITS = (
    *" \t\n,;:./=@-_\"'\\<>[]()#%*",
    "a",
    "A",
    "0",
    "a.",
    "a,",
    "a-",
    "a=",
    'a="',
    "a=a,",
    "\\a",
    "a ",
    ". ",
)


def _patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    for module in pkgutil.walk_packages(sysreg_cli.__path__, "sysreg_cli."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value


def _texts(length: int) -> Iterator[str]:
    """Long rows of each unit, alone and where they can't match because of what comes before or behind."""
    for unit in _UNITS:
        row = unit * (length // len(unit))
        yield from (row, f"{row}\0", f"a{row}\0", f"Bearer a{row}\0", f"<{row}", f'a="{row}\0')


def _seconds(call: Callable[[str], object], text: str) -> float:
    begin = time.process_time()
    with suppress(SysregError, ValueError):
        call(text)
    return time.process_time() - begin


def _check(call: Callable[[str], object]) -> None:
    for short, long in zip(_texts(_SHORT), _texts(_SHORT * _FACTOR), strict=True):
        if (took := _seconds(call, long)) < _NOISE:
            continue
        # once more: something else may have disturbed it
        took = min(took, _seconds(call, long))
        before = max(min(_seconds(call, short) for _ in range(3)), _NOISE / _FACTOR)
        assert took <= _MAX_GROWTH * before, (short[:30], before, took)


@pytest.mark.parametrize(("name", "pattern"), list(_patterns()))
def test_no_pattern_takes_quadratic_time(name: str, pattern: re.Pattern[str] | re.Pattern[bytes]) -> None:
    if isinstance(pattern.pattern, bytes):
        binary: re.Pattern[bytes] = pattern
        _check(lambda text: (binary.match(text.encode()), binary.fullmatch(text.encode())))
    else:
        plain: re.Pattern[str] = pattern
        _check(lambda text: (plain.match(text), plain.fullmatch(text)))


@pytest.mark.parametrize(
    "parse",
    [
        lambda text: parse_bearer([text]),
        lambda text: next_page("https://registry.local:9001/v2/_catalog", text),
        reference.parse,
        lambda text: parse_scopes([text]),
        lambda text: credentials.from_headers(text, None),
        lambda text: settings.parse(f"[registry]\nhost_names = {text}", "x"),
        lambda text: pem.split(text.encode()),
    ],
    ids=["challenge", "link", "reference", "scope", "credentials", "host names", "PEM"],
)
def test_no_parser_of_foreign_text_does(parse: Callable[[str], object]) -> None:
    _check(parse)
