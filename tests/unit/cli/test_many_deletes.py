"""A thousand images deleted with one command: scripts find each in the output of every format."""

from __future__ import annotations

import csv
import io
import json
import ssl
from collections.abc import Callable

import pytest
import yaml

from sysreg_cli.cli import images
from tests.unit.cli.fakes import RegistryOfTags

IMAGES = [f"many/{number:04}:v1" for number in range(1000)]


READ: dict[str, Callable[[str], list[tuple[str, bool]]]] = {
    "table": lambda text: [(line.split()[1], line.split()[2] == "deleted") for line in text.splitlines()],
    "value": lambda text: [(line.split()[0], line.split()[1] == "True") for line in text.splitlines()],
    "json": lambda text: [(report["image"], report["deleted"]) for report in json.loads(text)],
    "yaml": lambda text: [(report["image"], report["deleted"]) for report in yaml.safe_load(text)],
    "csv": lambda text: [
        (row["image"], row["deleted"] == "True") for row in csv.DictReader(io.StringIO(text))
    ],
}


@pytest.mark.parametrize("format_", READ)
def test_every_deleted_image_is_in_the_output(
    system: Callable[..., tuple[int, str, str]], server_tls: ssl.SSLContext, format_: str
) -> None:
    wanted = IMAGES if format_ == "json" else IMAGES[:200]
    with RegistryOfTags(server_tls, [*wanted, "kept:v1"]) as registry:
        where = f"localhost:{registry.server_port}"
        code, out, err = system("registry-image-delete", "--registry", where, "-f", format_, *wanted)
        assert list(registry.manifests) == ["kept:v1"]
    assert (code, err) == (0, "")
    assert READ[format_](out) == [(image, True) for image in wanted]
    if format_ == "json":
        assert tuple(json.loads(out)[0]) == images.DELETE_COLUMNS
