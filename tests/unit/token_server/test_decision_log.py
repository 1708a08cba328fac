"""Lines of decisions reach the stream whole and in order, a write for each turn of the event loop."""

import asyncio
import io
import logging

from sysreg_cli.token_server.decision_log import DecisionHandler


class Stream(io.StringIO):
    """Counts its writes."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def line(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "x", 1, text, None, None)


def test_the_lines_of_one_turn_are_one_write() -> None:
    stream = Stream()

    async def story() -> None:
        handler = DecisionHandler(stream)
        handler.emit(line("one"))
        handler.emit(line("two"))
        await asyncio.sleep(0)
        assert stream.getvalue() == "one\ntwo\n"
        handler.emit(line("three"))
        await asyncio.sleep(0)

    asyncio.run(story())
    assert stream.getvalue() == "one\ntwo\nthree\n"
    assert stream.writes == 2


def test_what_is_pending_at_the_end_is_written() -> None:
    stream = Stream()
    handler = DecisionHandler(stream)

    async def story() -> None:
        handler.emit(line("last"))
        handler.flush()

    asyncio.run(story())
    assert stream.getvalue() == "last\n"
