"""Lines of decisions reach the stream whole, in order, in ASCII, and not too many of refusals."""

import asyncio
import io
import json
from typing import Any

import pytest

from sysreg_cli.token_server.decision_log import DecisionLog


class Stream(io.BytesIO):
    """Counts its writes."""

    writes = 0

    def write(self, data: Any, /) -> int:
        self.writes += 1
        return super().write(data)


def test_the_lines_of_one_turn_are_one_write() -> None:
    stream = Stream()

    async def story() -> None:
        decisions = DecisionLog(stream)
        decisions.write({"a": 1})
        decisions.write({"b": "\n"})
        await asyncio.sleep(0)
        assert stream.getvalue() == b'{"a":1}\n{"b":"\\n"}\n'
        decisions.write({})
        await asyncio.sleep(0)

    asyncio.run(story())
    assert stream.getvalue().endswith(b"\n{}\n")
    assert stream.writes == 2


def test_what_is_pending_at_the_end_is_written() -> None:
    stream = Stream()

    async def story() -> DecisionLog:
        decisions = DecisionLog(stream)
        decisions.write({})
        return decisions

    asyncio.run(story()).flush()
    assert stream.getvalue() == b"{}\n"


@pytest.mark.parametrize(
    "text",
    [
        "\x7f",
        "\x1b[2J",
        "\x9b31m\x85",
        "\N{RIGHT-TO-LEFT OVERRIDE}\N{LINE SEPARATOR}",
        "\N{SNOWMAN}\U0001f600",
        'quote " and \\',
    ],
)
def test_a_line_is_printable_ascii_and_says_the_same(text: str) -> None:
    stream = Stream()

    async def story() -> None:
        DecisionLog(stream).write({"login": text, text: [text], "ms": 0.1, "client": None})
        await asyncio.sleep(0)

    asyncio.run(story())
    (line,) = stream.getvalue().splitlines()
    assert line.decode("ascii").isprintable()
    assert json.loads(line) == {"login": text, text: [text], "ms": 0.1, "client": None}
