"""Decides which tags of which images go, with a reason for every tag. Pure. A dry run shows the plan.

What keeps a tag wins over what lets it go, and what is not known keeps it. A tag is kept

- if it is protected;
- if its image, or the time of its push, is not known;
- if no rule is for it, or a rule for it keeps it;
- if too large a part of its image's tags would go.

A *companion* is a tag that belongs to an image, such as a signature of cosign: ``sha256-DIGEST.sig``, or
``sha256-DIGEST``, by which OCI clients find referrers. It goes with the last tag that reaches DIGEST, and
never before. No rule is for it, and it does not count as one of the newest. If no tag reaches DIGEST, it is a
tag as any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sysreg_cli.agent.prune.rules import ImageRules, Rules, StoredTag, matches
from sysreg_cli.v1.prune import Decision

_COMPANION = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(?:[.-].*)?")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image with all of its tags."""

    name: str
    tags: Sequence[StoredTag]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a tag of the image ``image``, and why. ``owners``: the tags whose companion it is."""

    image: str
    tag: StoredTag
    decision: Decision
    reason: str
    owners: tuple[str, ...] = ()

    @property
    def goes(self) -> bool:
        return self.decision is Decision.DELETE

    def kept(self, reason: str) -> Verdict:
        """Return the verdict that the tag is kept after all."""
        return replace(self, decision=Decision.KEEP, reason=reason)

    def __str__(self) -> str:
        return f"{self.image}:{self.tag.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The verdict on each tag of the images that a rule is for.

    ``over_limit`` says of each image of which too much would go how much that is; all its tags are kept.
    ``unmatched`` are the globs of images that match no image. ``idle`` are the names of the rules that are
    for images, and for no tag of them.
    """

    verdicts: tuple[Verdict, ...] = ()
    over_limit: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


def decide(
    images: Iterable[StoredImage], rules: Rules, *, protected: Sequence[str], now: float, unlimited: bool
) -> Plan:
    """Make the plan. ``protected`` are globs of images or of NAME:TAG. ``unlimited`` ignores ``at_most``."""
    verdicts: list[Verdict] = []
    over_limit: list[str] = []
    matched: set[str] = set()
    busy: set[str] = set()
    concerned: set[str] = set()
    for image in sorted(images, key=lambda it: it.name):
        found = {name: rule for name, rule in rules.items() if matches(image.name, rule.images)}
        if not found:
            continue
        matched.update(glob for rule in found.values() for glob in rule.images if matches(image.name, [glob]))
        concerned.update(found)
        busy.update(
            name
            for name, rule in found.items()
            if not rule.match or any(matches(tag.name, rule.match) for tag in image.tags)
        )
        decided = _Image(image, found, protected, now).verdicts()
        limit = 100 if unlimited else min(rule.at_most for rule in found.values())
        going = sum(it.goes for it in decided)
        if going * 100 > limit * len(decided):
            share = f"{going} of {len(decided)} tags would go, more than {limit} %"
            over_limit.append(f"{image.name}: {share}")
            decided = [it.kept(share) if it.goes else it for it in decided]
        verdicts += _with_shared(decided)
    globs = dict.fromkeys(glob for rule in rules.values() for glob in rule.images)
    return Plan(
        tuple(verdicts),
        tuple(over_limit),
        # a registry may have no images yet
        tuple(glob for glob in globs if glob not in matched and glob != "*"),
        tuple(name for name in rules if name in concerned - busy),
    )


class _Image:
    """Decides on the tags of one image."""

    def __init__(self, image: StoredImage, rules: Rules, protected: Sequence[str], now: float) -> None:
        self._image = image
        self._protected = protected
        self._now = now
        self._owners = _owners(image.tags)
        candidates = [tag for tag in image.tags if tag.name not in self._owners and not self._kept(tag)]
        self._rules = ImageRules(rules, candidates, now)
        self._tags = {tag.name: tag for tag in image.tags}
        self._decided: dict[str, Verdict] = {}

    def verdicts(self) -> list[Verdict]:
        return [self._verdict(name) for name in sorted(self._tags)]

    def _verdict(self, name: str) -> Verdict:
        if name not in self._decided:
            tag = self._tags[name]
            # for companions that belong to each other, which nobody makes: kept
            self._decided[name] = self._verdict_of(tag, False, "belongs to itself")
            self._decided[name] = self._decide(tag)
        return self._decided[name]

    def _decide(self, tag: StoredTag) -> Verdict:
        if reason := self._kept(tag):
            return self._verdict_of(tag, False, reason)
        if owners := self._owners.get(tag.name):
            decided = [self._verdict(owner) for owner in owners]
            kept = next((it for it in decided if not it.goes), None)
            belongs = self._verdict_of(tag, kept is None, f"belongs to {kept or decided[0]}")
            return replace(belongs, owners=tuple(owners))
        opinion = self._rules.opinion(tag)
        return self._verdict_of(tag, opinion.goes, opinion.reason)

    def _kept(self, tag: StoredTag) -> str:
        """Return why the tag is kept whatever the rules say, "" if it is not."""
        name = f"{self._image.name}:{tag.name}"
        for glob in self._protected:
            if matches(name if ":" in glob else self._image.name, [glob]):
                return f"protected by {glob}"
        if tag.problem:
            return tag.problem
        if not tag.pushed:
            return "when it was pushed is not known"
        return "pushed in the future: a clock was wrong" if tag.pushed > self._now else ""

    def _verdict_of(self, tag: StoredTag, goes: bool, reason: str) -> Verdict:
        return Verdict(self._image.name, tag, Decision.DELETE if goes else Decision.KEEP, reason)


def _owners(tags: Iterable[StoredTag]) -> dict[str, list[str]]:
    """Map each companion to the tags that reach the image to which it belongs."""
    subjects = {
        tag.name: match[1].replace("-", ":") for tag in tags if (match := _COMPANION.fullmatch(tag.name))
    }
    if not subjects:
        return {}
    reaching: dict[str, list[str]] = {}
    for tag in tags:
        for digest in tag.manifests:
            reaching.setdefault(digest, []).append(tag.name)
    found = {
        name: [it for it in reaching.get(subject, ()) if it != name] for name, subject in subjects.items()
    }
    return {name: sorted(owners) for name, owners in found.items() if owners}


def _with_shared(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Say of each tag that goes whether another tag keeps its image."""
    kept = {it.tag.digest: it.tag.name for it in reversed(verdicts) if not it.goes}
    return [
        replace(it, reason=f"{it.reason}; {kept[it.tag.digest]} keeps the image")
        if it.goes and it.tag.digest in kept
        else it
        for it in verdicts
    ]
