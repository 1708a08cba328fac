"""How a command shows its result: table, json, yaml, value or csv, on stdout.

The rules are in docs/contracts.rst, "The system command".

A command shows its result with one of these::

    show_list(invocation, ["Image Name"], [["alpine"], ["busybox"]])     rows, sorted here
    show_properties(invocation, {"uuid": ..., "expiry_date": ...})       one object
    say(invocation, "Image ... deleted")                                 a line of the table format, and
    show_report(invocation, [{"image": ..., "deleted": True}])           the same for the other formats

Values are str, int, float, bool, None, Sizes, datetimes (aware; shown in UTC), or lists or mappings of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.errors import UsageError
from sysreg_cli.text import printable, shorten


class Size(int):
    """A number of bytes: a table shows it for people, and every other format as a plain number."""


class Summarized(list[Any]):
    """A list that a table shows as ``text``, and every other format whole."""

    def __init__(self, items: Iterable[Any], text: str) -> None:
        super().__init__(items)
        self.text = text


def names(items: Sequence[str] | None, most: int) -> list[str] | None:
    """Return names of which a table shows ``most``, and how many more there are. None is not known."""
    if items is None or len(items) <= most + 1:  # "and 1 more" is no shorter than a name
        return None if items is None else list(items)
    return Summarized(items, f"{', '.join(items[:most])} and {len(items) - most} more")


def size(number: int | None) -> Size | None:
    """Return a Size, or None for what is not known."""
    return None if number is None else Size(number)


def time(text: str | None) -> datetime | None:
    """Return the time of an ISO 8601 text of the agent, or None for what is not known."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def show_list(
    invocation: Invocation, titles: Sequence[str], rows: Iterable[Sequence[Any]], *, ordered: bool = False
) -> None:
    """Show rows in the order of --sort-column, else in plain byte order, or as they are if ``ordered``.

    The keys of json and yaml are the titles in snake_case.
    """
    if not ordered:
        rows = sorted((tuple(row) for row in rows), key=lambda row: [_cell(value).encode() for value in row])
    if invocation.sort_column:
        index, descending = _sorting(invocation, titles)
        # a sort keeps the order of equal rows, also if it is reversed
        rows = sorted(rows, key=lambda row: _sort_key(row[index]), reverse=descending)
    _show_rows(invocation, titles, rows)


def show_properties(
    invocation: Invocation, properties: Mapping[str, Any], *, warnings: Sequence[str] | None = None
) -> None:
    """Show one object: a table with the columns Property and Value; in json and yaml an object.

    ``warnings`` becomes a property if it is not empty, or if -c names it. With None, -c warnings is an error.
    A table shows a property without a value only if -c names it.
    """
    if warnings or (warnings is not None and "warnings" in map(_key, invocation.columns)):
        properties = {**properties, "warnings": list(warnings)}
    keys = list(properties)
    pairs = [(keys[index], properties[keys[index]]) for index in _choose(invocation, keys)]
    if invocation.format in ("json", "yaml"):
        _write_data(invocation.format, dict(pairs))
    elif invocation.format == "value":
        _write_lines(_cell(value) for _, value in pairs)
    elif invocation.format == "csv":
        _write_csv([key for key, _ in pairs], [[value for _, value in pairs]])
    else:
        rows = [(key, value) for key, value in pairs if invocation.columns or value not in (None, "", [], {})]
        _write_table(["Property", "Value"], rows)


def show_report(invocation: Invocation, results: Sequence[Mapping[str, Any]]) -> None:
    """Show what was done, one object for each image, collection... All objects have the same keys.

    Shows nothing in the table format: there ``say`` has printed a line for each as it happened.
    """
    if invocation.format == "table":
        return
    keys = list(results[0]) if results else []
    _show_rows(invocation, keys, [[result[key] for key in keys] for result in results])


def _show_rows(invocation: Invocation, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    indexes = _choose(invocation, titles)
    titles = [titles[index] for index in indexes]
    chosen = [[row[index] for index in indexes] for row in rows]
    if invocation.format in ("json", "yaml"):
        keys = [_key(title) for title in titles]
        _write_data(invocation.format, [dict(zip(keys, row, strict=True)) for row in chosen])
    elif invocation.format == "value":
        _write_lines(" ".join(_cell(value) for value in row) for row in chosen)
    elif invocation.format == "csv":
        _write_csv(titles, chosen)
    else:
        _write_table(titles, chosen)


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun: "1 blob", "2 blobs"."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def check_columns(invocation: Invocation, names: Sequence[str]) -> None:
    """Raise UsageError for an unknown column. A command that changes something calls this first."""
    _choose(invocation, names)


def check_list(invocation: Invocation, titles: Sequence[str]) -> None:
    """Raise UsageError for an unknown column of -c or --sort-column. A list calls this before it asks."""
    check_columns(invocation, titles)
    if invocation.sort_column:
        _sorting(invocation, titles)


def readable(size: int) -> str:
    """Return a number of bytes in the largest decimal unit that leaves at least 1 before the point."""
    if size < 0:
        return f"-{readable(-size)}"
    if size < 1000:
        return f"{size} byte{'s' if size != 1 else ''}"
    units = iter(("kB", "MB", "GB", "TB"))
    number, unit = size / 1000, next(units)
    while number >= 999.95 and (larger := next(units, "")):
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}"


def say(invocation: Invocation, line: str) -> None:
    """Print a line at once in the table format, and nothing in the other formats."""
    if invocation.format == "table":
        print(printable(line), flush=True)


def hint(line: str) -> None:
    """Print a line for people: on stderr, and only if that is a terminal."""
    if sys.stderr.isatty():
        print(printable(line), file=sys.stderr)


def _choose(invocation: Invocation, names: Sequence[str]) -> list[int]:
    """Return the indexes of the columns that -c names, in its order. Raises UsageError for an unknown one."""
    if not invocation.columns or not names:
        return list(range(len(names)))
    indexes = {_key(name): index for index, name in enumerate(names)}
    for column in invocation.columns:
        if _key(column) not in indexes:
            raise UsageError(f"no column {column}", next_step=f"there are: {', '.join(names)}")
    return list(dict.fromkeys(indexes[_key(column)] for column in invocation.columns))


def _sorting(invocation: Invocation, titles: Sequence[str]) -> tuple[int, bool]:
    """Return the index of the column that --sort-column names, and whether the largest comes first."""
    name, _, order = invocation.sort_column.partition(":")
    keys = [_key(title) for title in titles]
    if _key(name) not in keys or order not in ("", "asc", "desc"):
        raise UsageError(
            f"--sort-column: {shorten(invocation.sort_column)} is not NAME, NAME:asc or NAME:desc",
            next_step=f"NAME is one of: {', '.join(titles)}",
        )
    return keys.index(_key(name)), order == "desc"


def _sort_key(value: Any) -> tuple[int, float, bytes]:
    """Return what sorts nothing first, numbers by their value, and all else in byte order."""
    if value is None:
        return 0, 0.0, b""
    if isinstance(value, (int, float)):
        return 1, float(value), b""
    return 2, 0.0, _cell(value).encode()


def _key(title: str) -> str:
    return title.lower().replace(" ", "_")


def _cell(value: Any) -> str:
    """Return a value as plain text on one line."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ")
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(key)}={_cell(item)}" for key, item in value.items())
    return "" if value is None else printable(str(value))


def _table_cell(value: Any) -> str:
    if isinstance(value, Summarized):
        return printable(value.text)
    return readable(value) if isinstance(value, Size) else _cell(value)


def _plain(value: Any) -> Any:
    """Return a value as json and yaml have it: dates are ISO 8601 texts in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Size):
        return int(value)  # PyYAML takes no subclasses, such as enumerations
    return str(value) if isinstance(value, str) else value


def _write_lines(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))


def _write_table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        print()
        return
    import tabulate

    options: dict[str, Any] = {"tablefmt": "pretty", "stralign": "left", "disable_numparse": True}
    # Leading spaces of a cell stay. Release 0.9, which Debian 13 has, takes that from its module.
    if "preserve_whitespace" in tabulate.tabulate.__code__.co_varnames:
        options["preserve_whitespace"] = True
    else:
        tabulate.PRESERVE_WHITESPACE = True
    cells = [[_table_cell(value) for value in row] for row in rows]
    print(tabulate.tabulate(cells, list(titles), **options))


def _write_data(format_: str, data: Any) -> None:
    if format_ == "json":
        import json

        print(json.dumps(_plain(data), indent=2))
    else:
        import yaml

        # libyaml takes a tenth of the time for a thousand rows; PyYAML may have been built without it
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        sys.stdout.write(yaml.dump(_plain(data), Dumper=dumper, sort_keys=False))


def _write_csv(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import csv

    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows([_cell(value) for value in row] for row in rows)
