"""An interactive bash on a terminal: type, press Tab, look at the line."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect

ROOT = Path(__file__).resolve().parents[3]
COMPLETION = ROOT / "etc/bash_completion.d/system"
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
SYSTEM = Path(sys.executable).with_name("system")
PROMPT = "sysreg-prompt> "


class InteractiveBash:
    """An interactive bash with the completion loaded."""

    def __init__(self, environ: dict[str, str], *, load: tuple[Path, ...] = (COMPLETION,), cwd: Path) -> None:
        self.process = pexpect.spawn(
            "bash",
            ["--norc", "--noprofile", "-i"],
            env={"TERM": "dumb", "INPUTRC": "/dev/null", "LANG": "C.UTF-8", "PS1": PROMPT, **environ},
            cwd=str(cwd),
            encoding="utf-8",
            timeout=10,
            dimensions=(50, 400),
        )
        self.process.delaybeforesend = None
        self._count = 0
        self.process.expect_exact(PROMPT)
        self.run("bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; unset HISTFILE")
        for file in load:
            self.run(f"source {file}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close(force=True)

    def run(self, line: str) -> str:
        """Run a line to its end. Return what it printed."""
        self.process.sendline(line)
        self.process.expect_exact("\r\n")
        self.process.expect_exact(PROMPT)
        return str(self.process.before)

    def completes(self, *typed: str) -> str:
        """Return the line after typing each piece and pressing Tab after it, with | where the cursor is.

        Asked of readline itself: a function bound to Ctrl-X Ctrl-Y prints the buffer.
        """
        self._bind()
        for piece in typed:
            self.process.send(piece + "\t")
        self.process.send("\x18\x19")
        self.process.expect(r"\r?\n?<LINE:(.*?):LINE>\r\n")
        line = str(self.process.match.group(1))  # type: ignore[union-attr]
        self._clear()
        return line

    def sees(self, typed: str) -> list[str]:
        """Return the words that Tab lists after ``typed``."""
        self._bind()
        self.process.send(typed + "\t\t\t")
        self.process.send("\x18\x19")
        self.process.expect(r"\r?\n?<LINE:(.*?):LINE>\r\n")
        shown = re.split(r"\r?\n", str(self.process.before))[1:]
        self._clear()
        words: list[str] = []
        for line in shown:
            if PROMPT in line:
                continue
            words += re.split(r"\s{2,}|\s(?=\S)", line.strip()) if line.strip() else []
        return sorted({word for word in words if word})

    def _bind(self) -> None:
        self.run(
            r"""_show() { printf '\n<LINE:%s|%s:LINE>\n' "${READLINE_LINE:0:READLINE_POINT}" """
            r""""${READLINE_LINE:READLINE_POINT}"; }; bind -x '"\C-x\C-y": _show'"""
        )

    def _clear(self) -> None:
        # Ctrl-A Ctrl-K empties the line; the echo tells where the shell's answer to it ends.
        self._count += 1
        self.process.sendline(f"\x01\x0becho SYNC''{self._count}")
        self.process.expect_exact(f"SYNC{self._count}\r\n")
        self.process.expect_exact(PROMPT)
