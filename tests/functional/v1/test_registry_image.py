"""The registry_image calls, over TLS and over the socket, for every role.

The calls are those of docs/contracts.rst, "The agent's API".
"""

from __future__ import annotations

import uuid

import pytest

from devstack.controller import Controller
from devstack.endpoints import HOST_NAME
from devstack.images import single
from devstack.programs import AGENT
from devstack.waiting import wait_until
from sysreg_cli.tokens.write_lock import WriteLock
from tests.functional.v1.conftest import Api, fault

LIST = "/v1/registry_image"
STORED = "/v1/registry_image/stored_tags"


def names(api: Api, user: str | None = "admin", query: str = "") -> list[str]:
    answer = api.call("GET", LIST + query, user)
    assert answer.status_code == 200, answer.text
    entries = answer.json()["registry_images"]
    assert all(entry["tag"] is None for entry in entries)
    return [entry["name"] for entry in entries]


def tags(api: Api, image: str, user: str = "admin") -> list[dict[str, str]]:
    answer = api.call("GET", f"{LIST}?image_name={image}", user)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = answer.json()["registry_images"]
    return found


@pytest.fixture
def own(controller: Controller) -> str:
    """A repository of this test's own, with the tags v1 and v2 on the same image."""
    name = f"docker.io/v1/{uuid.uuid4().hex}"
    client = controller.client()
    client.push(name, "v1", single(seed=name))
    client.push(name, "v2", single(seed=name))
    return name


def test_an_administrator_sees_every_image(api: Api, images: list[str]) -> None:
    assert set(images) <= set(names(api))


def test_root_on_the_socket_needs_no_token(controller: Controller, images: list[str]) -> None:
    assert set(images) <= set(names(Api(controller, "socket"), None))


@pytest.mark.parametrize(
    ("user", "seen"),
    [
        ("testuser", {"testuser/v1-app", "public/v1-app"}),
        ("testuser2", {"testuser2/v1-app", "public/v1-app"}),
        ("reader", {"public/v1-app"}),
        ("operator", {"public/v1-app"}),
        ("mtce", {"public/v1-app"}),
        # an administrator of the token server, by name
        ("sysinv", {"docker.io/v1/app", "testuser/v1-app", "testuser2/v1-app", "public/v1-app"}),
        ("Upper", set()),
    ],
)
def test_whoever_is_no_administrator_sees_what_they_may_pull(
    api: Api, images: list[str], user: str, seen: set[str]
) -> None:
    assert set(names(api, user)) & set(images) == seen


def test_untagged_images_can_be_filtered_out(api: Api, own: str, controller: Controller) -> None:
    digest = controller.client().digest(own, "v1")
    assert digest is not None
    controller.client().delete(own, digest)
    assert own in names(api)
    assert own in names(api, query="?filter_out_untagged=0")
    for value in ("1", "True", "true"):
        assert own not in names(api, query=f"?filter_out_untagged={value}")


def test_tags_are_one_entry_each(api: Api, own: str) -> None:
    assert tags(api, own) == [{"name": own, "tag": "v1"}, {"name": own, "tag": "v2"}]
    assert tags(api, f"{api.controller.address}/{own}") == tags(api, own)


@pytest.mark.parametrize("image", ["no/such/image", "nosuchimage"])
def test_an_unknown_image_has_no_tags(api: Api, image: str) -> None:
    assert tags(api, image) == []


def test_an_image_of_somebody_else_looks_like_an_unknown_one(api: Api, images: list[str]) -> None:
    assert tags(api, "testuser/v1-app", "testuser2") == []
    assert tags(api, "testuser/v1-app", "testuser") == [{"name": "testuser/v1-app", "tag": "v1"}]


def test_a_delete_takes_that_tag_and_no_other(api: Api, own: str) -> None:
    answer = api.call("DELETE", f"{LIST}?image_name_and_tag={own}:v1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert tags(api, own) == [{"name": own, "tag": "v2"}]
    assert api.controller.client().is_whole(own, "v2")


@pytest.mark.parametrize("user", ["testuser", "reader", "operator", "sysinv", "mtce"])
def test_only_the_role_admin_may_delete(api: Api, images: list[str], user: str) -> None:
    answer = api.call("DELETE", f"{LIST}?image_name_and_tag=testuser/v1-app:v1", user)
    assert answer.status_code == 403
    assert "admin" in fault(answer)
    assert api.controller.client().tags("testuser/v1-app") == ["v1"]


@pytest.mark.parametrize(
    ("method", "query", "status", "reason"),
    [
        ("DELETE", "?image_name_and_tag=docker.io/v1/app:nosuch", 404, "docker.io/v1/app:nosuch"),
        ("DELETE", "?image_name_and_tag=no/such:v1", 404, "no/such:v1"),
        ("DELETE", "?image_name_and_tag=docker.io/v1/app", 400, "tag"),
        ("DELETE", "?image_name_and_tag=", 400, "image_name_and_tag"),
        ("DELETE", "", 400, "image_name_and_tag"),
        ("DELETE", "?image_name_and_tag=Not/Valid:v1", 400, "lower case"),
        ("GET", "?image_name=", 400, "image_name"),
        ("GET", "?image_name=a%00b", 400, "a-z"),
        ("GET", "?image_name=docker.io/v1/app:v1", 400, "tag"),
        ("GET", "?filter_out_untagged=maybe", 400, "filter_out_untagged"),
        ("PUT", "", 405, ""),
    ],
)
def test_a_wrong_request_is_answered_with_the_reason(
    api: Api, images: list[str], method: str, query: str, status: int, reason: str
) -> None:
    answer = api.call(method, LIST + query)
    assert answer.status_code == status
    assert reason in fault(answer)


def test_without_a_valid_token_nothing_is_answered(controller: Controller, api: Api) -> None:
    answer = api.call("GET", LIST, None, headers={"X-Auth-Token": "wrong"})
    assert answer.status_code == 401
    assert "token" in fault(answer)
    if api.way == "tls":
        assert api.call("GET", LIST, None).status_code == 401


def test_while_a_collection_holds_the_write_lock_a_delete_is_503_and_lists_go_on(api: Api, own: str) -> None:
    with WriteLock(api.controller.paths.state).hold():
        answer = api.call("DELETE", f"{LIST}?image_name_and_tag={own}:v1")
        assert answer.status_code == 503
        assert "garbage collection" in fault(answer)
        assert answer.headers["Retry-After"]
        assert own in names(api)
    assert [entry["tag"] for entry in tags(api, own)] == ["v1", "v2"]


def test_a_delete_is_one_audit_line(api: Api, own: str) -> None:
    api.call("DELETE", f"{LIST}?image_name_and_tag={own}:v1")

    def lines() -> list[str]:
        return [line for line in api.controller.log(AGENT).splitlines() if f"image delete '{own}:v1'" in line]

    wait_until(lambda: bool(lines()), 10, what="the audit line is written")
    (line,) = lines()
    assert "by admin" in line
    assert "done" in line


def test_calls_over_the_network_are_limited_and_those_on_the_socket_are_not(controller: Controller) -> None:
    network, local = Api(controller, "tls"), Api(controller, "socket")
    once = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    many = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 300 + once
    status, _, rest = network.raw(many)
    # The burst passes, and what is over it is told when to come again.
    assert status == 200
    refused = [part for part in rest.split(b"HTTP/1.1 ") if part.startswith(b"429 ")]
    assert refused
    assert all(b"retry-after: 1\r\n" in part.lower() for part in refused)
    assert b"429 " not in local.raw(many)[2]
    wait_until(lambda: network.raw(once)[0] == 200, 10, what="the agent answers again")


def test_unescaped_slashes_and_colons_are_understood(api: Api, own: str) -> None:
    token = api.token("admin").encode()
    head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Auth-Token: " + token + b"\r\n\r\n"
    status, _, body = api.raw(b"GET /v1/registry_image?image_name=" + own.encode() + head)
    assert (status, b'"v1"' in body) == (200, True)
    escaped = own.replace("/", "%2F").encode()
    assert api.raw(b"GET /v1/registry_image?image_name=" + escaped + head)[2] == body
    # a DELETE without body or Content-Length
    status, _, body = api.raw(b"DELETE /v1/registry_image?image_name_and_tag=" + own.encode() + b":v1" + head)
    assert (status, body) == (204, b"")
    status, _, body = api.raw(b"DELETE /v1/registry_image?image_name_and_tag=" + escaped + b"%3Av2" + head)
    assert (status, body) == (204, b"")
    assert tags(api, own) == []


@pytest.mark.parametrize("path", ["/v1/registry_image/", "/v1/registry_image//"])
def test_a_trailing_slash_is_fine(api: Api, path: str) -> None:
    assert api.call("GET", path).status_code == 200


def test_http_1_0_is_understood(api: Api) -> None:
    token = api.token("admin").encode()
    status, headers, body = api.raw(
        b"GET /v1/registry_image HTTP/1.0\r\nX-Auth-Token: " + token + b"\r\n\r\n"
    )
    assert status == 200
    assert b"registry_images" in body
    assert "transfer-encoding" not in headers


def test_a_user_who_is_no_administrator_lists_their_own_images_with_the_command(
    controller: Controller, images: list[str]
) -> None:
    done = controller.system("registry-image-list", "-f", "value", user="testuser")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) & set(images) == {"testuser/v1-app", "public/v1-app"}


def _registry_token(api: Api, user: str, scope: str) -> dict[str, str]:
    realm = f"https://{HOST_NAME}:{api.controller.ports['token_server']}/token/"
    token = api.controller.client(user).token(realm, api.controller.address, scope)
    return {"Authorization": f"Bearer {token}"}


def test_a_registry_token_shows_what_it_is_for(api: Api, images: list[str]) -> None:
    all_images = _registry_token(api, "admin", "registry:catalog:*")
    assert set(images) <= {
        entry["name"] for entry in api.call("GET", LIST, None, headers=all_images).json()["registry_images"]
    }
    one = _registry_token(api, "testuser", "repository:testuser/v1-app:pull registry:catalog:*")
    for name, seen in (("testuser/v1-app", ["v1"]), ("testuser2/v1-app", []), ("public/v1-app", [])):
        shown = api.call("GET", f"{LIST}?image_name={name}", None, headers=one)
        assert [entry["tag"] for entry in shown.json()["registry_images"]] == seen
    listed = api.call("GET", LIST, None, headers=one).json()["registry_images"]
    assert [entry["name"] for entry in listed] == ["testuser/v1-app"]
    assert api.call("GET", "/v1/certificate", None, headers=all_images).status_code == 401


def test_tags_in_the_storage_are_for_whoever_may_pull_and_a_delete_there_for_whoever_may_delete(
    api: Api, images: list[str]
) -> None:
    name = "testuser/v1-app"
    digest = api.controller.client().digest(name, "v1")
    delete = f"{STORED}?image_name={name}&digest={digest}"
    for user, tags, status in (
        ("admin", {"v1": digest}, 409),
        ("testuser", {"v1": digest}, 409),
        ("testuser2", {}, 403),
        ("reader", {}, 403),
    ):
        shown = api.call("GET", f"{STORED}?image_name={name}", user)
        assert (shown.status_code, shown.json()) == (200, {"tags": tags})
        # the registry still has it
        assert api.call("DELETE", delete, user).status_code == status
    read_only = _registry_token(api, "testuser", f"repository:{name}:pull")
    assert api.call("GET", f"{STORED}?image_name={name}", None, headers=read_only).json()["tags"]
    assert api.call("DELETE", delete, None, headers=read_only).status_code == 403
    with api.controller.registry_config(storage={"maintenance": {"readonly": {"enabled": True}}}):
        assert api.call("DELETE", delete).status_code == 405
    for wrong in ("", f"?image_name={name}", f"?image_name={name}:v1&digest={digest}", "?digest=v1"):
        assert api.call("DELETE", STORED + wrong).status_code == 400
    assert api.controller.client().is_whole(name, "v1")
