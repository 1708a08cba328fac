"""Files and symbolic links."""

from __future__ import annotations

import difflib
import hashlib
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sysreg_cli.deploy.machine import PUBLIC, Attributes, Programs
from sysreg_cli.deploy.resource import Change, Context, Resource, attributes_change
from sysreg_cli.errors import SysregError
from sysreg_cli.host import files


@dataclass(frozen=True)
class File(Resource):
    """A file with this content. A ``seed`` is written only if it is missing, and is the operator's then."""

    path: Path
    content: bytes
    attributes: Attributes = PUBLIC
    seed: bool = False

    def compare(self, context: Context) -> Change | None:
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return Change(f"create {self.path}", self._write, unified_diff(self.path, b"", self.content))
        if self.seed:
            return None
        if not stat.S_ISREG(status.st_mode):
            return Change(f"replace {self.path}, which is not a regular file", self._write, foreign=True)
        present = self.path.read_bytes()
        if present == self.content:
            return attributes_change({self.path: self.attributes})
        diff = unified_diff(self.path, present, self.content)
        if context.record.owns(self.path):
            return Change(f"change {self.path}", self._write, diff)
        if _is_untouched_conffile(self.path, present, context.programs):
            return Change(f"replace {self.path}, and keep a copy of its package's version", self._write, diff)
        line = f"replace {self.path}, which sysreg-deploy did not write"
        return Change(line, self._write, diff, foreign=True)

    def _write(self, context: Context) -> None:
        context.record.make_directory(self.path.parent)
        _require_file(self.path)
        if self.path.exists():
            context.record.keep(self.path)
        context.record.take(self.path)
        self.attributes.write(self.path, self.content)

    def remove(self, context: Context) -> str:
        if not context.record.owns(self.path):
            return ""
        if self.seed and self.path.exists() and self.path.read_bytes() != self.content:
            return f"kept {self.path}, which was edited"
        return context.record.put_back(self.path)


@dataclass(frozen=True)
class GeneratedFile(Resource):
    """A file whose content follows from other files, or is made once and kept.

    ``generate`` returns the content that the file should have. It gets the present one, empty without a file.
    No diff is shown and no copy is kept, since the content may be secret.
    """

    path: Path
    #: what the file holds, for messages
    purpose: str
    generate: Callable[[bytes], bytes]
    attributes: Attributes = PUBLIC

    def compare(self, context: Context) -> Change | None:
        if not self.path.exists():
            return Change(f"create {self.path}, {self.purpose}", self._write)
        present = self.path.read_bytes()
        if self.generate(present) != present:
            return Change(f"change {self.path}, {self.purpose}", self._write)
        return attributes_change({self.path: self.attributes})

    def _write(self, context: Context) -> None:
        context.record.make_directory(self.path.parent)
        context.record.take(self.path)
        present = self.path.read_bytes() if self.path.exists() else b""
        self.attributes.write(self.path, self.generate(present))

    def remove(self, context: Context) -> str:
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


def unified_diff(path: Path, before: bytes, after: bytes) -> str:
    """The diff from one content of ``path`` to another; an empty ``before`` means that there is no file."""
    lines = difflib.unified_diff(
        before.decode(errors="replace").splitlines(),
        after.decode(errors="replace").splitlines(),
        str(path) if before else "/dev/null",
        str(path),
        lineterm="",
    )
    return "\n".join(lines)


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
