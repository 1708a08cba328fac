"""`system registry-image-prune` without an agent: what is refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.cli.conftest import Outcome


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--keep, --older-than or --match has to say which tags go"),
        (["app"], "--keep, --older-than or --match has to say which tags go"),
        (["app", "--at-most", "10", "--yes"], "--keep, --older-than or --match has to say which tags go"),
        (["--older-than", "30"], "--older-than: '30' is not a time such as 45m, 12h, 30d or 8w"),
        (["--older-than", "0d"], "--older-than: '0d' is not a time"),
        (["--older-than", "-3d"], "--older-than: '-3d' is not a time"),
        (["--older-than", "99999w"], "--older-than: '99999w' is not a time"),
        (["--older-than", ""], "--older-than: '' is not a time"),
        (["--keep", "-1"], "--keep: '-1' is not a whole number from 0 to 999999"),
        (["--keep", "1", "--at-most", "101"], "'101' is not a whole number of percent from 0 to 100"),
        (["--keep", "1", "-c", "Color"], "no column Color"),
        (["--keep", "1", "--sort-column", "Color"], "--sort-column: 'Color' is not NAME"),
        (["--keep", "1", ""], "a glob is empty"),
        (["--match", ""], "a glob is empty"),
        (["--policy", "app"], "--policy takes no images and no conditions"),
        (["--policy", "--keep", "1"], "--policy takes no images and no conditions"),
        (["--policy", "--at-most", "10"], "--policy takes no images and no conditions"),
    ],
)
def test_wrong_usage_is_refused_before_anybody_is_asked(
    system: Callable[..., Outcome], words: list[str], said: str
) -> None:
    code, out, err = system("registry-image-prune", *words, SYSREG_AGENT="/nowhere/agent.sock")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert said in err


def test_another_registry_is_not_pruned(system: Callable[..., Outcome]) -> None:
    code, out, err = system("registry-image-prune", "--keep", "1", "--registry", "elsewhere:5000")
    assert (code, out) == (1, "")
    assert err.startswith("system: elsewhere:5000 is not the registry of this controller")
