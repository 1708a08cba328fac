"""The documents: citations lead to titles that exist, links to files, and what a reader reads is valid."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import docutils.core
import docutils.nodes
import docutils.utils
import pytest

import sysreg_cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst")])
# What may cite documents. Files of the virtual environments and of other tools are not among them.
_ROOMS = (
    "sysreg_cli",
    "tests",
    "devstack",
    "bench",
    "tools",
    "etc",
    "man",
    "docs",
    "packages",
    "debian",
    ".ci",
)

# ``docs/FILE.rst, "Title"``. A comment may break the citation into lines.
_CITATION = re.compile(r'docs/([a-z]+\.rst),\s+(?:#\s*)?"([^"]+)"')
# In documents: `Text <FILE.rst>`_, "Title".
_LINKED_CITATION = re.compile(r'<(?:docs/)?([a-z]+\.rst)>`_,\s+"([^"]+)"')
# Documents and trackers that a reader of the repository cannot open.
_OUTSIDE = re.compile(
    r"\bCONTRACTS\b|\bFACTS\.md|\(FACTS\)|\(FACTS, \"|\bDESIGN\.md|\.\./shared"
    r"|\b[Ii]ssues? #?\d|(?<!PKCS)\s#\d+\b"
)


def _texts() -> list[Path]:
    names = [*_ROOMS, *(path.name for path in ROOT.iterdir() if path.is_file())]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    # a source distribution is no git repository
    found = [ROOT / name for name in listed] or [
        path for room in _ROOMS for path in (ROOT / room).rglob("*.*")
    ]
    return sorted(path for path in found if path.is_file() and path != Path(__file__).resolve())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def _parse(path: Path) -> docutils.nodes.document:
    settings = {"report_level": docutils.utils.Reporter.SEVERE_LEVEL + 1, "halt_level": 5}
    return docutils.core.publish_doctree(path.read_text(), str(path), settings_overrides=settings)


def _titles(path: Path) -> set[str]:
    return {title.astext() for title in _parse(path).findall(docutils.nodes.title)}


TITLES = {path.name: _titles(path) for path in DOCUMENTS}


def _citations(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\s*\n\s*(?:#:?\s+)?", " ", text)
    return [*_CITATION.findall(joined), *_LINKED_CITATION.findall(joined)]


def test_every_cited_title_exists() -> None:
    cited = [(path, *citation) for path in _texts() for citation in _citations(_read(path))]
    missing = [
        f'{path.relative_to(ROOT)}: {document}, "{title}"'
        for path, document, title in cited
        if title not in TITLES.get(document, ())
    ]
    assert not missing, "\n".join(missing)
    assert len(cited) > 30


def test_nothing_cites_what_a_reader_cannot_open() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _texts()
        for number, line in enumerate(_read(path).splitlines(), 1)
        if _OUTSIDE.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_is_valid(path: Path) -> None:
    document = _parse(path)
    messages = [*document.parse_messages, *document.transform_messages]
    messages += document.findall(docutils.nodes.system_message)
    warning = docutils.utils.Reporter.WARNING_LEVEL
    assert not [message.astext() for message in messages if message["level"] >= warning]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    targets = {
        str(node["refuri"]) for node in _parse(path).findall(docutils.nodes.reference) if "refuri" in node
    }
    local = {target for target in targets if "://" not in target and not target.startswith("mailto:")}
    assert not {target for target in local if not (path.parent / target.partition("#")[0]).is_file()}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_of_the_repository_that_a_document_names_exists(path: Path) -> None:
    named = re.findall(
        r"(?<![\w./@-])((?:sysreg_cli|tests|devstack|tools|bench|etc|man|packages|debian)/[\w./-]*\w/?)",
        path.read_text(),
    )
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/index.rst").read_text()
    assert not {
        path.name for path in DOCUMENTS if path.name != "index.rst" and f"{path.name}>`_" not in index
    }


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.rst").read_text().splitlines()) <= 150


@pytest.mark.parametrize("question", ["push that meets", "grace time", "collect_grace", "--grace"])
def test_a_reader_finds_what_happens_to_a_push_and_where_to_change_the_grace_time(question: str) -> None:
    assert question in (ROOT / "docs/index.rst").read_text()
    assert question in (ROOT / "docs/architecture.rst").read_text()


def test_the_newest_entries_of_both_changelogs_are_of_this_version() -> None:
    newest = re.search(r"^(\d+\.\d+\.\d+) \(", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    packaged = re.match(r"sysreg \((\d+\.\d+\.\d+)", (ROOT / "debian/changelog").read_text())
    assert newest
    assert packaged
    assert newest[1] == packaged[1] == sysreg_cli.__version__


def test_the_architecture_draws_the_arrows_that_the_linter_checks() -> None:
    layers = re.search(
        r"^layers = \[\n(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE
    )
    assert layers is not None
    drawn = (ROOT / "docs/architecture.rst").read_text().partition("\nArrows\n---")[2].partition("\n---")[0]
    for layer in re.findall(r'"(.*)"', layers[1]):
        rooms = r"\s+".join(re.escape(room) for room in layer.split(" | "))
        assert re.search(rf"^    {rooms}(?:  |$)", drawn, re.MULTILINE), layer


def test_the_architecture_names_every_room() -> None:
    rooms = (
        (ROOT / "docs/architecture.rst")
        .read_text()
        .partition("\nRooms\n---")[2]
        .partition("\nArrows\n---")[0]
    )
    entries = [path for path in (ROOT / "sysreg_cli").iterdir() if not path.name.startswith("_")]
    names = [path.name + "/" if path.is_dir() else path.name for path in entries]
    assert not [name for name in names if name != "py.typed" and f"``{name}``" not in rooms]


@pytest.mark.parametrize(
    "room", sorted((ROOT / "sysreg_cli").rglob("__init__.py")), ids=lambda path: path.parent.name
)
def test_the_map_of_a_room_lists_its_modules(room: Path) -> None:
    if room.parent == ROOT / "sysreg_cli":
        return  # docs/architecture.rst has that map
    text = ast.get_docstring(ast.parse(room.read_text())) or ""
    listed = re.findall(r"^ *([a-z_0-9]+)(?:\.py|/)?  +\S", text, re.MULTILINE)
    entries = [path for path in room.parent.iterdir() if not path.name.startswith("_")]
    assert sorted(listed) == sorted(path.stem for path in entries)
