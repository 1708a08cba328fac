"""Lines that sysreg-deploy adds to a file of another program, between two comments that mark them."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.file import unified_diff
from sysreg_cli.deploy.resource import Change, Context, Resource
from sysreg_cli.host import files

_BEGIN = "# begin sysreg-deploy\n"
_END = "# end sysreg-deploy\n"
_MARKED = re.compile(f"(.*?)({_BEGIN}(.*?){_END})(.*)", re.DOTALL)


def split(text: str) -> tuple[str, str | None, str]:
    """Split the text of a file into what is before the marked lines, these lines, and what is after them.

    The lines are None if the text has none; then all of it is before.
    """
    match = _MARKED.fullmatch(text)
    return (match[1], match[3], match[4]) if match else (text, None, "")


@dataclass(frozen=True)
class MarkedLines(Resource):
    """Marked lines in the file at ``path``. New ones are added at its end."""

    path: Path
    lines: str

    def _read(self) -> str:
        try:
            return self.path.read_text(errors="surrogateescape")  # other bytes are written back as they are
        except FileNotFoundError:
            return ""

    def _wanted(self, text: str) -> str:
        before, _, after = split(text)
        if before and not before.endswith("\n"):
            before += "\n"
        return f"{before}{_BEGIN}{self.lines}{_END}{after}"

    def compare(self, context: Context) -> Change | None:
        text = self._read()
        if split(text)[1] == self.lines:
            return None
        diff = unified_diff(self.path, _encode(text), _encode(self._wanted(text)))
        return Change(f"change the lines of sysreg-deploy in {self.path}", self._add, diff)

    def _add(self, context: Context) -> None:
        files.remove_leftovers(self.path.parent)
        if not self.path.exists():
            context.record.make_directory(self.path.parent)
            context.record.take(self.path)
        self._write(self._wanted(self._read()))

    def remove(self, context: Context) -> str:
        files.remove_leftovers(self.path.parent)
        before, lines, after = split(self._read())
        if lines is None:
            return ""
        if context.record.owns(self.path) and not (before + after).strip():
            return context.record.put_back(self.path)
        self._write(before + after)
        return f"removed the lines of sysreg-deploy from {self.path}"

    def _write(self, text: str) -> None:
        mode, group = 0o644, None
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            mode, group = status.st_mode & 0o7777, status.st_gid
        files.write(self.path, _encode(text), mode=mode, group=group)


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
