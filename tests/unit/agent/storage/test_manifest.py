"""What a manifest refers to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sysreg_cli.agent.storage.manifest import StoredManifest, parse
from tests.unit.agent.storage.builder import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

ONE, TWO, THREE = (f"sha256:{number:064x}" for number in range(3))


def parsed(**document: Any) -> StoredManifest | None:
    return parse(json.dumps({"schemaVersion": 2, **document}).encode())


@pytest.mark.parametrize(
    "kind",
    [
        OCI_INDEX,
        OCI_MANIFEST,
        DOCKER_LIST,
        DOCKER_MANIFEST,
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "",
        None,
    ],
)
def test_an_entry_of_an_index_is_a_manifest_if_its_media_type_is_one_or_missing(kind: str | None) -> None:
    assert parsed(manifests=[{"digest": ONE, "mediaType": kind}]) == StoredManifest(children=(ONE,))


def test_the_layers_and_the_configuration_of_a_build_cache_are_blobs() -> None:
    """As buildx writes them with ``--cache-to type=registry``."""
    layer, config = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.buildkit.cacheconfig.v0"
    entries = [
        {"digest": ONE, "mediaType": layer, "size": 7},
        {"digest": TWO, "mediaType": config},
        {"digest": THREE, "mediaType": OCI_MANIFEST},
    ]
    manifest = parsed(mediaType=OCI_INDEX, manifests=entries)
    assert manifest == StoredManifest(children=(THREE,), blobs=(ONE, TWO), sizes=(7, -1))
    assert set(manifest.references) == {ONE, TWO, THREE}


@pytest.mark.parametrize(
    "document",
    [
        {"manifests": [{"mediaType": OCI_MANIFEST}]},
        {"manifests": [7]},
        {"manifests": [{"digest": 7}]},
        {"manifests": [{"digest": ONE, "mediaType": []}]},
        {"config": {"digest": "sha256:short"}},
        {"layers": []},
        {"schemaVersion": 3, "config": {"digest": ONE}},
    ],
)
def test_other_documents_are_no_manifests(document: dict[str, Any]) -> None:
    assert parsed(**document) is None


def test_data_that_is_not_json_is_no_manifest() -> None:
    assert parse(b"\xff{") is None
    assert parse(b"[" * 100_000) is None
    assert parse(b"[]") is None
