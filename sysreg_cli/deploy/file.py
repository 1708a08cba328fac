"""Files, symbolic links, and lines in files of other programs."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.machine import PUBLIC, Attributes, Programs
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.errors import SysregError
from sysreg_cli.host import files

_BEGIN = "# begin sysreg-deploy\n"
_END = "# end sysreg-deploy\n"
_MARKED = re.compile(f"(.*?)({_BEGIN}(.*?){_END})(.*)", re.DOTALL)


@dataclass(frozen=True)
class File(Resource):
    """A file that belongs to root.

    ``content`` is a function if it is computed from other files or from the present content. Then it may be
    secret: no diff is shown, and the file is replaced without a copy. A ``seed`` is written only if it is
    missing, and belongs to the operator then.
    """

    path: Path
    content: bytes | Callable[[], bytes]
    attributes: Attributes = PUBLIC
    seed: bool = False

    @property
    def _is_derived(self) -> bool:
        return not isinstance(self.content, bytes)

    def wanted(self) -> bytes:
        """Return the content that the file should have. Raises OSError."""
        return self.content if isinstance(self.content, bytes) else self.content()

    def compare(self, context: Context) -> Change | None:
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return Change(f"create {self.path}", self._write, self._diff(b""))
        if self.seed:
            return None
        if not stat.S_ISREG(status.st_mode):
            return Change(f"replace {self.path}, which is not a regular file", self._write, foreign=True)
        present = self.path.read_bytes()
        if present == self.wanted():
            return attributes_change({self.path: self.attributes})
        diff = self._diff(present)
        if self._is_derived or context.record.owns(self.path):
            return Change(f"change {self.path}", self._write, diff)
        if _is_untouched_conffile(self.path, present, context.programs):
            return Change(f"replace {self.path}, and keep a copy of its package's version", self._write, diff)
        line = f"replace {self.path}, which sysreg-deploy did not write"
        return Change(line, self._write, diff, foreign=True)

    def _diff(self, present: bytes) -> str:
        return "" if self._is_derived else _unified_diff(self.path, present, self.wanted())

    def _write(self, context: Context) -> None:
        context.record.make_directory(self.path.parent)
        _require_file(self.path)
        if self.path.exists() and not self._is_derived:
            context.record.keep(self.path)
        context.record.take(self.path)
        self.attributes.write(self.path, self.wanted())

    def remove(self, context: Context) -> str:
        if not self._is_derived and not context.record.owns(self.path):
            return ""
        if self.seed and self.path.exists() and self.path.read_bytes() != self.wanted():
            return f"kept {self.path}, which was edited"
        return context.record.put_back(self.path)


@dataclass(frozen=True)
class Link(Resource):
    """A symbolic link."""

    path: Path
    target: str

    def compare(self, context: Context) -> Change | None:
        line = f"link {self.path} to {self.target}"
        if self.path.is_symlink():
            present = str(self.path.readlink())
            if present == self.target:
                return None
            foreign = not context.record.owns(self.path)
            return Change(f"{line} instead of {present}", self._link, foreign=foreign)
        if self.path.exists():
            return Change(f"replace {self.path} by a link to {self.target}", self._link, foreign=True)
        return Change(line, self._link)

    def _link(self, context: Context) -> None:
        owned_link = self.path.is_symlink() and context.record.owns(self.path)
        if not self.path.is_symlink():
            _require_file(self.path)
        if (self.path.is_symlink() or self.path.exists()) and not owned_link:
            context.record.keep(self.path)
        context.record.make_directory(self.path.parent)
        context.record.take(self.path)
        files.link(self.path, self.target)

    def remove(self, context: Context) -> str:
        return context.record.put_back(self.path) if context.record.owns(self.path) else ""


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
        before, _, after = split_marked(text)
        if before and not before.endswith("\n"):
            before += "\n"
        return f"{before}{_BEGIN}{self.lines}{_END}{after}"

    def compare(self, context: Context) -> Change | None:
        text = self._read()
        if split_marked(text)[1] == self.lines:
            return None
        diff = _unified_diff(self.path, _encode(text), _encode(self._wanted(text)))
        return Change(f"change the lines of sysreg-deploy in {self.path}", self._add, diff)

    def _add(self, context: Context) -> None:
        files.remove_leftovers(self.path.parent)
        if not self.path.exists():
            context.record.make_directory(self.path.parent)
            context.record.take(self.path)
        self._write(self._wanted(self._read()))

    def remove(self, context: Context) -> str:
        files.remove_leftovers(self.path.parent)
        before, lines, after = split_marked(self._read())
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


def split_marked(text: str) -> tuple[str, str | None, str]:
    """Split the text of a file into what is before the marked lines, these lines, and what is after them.

    The lines are None if the text has none; then all of it is before.
    """
    match = _MARKED.fullmatch(text)
    return (match[1], match[3], match[4]) if match else (text, None, "")


def _unified_diff(path: Path, before: bytes, after: bytes) -> str:
    """The diff from one content of ``path`` to another; an empty ``before`` means that there is no file."""
    lines = difflib.unified_diff(
        before.decode(errors="replace").splitlines(),
        after.decode(errors="replace").splitlines(),
        str(path) if before else "/dev/null",
        str(path),
        lineterm="",
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class Retired(Resource):
    """A file or link that sysreg-deploy of a wheel wrote, and that the Debian package now contains.

    A link is removed: it leads to the old programs. A file stays: dpkg has replaced it by the package's.
    """

    path: Path

    def compare(self, context: Context) -> Change | None:
        if not context.record.owns(self.path):
            return None
        return Change(f"leave {self.path} to the Debian package", self._forget)

    def _forget(self, context: Context) -> None:
        if self.path.is_symlink():
            context.record.put_back(self.path)
        else:
            context.record.files.remove(str(self.path))
        context.record.save()


@dataclass(frozen=True)
class Withdrawn(Resource):
    """A file that an earlier run wrote, and that the settings do not ask for any more."""

    path: Path

    def compare(self, context: Context) -> Change | None:
        if not context.record.owns(self.path):
            return None
        return Change(f"remove {self.path}, which the settings do not ask for any more", self._withdraw)

    def _withdraw(self, context: Context) -> None:
        context.record.put_back(self.path)
        context.record.save()

    def remove(self, context: Context) -> str:
        return context.record.put_back(self.path) if context.record.owns(self.path) else ""


def _require_file(path: Path) -> None:
    """Raise SysregError if something other than a regular file is at ``path``."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise SysregError(
            f"{path} is not a regular file", next_step="move it away and run sysreg-deploy again"
        )


def _is_untouched_conffile(path: Path, content: bytes, programs: Programs) -> bool:
    """Whether dpkg knows the file as a configuration file with exactly this content."""
    known = programs.query("dpkg-query", "-W", "-f", "${Conffiles}\n", "docker-registry", check=False)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return f"{path} {digest}" in (" ".join(line.split()[:2]) for line in known.splitlines())


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
