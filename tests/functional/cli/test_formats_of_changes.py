"""Scripts that read what a delete, a collection and an install say: parsers recover exactly that."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.controller import Controller
from devstack.images import single
from devstack.options import Options
from devstack.programs import AGENT, REGISTRY, REGISTRY_USER, TOKEN_SERVER
from sysreg_cli.cli.collection_report import COLUMNS
from tests.certificates import authority
from tests.functional.cli.parsing import FORMATS, PLACES, csv_rows, run, shell, yaml_document
from tests.functional.conftest import NewController

MANY = 1000
SIZE = 10  # bytes of a blob here


@pytest.fixture(scope="module")
def own(new_controller: NewController) -> Iterator[Controller]:
    """A controller whose registry holds nothing; root on the socket needs no Keystone."""
    with new_controller(Options(programs=(REGISTRY, TOKEN_SERVER, AGENT))) as controller:
        yield controller


@pytest.fixture(scope="module", params=[0, 1, MANY])
def garbage(request: pytest.FixtureRequest, own: Controller) -> list[str]:
    """The digests of so many blobs that nothing names any more."""
    blobs = own.paths.storage / "docker/registry/v2/blobs/sha256"
    shutil.rmtree(blobs, ignore_errors=True)
    if request.param:
        # The registry's own collector fails where there never was a repository.
        (own.paths.storage / "docker/registry/v2/repositories").mkdir(parents=True, exist_ok=True)
    digests = []
    for number in range(request.param):
        content = b"%0*d" % (SIZE, number)
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest[:2] / digest).mkdir(parents=True)
        (blobs / digest[:2] / digest / "data").write_bytes(content)
        os.utime(blobs / digest[:2] / digest / "data", (0, 0))
        digests.append(f"sha256:{digest}")
    subprocess.run(["chown", "-R", f"{REGISTRY_USER}:", str(own.paths.storage)], check=True)
    # Nobody has pushed for a while: no drain.
    (own.paths.state / "latest-write-token").write_text(f"{time.time() - 600:19.6f}\n")
    return sorted(digests)


def one_place(format_: str, count: int) -> str:
    """By turns, so that each format is read in each place."""
    return PLACES[(FORMATS.index(format_) + count) % 2]


COLLECTABLE: dict[str, Callable[[str], list[str]]] = {
    "table": shell("tail -n +2 | awk '$1 == \"blob\" { print $2 }'"),
    "json": shell("jq -r '.[].plan.blobs[].digest'"),
    "yaml": lambda text: [blob["digest"] for blob in yaml_document(text)[0]["plan"]["blobs"]],
}
COUNTS: dict[str, Callable[[str], list[str]]] = {
    "table": shell(
        'awk \'/^(Would free|Freed) / { sub(/,/, ""); for (n = 1; n < NF; n++) if ($(n + 1) ~ /^(blob|byte)/)'
        " print $n }'"
    ),
    "value": shell("cut -d ' ' -f 3,4 | tr ' ' '\\n'"),
    "json": shell("jq -r '.[] | .blobs, .bytes'"),
    "csv": lambda text: [row[key] for row in csv_rows(text) for key in ("blobs", "bytes")],
    "yaml": lambda text: [str(item[key]) for item in yaml_document(text) for key in ("blobs", "bytes")],
}


@pytest.mark.parametrize("format_", FORMATS)
def test_what_a_collection_would_free_is_recovered(own: Controller, garbage: list[str], format_: str) -> None:
    for place in PLACES if len(garbage) == MANY else [one_place(format_, len(garbage))]:
        status, text = run(own, f"registry-garbage-collect --dry-run -f {format_}", place)
        assert status == 0
        assert COUNTS[format_](text) == [str(len(garbage)), str(len(garbage) * SIZE)]
        if format_ in COLLECTABLE:
            assert COLLECTABLE[format_](text) == garbage


LAST: dict[str, Callable[[str], list[str]]] = {
    "table": shell(
        'awk -F\'|\' \'{ gsub(/ /, "") } $2 == "last_outcome" || $2 == "last_blobs" { print $3 }\''
    ),
    "value": shell("cat"),
    "json": shell("jq -r '.last_outcome, .last_blobs'"),
    "csv": lambda text: [value for row in csv_rows(text) for value in row.values()],
    "yaml": lambda text: [str(value) for value in yaml_document(text).values()],
}


@pytest.mark.parametrize("format_", FORMATS)
def test_what_a_collection_freed_is_recovered_and_so_is_the_status(
    own: Controller, garbage: list[str], format_: str
) -> None:
    place = one_place(format_, len(garbage))
    status, text = run(own, f"registry-garbage-collect -f {format_}", place)
    assert status == 0
    # The first of these collections frees all there is.
    assert COUNTS[format_](text) in (["0", "0"], [str(len(garbage)), str(len(garbage) * SIZE)])
    if format_ == "json":
        assert tuple(json.loads(text)[0]) == COLUMNS
    if format_ == "table":
        assert text.startswith("Running docker registry garbage collect\n")
    line = f"registry-garbage-collect --status -f {format_} -c last_outcome -c last_blobs"
    status, shown = run(own, line, place)
    assert (status, LAST[format_](shown)) == (0, ["done", COUNTS[format_](text)[0]])


STARTED: dict[str, Callable[[str], list[str]]] = {
    "table": lambda text: ["started"] if text == "Running docker registry garbage collect\n" else [text],
    "value": shell("cut -d ' ' -f 2"),
    "json": shell("jq -r '.[].outcome'"),
    "csv": lambda text: [row["outcome"] for row in csv_rows(text)],
    "yaml": lambda text: [item["outcome"] for item in yaml_document(text)],
}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_collection_that_is_not_waited_for_says_so_in_every_format(own: Controller, format_: str) -> None:
    # It ends the one that was started before, if that still runs.
    own.system("registry-garbage-collect", "--cancel")
    status, text = run(own, f"registry-garbage-collect --no-wait -f {format_}", PLACES[0])
    assert (status, STARTED[format_](text)) == (0, ["started"])


DELETED: dict[str, Callable[[str], list[str]]] = {
    "table": shell('awk \'$1 == "Image" && $3 == "deleted" { print $2 }\''),
    "value": shell("awk '$2 == \"True\" { print $1 }'"),
    "json": shell("jq -r '.[] | select(.deleted) | .image'"),
    "csv": lambda text: [row["image"] for row in csv_rows(text) if row["deleted"] == "True"],
    "yaml": lambda text: [item["image"] for item in yaml_document(text) if item["deleted"]],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("format_", FORMATS)
def test_what_was_deleted_is_recovered(controller: Controller, format_: str, place: str) -> None:
    name = f"docker.io/formats/{format_}"
    images = [f"{name}:v{number}" for number in range(3)]
    for image in images:
        controller.client().push(name, image.rpartition(":")[2], single(seed=name))
    for several in ([images[0]], images[1:]):
        status, text = run(controller, f"registry-image-delete {' '.join(several)} -f {format_}", place)
        assert (status, DELETED[format_](text)) == (0, several)
    nothing = controller.system("registry-image-delete", images[0], "-f", format_)
    assert (nothing.returncode, DELETED[format_](nothing.stdout)) == (1, [])


SIGNATURES: dict[str, Callable[[str], list[str]]] = {
    "table": shell("awk -F'|' '{ gsub(/ /, \"\") } $2 == \"signature\" { print $3 }'"),
    "value": shell("{ grep -o '[a-z_]*_[0-9]\\{10,\\}' || :; }"),
    "json": shell("jq -r 'if type == \"array\" then .[] else . end | .signature'"),
    "csv": lambda text: [row["signature"] for row in csv_rows(text)],
    "yaml": lambda text: [item["signature"] for item in _several(yaml_document(text))],
}


def _several(document: object) -> list[dict[str, str]]:
    return document if isinstance(document, list) else [document]  # type: ignore[list-item]


@pytest.mark.parametrize("count", [1, 60])
def test_the_cas_that_were_installed_are_recovered(own: Controller, tmp_path: Path, count: int) -> None:
    several = [authority(f"CA {number}") for number in range(count)]
    file = tmp_path / "ca.pem"
    file.write_bytes(b"".join(ca.pem for ca in several))
    expected = sorted(f"ssl_ca_{ca.certificate.serial_number}" for ca in several)
    for format_ in FORMATS:
        line = f"certificate-install -m ssl_ca {file} -f {format_}"
        status, text = run(own, line, one_place(format_, count))
        assert (status, sorted(SIGNATURES[format_](text))) == (0, expected)


@pytest.mark.parametrize("format_", FORMATS)
def test_the_certificate_that_was_installed_is_recovered(
    own: Controller, tmp_path: Path, format_: str
) -> None:
    file = tmp_path / "server.pem"
    pair = own.paths.tls / "current"
    # The one that is there already, so that everybody goes on trusting it.
    file.write_bytes((pair / "server.key").read_bytes() + (pair / "server.crt").read_bytes())
    status, text = run(
        own, f"certificate-install -m docker_registry {file} -f {format_}", one_place(format_, 1)
    )
    assert status == 0
    assert not file.exists()
    shown = json.loads(own.system("certificate-show", "docker_registry", "-f", "json").stdout)
    assert SIGNATURES[format_](text) == [shown["signature"]]
    if format_ == "table":
        assert text.startswith(f"{file} holds the private key: the file will be removed")
    _, text = run(own, f"certificate-show docker_registry -f {format_}", one_place(format_, 0))
    assert SIGNATURES[format_](text) == [shown["signature"]]
