"""Which registry tokens the agent accepts, and what they let their senders do."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.responses import Response

from sysreg_cli.agent.app import build
from sysreg_cli.agent.context import AgentContext
from sysreg_cli.agent.identity import Caller, CallerAuthenticator, Peer, Role
from sysreg_cli.agent.registry_token import caller_with
from sysreg_cli.errors import NotAuthenticated, SettingsError
from sysreg_cli.settings import Settings, TokenServerSettings
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.grants import Grants
from tests.unit.token_server import asgi
from tests.unit.tokens.test_signer import certificate_of, settings_with

KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
GRANTS = Grants(TokenServerSettings())
PULL = {"type": "repository", "name": "a/b", "actions": ["pull"]}
#: takes the time now, and returns claims to change; None removes one
Changes = Callable[[int], dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = settings_with(tmp_path, KEY, certificate_of(KEY))
    settings.token_server.trust_bundle.write_bytes(certificate_of(KEY))
    return settings


def token(changes: dict[str, Any] | None = None, key: Any = KEY, algorithm: str = "ES256") -> str:
    now = int(time.time())
    claims = {
        "iss": "sysreg-token-server",
        "sub": "testuser",
        "aud": "registry.local:9001",
        "exp": now + 5,
        "nbf": now,
        "iat": now,
        "access": [PULL],
        **(changes or {}),
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm)


def with_header(header: str) -> str:
    """Return a token with another header and a signature that does not fit it."""
    encoded = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
    return ".".join((encoded, *token().split(".")[1:]))


def test_a_token_of_the_token_server_names_its_sender_and_what_they_may_do(settings: Settings) -> None:
    caller = caller_with(token(), settings)
    assert caller == Caller("testuser", Role.NONE, access=(Access("repository", "a/b", ("pull",)),))


def test_it_is_accepted_for_as_long_as_the_registry_accepts_it(settings: Settings) -> None:
    now = int(time.time())
    assert caller_with(token({"exp": now - 50}), settings)
    with pytest.raises(NotAuthenticated, match="has expired"):
        caller_with(token({"exp": now - 61}), settings)
    with pytest.raises(NotAuthenticated, match="not valid yet; set the clocks"):
        caller_with(token({"nbf": now + 100}), settings)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "other.local:9001"}, "is not for registry.local:9001"),
        ({"aud": None}, "lacks a claim"),
        ({"iss": "somebody"}, "is not of the token server"),
        ({"exp": None}, "lacks a claim"),
        ({"exp": "soon"}, "cannot be read"),
        ({"nbf": None}, "lacks a claim"),
        ({"sub": None}, "lacks a claim"),
        ({"access": None}, "lacks a claim"),
        ({"access": ["pull"]}, "unusable claim access"),
        ({"access": [{"type": "repository", "name": "a/b"}]}, "unusable claim access"),
        ({"access": 1}, "unusable claim access"),
    ],
)
def test_a_token_with_other_claims_is_refused(settings: Settings, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(NotAuthenticated, match=why):
        caller_with(token(changes), settings)


def test_a_signature_of_anybody_else_is_refused(settings: Settings) -> None:
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, claims, signature = token().split(".")
    forged = [
        token(key=OTHER_KEY),
        token(key=None, algorithm="none"),
        # the public key is no secret
        token(key=base64.b64encode(public), algorithm="HS256"),
        token(key=ec.generate_private_key(ec.SECP384R1()), algorithm="ES384"),
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{token({'sub': 'admin'}).split('.')[1]}.{signature}",
        with_header('{"alg":"none"}'),
    ]
    for text in forged:
        with pytest.raises(NotAuthenticated, match="is not of the token server"):
            caller_with(text, settings)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "gAAAAA", "a.b.c", "é.é.é", "\0", "x" * 60_000]
    + [
        with_header(header)
        for header in ("[]", "{", '{"alg":[]}', "[" * 20_000, '{"alg":' + "9" * 5000 + "}")
    ],
)
def test_what_is_no_token_is_refused(settings: Settings, text: str) -> None:
    with pytest.raises(NotAuthenticated):
        caller_with(text, settings)


def test_in_a_rollover_the_tokens_of_both_keys_are_accepted(settings: Settings) -> None:
    settings.token_server.trust_bundle.write_bytes(certificate_of(OTHER_KEY) + certificate_of(KEY))
    for key in (KEY, OTHER_KEY):
        assert caller_with(token(key=key), settings).name == "testuser"


def test_without_the_registrys_certificates_no_token_is_accepted(settings: Settings) -> None:
    bundle = settings.token_server.trust_bundle
    bundle.write_text("none")
    with pytest.raises(SettingsError, match=r"trusted.crt: holds no certificate.*run sysreg-deploy"):
        caller_with(token(), settings)
    bundle.unlink()
    with pytest.raises(SettingsError, match=r"trusted.crt: No such file"):
        caller_with(token(), settings)


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [
        ([], set()),
        (["pull"], {"pull"}),
        (["pull", "delete"], {"pull", "delete"}),
        (["*"], {"pull", "push", "delete"}),
    ],
)
def test_the_access_of_the_token_alone_decides(
    settings: Settings, actions: list[str], allowed: set[str]
) -> None:
    # an administrator and the owner of admin/..., by name
    caller = caller_with(token({"sub": "admin", "access": [{**PULL, "actions": actions}]}), settings)
    assert {it for it in ("pull", "push", "delete") if caller.may(it, "a/b", GRANTS)} == allowed
    for other in ("a", "a/b/c", "a/B", "admin/own", "public/any"):
        assert not caller.may("pull", other, GRANTS)
    assert not caller.may_list_all(GRANTS)


def test_access_to_the_catalog_lists_all_and_pulls_nothing(settings: Settings) -> None:
    caller = caller_with(
        token({"access": [{"type": "registry", "name": "catalog", "actions": ["*"]}]}), settings
    )
    assert caller.may_list_all(GRANTS)
    assert not caller.may_pull("a/b", GRANTS)
    named_like_it = [{"type": "repository", "name": "catalog", "actions": ["*"]}]
    assert not caller_with(token({"access": named_like_it}), settings).may_list_all(GRANTS)


def _call(
    settings: Settings, headers: dict[str, str], role: Role, *, registry_tokens: bool
) -> tuple[int, str]:
    """Call a route as root on the unix socket. Return the status, and who called or why it was refused."""

    async def name(_request: Request, caller: Caller) -> Response:
        return Response(caller.name)

    context = AgentContext(settings, CallerAuthenticator(settings.keystone))
    route = context.route("GET", "/v1/thing", name, role, action="thing", registry_tokens=registry_tokens)
    app = build([route])

    async def with_root(scope: Any, receive: Any, send: Any) -> None:
        sent = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
        root = {"peer": Peer(7, 0, 0)}
        await app({**scope, "headers": sent, "state": root, "client": None}, receive, send)

    response = asyncio.run(asgi.call(with_root, path="/v1/thing"))
    if response.status == 200:
        return 200, response.body.decode()
    return response.status, json.loads(response.json()["error_message"])["faultstring"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_decides_also_for_root_on_the_socket(settings: Settings, scheme: str) -> None:
    sent = {"Authorization": f"{scheme} {token()}"}
    assert _call(settings, sent, Role.NONE, registry_tokens=True) == (200, "testuser")
    assert _call(settings, {}, Role.NONE, registry_tokens=True) == (200, "root")
    assert _call(settings, {"Authorization": "Bearer"}, Role.NONE, registry_tokens=True)[0] == 401


def test_a_call_that_needs_a_role_takes_no_registry_token(settings: Settings) -> None:
    sent = {"Authorization": f"Bearer {token({'sub': 'admin'})}"}
    status, why = _call(settings, sent, Role.READER, registry_tokens=False)
    assert (status, why) == (401, "this call takes no registry token; send a Keystone token as X-Auth-Token")
    assert _call(settings, sent, Role.READER, registry_tokens=True)[0] == 403


def test_a_keystone_token_beside_it_decides(settings: Settings) -> None:
    sent = {"Authorization": f"Bearer {token()}", "X-Auth-Token": "x" * 9000}
    status, why = _call(settings, sent, Role.NONE, registry_tokens=True)
    assert (status, why) == (401, "X-Auth-Token is not a Keystone token")
