"""Scripts that read lists: every parser recovers exactly the rows, however many, wherever it runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from devstack.controller import Controller
from devstack.images import single
from devstack.programs import REGISTRY_USER
from devstack.seeding import seed
from tests.certificates import authority
from tests.functional.cli.parsing import FORMATS, PLACES, csv_rows, run, shell, yaml_document
from tests.functional.conftest import NewController

MANY = 1000
TAGGED = "docker.io/formats/tagged"


def from_csv(text: str) -> list[str]:
    assert text.splitlines()[0] in ('"Image Name"', '"Image Tag"', '"Name"')
    return [next(iter(row.values())) for row in csv_rows(text)]


def from_yaml(text: str) -> list[str]:
    return [next(iter(entry.values())) for entry in yaml_document(text)]


PARSERS: dict[str, list[Callable[[str], list[str]]]] = {
    "table": [
        shell("awk -F'|' 'NF > 2 && ++n > 1 { gsub(/^ +| +$/, \"\", $2); print $2 }'"),
        shell("tail -n +4 | head -n -1 | cut -d ' ' -f 2"),
        shell("{ grep '^|' || :; } | tail -n +2 | cut -d '|' -f 2 | tr -d ' '"),
    ],
    "value": [shell("cat"), shell('while read -r name; do echo "$name"; done')],
    "json": [shell("jq -r '.[] | to_entries[0].value'")],
    "csv": [from_csv],
    "yaml": [from_yaml],
}


@pytest.fixture(scope="module")
def own(new_controller: NewController) -> Iterator[Controller]:
    """A controller whose registry holds nothing."""
    with new_controller() as controller:
        yield controller


@pytest.fixture(scope="module", params=[0, 1, MANY])
def rows(request: pytest.FixtureRequest, own: Controller) -> dict[str, list[str]]:
    """Command line -> the rows it has to show."""
    count: int = request.param
    # from nothing each time: with several test processes, another one may have had the counts before
    shutil.rmtree(own.paths.storage / "docker", ignore_errors=True)
    if count:
        own.client().push(TAGGED, "v0000", single(seed="formats"))
    if count == MANY:
        seed(own, [f"docker.io/formats/{number:04}" for number in range(MANY - 1)])
        tags = next(own.paths.storage.rglob("tagged/_manifests/tags"))
        for number in range(1, MANY):
            shutil.copytree(tags / "v0000", tags / f"v{number:04}")
        subprocess.run(["chown", "-R", f"{REGISTRY_USER}:", str(tags)], check=True)
    names = [TAGGED, *(f"docker.io/formats/{number:04}" for number in range(MANY - 1))]
    return {
        "registry-image-list": sorted(names[:count]),
        f"registry-image-tags {TAGGED}": [f"v{number:04}" for number in range(count)],
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("format_", FORMATS)
def test_every_parser_recovers_the_rows(
    own: Controller, rows: dict[str, list[str]], format_: str, place: str
) -> None:
    for line, expected in rows.items():
        status, text = run(own, f"{line} -f {format_}", place)
        assert status == 0
        check(format_, text, expected)


def check(format_: str, text: str, expected: list[str]) -> None:
    if not expected and format_ == "table":
        assert text == "\n"
    if not expected and format_ == "value":
        assert text == ""
    for parse in PARSERS[format_]:
        assert parse(text) == expected


@pytest.mark.parametrize("count", [1, MANY])
def test_every_parser_recovers_the_certificates(own: Controller, count: int) -> None:
    """The registry's own is always there, so there is no list without one."""
    directory = own.paths.root / "ca-certificates"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    root = authority("Many")
    # The agent knows a CA by the content of its file: one certificate does for a thousand.
    for number in range(count - 1):
        (directory / f"sysreg-{number:032x}.crt").write_bytes(root.pem)
    expected = ["docker_registry", *[f"ssl_ca_{root.certificate.serial_number}"] * (count - 1)]
    for format_ in FORMATS:
        for place in PLACES:
            status, text = run(own, f"certificate-list -f {format_} -c Name", place)
            assert status == 0
            check(format_, text, expected)


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
