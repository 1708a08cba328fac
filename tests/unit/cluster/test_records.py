"""What the keys of the store hold: values survive the way there and back, and other versions' fields, too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.cluster import keys
from sysreg_cli.cluster.problems import Problem, remedy
from sysreg_cli.cluster.records import (
    Alive,
    DesiredCertificate,
    HostSpec,
    HostStatus,
    Outcome,
    Phase,
    Role,
    decode,
    encode,
)
from sysreg_cli.errors import ProtocolError, UsageError
from tests.unit.cluster.strategies import CHANGES, DESIRED

STATUSES = st.builds(
    HostStatus,
    change=CHANGES,
    phase=st.sampled_from(Phase),
    outcome=st.sampled_from(Outcome),
    problem=st.sampled_from(Problem) | st.just(""),
    reason=st.text(),
    docker=st.text(),
)
RECORDS = st.one_of(
    DESIRED,
    STATUSES,
    st.builds(HostSpec, st.sampled_from(Role), st.text(), st.lists(st.text()).map(tuple)),
    st.builds(Alive, st.text()),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(RECORDS)
def test_a_value_survives_the_way_into_the_store_and_back(value: Any) -> None:
    assert decode(type(value), encode(value), "key") == value


@given(RECORDS, st.dictionaries(st.text(min_size=1).map("new-".__add__), JSON))
def test_fields_of_a_newer_version_are_ignored_and_kept(value: Any, unknown: dict[str, Any]) -> None:
    newer = json.dumps({**json.loads(encode(value)), **unknown}).encode()
    assert decode(type(value), newer, "key") == value
    assert json.loads(encode(value, newer)).items() >= unknown.items()


@given(DESIRED, DESIRED)
def test_a_new_value_replaces_each_known_field(old: DesiredCertificate, new: DesiredCertificate) -> None:
    assert decode(DesiredCertificate, encode(new, encode(old)), "key") == new


@given(st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
def test_damage_is_one_error_that_names_the_key(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="/sysreg/v1/key makes no sense"):
        decode(DesiredCertificate, data, "/sysreg/v1/key")


@given(DESIRED, st.binary())
def test_a_damaged_value_is_replaced(value: DesiredCertificate, before: bytes) -> None:
    assert decode(DesiredCertificate, encode(value, before), "key") == value


@given(DESIRED, DESIRED)
def test_of_two_desired_states_never_both_lead_forward_unless_they_are_at_the_same_point(
    one: DesiredCertificate, other: DesiredCertificate
) -> None:
    same = (one.change, one.phase) == (other.change, other.phase)
    assert (one.may_replace(other) and other.may_replace(one)) == same
    assert one.may_replace(None)


@pytest.mark.parametrize("part", keys.Part)
def test_a_key_of_a_host_names_it(part: keys.Part) -> None:
    assert keys.parse_host_key(keys.host_key("worker-1.site", part)) == ("worker-1.site", part)


@pytest.mark.parametrize(
    "key",
    [
        "/sysreg/v1/hosts/w1",
        "/sysreg/v1/hosts//spec",
        "/sysreg/v1/hosts/a/b/spec",
        "/sysreg/v1/hosts/w1/more",
    ],
)
def test_other_keys_are_not_those_of_a_host(key: str) -> None:
    assert keys.parse_host_key(key) is None


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "-a", "w" * 65, "w1\n", "größe", "a..b", "*"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a host name"):
        keys.check_host_name(name)


def test_a_host_name_is_lower_case() -> None:
    assert keys.check_host_name("Worker-1") == "worker-1"


@pytest.mark.parametrize("problem", [*Problem, "a problem of a newer version"])
def test_each_problem_has_a_remedy(problem: str) -> None:
    assert remedy(problem)
