"""The client's requests, seen from the other side."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from devstack import images
from sysreg_cli.errors import NotStored, NotSupported, ProtocolError, SysregError, TagsLeft, Unavailable
from sysreg_cli.reference import ImageReference
from sysreg_cli.registry.authorization import TokenServerAuthorizer
from sysreg_cli.registry.client import RegistryClient
from sysreg_cli.registry.credentials import RegistryCredentials
from sysreg_cli.registry.manifests import RemoteManifest, UnreadableManifest, placeholder
from sysreg_cli.registry.transport import Transport
from sysreg_cli.registry.trust import client_context


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HTTPServer, Path]]:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    with HTTPServer(host="localhost", port=0, ssl_context=context, threaded=True) as running:
        yield running, path


@pytest.fixture
def registry(server: tuple[HTTPServer, Path]) -> Iterator[HTTPServer]:
    running, _ = server
    challenge = f'Bearer realm="https://localhost:{running.port}/token",service="s"'
    running.expect_request("/v2/").respond_with_data("", 401, headers={"WWW-Authenticate": challenge})
    yield running
    running.clear()


@pytest.fixture
def client(server: tuple[HTTPServer, Path], registry: HTTPServer) -> RegistryClient:
    context = client_context(str(server[1]))
    authorizer = TokenServerAuthorizer(
        RegistryCredentials("admin", "secret"), context, timeout=0.5, write_wait=5
    )
    return RegistryClient(Transport(f"https://localhost:{registry.port}", context, timeout=0.5), authorizer)


def _tokens(registry: HTTPServer) -> None:
    registry.expect_request("/token").respond_with_json({"token": "t", "expires_in": 300})


@pytest.mark.parametrize(("status", "code", "deleted"), [(202, "", True), (400, "DIGEST_INVALID", False)])
def test_a_tag_is_deleted_by_its_name_where_the_registry_can(
    client: RegistryClient, registry: HTTPServer, status: int, code: str, deleted: bool
) -> None:
    _tokens(registry)
    registry.expect_request("/v2/app/manifests/v1", method="DELETE").respond_with_json(
        {"errors": [{"code": code}]}, status=status
    )
    assert client.delete_tag(ImageReference("app", tag="v1")) is deleted


@pytest.mark.parametrize(("status", "error"), [(400, ProtocolError), (405, NotSupported), (500, Unavailable)])
def test_a_refused_delete_is_an_error_and_is_sent_once(
    client: RegistryClient, registry: HTTPServer, status: int, error: type[Exception]
) -> None:
    _tokens(registry)
    registry.expect_request("/v2/app/manifests/v1", method="DELETE").respond_with_data("", status)
    with pytest.raises(error):
        client.delete_tag(ImageReference("app", tag="v1"))
    assert [request.method for request, _ in registry.log].count("DELETE") == 1


def test_a_write_token_is_waited_for_while_a_collection_holds_it(
    client: RegistryClient, registry: HTTPServer
) -> None:
    def hold(_: Request) -> Response:
        time.sleep(1)  # longer than the ordinary timeout of 0.5 s
        return Response(json.dumps({"token": "t"}), 200)

    registry.expect_request("/token").respond_with_handler(hold)
    registry.expect_request("/v2/app/manifests/v1", method="DELETE").respond_with_data("", 202)
    assert client.delete_tag(ImageReference("app", tag="v1"))
    with pytest.raises(Unavailable, match=r"no answer within 0.5 s"):
        client.tags("app")


def test_a_write_token_that_was_held_in_vain_is_not_asked_again(
    client: RegistryClient, registry: HTTPServer
) -> None:
    registry.expect_request("/token").respond_with_data("", 503)
    with pytest.raises(Unavailable, match="answered 503"):
        client.delete_tag(ImageReference("app", tag="v1"))
    assert [request.path for request, _ in registry.log].count("/token") == 1


def test_a_token_that_became_invalid_is_replaced_once(client: RegistryClient, registry: HTTPServer) -> None:
    tokens = iter(["old", "new"])
    registry.expect_request("/token").respond_with_handler(
        lambda _: Response(json.dumps({"token": next(tokens), "expires_in": 300}), 200)
    )

    def serve(request: Request) -> Response:
        if request.headers["Authorization"] == "Bearer new":
            return Response('{"tags": ["v1"]}', 200)
        challenge = f'Bearer realm="https://localhost:{registry.port}/token",error="invalid_token"'
        return Response("", 401, headers={"WWW-Authenticate": challenge})

    registry.expect_request("/v2/app/tags/list").respond_with_handler(serve)
    assert client.tags("app") == ["v1"]


@pytest.mark.parametrize("allowed", [1000, 700, 300, 60])
def test_a_catalog_that_allows_shorter_pages_is_read_in_such_pages(
    client: RegistryClient, registry: HTTPServer, allowed: int
) -> None:
    _tokens(registry)
    names = [f"app{number:04}" for number in range(1500)]

    def serve(request: Request) -> Response:
        size = int(request.args.get("n", min(100, allowed)))
        if size > allowed:
            return Response(json.dumps({"errors": [{"code": "PAGINATION_NUMBER_INVALID"}]}), 400)
        start = names.index(request.args["last"]) + 1 if "last" in request.args else 0
        page = names[start : start + size]
        link = (
            {"Link": f'</v2/_catalog?last={page[-1]}&n={size}>; rel="next"'} if page[-1] < names[-1] else {}
        )
        return Response(json.dumps({"repositories": page}), 200, headers=link)

    registry.expect_request("/v2/_catalog").respond_with_handler(serve)
    assert client.catalog() == names


def test_another_bad_request_for_the_catalog_is_sent_once(
    client: RegistryClient, registry: HTTPServer
) -> None:
    _tokens(registry)
    registry.expect_request("/v2/_catalog").respond_with_json({"errors": [{"code": "DENIED"}]}, status=400)
    with pytest.raises(ProtocolError, match="listing the repositories failed"):
        client.catalog()
    assert [request.path for request, _ in registry.log].count("/v2/_catalog") == 1


def test_a_known_manifest_is_not_sent_again(client: RegistryClient, registry: HTTPServer) -> None:
    _tokens(registry)
    known = placeholder({})
    registry.expect_request(
        "/v2/app/manifests/v1", headers={"If-None-Match": f'"{known.digest}"'}
    ).respond_with_data("", 304)
    assert client.manifest(ImageReference("app", tag="v1"), known) is known


def test_a_signed_manifest_has_the_digest_of_its_unsigned_form(
    client: RegistryClient, registry: HTTPServer
) -> None:
    _tokens(registry)
    old = images.schema_1()
    registry.expect_request("/v2/app/manifests/v1").respond_with_data(
        old.manifest,
        content_type=images.SCHEMA_1,
        headers={"Docker-Content-Digest": images.digest_of(old.unsigned)},
    )
    manifest = client.manifest(ImageReference("app", tag="v1"))
    assert isinstance(manifest, RemoteManifest)
    assert manifest.digest == images.digest_of(old.unsigned)
    assert set(manifest.blobs) == {manifest.digest, *(images.digest_of(blob) for blob in old.blobs)}


def test_a_manifest_with_another_digest_than_requested_counts_as_unreadable(
    client: RegistryClient, registry: HTTPServer
) -> None:
    _tokens(registry)
    digest = "sha256:" + "0" * 64
    registry.expect_request(f"/v2/app/manifests/{digest}").respond_with_data("{}")
    assert client.manifest(ImageReference("app", digest=digest)) == UnreadableManifest(digest)


def test_many_tags_come_in_pages(client: RegistryClient, registry: HTTPServer) -> None:
    _tokens(registry)

    def serve(request: Request) -> Response:
        start = int(request.args.get("last", 0))
        link = {"Link": f'</v2/app/tags/list?last={start + 10}>; rel="next"'} if start < 90 else {}
        names = [f"v{number:03}" for number in range(start, start + 10)]
        return Response(json.dumps({"tags": names}), 200, headers=link)

    registry.expect_request("/v2/app/tags/list").respond_with_handler(serve)
    assert client.tags("app") == [f"v{number:03}" for number in range(100)]


@pytest.mark.parametrize(
    ("status", "headers"), [(500, {}), (200, {"Docker-Content-Digest": "sha256:" + "1" * 64})]
)
def test_a_damaged_manifest_of_a_tag_is_unreadable_and_its_digest_known_if_the_registry_tells_it(
    client: RegistryClient, registry: HTTPServer, status: int, headers: dict[str, str]
) -> None:
    _tokens(registry)
    registry.expect_request("/v2/app/manifests/v1").respond_with_data("{}", status, headers=headers)
    expected = UnreadableManifest(headers.get("Docker-Content-Digest", ""))
    assert client.manifest(ImageReference("app", tag="v1")) == expected


@pytest.mark.parametrize(("status", "expected"), [(304, True), (200, False), (404, False), (500, False)])
def test_the_registry_compares_a_tag_with_a_digest(
    client: RegistryClient, registry: HTTPServer, status: int, expected: bool
) -> None:
    _tokens(registry)
    digest = "sha256:" + "0" * 64
    registry.expect_request(
        "/v2/app/manifests/v1", method="HEAD", headers={"If-None-Match": f'"{digest}"'}
    ).respond_with_data("", status)
    assert client.stands_for(ImageReference("app", tag="v1"), digest) is expected


def test_a_digest_that_2_8_cannot_delete_is_an_error_with_a_remedy(
    client: RegistryClient, registry: HTTPServer
) -> None:
    _tokens(registry)
    digest = "sha256:" + "0" * 64
    registry.expect_request(f"/v2/app/manifests/{digest}", method="DELETE").respond_with_json(
        {"errors": [{"code": "DIGEST_INVALID"}]}, status=400
    )
    with pytest.raises(ProtocolError, match="push the same image again"):
        client.delete_manifest(ImageReference("app", digest=digest))


@pytest.mark.parametrize(("there", "kind"), [(404, TagsLeft), (500, ProtocolError), (200, ProtocolError)])
def test_a_delete_that_ends_with_500_may_have_left_the_tags_alone(
    client: RegistryClient, registry: HTTPServer, there: int, kind: type[SysregError]
) -> None:
    _tokens(registry)
    path = f"/v2/app/manifests/{(digest := 'sha256:' + '0' * 64)}"
    registry.expect_request(path, method="DELETE").respond_with_data("{}", 500)
    registry.expect_request(path, method="GET").respond_with_data("{}", there)
    with pytest.raises(SysregError, match="answered 500") as raised:
        client.delete_manifest(ImageReference("app", digest=digest))
    assert type(raised.value) is kind


def test_a_write_that_the_registry_cannot_store_is_an_error_of_its_own(
    client: RegistryClient, registry: HTTPServer
) -> None:
    _tokens(registry)
    registry.expect_request("/v2/app/manifests/v1", method="PUT").respond_with_json(
        {"errors": [{"code": "UNKNOWN", "message": "unknown error"}]}, status=500
    )
    with pytest.raises(
        NotStored, match=r"writing app:v1 failed: localhost:\d+ answered 500: UNKNOWN unknown error"
    ):
        client.put_manifest(ImageReference("app", tag="v1"), placeholder({}))


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"code": "UNAUTHORIZED", "message": "the password is wrong"}, "the password is wrong"),
        (401, {"code": "DENIED"}, "the credentials of admin were refused: DENIED"),
        (401, {}, "the credentials of admin were refused"),
        (503, {"code": "UNAVAILABLE", "message": "no changes now"}, "no changes now"),
        (500, {"code": "UNKNOWN", "message": "x"}, "answered 500: UNKNOWN x"),
    ],
)
def test_the_token_servers_refusal_is_told_in_its_words_with_its_address(
    client: RegistryClient, registry: HTTPServer, status: int, body: dict[str, str], message: str
) -> None:
    registry.expect_request("/token").respond_with_json({"errors": [body]}, status=status)
    with pytest.raises(SysregError) as caught:
        client.delete_tag(ImageReference("app", tag="v1"))
    assert caught.value.message == f"localhost:{registry.port} (token server): {message}"
