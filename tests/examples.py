"""The examples in the documents: what is typed, and what the program then prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

#: a command, and what the document shows of its output
Step = tuple[str, str]


def steps_of(text: str) -> Iterator[Step]:
    """Yield each command of the examples in ``text``, and what it prints; ``...`` stands for anything."""
    for block in re.findall(r"::\n\n((?:    .*\n)+)", text):
        for step in re.split(r"^    \$ ", block, flags=re.MULTILINE)[1:]:  # a block without prompt has none
            command, _, output = step.partition("\n")
            yield command, re.sub("^    ", "", output, flags=re.MULTILINE)


def steps_on_hosts(text: str) -> Iterator[tuple[str, Step]]:
    """Yield each command that is typed at a prompt such as ``worker-1#``: the host, and the step."""
    for block in re.findall(r"::\n\n((?:    .*\n)+)", text):
        parts = re.split(r"^    ([a-z]+-\d+)# ", block, flags=re.MULTILINE)[1:]
        for host, step in zip(parts[::2], parts[1::2], strict=True):
            command, _, output = step.partition("\n")
            yield host, (command, re.sub("^    ", "", output, flags=re.MULTILINE))


def script_of(steps: Iterable[Step], preparation: str) -> str:
    """Return a script for bash that types the commands, for ``check``."""
    typed = "".join(f"echo '@@ {number}'\n{command}\n" for number, (command, _) in enumerate(steps))
    return f"exec 2>&1\n{preparation}\n{typed}"


def check(steps: Sequence[Step], output: str) -> None:
    """Raise AssertionError unless the script of ``steps`` printed what they show."""
    printed = re.split(r"^@@ \d+\n", output, flags=re.MULTILINE)[1:]
    assert len(printed) == len(steps), output
    for (command, expected), actual in zip(steps, printed, strict=True):
        assert re.fullmatch(_pattern(expected), actual, re.DOTALL), (
            f"$ {command}\n{actual}\nshown:\n{expected}"
        )


def _pattern(shown: str) -> str:
    """What matches the output ``shown``: ``...`` is anything, on a line of its own also no line."""
    parts = re.split(r"^(\.\.\.\n)|(\.\.\.)", shown, flags=re.MULTILINE)
    forms = {"...\n": "(?:.*\n)?", "...": ".*", None: ""}
    return "".join(forms[part] if part in forms else re.escape(part) for part in parts)
