"""Which tags go, and the reason for each."""

from __future__ import annotations

import pytest

from sysreg_cli.agent.prune.plan import Plan, StoredImage, decide
from sysreg_cli.agent.prune.rules import StoredTag, in_words
from sysreg_cli.settings import RetentionSettings

NOW = 1_800_000_000.0
DAY = 86400
DIGESTS = [f"sha256:{number:064x}" for number in range(100)]


def tag(
    name: str, days: float = 0, number: int | None = None, problem: str = "", also: tuple[int, ...] = ()
) -> StoredTag:
    """A tag that was pushed so many days ago, on manifest ``number``, an index of the manifests ``also``."""
    digest = DIGESTS[number if number is not None else sum(map(ord, name)) % 100]
    manifests = frozenset([digest, *(DIGESTS[it] for it in also)])
    return StoredTag(name, digest, NOW - days * DAY, manifests, problem)


def plan(
    *tags: StoredTag,
    image: str = "app",
    protected: tuple[str, ...] = (),
    unlimited: bool = True,
    rules: dict[str, RetentionSettings] | None = None,
    **conditions: object,
) -> Plan:
    rule = RetentionSettings(("*",), **conditions)  # type: ignore[arg-type]
    return decide(
        [StoredImage(image, tags)], rules or {"": rule}, protected=protected, now=NOW, unlimited=unlimited
    )


def shown(decided: Plan) -> dict[str, str]:
    """Each tag with its decision and reason, as the command shows them."""
    return {it.tag.name: f"{it.decision}: {it.reason}" for it in decided.verdicts}


def test_the_newest_are_kept() -> None:
    assert shown(plan(tag("a", 3), tag("b", 1), tag("c", 2), keep=1)) == {
        "a": "delete: pushed 3 days ago, not the newest",
        "b": "keep: the newest",
        "c": "delete: pushed 2 days ago, not the newest",
    }


def test_tags_of_one_digest_count_once_among_the_newest() -> None:
    decided = plan(
        tag("1.0", 3), tag("1.1", 2), tag("1.2", 1, number=7), tag("latest", 0.5, number=7), keep=2
    )
    assert [it.tag.name for it in decided.verdicts if it.goes] == ["1.0"]


def test_tags_that_were_pushed_at_the_same_time_are_kept_together() -> None:
    assert not [it for it in plan(tag("a", 1), tag("b", 1), tag("c", 1), keep=2).verdicts if it.goes]


def test_the_young_are_kept() -> None:
    assert shown(plan(tag("a", 31), tag("b", 30), tag("c", 0.5), older_than=30 * DAY)) == {
        "a": "delete: pushed 31 days ago, more than 30 days",
        "b": "keep: pushed 30 days ago, within 30 days",
        "c": "keep: pushed 12 hours ago, within 30 days",
    }


def test_all_conditions_have_to_let_a_tag_go() -> None:
    decided = plan(
        tag("dev-1", 40),
        tag("dev-2", 39),
        tag("dev-3", 1),
        tag("v1", 90),
        keep=1,
        older_than=30 * DAY,
        match=("dev-*",),
    )
    assert shown(decided) == {
        "dev-1": "delete: pushed 40 days ago, more than 30 days, not the newest, matches dev-*",
        "dev-2": "delete: pushed 39 days ago, more than 30 days, not the newest, matches dev-*",
        "dev-3": "keep: pushed 24 hours ago, within 30 days",
        "v1": "keep: does not match dev-*",
    }


def test_what_is_not_known_is_kept_and_is_none_of_the_newest() -> None:
    unknown = StoredTag("timeless", DIGESTS[1], 0.0)
    assert shown(
        plan(
            tag("a", 9),
            tag("b", 8),
            tag("bad", 0, problem="its manifest is damaged"),
            unknown,
            tag("later", -1),
            keep=1,
        )
    ) == {
        "a": "delete: pushed 9 days ago, not the newest",
        "b": "keep: the newest",
        "bad": "keep: its manifest is damaged",
        "later": "keep: pushed in the future: a clock was wrong",
        "timeless": "keep: when it was pushed is not known",
    }


@pytest.mark.parametrize(
    ("glob", "kept"),
    [
        ("app", {"a", "b"}),
        ("a*", {"a", "b"}),
        ("*:a", {"a"}),
        ("app:[b-z]", {"b"}),
        ("web", set()),
        ("app:*", {"a", "b"}),
    ],
)
def test_what_is_protected_is_kept(glob: str, kept: set[str]) -> None:
    decided = shown(plan(tag("a", 9), tag("b", 8), protected=("no/such", glob), keep=0))
    assert {name for name, it in decided.items() if it == f"keep: protected by {glob}"} == kept
    assert all(it.startswith("delete: ") for name, it in decided.items() if name not in kept)


def test_of_an_image_of_which_too_much_would_go_all_is_kept() -> None:
    tags = [tag(str(number), number) for number in range(1, 5)]
    decided = plan(*tags, keep=1, unlimited=False)
    share = "3 of 4 tags would go, more than 50 %"
    assert decided.over_limit == (f"app: {share}",)
    assert shown(decided) == {"1": "keep: the newest", **dict.fromkeys("234", f"keep: {share}")}
    assert not plan(*tags, keep=2, unlimited=False).over_limit
    assert not plan(*tags, keep=1, at_most=75, unlimited=False).over_limit
    assert plan(*tags, keep=3, at_most=0, unlimited=False).over_limit
    assert sum(it.goes for it in plan(*tags, keep=0).verdicts) == 4


def test_a_tag_whose_image_another_tag_keeps_says_so() -> None:
    decided = shown(plan(tag("old", 9, number=1), tag("new", 1, number=1), keep=1))
    assert decided["old"] == "delete: pushed 9 days ago, not the newest; new keeps the image"


def test_a_signature_goes_with_the_last_tag_of_its_image_and_never_before() -> None:
    signature = DIGESTS[1].replace(":", "-") + ".sig"
    of_platform = DIGESTS[2].replace(":", "-")
    lonely = DIGESTS[3].replace(":", "-") + ".att"
    tags = [
        tag("v1", 9, number=1, also=(2,)),
        tag(signature, 9),
        tag(of_platform, 9),
        tag(lonely, 8),
        tag("v2", 1, number=4),
    ]
    decided = shown(plan(*tags, keep=1))
    assert decided[signature] == "delete: belongs to app:v1"
    assert decided[of_platform] == "delete: belongs to app:v1"
    assert decided[lonely] == "delete: pushed 8 days ago, not the newest"
    again = shown(plan(*tags, tag("v1-too", 2, number=1), keep=2))
    assert again[signature] == "keep: belongs to app:v1-too"
    assert again[of_platform] == "delete: belongs to app:v1"
    assert shown(plan(*tags, match=("v1",)))[signature] == "delete: belongs to app:v1"
    assert shown(plan(*tags, protected=("*.sig",), keep=1))[signature] == "delete: belongs to app:v1"
    assert shown(plan(*tags, protected=("*:*.sig",), keep=1))[signature] == "keep: protected by *:*.sig"


def test_companions_that_name_each_other_are_kept() -> None:
    one, two = (tag(DIGESTS[10 + other].replace(":", "-"), 9, number=11 - other) for other in (0, 1))
    assert not [it for it in plan(one, two, keep=0).verdicts if it.goes]


RULES = {
    "old": RetentionSettings(("*",), older_than=30 * DAY, at_most=90),
    "ci": RetentionSettings(("ci/*",), ("dev-*",), keep=1),
}


def test_of_several_rules_for_a_tag_each_has_to_let_it_go() -> None:
    tags = [tag("dev-1", 40), tag("dev-2", 20), tag("dev-3", 35), tag("v1", 60)]
    assert shown(plan(*tags, image="ci/app", rules=RULES)) == {
        "dev-1": "delete: old: pushed 40 days ago, more than 30 days;"
        " ci: pushed 40 days ago, not the newest, matches dev-*",
        "dev-2": "keep: old: pushed 20 days ago, within 30 days",
        "dev-3": "delete: old: pushed 35 days ago, more than 30 days;"
        " ci: pushed 35 days ago, not the newest, matches dev-*",
        "v1": "delete: old: pushed 60 days ago, more than 30 days",
    }
    # the smallest at_most of the rules for the image counts
    assert plan(*tags, image="ci/app", rules=RULES, unlimited=False).over_limit
    assert not plan(*tags, image="app", rules=RULES, unlimited=False).over_limit


def test_images_that_no_rule_is_for_are_not_shown_and_globs_without_an_image_are_named() -> None:
    decided = plan(tag("a"), rules={"": RetentionSettings(("x", "app", "y*"), ("b",))})
    assert (decided.unmatched, decided.idle) == (("x", "y*"), ("",))
    assert plan(tag("a"), rules={"": RetentionSettings(("x",), keep=0)}).verdicts == ()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7200, "2 hours"),
        (DAY, "24 hours"),
        (2 * DAY, "2 days"),
        (700 * DAY, "700 days"),
    ],
)
def test_a_time_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
