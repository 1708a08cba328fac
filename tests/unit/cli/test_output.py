"""How results look in each format (docs/contracts.rst, "The system command")."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import yaml

from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.output import (
    Size,
    check_list,
    hint,
    readable,
    say,
    show_list,
    show_properties,
    show_report,
)
from sysreg_cli.errors import UsageError
from sysreg_cli.v1.collections import Outcome

_DATE = datetime(2027, 1, 17, 3, 48, 21, tzinfo=timezone(timedelta(hours=2)))
_ROWS: list[list[object]] = [["v10", 3], ["v9", 1], ["V1", None]]


def _as(form: str, *columns: str) -> Invocation:
    return Invocation({}, format=form, columns=columns)


def test_a_table_is_left_aligned_sorted_by_bytes_and_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    long = "x" * 300
    show_list(_as("table"), ["Image Name"], [["b"], [long], ["B"], ["é"], ["1e3"]])
    border = "+" + "-" * 302 + "+"
    cells = ["Image Name", "1e3", "B", "b", long, "é"]
    expected = [f"| {cell:<300} |" for cell in cells]
    assert capsys.readouterr().out.splitlines() == [border, expected[0], border, *expected[1:], border]


@pytest.mark.parametrize(
    ("form", "text"),
    [("table", "\n"), ("value", ""), ("json", "[]\n"), ("yaml", "[]\n"), ("csv", '"Image Name"\n')],
)
def test_an_empty_result(capsys: pytest.CaptureFixture[str], form: str, text: str) -> None:
    show_list(_as(form), ["Image Name"], [])
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("value", "V1 \nv10 3\nv9 1\n"),
        ("csv", '"Image Tag","Pull Count"\n"V1",""\n"v10","3"\n"v9","1"\n'),
        ("yaml", None),
        ("json", None),
    ],
)
def test_a_list_in_every_machine_format(
    capsys: pytest.CaptureFixture[str], form: str, text: str | None
) -> None:
    show_list(_as(form), ["Image Tag", "Pull Count"], _ROWS)
    out = capsys.readouterr().out
    if text is None:
        assert (yaml.safe_load(out) if form == "yaml" else json.loads(out)) == [
            {"image_tag": "V1", "pull_count": None},
            {"image_tag": "v10", "pull_count": 3},
            {"image_tag": "v9", "pull_count": 1},
        ]
    else:
        assert out == text


@pytest.mark.parametrize("asked", ["Pull Count", "pull_count", "PULL COUNT"])
def test_columns_are_chosen_by_title_or_key_in_the_order_asked_for(
    capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    show_list(_as("value", asked, "Image Tag"), ["Image Tag", "Pull Count"], [["v1", 3]])
    assert capsys.readouterr().out == "3 v1\n"


def test_an_unknown_column_is_wrong_usage_and_the_known_ones_are_named() -> None:
    with pytest.raises(UsageError, match="Image Tag"):
        show_list(_as("json", "Nope"), ["Image Tag"], [["v1"]])


def _properties() -> dict[str, Any]:
    return {"uuid": "u-1", "expiry_date": _DATE, "names": ["a", "b"]}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            "table",
            "+-------------+---------------------------+\n"
            "| Property    | Value                     |\n"
            "+-------------+---------------------------+\n"
            "| uuid        | u-1                       |\n"
            "| expiry_date | 2027-01-17 01:48:21+00:00 |\n"
            "| names       | a, b                      |\n"
            "+-------------+---------------------------+\n",
        ),
        ("value", "u-1\n2027-01-17 01:48:21+00:00\na, b\n"),
        ("csv", '"uuid","expiry_date","names"\n"u-1","2027-01-17 01:48:21+00:00","a, b"\n'),
    ],
)
def test_one_object_with_dates_in_utc(capsys: pytest.CaptureFixture[str], form: str, text: str) -> None:
    show_properties(_as(form), _properties())
    assert capsys.readouterr().out == text


def test_one_object_as_json_and_yaml_carries_warnings_as_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "uuid": "u-1",
        "expiry_date": "2027-01-17T01:48:21+00:00",
        "names": ["a", "b"],
        "warnings": ["soon"],
    }
    show_properties(_as("json"), _properties(), warnings=["soon"])
    assert json.loads(capsys.readouterr().out) == expected
    show_properties(_as("yaml"), _properties(), warnings=["soon"])
    assert yaml.safe_load(capsys.readouterr().out) == expected


@pytest.mark.parametrize("form", ["json", "yaml", "value", "csv"])
def test_fixed_lines_belong_to_the_table_format_alone(capsys: pytest.CaptureFixture[str], form: str) -> None:
    def show(invocation: Invocation) -> str:
        say(invocation, "Image a:v1 deleted")
        show_report(invocation, [{"image": "a:v1", "deleted": True}])
        return capsys.readouterr().out

    assert show(_as("table")) == "Image a:v1 deleted\n"
    other = show(_as(form))
    assert "Image" not in other
    assert "a:v1" in other


def test_a_hint_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    hint("did you know")
    assert capsys.readouterr() == ("", "")


def test_control_characters_of_a_value_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show_properties(_as("value"), {"subject": "CN=\x1b[31mred\r\n"})
    assert capsys.readouterr().out == "CN=\\x1b[31mred\\r\\n\n"


def test_leading_spaces_of_a_value_survive_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_properties(_as("table"), {"subject": "  two"})
    assert "| subject  |   two |" in capsys.readouterr().out


def test_what_has_parts_is_one_readable_cell(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(_as("value"), [{"phases": {"look": 0.5, "sweep": 2}, "names": ["a", "b"]}])
    assert capsys.readouterr().out == "look=0.5, sweep=2 a, b\n"


@pytest.mark.parametrize("form", ["table", "json", "yaml", "value", "csv"])
def test_an_enumeration_is_its_value(capsys: pytest.CaptureFixture[str], form: str) -> None:
    show_list(_as(form), ["Outcome"], [[Outcome.DONE]])
    out = capsys.readouterr().out
    assert "done" in out
    assert "Outcome." not in out


def test_warnings_can_be_asked_for_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    show_properties(_as("json", "warnings"), _properties(), warnings=[])
    assert json.loads(capsys.readouterr().out) == {"warnings": []}
    with pytest.raises(UsageError):
        show_properties(_as("json", "warnings"), _properties())


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_340_000_000, "2.3 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_for_people(size: int, shown: str) -> None:
    assert readable(size) == shown


@pytest.mark.parametrize(
    ("form", "size"),
    [("table", "1.5 kB"), ("value", "1500"), ("csv", "1500"), ("json", 1500), ("yaml", 1500)],
)
def test_a_size_is_for_people_in_a_table_and_bytes_elsewhere(
    capsys: pytest.CaptureFixture[str], form: str, size: object
) -> None:
    show_list(_as(form), ["Size"], [[Size(1500)]])
    show_properties(_as(form), {"size": Size(1500), "free": None})
    out = capsys.readouterr().out
    assert str(size) in out
    assert ("1500" in out) != (form == "table")


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("Size", ["none", "small", "same", "large"]),
        ("size:asc", ["none", "small", "same", "large"]),
        ("SIZE:desc", ["large", "same", "small", "none"]),
        ("Image Name:desc", ["small", "same", "none", "large"]),
    ],
)
def test_rows_are_sorted_by_the_value_of_a_column(
    capsys: pytest.CaptureFixture[str], column: str, names: list[str]
) -> None:
    rows: list[list[Any]] = [["large", Size(1500)], ["none", None], ["same", Size(999)], ["small", Size(20)]]
    invocation = Invocation({}, format="value", columns=["Image Name"], sort_column=column)
    show_list(invocation, ["Image Name", "Size"], rows)
    assert capsys.readouterr().out.splitlines() == names


@pytest.mark.parametrize("column", ["Color", "Size:down", ":desc", "Size:desc:asc"])
def test_an_impossible_sort_column_is_wrong_usage(column: str) -> None:
    with pytest.raises(UsageError, match="Image Name, Size"):
        check_list(Invocation({}, sort_column=column), ["Image Name", "Size"])
