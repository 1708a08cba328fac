"""Credentials as clients send them, and everything that only looks like some."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.errors import NotAuthenticated, UsageError
from sysreg_cli.token_server.credentials import Credentials, from_headers, from_pair


def basic(pair: str | bytes) -> str:
    return "Basic " + base64.b64encode(pair.encode() if isinstance(pair, str) else pair).decode()


def test_a_password_may_hold_colons_and_any_letters() -> None:
    got = from_headers(basic("testuser:a:b:\N{SNOWMAN} "), None)
    assert got == Credentials("password", "testuser", "a:b:\N{SNOWMAN} ")


def test_a_name_of_32_hexadecimal_digits_is_an_application_credential() -> None:
    assert from_pair("0123456789abcdef" * 2, "s").kind == "application_credential"
    for name in ("0123456789abcdef" * 2 + "0", "0123456789ABCDEF" * 2, "g" * 32):
        assert from_pair(name, "s").kind == "password"


def test_a_keystone_token_counts_where_no_password_is_sent() -> None:
    assert from_headers(None, "gAAAA").kind == "token"
    assert from_headers(basic("a:b"), "gAAAA").kind == "password"


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (None, None),
        (None, ""),
        (None, "has space"),
        (None, "x" * 9000),
        ("Bearer x", None),
        ("Negotiate", None),
        (basic(":"), None),
        (basic("user:"), None),
        (basic(":password"), None),
        (basic("u" * 256 + ":p"), None),
        (basic("u:" + "p" * 5000), None),
    ],
)
def test_no_usable_credentials_are_401(authorization: str | None, token: str | None) -> None:
    with pytest.raises(NotAuthenticated):
        from_headers(authorization, token)


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic !!!",
        "Basic YTpi=YTpi",
        basic("no colon"),
        basic(b"\xff\xfe:x"),
        basic("a\0b:x"),
        basic("a:\0"),
    ],
)
def test_malformed_credentials_are_400(authorization: str) -> None:
    with pytest.raises(UsageError):
        from_headers(authorization, None)


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(from_pair("testuser", "hush"))


@given(st.text(max_size=40))
def test_any_header_is_read_or_refused(header: str) -> None:
    for text in (header, f"Basic {header}", basic(header)):
        try:
            from_headers(text, None)
        except (NotAuthenticated, UsageError) as error:
            assert str(error).isprintable()
