"""Whether a token was refused because of a clock."""

from __future__ import annotations

import time
from email.utils import formatdate

import jwt
import pytest

from sysreg_cli.tokens.times import REGISTRY_LEEWAY, wrong_clock


def token_at(now: int) -> str:
    claims = {"iat": now, "nbf": now, "exp": now + 5}
    return jwt.encode(claims, "k" * 32, algorithm="HS256")


@pytest.mark.parametrize(
    ("offset", "says"),
    [
        (-3600, "3600 s behind that of the token server"),
        (-REGISTRY_LEEWAY - 1, "61 s behind"),
        (-REGISTRY_LEEWAY, ""),
        (0, ""),
        (REGISTRY_LEEWAY + 5, ""),
        (REGISTRY_LEEWAY + 6, "66 s ahead of"),
        (86400, "86400 s ahead of"),
    ],
)
def test_the_difference_is_told_if_it_is_more_than_the_registry_tolerates(offset: int, says: str) -> None:
    now = int(time.time())
    told = wrong_clock(token_at(now), formatdate(now + offset, usegmt=True))
    assert bool(told) == bool(says)
    assert says in told


@pytest.mark.parametrize(
    "token", ["", "a.b.c", "a.e30.c", "a.eyJpYXQiOiAxZTk5OX0.c", "a.W10.c", "a." + "W" * 9999]
)
@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 26 Nov 2026 18:00:00 GMT"])
def test_what_cannot_be_read_says_nothing(token: str, date: str) -> None:
    assert wrong_clock(token, date) == ""


def test_a_date_that_cannot_be_read_says_nothing() -> None:
    assert wrong_clock(token_at(int(time.time())), "Thu, 99 Nov 2026 18:00:00 GMT") == ""
