"""A thousand images deleted with one command: what is said of each is recovered from every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
import yaml

from sysreg_cli.cli import images
from sysreg_cli.registry.deletion import Deletion

NAMES = [f"many/{number:04}" for number in range(1000)]


READ: dict[str, Callable[[str], list[tuple[str, bool]]]] = {
    "table": lambda text: [(line.split()[1], line.split()[2] == "deleted") for line in text.splitlines()],
    "value": lambda text: [(line.split()[0], line.split()[1] == "True") for line in text.splitlines()],
    "json": lambda text: [(one["image"], one["deleted"]) for one in json.loads(text)],
    "yaml": lambda text: [(one["image"], one["deleted"]) for one in yaml.safe_load(text)],
    "csv": lambda text: [
        (row["image"], row["deleted"] == "True") for row in csv.DictReader(io.StringIO(text))
    ],
}


@pytest.mark.parametrize("format_", READ)
def test_every_deleted_image_is_told(
    system: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    deletion = Deletion("sha256:" + 64 * "0", ("v1",), ())
    monkeypatch.setattr(images, "open_registry", lambda _: None)
    monkeypatch.setattr(images, "delete_image", lambda *_, **__: deletion)
    code, out, err = system("registry-image-delete", "-f", format_, *(f"{name}:v1" for name in NAMES))
    assert (code, err) == (0, "")
    assert READ[format_](out) == [(f"{name}:v1", True) for name in NAMES]
    if format_ == "json":
        assert tuple(json.loads(out)[0]) == images.DELETE_COLUMNS
