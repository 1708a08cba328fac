"""`system registry-image-restore` without an agent: wrong usage, and many images at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import pytest

from sysreg_cli.cli import agent_connection
from sysreg_cli.cli.agent_client import AgentClient
from sysreg_cli.errors import Unavailable
from sysreg_cli.v1.restore import Restoration, RestoredImage
from tests.unit.cli.conftest import Outcome


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore"], "no image was given; see system registry-image-list --deleted"),
        (["restore", "app"], "app: names no tag"),
        (["restore", "app:v1", "--as", "-x"], "--as: '-x' is not a tag"),
        (["restore", "app:v1", "--as", ""], "--as: '' is not a tag"),
        (["restore", "app:v1", "app:v2", "--as", "v3"], "--as takes one image"),
        (["restore", "app:v1", "-c", "Color"], "no column Color"),
        (["restore", "App:v1"], "image names are lower case"),
        (["list", "--deleted", "--long"], "--deleted excludes --long and --filter-out-untagged"),
        (["list", "--deleted", "--filter-out-untagged"], "--deleted excludes --long"),
        (["list", "--deleted", "-c", "Size"], "no column Size"),
        (["list", "-c", "Deleted By"], "no column Deleted By"),
        (["list", "--deleted", "--sort-column", "Size"], "--sort-column: 'Size' is not NAME"),
    ],
)
def test_wrong_usage_is_refused_before_anybody_is_asked(
    system: Callable[..., Outcome], words: list[str], said: str
) -> None:
    code, out, err = system(f"registry-image-{words[0]}", *words[1:], SYSREG_AGENT="/nowhere/agent.sock")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert said in err


@pytest.mark.parametrize(
    "words", [("registry-image-restore", "app:v1"), ("registry-image-list", "--deleted")]
)
def test_the_storage_of_another_registry_is_not_known(
    system: Callable[..., Outcome], words: tuple[str, ...]
) -> None:
    code, out, err = system(*words, "--registry", "elsewhere:5000")
    assert (code, out) == (1, "")
    assert err.startswith("system: elsewhere:5000 is not the registry of this controller")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """An agent that restores images, but not v13 ones. It does not answer a third call."""
    made: list[Sequence[str]] = []

    def restore(_self: AgentClient, images: Sequence[str], tag: str, registry_token: str = "") -> Restoration:
        made.append(images)
        if len(made) > 2:
            raise Unavailable("no agent answers")
        failed = {image for image in images if image.endswith(":v13")}
        return Restoration(
            tuple(RestoredImage(it, it not in failed, error=f"{it}: lost" * (it in failed)) for it in images)
        )

    monkeypatch.setattr(AgentClient, "restore", restore)
    monkeypatch.setattr(agent_connection, "is_peer", lambda _invocation: True)
    return made


def test_many_images_are_restored_in_several_calls(
    system: Callable[..., Outcome], calls: list[Sequence[str]]
) -> None:
    images = [f"{'l/' * 120}app:v{number}" for number in range(200)]
    code, out, err = system("registry-image-restore", *images)
    assert [image for call in calls for image in call] == images
    assert len(calls) == 2
    # the agent takes no longer head of a request
    assert all(len(urlencode({"image_name_and_tag": call}, doseq=True)) < 60_000 for call in calls)
    assert (code, err) == (1, f"system: {images[13]}: lost\n")
    assert out.count(" restored\n") == 199


def test_of_many_repositories_some_are_named_in_a_call(
    system: Callable[..., Outcome], calls: list[Sequence[str]]
) -> None:
    images = [f"app{number}:{tag}" for number in range(40) for tag in ("v1", "v2")]
    assert system("registry-image-restore", *images)[0] == 0
    assert [len(call) for call in calls] == [64, 16]


def test_if_the_agent_goes_away_what_was_restored_is_told(
    system: Callable[..., Outcome], calls: list[Sequence[str]]
) -> None:
    images = [f"app{number}:v1" for number in range(100)]
    code, out, err = system("registry-image-restore", "-f", "json", *images)
    assert (code, err) == (1, "system: no agent answers\n")
    assert [it["image"] for it in json.loads(out)] == images[:64]
