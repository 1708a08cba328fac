"""Values on the wire: they survive the way there and back, and other versions' documents are understood."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.errors import ProtocolError
from sysreg_cli.v1 import faults, wire
from sysreg_cli.v1.certificates import Certificate, Installation
from sysreg_cli.v1.collections import (
    CollectionOptions,
    CollectionPlan,
    CollectionResult,
    CollectionStatus,
    Outcome,
    Phase,
    PlannedBlob,
    State,
)

OPTIONS = st.builds(CollectionOptions, st.booleans(), st.booleans(), st.floats(0, 1e6))
RESULTS = st.builds(
    CollectionResult,
    id=st.text(),
    options=OPTIONS,
    outcome=st.sampled_from(Outcome),
    bytes=st.integers(0),
    seconds=st.dictionaries(st.sampled_from([*map(str, Phase)]), st.floats(0, 1e6)),
    warnings=st.lists(st.text()).map(tuple),
)
PLANS = st.builds(CollectionPlan, st.lists(st.builds(PlannedBlob, st.text(), st.integers(0))).map(tuple))
STATUSES = st.builds(
    CollectionStatus,
    state=st.sampled_from(State),
    options=st.none() | OPTIONS,
    phase=st.sampled_from(Phase),
    progress=st.floats(0, 1),
    last_result=st.none() | RESULTS,
    results=st.lists(RESULTS, max_size=3).map(tuple),
    plan=st.none() | PLANS,
)


@given(STATUSES)
def test_a_status_survives_the_way_there_and_back(status: CollectionStatus) -> None:
    document = json.loads(json.dumps(wire.to_json(status)))
    assert wire.from_json(CollectionStatus, document, "the status") == status


def test_an_agent_of_a_later_version_adds_fields_phases_and_outcomes() -> None:
    document = {
        "state": "running",
        "phase": "compress",
        "moon": "full",
        "last_result": {"id": "1", "outcome": "postponed", "options": {"at": "night"}},
    }
    status = wire.from_json(CollectionStatus, document, "the status")
    assert status.phase == "compress"
    assert status.last_result is not None
    assert status.last_result.outcome == "postponed"


def test_an_agent_of_an_earlier_version_lacks_fields() -> None:
    document = {"state": "idle", "last_result": {"id": "1", "outcome": "done"}}
    status = wire.from_json(CollectionStatus, document, "the status")
    assert status.last_result == CollectionResult("1", outcome=Outcome.DONE)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "the status makes no sense: it is not an object"),
        ([], "it is not an object"),
        ({}, "state is missing"),
        ({"state": 7}, "state has another type"),
        ({"state": "idle", "progress": "all"}, "progress has another type"),
        ({"state": "idle", "progress": True}, "progress has another type"),
        ({"state": "idle", "results": {}}, "results has another type"),
        ({"state": "idle", "results": [None]}, "the status: results makes no sense: it is not an object"),
        ({"state": "idle", "last_result": {"id": "1", "seconds": [1]}}, "seconds has another type"),
    ],
)
def test_a_document_that_is_something_else_is_a_protocol_error(document: object, says: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.from_json(CollectionStatus, document, "the status")
    assert says in str(caught.value)


def test_schemas_name_every_field() -> None:
    assert wire.schema(Installation)["properties"] == {
        "error": {"type": "string"},
        "certificates": {"type": "array", "items": {"$ref": "#/components/schemas/Certificate"}},
        "success": {"type": "string"},
        "body": {"type": "string"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "refused": {"type": "array", "items": {"type": "string"}},
        "clients": {"type": "array", "items": {"$ref": "#/components/schemas/ClientRestart"}},
        "hosts_problem": {"type": "string"},
    }
    assert wire.schema(CollectionStatus)["properties"]["last_result"] == {
        "allOf": [{"$ref": "#/components/schemas/CollectionResult"}],
        "nullable": True,
    }
    assert wire.schema(Certificate)["properties"]["subject"] == {"type": "string"}


def test_an_error_body_is_json_text_in_json() -> None:
    body = json.loads(json.dumps(wire.to_json(faults.to_body(404, "no such image"))))
    assert json.loads(body["error_message"])["faultcode"] == "Client"
    assert faults.text_of(body) == body["error"] == "no such image"


@pytest.mark.parametrize("document", [None, [], {}, {"error_message": None}, {"error_message": "[]"}])
def test_what_is_no_error_body_has_no_text(document: object) -> None:
    assert faults.text_of(document) == ""
