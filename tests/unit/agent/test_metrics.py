"""The agent's metrics, without a registry and a token server."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sysreg_cli.agent.garbage.records import History
from sysreg_cli.agent.garbage.service import CollectionService
from sysreg_cli.agent.metrics import AgentMetrics, build
from sysreg_cli.agent.renewal.record import SourceRecord
from sysreg_cli.host.generations import Generations
from sysreg_cli.settings import (
    CertificateSettings,
    PathSettings,
    RegistrySettings,
    Settings,
    TokenServerSettings,
)
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult, Outcome
from tests import certificates as make
from tests.unit.token_server.asgi import call

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("tls", "state", "storage"):
        (tmp_path / name).mkdir()
    return dataclasses.replace(
        Settings(),
        # nothing listens there, even if a controller runs on this machine
        registry=RegistrySettings(host_names=("127.0.0.1",), port=1, storage=tmp_path / "storage"),
        token_server=TokenServerSettings(port=1),
        certificate=CertificateSettings(directory=tmp_path / "tls"),
        paths=PathSettings(state=tmp_path / "state", system_trust=tmp_path / "ca"),
    )


def scrape(settings: Settings, source: SourceRecord = SourceRecord("")) -> dict[str, float]:  # noqa: B008
    """Every sample: its name, and its labels if it has some."""
    metrics = AgentMetrics(settings, CollectionService(settings), lambda: source)
    response = asyncio.run(call(build(metrics), path="/metrics"))
    assert response.status == 200
    families = text_string_to_metric_families(response.body.decode())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_new_controller_has_no_past(settings: Settings) -> None:
    found = scrape(settings)
    storage, state = settings.registry.storage, settings.paths.state
    assert found.keys() == {
        f"sysreg_free_bytes {storage}",
        f"sysreg_free_bytes {state}",
        "sysreg_collection_running",
    }
    assert found[f"sysreg_free_bytes {storage}"] > 0


def test_certificates_and_their_source(settings: Settings) -> None:
    leaf = make.server(start=NOW - timedelta(days=30), end=NOW + timedelta(days=5, hours=12))
    generations = Generations(settings.certificate.directory)
    generations.create("000001", leaf.key_pem, leaf.pem)
    generations.use("000001")
    found = scrape(settings, SourceRecord("files:/x", "2026-11-26T18:00:00+00:00", "it is away"))
    assert found["sysreg_certificate_days_left docker_registry docker_registry"] == pytest.approx(
        5.5, abs=0.1
    )
    assert found["sysreg_certificate_source_problem"] == 1
    seen = datetime(2026, 11, 26, 18, tzinfo=UTC).timestamp()
    assert found["sysreg_certificate_source_seen_timestamp_seconds"] == seen


def test_the_last_collection_that_was_no_dry_run_counts(settings: Settings) -> None:
    directory = settings.paths.state / "garbage"
    history = History.load(directory)
    ended = "2026-11-26T18:00:00.000+00:00"
    history.end(CollectionResult("1", ended=ended, outcome=Outcome.DONE, bytes=1234, writes_held=1.5))
    history.end(
        CollectionResult("2", CollectionOptions(dry_run=True), ended=ended, outcome=Outcome.DONE, bytes=9)
    )
    history.save(directory)
    found = scrape(settings)
    assert found["sysreg_collection_last_freed_bytes"] == 1234
    assert found["sysreg_collection_last_writes_held_seconds"] == 1.5
    assert found["sysreg_collection_last_outcome done"] == 1
    assert found["sysreg_collection_last_outcome failed"] == 0
    assert found["sysreg_collection_last_end_timestamp_seconds"] == datetime.fromisoformat(ended).timestamp()


def test_there_is_nothing_but_metrics(settings: Settings) -> None:
    metrics = AgentMetrics(settings, CollectionService(settings), lambda: SourceRecord(""))
    assert asyncio.run(call(build(metrics), path="/v1/certificate")).status == 404
