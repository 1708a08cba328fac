"""What a collection's end looks like as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from sysreg_cli.cli.garbage import _show_end
from sysreg_cli.cli.options import Invocation
from sysreg_cli.v1 import wire
from sysreg_cli.v1.collections import CollectionOptions, CollectionResult
from tests.unit.cli.conftest import Outcome

STATUS = "/v1/registry_image/garbage_collect"
RUNNING = {"state": "running", "id": "1", "phase": "sweep", "progress": 0.5, "detail": ""}


def shown(capsys: pytest.CaptureFixture[str], **facts: Any) -> list[str]:
    result = CollectionResult("1", CollectionOptions(), "then", outcome="done", duration=1.0, **facts)
    _show_end(Invocation(), wire.to_json(result), {})
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("number", "lines"),
    [
        (
            1,
            [
                "Freed 1 blob, 1 byte in 1.0 s; writes were held for 0.0 s",
                "Removed 1 untagged manifest, 1 empty repository",
                "Kept 1 blob that pushes under way may need",
            ],
        ),
        (
            2,
            [
                "Freed 2 blobs, 2 bytes in 1.0 s; writes were held for 0.0 s",
                "Removed 2 untagged manifests, 2 empty repositories",
                "Kept 2 blobs that pushes under way may need",
            ],
        ),
    ],
)
def test_one_and_several_are_told_apart(
    capsys: pytest.CaptureFixture[str], number: int, lines: list[str]
) -> None:
    names = ("blobs", "bytes", "manifests", "repositories", "pinned")
    assert shown(capsys, **dict.fromkeys(names, number)) == lines


def test_several_holds_are_told_with_the_longest(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = shown(capsys, holds=3, writes_held=160.25, longest_hold=75.0)
    assert line.endswith("; writes were held for 160.2 s, in 3 pieces of at most 75.0 s")


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
]
ENDED = wire.to_json(
    CollectionResult("1", CollectionOptions(), "then", outcome="done", seconds={"mark": 1.0}, warnings=("w",))
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
