"""Every cell of the grants table in docs/contracts.rst, "Tokens", with users of a real Keystone.

The registry enforces what the table says.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from keystoneclient.v3 import client

from devstack.controller import Controller
from devstack.images import single
from tests.functional.token_server.own import own_server
from tests.functional.token_server.requesting import request_token, temporary_user

ANYTHING = "repository:any/thing:pull,push,delete"
CATALOG = "registry:catalog:*"


@pytest.fixture(scope="module")
def public_images(controller: Controller, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a token server that has public images outside public/."""
    settings = {"token_server": {"public_images": "rabbitmq tools/busybox"}}
    with own_server(controller, tmp_path_factory.mktemp("public"), settings) as server:
        yield server.url


@pytest.mark.parametrize("user", ["admin", "sysinv"])
def test_an_administrator_may_do_everything_and_list_the_catalog(controller: Controller, user: str) -> None:
    assert request_token(controller, user, ANYTHING, "repository:any/thing/else:*", CATALOG).access == [
        ANYTHING,
        "repository:any/thing/else:*",
        CATALOG,
    ]


def test_a_user_may_do_everything_below_their_name(controller: Controller) -> None:
    own = ["repository:testuser/a:pull,push,delete", "repository:testuser/a/b:*"]
    assert request_token(controller, "testuser", *own).access == own


def test_a_user_may_not_touch_the_repository_that_is_named_as_they_are(controller: Controller) -> None:
    assert request_token(controller, "testuser", "repository:testuser:pull,push").access == []


def test_a_user_may_not_touch_the_area_of_another_whose_name_begins_alike(controller: Controller) -> None:
    assert request_token(controller, "testuser", "repository:testuser2/a:pull,push,delete").access == []
    assert request_token(controller, "testuser2", "repository:testuser/a:pull,push,delete").access == []


def test_a_user_may_not_list_the_catalog(controller: Controller) -> None:
    assert request_token(controller, "testuser", CATALOG).access == []
    refused = controller.client("testuser").request("GET", "/v2/_catalog")
    assert refused.status_code == 401


def test_a_user_pulls_public_images_and_may_not_change_them(controller: Controller) -> None:
    assert request_token(controller, "testuser", "repository:public/a:pull,push,delete").access == [
        "repository:public/a:pull"
    ]


def test_a_user_pulls_configured_public_images(controller: Controller, public_images: str) -> None:
    asked = ["repository:rabbitmq:pull,push", "repository:tools/busybox:pull,push", "repository:tools/x:pull"]
    assert request_token(controller, "testuser", *asked, url=public_images).access == [
        "repository:rabbitmq:pull",
        "repository:tools/busybox:pull",
    ]


@pytest.mark.parametrize("name", ["public", "rabbitmq", "tools"])
def test_a_user_named_like_a_public_image_is_reserved(
    controller: Controller, public_images: str, name: str
) -> None:
    with temporary_user(controller, name) as (_, password):
        asked = [f"repository:{name}/mine:push", "repository:public/a:push,pull"]
        response = request_token(controller, name, *asked, password=password, url=public_images)
        assert response.access == ["repository:public/a:pull"]


def test_a_reserved_user_pulls_public_images_and_owns_nothing(controller: Controller) -> None:
    asked = ["repository:mtce/a:pull,push", "repository:public/a:pull,push", CATALOG]
    assert request_token(controller, "mtce", *asked).access == ["repository:public/a:pull"]


def test_nobody_gets_a_challenge(controller: Controller) -> None:
    response = request_token(controller, None, "repository:public/a:pull")
    assert response.status == 401
    assert response.http.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_user_with_capitals_may_not_log_in_and_is_told_why(controller: Controller) -> None:
    response = request_token(controller, "Upper")
    assert response.status == 403
    assert "parts of an image name are made of a-z" in response.message


def test_an_admin_of_another_domain_is_nobody(controller: Controller) -> None:
    response = request_token(controller, "admin", ANYTHING, password=controller.passwords["admin@Other"])
    assert response.status == 401


def test_a_token_of_an_admin_of_another_domain_is_nobody(controller: Controller) -> None:
    from keystoneauth1.identity.v3 import Password
    from keystoneauth1.session import Session

    stranger = Password(
        controller.auth_url,
        username="admin",
        password=controller.passwords["admin@Other"],
        user_domain_name="Other",
    )
    response = request_token(controller, None, ANYTHING, token=Session(auth=stranger).get_token())
    assert response.status == 401
    assert "not of the domain 'Default'" in response.message


def test_a_disabled_user_is_refused(controller: Controller) -> None:
    with temporary_user(controller, enabled=False) as (user, password):
        assert request_token(controller, user.name, password=password).status == 401


def test_a_wrong_password_and_an_unknown_user_are_refused_alike(controller: Controller) -> None:
    for user in ("testuser", f"ghost{uuid.uuid4().hex}"):
        response = request_token(controller, user, password=f"wrong-{uuid.uuid4().hex}")
        assert response.status == 401
        assert response.http.headers["Content-Type"] == "application/json"
        assert f"Keystone refused user '{user}' or the password" in response.message


def test_a_keystone_token_stands_for_its_user(controller: Controller) -> None:
    token = controller.keystone_client("testuser").session.get_token()
    own = "repository:testuser/a:push,pull"
    assert request_token(controller, None, own, CATALOG, token=token).access == [own]
    admins = controller.keystone_admin().session.get_token()
    assert request_token(controller, None, ANYTHING, CATALOG, token=admins).access == [ANYTHING, CATALOG]


def test_a_revoked_or_invented_keystone_token_is_refused(controller: Controller) -> None:
    keystone = controller.keystone_client("testuser")
    token = keystone.session.get_token()
    keystone.tokens.revoke_token(token)
    for bad in (token, "gAAAA" + "x" * 100):
        assert request_token(controller, None, token=bad).status == 401


# Application credentials


@pytest.fixture
def credential(controller: Controller) -> Iterator[Callable[..., Any]]:
    """Makes application credentials of a user; they are gone afterwards."""
    made = []

    def create(user: str, **options: Any) -> Any:
        keystone = controller.keystone_client(user)
        created = keystone.application_credentials.create(f"c{uuid.uuid4().hex}", **options)
        made.append((keystone, created))
        return created

    yield create
    for keystone, created in made:
        keystone.application_credentials.delete(created)


def test_an_application_credential_acts_for_its_owner(
    controller: Controller, credential: Callable[..., Any]
) -> None:
    created = credential("testuser")
    asked = ["repository:testuser/a:push,pull", "repository:testuser2/a:pull"]
    response = request_token(controller, created.id, *asked, password=created.secret)
    assert response.access == ["repository:testuser/a:push,pull"]
    assert response.claims["sub"] == "testuser"


def test_an_application_credential_of_an_administrator_with_the_role_admin_is_one(
    controller: Controller, credential: Callable[..., Any]
) -> None:
    created = credential("admin")
    assert request_token(controller, created.id, ANYTHING, CATALOG, password=created.secret).access == [
        ANYTHING,
        CATALOG,
    ]


def test_an_application_credential_of_an_administrator_without_the_role_admin_is_none(
    controller: Controller, credential: Callable[..., Any]
) -> None:
    created = credential("admin", roles=[{"name": "reader"}])
    own = "repository:admin/a:push"
    assert request_token(controller, created.id, ANYTHING, CATALOG, own, password=created.secret).access == [
        own
    ]
    # Nor is a Keystone token that was made with it.
    auth = v3.ApplicationCredential(
        controller.auth_url,
        application_credential_id=created.id,
        application_credential_secret=created.secret,
    )
    token = Session(auth=auth).get_token()
    assert request_token(controller, None, ANYTHING, CATALOG, own, token=token).access == [own]


def test_an_administrator_of_another_project_has_no_rights_through_an_application_credential(
    controller: Controller,
) -> None:
    admin = controller.keystone_admin()
    project = admin.projects.create(f"p{uuid.uuid4().hex}", domain="default")
    try:
        me = admin.session.get_user_id()
        (role,) = admin.roles.list(name="admin")
        admin.roles.grant(role, user=me, project=project)
        auth = v3.Password(
            controller.auth_url,
            username="admin",
            password=controller.passwords["admin"],
            user_domain_name="Default",
            project_id=project.id,
        )
        scoped = client.Client(session=Session(auth=auth), endpoint_override=controller.auth_url)
        created = scoped.application_credentials.create(f"c{uuid.uuid4().hex}", user=me)
        own = "repository:admin/a:push"
        response = request_token(controller, created.id, ANYTHING, CATALOG, own, password=created.secret)
        assert response.access == [own]
    finally:
        admin.projects.delete(project)


def test_an_application_credential_with_access_rules_is_refused(
    controller: Controller, credential: Callable[..., Any]
) -> None:
    rules = [{"service": "identity", "method": "GET", "path": "/v3/users"}]
    created = credential("testuser", access_rules=rules)
    response = request_token(controller, created.id, password=created.secret)
    assert response.status == 401
    assert "has access rules" in response.message


def test_a_wrong_secret_and_an_unknown_application_credential_are_refused(
    controller: Controller, credential: Callable[..., Any]
) -> None:
    assert request_token(controller, credential("testuser").id, password="wrong").status == 401
    assert request_token(controller, uuid.uuid4().hex, password="wrong").status == 401


# And the registry heeds it


def test_the_registry_lets_a_user_do_what_the_token_says_and_no_more(controller: Controller) -> None:
    image = single()
    mine = controller.client("testuser")
    mine.push("testuser/heeded", "1", image)
    assert mine.is_whole("testuser/heeded", "1")
    other = controller.client("testuser2")
    assert other.manifest("testuser/heeded", "1").status_code == 401
    assert other.request("POST", "/v2/testuser/heeded/blobs/uploads/").status_code == 401
    assert other.delete("testuser/heeded", image.digest).status_code == 401
    assert mine.delete("testuser/heeded", image.digest).status_code == 202


def test_what_an_administrator_publishes_everybody_pulls(controller: Controller) -> None:
    controller.client("admin").push("public/everybody", "1", single())
    for user in ("testuser", "mtce"):
        assert controller.client(user).is_whole("public/everybody", "1")
        assert (
            controller.client(user).request("POST", "/v2/public/everybody/blobs/uploads/").status_code == 401
        )
