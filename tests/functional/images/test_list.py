"""`system registry-image-list` and `registry-image-tags` on the real registry."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from devstack import images
from devstack.controller import Controller
from devstack.options import Options
from devstack.programs import REGISTRY, TOKEN_SERVER
from devstack.seeding import seed
from tests.functional.conftest import NewController

# Names whose order is another by bytes than by path component, at every place of a page.
_NAMES = sorted(
    {f"many/image-{number:04}" for number in range(2000)}
    | {f"many/image-{number:04}/below" for number in range(0, 2000, 10)}
    | {f"many-{number:03}" for number in range(150)}
    | {f"many_{number:03}/x" for number in range(150)}
)


@pytest.fixture(scope="module")
def crowded(new_controller: NewController) -> Iterator[Controller]:
    """A controller of 2,500 repositories."""
    assert len(_NAMES) == 2500
    with new_controller(Options(programs=(REGISTRY, TOKEN_SERVER))) as controller:
        seed(controller, _NAMES)
        yield controller


def test_2500_images_are_listed_completely_sorted_and_once(crowded: Controller) -> None:
    done = crowded.system("registry-image-list", "-f", "value")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == _NAMES


@pytest.mark.parametrize("entries", [700, 60])
def test_a_registry_that_allows_only_short_pages_is_listed_completely(
    crowded: Controller, entries: int
) -> None:
    with crowded.registry_config(catalog={"maxentries": entries}):
        done = crowded.system("registry-image-list", "-f", "value")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == _NAMES


def test_2500_images_pass_the_filter_for_tagged_ones(crowded: Controller) -> None:
    done = crowded.system("registry-image-list", "--filter-out-untagged", "-f", "value")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == _NAMES


def test_none_is_missed_or_doubled_while_others_are_pushed(crowded: Controller) -> None:
    registry = crowded.client()
    image = images.single(seed="pushed-meanwhile")
    stop = threading.Event()
    pushed = 0

    def push() -> None:
        nonlocal pushed
        while not stop.is_set():
            # in front of, between and behind the others, so that pages shift in every way
            for prefix in ("a", "many/image-1000-", "z"):
                registry.push(f"{prefix}pushed-{pushed:03}", "v1", image)
            pushed += 1

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        for _ in range(3):
            listed = crowded.system("registry-image-list", "-f", "value").stdout.splitlines()
            assert set(_NAMES) <= set(listed)
            assert listed == sorted(set(listed))
    finally:
        stop.set()
        pusher.join()
    assert pushed > 0


def test_only_tagged_images_pass_the_filter(controller: Controller) -> None:
    registry = controller.client()
    registry.push("list/tagged", "v1", images.single(seed=1))
    registry.push("list/emptied", "v1", images.single(seed=2))
    assert controller.system("registry-image-delete", "list/emptied:v1").returncode == 0

    every = controller.system("registry-image-list", "-f", "value").stdout.splitlines()
    tagged = controller.system("registry-image-list", "--filter-out-untagged", "-f", "value")

    assert {"list/tagged", "list/emptied"} <= set(every)
    assert "list/tagged" in tagged.stdout.splitlines()
    assert "list/emptied" not in tagged.stdout.splitlines()


def test_the_tags_are_a_table_in_plain_byte_order(controller: Controller) -> None:
    image = images.single(seed="tags")
    for tag in ("v10", "v9", "V1", "latest", "1e3", "0x1f"):
        controller.client().push("list/tags", tag, image)

    done = controller.system("registry-image-tags", "list/tags")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "+-----------+\n"
        "| Image Tag |\n"
        "+-----------+\n"
        "| 0x1f      |\n"
        "| 1e3       |\n"
        "| V1        |\n"
        "| latest    |\n"
        "| v10       |\n"
        "| v9        |\n"
        "+-----------+\n"
    )


@pytest.mark.parametrize("form", [[], ["-f", "value"], ["-f", "json"]])
def test_an_unknown_or_untagged_image_has_no_tags_and_that_is_no_failure(
    controller: Controller, form: list[str]
) -> None:
    registry = controller.client()
    registry.push("list/untagged", "v1", images.single(seed="untagged"))
    controller.system("registry-image-delete", "list/untagged:v1")
    empty = {"": "\n", "value": "", "json": "[]\n"}[form[-1] if form else ""]
    for name in ("list/never-pushed", "list/untagged"):
        done = controller.system("registry-image-tags", name, *form)
        assert (done.returncode, done.stdout, done.stderr) == (0, empty, "")


def test_an_image_name_may_carry_the_registrys_host_and_port(controller: Controller) -> None:
    controller.client().push("list/with-host", "v1", images.single(seed="host"))
    done = controller.system("registry-image-tags", f"{controller.address}/list/with-host", "-f", "value")
    assert done.stdout == "v1\n"


def test_who_is_no_administrator_may_not_list_but_see_tags_of_their_own(controller: Controller) -> None:
    controller.client().push("testuser/seen", "v1", images.single(seed="seen"))

    own = controller.system("registry-image-tags", "testuser/seen", "-f", "value", user="testuser")
    foreign = controller.system("registry-image-tags", "testuser2/unseen", user="testuser")

    assert (own.returncode, own.stdout) == (0, "v1\n")
    assert foreign.returncode == 1
    assert "this user may not do it" in foreign.stderr


def test_the_credentials_may_be_a_keystone_token_or_an_application_credential(
    controller: Controller,
) -> None:
    keystone = controller.keystone_admin()
    token = keystone.session.get_token()
    credential = keystone.application_credentials.create(name="cli", user=keystone.session.get_user_id())
    nobody = {"OS_USERNAME": "", "OS_PASSWORD": ""}

    by_token = controller.system("registry-image-list", env={**nobody, "OS_AUTH_TOKEN": token})
    by_credential = controller.system(
        "registry-image-list",
        env={
            **nobody,
            "OS_APPLICATION_CREDENTIAL_ID": credential.id,
            "OS_APPLICATION_CREDENTIAL_SECRET": credential.secret,
        },
    )

    assert (by_token.returncode, by_token.stderr) == (0, "")
    assert (by_credential.returncode, by_credential.stderr) == (0, "")


def test_wrong_credentials_are_exit_1_and_name_the_user_but_not_the_password(controller: Controller) -> None:
    done = controller.system("registry-image-list", user="operator", env={"OS_PASSWORD": "not-the-right-one"})
    assert done.returncode == 1
    assert "operator" in done.stderr
    assert "Keystone refused" in done.stderr
    assert "systemctl reload sysreg-token-server" in done.stderr
    assert len(done.stderr) < 250
    assert "not-the-right-one" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_option_wins_over_the_environment_and_may_stand_on_either_side(controller: Controller) -> None:
    options = ["--os-username", "admin", "--os-password", controller.passwords["admin"]]
    before = controller.system(*options, "registry-image-list", user="testuser")
    behind = controller.system("registry-image-list", *options, user="testuser")
    assert (before.returncode, behind.returncode) == (0, 0)
    assert before.stdout == behind.stdout


def test_a_stopped_registry_is_named_with_host_and_port(controller: Controller) -> None:
    free_port = "registry.local:9"
    done = controller.system("registry-image-list", "--registry", free_port)
    assert done.returncode == 1
    assert done.stderr == "system: registry.local:9: connection refused; check that it runs\n"
