"""A repository whose tags share manifests, and a delete of several of them with one command."""

from __future__ import annotations

from typing import Any

import pytest

from sysreg_cli.errors import SysregError
from sysreg_cli.reference import parse
from sysreg_cli.registry.deletion import Deletion, delete_images
from tests.unit.registry.memory import MemoryRegistry, image, index

AMD, ARM, S390, SINGLE, OTHER = (image(name) for name in ("amd64", "arm64", "s390x", "single", "other"))
INDEX, PARTLY = index(AMD, ARM), index(ARM, S390)
DIGEST = image("digest")
#: v1 and v2 share all, partly shares a platform with them, single is alone, digest is deleted by its digest
GROUP = ("app:v1", "app:single", "app:v2", f"app@{DIGEST.digest}", "app:partly")
# More than any delete here needs; the loops end at the first one that is not reached.
MAX_REQUESTS = 400
OPTIONS = pytest.mark.parametrize(
    "options", [{}, {"deletes_tags": True}, {"full": True}], ids=["2.8", "3", "2.8 on a full disk"]
)


def group_registry(**options: bool) -> MemoryRegistry:
    registry = MemoryRegistry(**options)
    registry.push("v1", AMD, ARM, INDEX)
    registry.push("v2", INDEX)
    registry.push("partly", S390, PARTLY)
    registry.push("single", SINGLE)
    registry.push("digest", DIGEST)
    registry.push("other", OTHER)
    registry.push("sibling", AMD)
    return registry


def delete(registry: Any, *images: str, **options: Any) -> dict[str, Deletion | SysregError]:
    outcomes = delete_images(registry, [parse(image) for image in images], **options)
    return {str(image): outcome for image, outcome in outcomes}


def failures(outcomes: dict[str, Deletion | SysregError]) -> dict[str, SysregError]:
    return {image: outcome for image, outcome in outcomes.items() if isinstance(outcome, SysregError)}


def assert_finished(registry: MemoryRegistry) -> None:
    assert registry.tagged == {"other": OTHER.digest, "sibling": AMD.digest}
    assert set(registry.manifests) == {OTHER.digest, AMD.digest}


def assert_others_whole(registry: MemoryRegistry) -> None:
    assert registry.is_whole("other")
    assert registry.is_whole("sibling")


class Killed(BaseException):
    """The process is killed: nothing that it would do after this is done."""


def raise_(error: type[BaseException]) -> None:
    raise error("at this request")
