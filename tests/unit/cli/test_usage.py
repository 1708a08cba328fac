"""`system registry-usage` and `--sort-column` without an agent: what is refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.cli.conftest import Outcome


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--by", "tag"], "--by tag needs an image"),
        (["--by", "image", "app"], "only --by tag takes an image"),
        (["app"], "only --by tag takes an image"),
        (["--by", "layer"], "'layer' is not one of"),
        (["--sort-column", "Size"], "--sort-column sorts rows"),
        (["--by", "image", "--sort-column", "Color"], "NAME is one of: Image Name, Tags, Size"),
        (["--by", "user", "-c", "Digest"], "no column Digest"),
        (["-c", "Unique"], "no column Unique"),
        (["--by", "tag", "app:v1"], "takes only the name of an image"),
    ],
)
def test_wrong_usage_is_refused_before_anybody_is_asked(
    system: Callable[..., Outcome], words: list[str], said: str
) -> None:
    code, out, err = system("registry-usage", *words, SYSREG_AGENT="/nowhere/agent.sock")
    assert (out, err.count("\n")) == ("", 1)
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    "words", [["registry-image-list"], ["registry-image-tags", "a"], ["certificate-list"]]
)
def test_every_list_refuses_a_column_that_it_does_not_have(
    system: Callable[..., Outcome], words: list[str]
) -> None:
    code, out, err = system(*words, "--sort-column", "Color", "--registry", "localhost:1")
    assert (code, out) == (2, "")
    assert "--sort-column: 'Color' is not NAME" in err


def test_the_usage_of_another_registry_is_not_guessed(system: Callable[..., Outcome]) -> None:
    code, out, err = system("registry-usage", "--registry", "elsewhere:5000")
    assert (code, out) == (1, "")
    assert err.startswith("system: elsewhere:5000 is not the registry of this controller")
