"""`system registry-garbage-collect` against agents of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from sysreg_cli.cli.collection_report import COLUMNS
from sysreg_cli.settings import MAX_GRACE, AgentSettings
from sysreg_cli.v1 import wire
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult
from tests.unit.cli.conftest import Outcome

STATUS = "/v1/registry_image/garbage_collect"
RUNNING = {"state": "running", "id": "1", "phase": "sweep", "progress": 0.5, "detail": ""}


@pytest.fixture
def collect(
    system: Callable[..., Outcome], https_server: HTTPServer, ca_file: Path
) -> Callable[..., Outcome]:
    """Start a collection as a user, on an agent and a Keystone that are both the test's server."""
    https_server.expect_request("/v1/registry_image", "POST").respond_with_data(
        status=204, headers={"X-Collection-Id": "1"}
    )

    def call(*words: str, **environ: str) -> Outcome:
        url = https_server.url_for("").rstrip("/")
        keystone = {"OS_AUTH_URL": f"{url}/v3", "OS_CACERT": str(ca_file), "OS_PROJECT_NAME": "admin"}
        return system("registry-garbage-collect", *words, **{"SYSREG_AGENT": url, **keystone, **environ})

    return call


def refuse(https_server: HTTPServer, status: int, token: str = "") -> None:
    """Refuse the next question for the status, or each with ``token``."""
    if token:
        handler = https_server.expect_request(STATUS, headers={"X-Auth-Token": token})
    else:
        handler = https_server.expect_oneshot_request(STATUS)
    fault = json.dumps({"faultstring": f"refused with {status}"})
    handler.respond_with_json({"error_message": fault}, status)


def give_token(https_server: HTTPServer, token: str) -> None:
    answer = {"token": {"expires_at": "2999-01-01T00:00:00.000000Z", "methods": ["password"]}}
    https_server.expect_oneshot_request("/v3/auth/tokens", "POST").respond_with_json(
        answer, 201, {"X-Subject-Token": token}
    )


def end(https_server: HTTPServer) -> None:
    result = wire.to_json(CollectionResult("1", CollectionOptions(), "then", outcome="done", duration=1.0))
    https_server.expect_request(STATUS).respond_with_json({"state": "idle", "results": [result]})


def test_a_token_that_expires_while_waiting_is_renewed(
    https_server: HTTPServer, collect: Callable[..., Outcome]
) -> None:
    for token in ("first", "second"):
        give_token(https_server, token)
    https_server.expect_oneshot_request(STATUS).respond_with_json(RUNNING)
    refuse(https_server, 401, token="first")
    end(https_server)
    code, out, err = collect()
    assert (code, err) == (0, "")
    assert "Freed 0 blobs" in out


def test_a_wait_that_cannot_be_renewed_says_that_the_collection_goes_on(
    https_server: HTTPServer, collect: Callable[..., Outcome]
) -> None:
    refuse(https_server, 401, token="given")
    code, _, err = collect(OS_AUTH_TOKEN="given")
    assert code == 1
    assert "the collection goes on; look with --status" in err
    assert err.count("\n") == 1
    assert sum(request.path == STATUS for request, _ in https_server.log) == 2


def test_an_agent_that_is_too_busy_to_answer_is_waited_for(
    https_server: HTTPServer, collect: Callable[..., Outcome]
) -> None:
    for status in (429, 503):
        refuse(https_server, status)
    end(https_server)
    assert collect(OS_AUTH_TOKEN="given")[0] == 0


KEYS = [
    "state",
    "phase",
    "progress",
    "detail",
    "started",
    "dry_run",
    "last_outcome",
    "last_error",
    "last_started",
    "last_ended",
    "last_dry_run",
    "last_blobs",
    "last_bytes",
    "last_manifests",
    "last_repositories",
    "last_pinned",
    "last_writes_held",
    "last_holds",
    "last_longest_hold",
    "last_phases",
    "warnings",
    "last_ended_writes",
    "last_irrecoverable",
]
ENDED = wire.to_json(
    CollectionResult(
        "1",
        CollectionOptions(),
        "then",
        outcome="done",
        ended_writes="uploads under way",
        seconds={"mark": 1.0},
        warnings=("w",),
    )
)
UNDER_WAY = {**RUNNING, "started": "now", "options": {"dry_run": True}}


@pytest.mark.parametrize(
    ("answer", "filled"),
    [
        ({"state": "idle", "phase": "", "progress": 1.0, "last_result": None}, {"state"}),
        ({**UNDER_WAY, "last_result": None}, set(KEYS[:6])),
        ({"state": "idle", "last_result": ENDED}, {"state", *KEYS[6:]}),
        ({**UNDER_WAY, "last_result": ENDED}, set(KEYS)),
    ],
    ids=["never ran", "runs first", "ran", "runs again"],
)
def test_the_status_has_the_same_keys_whatever_there_is(
    https_server: HTTPServer, collect: Callable[..., Outcome], answer: dict[str, Any], filled: set[str]
) -> None:
    https_server.expect_request(STATUS).respond_with_json(answer)
    code, out, _ = collect("--status", "-f", "json", OS_AUTH_TOKEN="given")
    shown = json.loads(out)
    assert (code, list(shown)) == (0, KEYS)
    assert {key for key, value in shown.items() if value not in (None, [])} == filled
    for key in ("phase", "last_blobs", "warnings"):
        code, out, _ = collect("--status", "-f", "value", "-c", key, OS_AUTH_TOKEN="given")
        assert (code, out.count("\n")) == (0, 1)
    code, out, _ = collect("--status", OS_AUTH_TOKEN="given")
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    there = {key for key, value in shown.items() if value not in (None, "", [])}
    assert (code, set(rows[1:])) == (0, there), "a person is shown what there is"


@pytest.mark.parametrize(
    ("status", "filled"),
    [
        ({"state": "idle"}, {"state"}),
        ({"state": "running", "id": "1", "phase": "compress"}, {"state", "phase", "progress"}),
        (
            {"state": "idle", "last_result": {"id": "1", "outcome": "postponed", "mood": "good"}},
            {"state", "last_outcome", "last_dry_run", "last_blobs", "last_bytes"},
        ),
    ],
    ids=["as little as possible", "an unknown phase", "an unknown outcome, an unknown field"],
)
def test_the_status_of_an_agent_of_another_version_is_shown(
    https_server: HTTPServer, collect: Callable[..., Outcome], status: dict[str, Any], filled: set[str]
) -> None:
    https_server.expect_request(STATUS).respond_with_json(status)
    code, out, err = collect("--status", "-f", "json", OS_AUTH_TOKEN="given")
    assert (code, err) == (0, "")
    assert {key for key, value in json.loads(out).items() if value not in (None, [], "")} >= filled


def test_the_result_of_an_agent_of_an_earlier_version_is_shown(
    https_server: HTTPServer, collect: Callable[..., Outcome]
) -> None:
    result = {"id": "1", "outcome": "done", "blobs": 2, "bytes": 7}
    https_server.expect_request(STATUS).respond_with_json({"state": "idle", "results": [result]})
    code, out, err = collect("-f", "json", OS_AUTH_TOKEN="given")
    assert (code, err) == (0, "")
    (shown,) = json.loads(out)
    assert tuple(shown) == COLUMNS
    assert (shown["blobs"], shown["bytes"], shown["holds"]) == (2, 7, 0)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"state": 7},
        {"state": "idle", "results": [{"blobs": 1}]},
        {"state": "idle", "results": [{"id": "1", "blobs": "many"}]},
        {"state": "idle", "results": []},
    ],
)
def test_what_is_no_status_is_an_error_in_one_line(
    https_server: HTTPServer, collect: Callable[..., Outcome], body: object
) -> None:
    https_server.expect_request(STATUS).respond_with_json(body)
    code, _, err = collect("-f", "json", OS_AUTH_TOKEN="given")
    assert code == 1
    assert err.count("\n") == 1
    assert "internal error" not in err


def test_a_cancelled_collection_is_told_with_its_phase(
    https_server: HTTPServer, collect: Callable[..., Outcome]
) -> None:
    https_server.expect_oneshot_request(STATUS, "GET").respond_with_json(RUNNING)
    https_server.expect_request(STATUS, "DELETE").respond_with_data(status=204)
    result = {"id": "1", "outcome": "cancelled", "error": "somebody wanted it", "phase": "sweep"}
    https_server.expect_request(STATUS, "GET").respond_with_json({"state": "idle", "results": [result]})
    code, out, err = collect("--cancel", OS_AUTH_TOKEN="given")
    assert (code, out, err) == (0, "The garbage collection was cancelled in the phase sweep\n", "")


def test_options_are_sent_as_parameters(https_server: HTTPServer, collect: Callable[..., Outcome]) -> None:
    code, out, _ = collect("--no-wait", "--delete-untagged", "--grace", "60", OS_AUTH_TOKEN="given")
    assert (code, out) == (0, "Running docker registry garbage collect\n")
    ((request, _),) = https_server.log
    assert request.args.to_dict() == {
        "garbage_collect": "True",
        "dry_run": "False",
        "delete_untagged": "True",
        "grace": "60",
    }


def test_the_grace_time_has_the_bound_of_the_setting(collect: Callable[..., Outcome]) -> None:
    with pytest.raises(ValueError, match=f"between 0 and {MAX_GRACE}"):
        {field.name: field for field in fields(AgentSettings)}["collect_grace"].metadata["parse"](
            str(MAX_GRACE + 1)
        )
    code, _, err = collect("--grace", str(MAX_GRACE + 1), OS_AUTH_TOKEN="given")
    assert code == 2
    assert str(MAX_GRACE) in err
