"""Scripts that read the output: every parser recovers exactly the images and tags, however many."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pexpect
import pytest
import yaml

from devstack.controller import Controller
from devstack.images import single
from devstack.registry import USER
from devstack.seeding import seed

MANY = 1000
TAGGED = "docker.io/formats/tagged"


def piped(*words: str) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", words[0]], input=text, capture_output=True, text=True, timeout=30
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    return parse


def from_csv(text: str) -> list[str]:
    head, *rows = csv.reader(io.StringIO(text))
    assert head in (["Image Name"], ["Image Tag"])
    return [row[0] for row in rows]


def from_yaml(text: str) -> list[str]:
    return [next(iter(entry.values())) for entry in yaml.safe_load(text)]


PARSERS: dict[str, list[Callable[[str], list[str]]]] = {
    "table": [
        piped("awk -F'|' 'NF > 2 && ++n > 1 { gsub(/^ +| +$/, \"\", $2); print $2 }'"),
        piped("tail -n +4 | head -n -1 | cut -d ' ' -f 2"),
        piped("grep '^|' | tail -n +2 | cut -d '|' -f 2 | tr -d ' '"),
    ],
    "value": [piped("cat"), piped('while read -r name; do echo "$name"; done')],
    "json": [piped("jq -r '.[] | to_entries[0].value'")],
    "csv": [from_csv],
    "yaml": [from_yaml],
}
PLACES = {
    "piped": {},
    "in the C locale": {"LANG": "C", "LC_ALL": "C"},
    "with NO_COLOR": {"NO_COLOR": "1"},
    "with COLUMNS=40": {"COLUMNS": "40"},
}


@pytest.fixture(scope="module")
def own(new_controller: Callable[..., AbstractContextManager[Controller]]) -> Iterator[Controller]:
    """A controller whose registry holds nothing."""
    with new_controller() as controller:
        yield controller


@pytest.fixture(scope="module", params=[0, 1, MANY])
def rows(request: pytest.FixtureRequest, own: Controller) -> dict[str, list[str]]:
    """Command line -> the rows it has to show."""
    count: int = request.param
    if count == 1:
        own.client().push(TAGGED, "v0000", single(seed="formats"))
    elif count == MANY:
        seed(own, [f"docker.io/formats/{number:04}" for number in range(MANY - 1)])
        tags = next(own.storage.rglob("tagged/_manifests/tags"))
        for number in range(1, MANY):
            shutil.copytree(tags / "v0000", tags / f"v{number:04}")
        subprocess.run(["chown", "-R", f"{USER}:", str(tags)], check=True)
    names = [TAGGED, *(f"docker.io/formats/{number:04}" for number in range(MANY - 1))]
    return {
        "registry-image-list": sorted(names[:count]),
        f"registry-image-tags {TAGGED}": [f"v{number:04}" for number in range(count)],
    }


def check(format_: str, text: str, expected: list[str]) -> None:
    if not expected and format_ == "table":
        assert text == "\n"
    if not expected and format_ == "value":
        assert text == ""
    for parse in PARSERS[format_]:
        assert parse(text) == expected


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("format_", PARSERS)
def test_every_parser_recovers_the_rows(
    own: Controller, rows: dict[str, list[str]], format_: str, place: str
) -> None:
    for line, expected in rows.items():
        done = own.system(*line.split(), "-f", format_, env=PLACES[place])
        assert (done.returncode, done.stderr) == (0, "")
        check(format_, done.stdout, expected)


@pytest.mark.parametrize("format_", PARSERS)
def test_a_narrow_terminal_changes_nothing(
    own: Controller, rows: dict[str, list[str]], format_: str, tmp_path: Path
) -> None:
    for line, expected in rows.items():
        errors = tmp_path / "stderr"
        text, status = pexpect.run(
            f"bash -c 'system {line} -f {format_} 2>{errors}'",
            env=own.environ(),
            withexitstatus=True,
            timeout=60,
            encoding="utf-8",
            dimensions=(24, 40),
        )
        assert (status, errors.read_text()) == (0, "")
        assert "\x1b" not in text
        check(format_, text.replace("\r\n", "\n"), expected)


def test_a_column_is_chosen_by_its_name_or_key(own: Controller, rows: dict[str, list[str]]) -> None:
    for column in ("Image Name", "image_name"):
        done = own.system("registry-image-list", "-f", "value", "-c", column)
        assert done.stdout.split() == rows["registry-image-list"]
    done = own.system("registry-image-list", "-c", "No Such")
    if rows["registry-image-list"]:
        assert (done.returncode, done.stdout) == (2, "")
        assert "Image Name" in done.stderr


def test_filtered_lists_are_recovered_too(own: Controller, rows: dict[str, list[str]]) -> None:
    done = own.system("registry-image-list", "--filter-out-untagged")
    assert (done.returncode, done.stderr) == (0, "")
    check("table", done.stdout, rows["registry-image-list"])
