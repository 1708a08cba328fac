"""What the rules say of the tags of one image, each with a reason. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sysreg_cli.settings import RetentionSettings

#: the rules by their names; that of the command line has the name ""
Rules = Mapping[str, RetentionSettings]

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag in the storage.

    ``pushed`` is in seconds since the epoch, 0 if it is not known. ``manifests`` are those that it reaches
    through indexes, its own included. ``tree`` are those of them that the image has, its own first.
    ``problem`` says why its image is not known, "" if it is.
    """

    name: str
    digest: str
    pushed: float
    manifests: frozenset[str] = frozenset()
    problem: str = ""
    tree: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the rules say of a tag: whether it may go, and why or why not."""

    goes: bool
    reason: str


class ImageRules:
    """The rules for one image, whose ``candidates`` are the tags that may be among the newest."""

    def __init__(self, rules: Rules, candidates: Iterable[StoredTag], now: float) -> None:
        self._now = now
        ordered = sorted(candidates, key=lambda tag: tag.pushed)
        self._rules = []
        for name, rule in rules.items():
            # tags of one image, such as 1.2 and latest, count once
            latest = {it.digest: it.pushed for it in ordered if matches(it.name, rule.match or ("*",))}
            self._rules.append(_Rule(name, rule, sorted(latest.values(), reverse=True)))

    def opinion(self, tag: StoredTag) -> Opinion:
        """Say what becomes of the tag: it goes only if each rule for it lets it go."""
        opinions = [rule.opinion(tag, self._now) for rule in self._rules if rule.is_for(tag)]
        if not opinions:
            globs = dict.fromkeys(glob for rule in self._rules for glob in rule.settings.match)
            return Opinion(False, f"does not match {' '.join(globs)}")
        kept = next((opinion for opinion in opinions if not opinion.goes), None)
        return kept or Opinion(True, "; ".join(opinion.reason for opinion in opinions))


class _Rule:
    """One rule for one image. ``pushes`` has the latest push of each digest, the last one first."""

    def __init__(self, name: str, settings: RetentionSettings, pushes: list[float]) -> None:
        self.settings = settings
        self._prefix = f"{name}: " if name else ""
        keep = settings.keep
        # Tags that were pushed at the same time cannot be told apart, so all of them are among the newest.
        self._newest_since = (
            float("inf") if not keep else pushes[min(keep, len(pushes)) - 1] if pushes else 0.0
        )

    def is_for(self, tag: StoredTag) -> bool:
        return bool(matches(tag.name, self.settings.match or ("*",)))

    def opinion(self, tag: StoredTag, now: float) -> Opinion:
        age = now - tag.pushed
        reasons = [f"pushed {in_words(age)} ago"]
        older_than, keep = self.settings.older_than, self.settings.keep
        if older_than is not None:
            if age <= older_than:
                return self._say(False, f"{reasons[0]}, within {in_words(older_than)}")
            reasons[0] += f", more than {in_words(older_than)}"
        if keep is not None:
            if tag.pushed >= self._newest_since:
                return self._say(False, "the newest" if keep == 1 else f"one of the {keep} newest")
            reasons.append(_not_newest(keep))
        if self.settings.match:
            reasons.append(f"matches {' '.join(self.settings.match)}")
        return self._say(True, ", ".join(it for it in reasons if it))

    def _say(self, goes: bool, reason: str) -> Opinion:
        return Opinion(goes, self._prefix + reason)


def _not_newest(keep: int) -> str:
    if not keep:
        return ""
    return "not the newest" if keep == 1 else f"not one of the {keep} newest"


def matches(text: str, globs: Iterable[str]) -> str:
    """Return the first of the globs that ``text`` matches, "" if there is none. ``*`` matches ``/``, too."""
    return next((glob for glob in globs if fnmatchcase(text, glob)), "")


def in_words(seconds: float) -> str:
    """Return a time in the largest unit of which it has at least two, or else in seconds: ``45 days``."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), _UNITS[-1])
    number = int(seconds / size)
    return f"{number} {unit}{'' if number == 1 else 's'}"
