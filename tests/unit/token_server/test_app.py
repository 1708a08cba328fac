"""The token API without a network: answers, errors, the write lock, and whatever nonsense may arrive."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sysreg_cli.errors import NotAuthenticated, Unavailable
from sysreg_cli.token_server.app import _parse
from sysreg_cli.token_server.credentials import Credentials
from sysreg_cli.token_server.keystone import Authentication
from sysreg_cli.tokens.grants import Identity
from sysreg_cli.tokens.write_lock import RECORD_NAME
from tests.unit.token_server.asgi import Response, Server, basic, call
from tests.unit.token_server.fakes import FORM, PULL, PUSH, keystone, message, run


def test_a_read_token_lives_as_long_as_it_is_said_to(server: Server) -> None:
    response = run(server.get(PULL, basic("testuser")))
    answer = response.json()
    assert response.status == 200
    assert answer["token"] == answer["access_token"]
    assert set(answer) == {"token", "access_token", "expires_in"}
    assert answer["expires_in"] == 300
    assert response.claims()["exp"] - response.claims()["iat"] == 300
    assert response.access() == ["repository:testuser/a:pull"]
    assert response.headers["cache-control"] == "no-store"


def test_a_write_token_expires_soon_though_clients_keep_it_60_s(server: Server, tmp_path: Path) -> None:
    response = run(
        server.get(PUSH + "&offline_token=true&account=testuser&client_id=docker", basic("testuser"))
    )
    assert response.json()["expires_in"] == 60
    assert "refresh_token" not in response.json()
    assert "issued_at" not in response.json()
    assert response.claims()["exp"] - response.claims()["iat"] == 5
    assert float((tmp_path / RECORD_NAME).read_text()) >= response.claims()["iat"]


def test_reads_leave_no_record_of_a_write(server: Server, tmp_path: Path) -> None:
    assert run(server.get(PULL, basic("testuser"))).status == 200
    # Asked for, but not allowed: that is a read token too.
    assert (
        run(server.get("scope=repository:public/a:push,pull", basic("testuser"))).json()["expires_in"] == 300
    )
    assert run(server.get("scope=registry:catalog:*", basic("admin"))).json()["expires_in"] == 300
    assert not (tmp_path / RECORD_NAME).exists()


def test_what_is_not_allowed_is_left_out_of_the_token(server: Server) -> None:
    query = "scope=repository:testuser/a:push,pull&scope=repository:other/b:pull&scope=registry:catalog:*"
    assert run(server.get(query, basic("testuser"))).access() == ["repository:testuser/a:push,pull"]


def test_a_login_asks_for_no_scope(server: Server) -> None:
    assert run(server.get("service=registry.local:9001", basic("testuser"))).access() == []


def test_post_takes_the_password_in_a_form_that_may_come_in_pieces(server: Server) -> None:
    form = urlencode(
        {
            "grant_type": "password",
            "username": "testuser",
            "password": "right",
            "service": "registry.local:9001",
            "client_id": "containerd",
            "scope": "repository:testuser/a:pull repository:public/b:pull",
        }
    ).encode()
    parts = [form[:20], form[20:]]
    for path in ("/token", "/token/"):
        response = run(call(server.app, "POST", path, headers=[FORM], body=parts))
        assert response.access() == ["repository:testuser/a:pull", "repository:public/b:pull"]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (b"", 400),
        (b"grant_type=refresh_token&refresh_token=x", 400),
        (b"grant_type=password", 401),
        (b"grant_type=password&username=a&username=b&password=c", 400),
        (b"grant_type=password&username=testuser&password=wrong", 401),
        (b"grant_type=password&username=%00&password=%00", 400),
        (b"grant_type=password&username=testuser&password=right&scope=nonsense", 400),
        (b"&".join(b"a%d=b" % number for number in range(2000)), 400),
        (b"x" * 70000, 400),
    ],
)
def test_bad_forms(server: Server, form: bytes, status: int) -> None:
    response = run(call(server.app, "POST", headers=[FORM], body=[form]))
    assert response.status == status
    assert message(response)


def test_a_post_of_something_else_is_refused(server: Server) -> None:
    headers = [(b"content-type", b"application/json")]
    assert run(call(server.app, "POST", headers=headers, body=[b"{}"])).status == 400


def test_nobody_gets_a_challenge(server: Server) -> None:
    response = run(server.get(PULL))
    assert response.status == 401
    assert response.headers["www-authenticate"].startswith('Basic realm="registry.local:9001"')
    assert response.json()["errors"][0]["code"] == "UNAUTHORIZED"


def test_a_name_that_owns_nothing_is_told_why(server: Server) -> None:
    response = run(server.get(PULL, basic("Upper")))
    assert response.status == 403
    assert "'Upper' can't use the registry: a user owns the images below USER/" in message(response)


def test_keystone_down_is_503_and_a_known_user_goes_on(server: Server) -> None:
    assert run(server.get(PULL, basic("testuser"))).status == 200

    def down(credentials: Credentials) -> Authentication:
        raise Unavailable("Keystone can't be asked")

    server.keystone.answer = down
    assert run(server.get(PULL, basic("testuser"))).status == 200
    response = run(server.get(PULL, basic("other")))
    assert response.status == 503
    assert int(response.headers["retry-after"]) > 0
    # The outage isn't held against anybody.
    server.keystone.answer = keystone
    assert run(server.get(PULL, basic("other"))).status == 200


def test_a_refused_pair_is_asked_once_and_the_answer_says_how_to_go_on(server: Server) -> None:
    for _ in range(5):
        response = run(server.get(PULL, basic("testuser", "stale")))
        assert response.status == 401
        assert "not tried again for 10 min" in message(response)
        assert "systemctl reload sysreg-token-server" in message(response)
    assert len(server.keystone.asked) == 1
    run(server.get(PULL, basic("TestUser")))
    run(server.get(PULL, basic("testuser", "stale")))
    assert len(server.keystone.asked) == 3
    server.authenticator.forget_refusals()
    run(server.get(PULL, basic("testuser", "stale")))
    assert len(server.keystone.asked) == 4


def test_a_login_with_a_token_forgets_no_refused_token_of_others(tmp_path: Path) -> None:
    def answer(credentials: Credentials) -> Authentication:
        if credentials.secret.startswith("stale"):
            raise NotAuthenticated("Keystone refused the token")
        return Authentication(Identity("testuser"), 3600)

    server = Server(tmp_path, answer)
    for token, status in (("stale", 401), ("right", 200), ("stale", 401)):
        assert run(server.get(PULL, (b"x-auth-token", token.encode()))).status == status
    assert len(server.keystone.asked) == 2


def test_a_hundred_logins_at_once_ask_keystone_once(server: Server) -> None:
    gate = threading.Event()

    def slow(credentials: Credentials) -> Authentication:
        gate.wait(10)
        return keystone(credentials)

    server.keystone.answer = slow

    async def many() -> list[Response]:
        tasks = [asyncio.create_task(server.get(PULL, basic("testuser"))) for _ in range(100)]
        tasks[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks[1:])

    assert {response.status for response in asyncio.run(many())} == {200}
    assert len(server.keystone.asked) == 1


def test_a_keystone_that_hangs_is_503_and_its_late_response_counts(tmp_path: Path) -> None:
    server = Server(tmp_path, keystone, keystone_wait=0.1)
    answered = threading.Event()

    def slow(credentials: Credentials) -> Authentication:
        answered.wait(10)
        return keystone(credentials)

    server.keystone.answer = slow

    async def story() -> None:
        response = await server.get(PULL, basic("testuser"))
        assert response.status == 503
        assert "has not answered" in message(response)
        answered.set()
        while (await server.get(PULL, basic("testuser"))).status != 200:
            await asyncio.sleep(0.01)
        assert len(server.keystone.asked) == 1

    asyncio.run(asyncio.wait_for(story(), 20))


# Logs and nonsense


def test_every_decision_is_one_line_of_json_without_secrets(server: Server) -> None:
    many = "+".join(f"repository:a{number}:pull" for number in range(100))
    run(server.get(PUSH, basic("testuser"), (b"user-agent", b"skopeo\x1b[31m\n")))
    run(server.get(PULL, basic("testuser", "hush-hush")))
    run(server.get(f"scope={many}", basic("admin")))
    written = server.log.getvalue().decode()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["status"] for line in lines] == [200, 401, 200]
    assert lines[0]["user"] == "testuser"
    assert lines[0]["granted"] == ["repository:testuser/a:push,pull"]
    assert lines[0]["client"] == "192.0.2.1"
    assert lines[1]["reason"].startswith("Keystone refused")
    assert lines[2]["asked"][-1] == "and 92 more"
    assert written.replace("\n", "").isprintable()
    assert "hush-hush" not in written


def test_refusals_of_a_client_are_summed_up_and_what_succeeds_is_always_written(server: Server) -> None:
    async def story() -> None:
        for number in range(200):
            await server.get(PULL, basic("testuser", "stale"), client=f"2001:db8::{number}")
            await server.get(PULL)
            assert (await server.get(PULL, basic("testuser"))).status == 200
        await server.get(PULL, client="192.0.2.2")
        server.decisions.close()

    asyncio.run(story())
    lines = [json.loads(line) for line in server.log.getvalue().splitlines()]
    assert sum(line.get("status") == 200 for line in lines) == 200
    assert sum(line.get("status") == 401 for line in lines) == 10 + 10 + 1
    sums = {line["client"]: line["not_written"] for line in lines if line["event"] == "refusals"}
    assert sums == {"2001:db8::/64": {"401": 190}, "192.0.2.1": {"401": 190}}


def test_a_mistake_of_ours_is_500_in_json_and_one_line_that_says_where(server: Server) -> None:
    def broken(credentials: Credentials) -> Authentication:
        raise RuntimeError(f"oops {credentials.secret}")

    server.keystone.answer = broken
    response = run(server.get(PULL, basic("testuser", "hush-hush")))
    assert response.status == 500
    assert message(response) == "internal error of the token server"
    assert "RuntimeError at " in server.log.getvalue().decode()
    assert "hush-hush" not in server.log.getvalue().decode()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/token/x", 404), ("DELETE", "/token/", 405), ("PUT", "/health", 405)],
)
def test_other_paths_and_methods(server: Server, method: str, path: str, status: int) -> None:
    response = run(call(server.app, method, path))
    assert response.status == status
    assert message(response)


def test_health(server: Server) -> None:
    health = run(call(server.app, path="/health")).json()
    assert re.fullmatch("[0-9a-f]{64}", health.pop("signing_key"))
    assert health == {"status": "ok", "held": 0, "refused_logins": 0}


def test_health_counts_the_credentials_that_keystone_refused(server: Server) -> None:
    def refuse(_credentials: Credentials) -> Authentication:
        raise NotAuthenticated("Keystone refused them")

    server.keystone.answer = refuse
    for password in ("one", "two", "two"):
        assert run(server.get(PULL, basic("testuser", password))).status == 401
    assert run(call(server.app, path="/health")).json()["refused_logins"] == 2


octets = st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
fields = st.sampled_from(
    [b"scope=", b"service=", b"account=", b"&", b"%", b"%00", b"%ff", b":", b"grant_type=password&"]
)
messy = st.lists(octets | fields, max_size=12).map(b"".join)


@given(
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    query=messy,
    authorization=st.none() | octets | messy.map(lambda data: b"Basic " + data),
    token=st.none() | octets,
    kind=st.sampled_from([FORM[1], b"", b"application/json", b"\xff"]),
    body=st.lists(messy, max_size=3),
)
@example("GET", b"scope=" + b"repository:a:pull+" * 3000, b"Basic YTpyaWdodA==", None, b"", [])
@example("GET", b"x" * 200000, b"Basic YTpyaWdodA==", None, b"", [])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_is_answered_with_500(
    server: Server,
    method: str,
    query: bytes,
    authorization: bytes | None,
    token: bytes | None,
    kind: bytes,
    body: list[bytes],
) -> None:
    headers = [(b"content-type", kind)]
    headers += [(b"authorization", authorization)] if authorization is not None else []
    headers += [(b"x-auth-token", token)] if token is not None else []
    response = run(call(server.app, method, query=query, headers=headers, body=body))
    assert response.status in (200, 400, 401, 403)
    assert json.loads(response.body)


def test_whatever_an_authenticated_user_asks_is_answered_well(server: Server) -> None:
    @given(st.lists(messy, max_size=4))
    def ask(parts: list[bytes]) -> None:
        query = b"&".join(b"scope=" + part for part in parts)
        response = run(call(server.app, query=query, headers=[basic("testuser")]))
        assert response.status in (200, 400)

    ask()


def test_a_form_may_hold_utf_8_as_it_is() -> None:
    assert _parse("password=p\u00e4&username=a".encode()) == _parse(b"password=p%C3%A4&username=a")
