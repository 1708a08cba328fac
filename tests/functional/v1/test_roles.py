"""Every call of the agent's API, over TLS and over the socket, by every kind of caller.

The calls are those of docs/contracts.rst, "The agent's API".
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from devstack.controller import Controller
from devstack.images import single
from devstack.programs import REGISTRY
from devstack.waiting import wait_until
from sysreg_cli.agent.identity import Role
from tests.functional.v1.conftest import Api, fault

LIST = "/v1/registry_image"
STATUS = "/v1/registry_image/garbage_collect"
INSTALL = "/v1/certificate/certificate_install"
FORM: dict[str, Any] = {"files": {"file": ("x.pem", b"nonsense")}, "data": {"mode": "docker_registry"}}

# Call -> the role it needs, and the status that whoever holds it gets: none of these changes anything.
CALLS: dict[tuple[str, str], tuple[Role, int]] = {
    ("GET", LIST): (Role.NONE, 200),
    ("GET", f"{LIST}?filter_out_untagged=1"): (Role.NONE, 200),
    ("GET", f"{LIST}?image_name=public/v1-app"): (Role.NONE, 200),
    ("DELETE", f"{LIST}?image_name_and_tag=no/such:v1"): (Role.ADMIN, 404),
    ("POST", f"{LIST}?garbage_collect=no"): (Role.OPERATOR, 400),
    ("GET", STATUS): (Role.READER, 200),
    ("DELETE", STATUS): (Role.OPERATOR, 404),
    ("GET", f"{LIST}/deleted"): (Role.NONE, 200),
    ("POST", f"{LIST}/restore"): (Role.NONE, 400),
    ("POST", f"{LIST}/prune?keep=1&dry_run=True"): (Role.ADMIN, 200),
    ("POST", f"{LIST}/prune"): (Role.ADMIN, 400),
    ("POST", f"{LIST}/prune?policy=True"): (Role.ADMIN, 404),
    ("POST", INSTALL): (Role.ADMIN, 200),
    ("GET", "/v1/certificate"): (Role.READER, 200),
    ("GET", "/v1/certificate/docker_registry"): (Role.READER, 200),
    ("GET", "/v1/certificate/no-such"): (Role.READER, 404),
}
# Role.NONE: known, but without a role in the configured project; a status: nobody may be that.
CALLERS: dict[str, Role | int] = {
    "admin": Role.ADMIN,
    "operator": Role.OPERATOR,
    "reader": Role.READER,
    "testuser": Role.NONE,
    "Upper": Role.NONE,
    # Administrators in another project, by role; sysinv also by name, with the token server.
    "sysinv": Role.NONE,
    "mtce": Role.NONE,
    "admin@Other": 403,
    "a wrong token": 401,
    "no token": 401,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_each_call_is_open_to_its_role_and_those_above(api: Api, images: list[str], caller: str) -> None:
    held = CALLERS[caller]
    if caller == "no token" and api.way == "socket":
        held = Role.ADMIN  # root, whom the kernel names
    who: dict[str, Any] = {"user": None if " " in caller else caller}
    if caller == "a wrong token":
        who["headers"] = {"X-Auth-Token": "gAAAAAnonsense"}
    for (method, target), (needed, status) in CALLS.items():
        answer = api.call(method, target, **who, **(FORM if target == INSTALL else {}))
        expected = int(held)
        if isinstance(held, Role):
            expected = status if held >= needed else 403
        assert answer.status_code == expected, (method, target, answer.text)
        if expected >= 400:
            assert fault(answer)
        if expected == 401:
            assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{api.controller.auth_url}"'
        if target == INSTALL and expected == 200:
            assert "certificate refused" in answer.json()["error"]


def test_a_collection_is_started_watched_and_cancelled(api: Api) -> None:
    name = f"docker.io/v1/{uuid.uuid4().hex}"
    client = api.controller.client()
    client.push(name, "v1", image := single(seed=name))
    client.delete(name, image.digest)
    # Somebody has just written, so it waits for a minute before it frees anything.
    started = api.call("POST", f"{LIST}?garbage_collect=True", "operator")
    assert (started.status_code, started.content) == (204, b"")
    identifier = started.headers["X-Collection-Id"]
    wait_until(lambda: api.call("GET", STATUS, "reader").json()["phase"] == "drain", 20)
    running = api.call("GET", STATUS, "reader").json()
    assert (running["state"], running["id"]) == ("running", identifier)
    assert 0 <= running["progress"] < 1

    second = api.call("POST", f"{LIST}?garbage_collect=True")
    assert second.status_code == 409
    assert "under way" in fault(second)

    assert api.call("DELETE", STATUS, "operator").status_code == 204
    wait_until(lambda: api.call("GET", STATUS).json()["state"] == "idle", 20)
    last = api.call("GET", STATUS, "reader").json()["last_result"]
    assert (last["id"], last["outcome"]) == (identifier, "cancelled")


def test_a_registry_that_refuses_or_is_away_is_told(controller: Controller, images: list[str]) -> None:
    ways = [Api(controller, "tls"), Api(controller, "socket")]
    delete = f"{LIST}?image_name_and_tag={images[0]}:v1"
    with controller.registry_config(storage={"maintenance": {"readonly": {"enabled": True}}}):
        for api in ways:
            refused = api.call("DELETE", delete)
            assert refused.status_code == 405
            assert "read-only" in fault(refused)
    calls = [("GET", f"{LIST}?image_name={images[0]}"), ("DELETE", delete)]
    controller.stop_program(REGISTRY)
    try:
        for api in ways:
            for method, target in calls:
                away = api.call(method, target)
                assert away.status_code == 503
                assert controller.address in fault(away)
                assert away.headers["Retry-After"]
            # the list of images comes from the storage
            assert api.call("GET", LIST).status_code == 200
    finally:
        controller.start_program(REGISTRY)
    assert controller.client().tags(images[0]) == ["v1"]


def test_a_request_that_is_too_long_is_413(api: Api) -> None:
    long: dict[str, Any] = {
        "files": {"file": ("x.pem", b"x" * 1_400_000)},
        "data": {"mode": "docker_registry"},
    }
    answer = api.call("POST", INSTALL, **long)
    assert answer.status_code == 413
    assert fault(answer)
