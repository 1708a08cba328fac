"""Settings: defaults, every problem at once with file and line, and the sample that is installed."""

import configparser
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli import settings
from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SettingsError

SAMPLE = Path(__file__).parents[2] / "etc/sysreg/sysreg.conf"


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    loaded = settings.load(environ={}, default=tmp_path / "none")
    assert loaded == settings.Settings()
    assert loaded.registry.base_url == "https://registry.local:9001"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        settings.load(environ={"SYSREG_CONF": str(tmp_path / "none")})


def test_values_are_read() -> None:
    loaded = settings.parse(
        "[registry]\nhost_names = Registry.local, registry.central\nport = 9443\n"
        "[token_server]\nadministrators = admin sysinv ops\n",
        "x",
    )
    assert loaded.registry.host_names == ("registry.local", "registry.central")
    assert loaded.registry.address == "registry.local:9443"
    assert loaded.token_server.administrators == ("admin", "sysinv", "ops")


@pytest.mark.parametrize("text", ["files:/etc/letsencrypt/live/x", "secret:kube-system/registry.local-tls"])
def test_a_source_is_read_and_written_alike(text: str) -> None:
    source = settings.parse(f"[certificate]\nsource = {text}", "x").certificate.source
    assert str(source) == text


@pytest.mark.parametrize("text", ["files:", "files:live/x", "secret:x", "secret:a/b/c", "secret:A/b", "x:/y"])
def test_a_source_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="x:2: source: "):
        settings.parse(f"[certificate]\nsource = {text}", "x")


def test_a_protected_image_may_have_the_address_of_the_registry() -> None:
    text = "[images]\nprotected = registry.local:9001/docker.io/* app:v? [::1]:9001/other team/app:v1"
    protected = settings.parse(text, "x").images.protected
    assert protected == ("docker.io/*", "app:v?", "other", "team/app:v1")


def test_addresses_may_be_host_names_of_the_registry() -> None:
    text = "[registry]\nhost_names = registry.local 198.51.100.7 2001:DB8:0::10 [2001:db8::10] [::1]\n"
    registry = settings.parse(text, "x").registry
    assert registry.host_names == ("registry.local", "198.51.100.7", "2001:db8::10", "::1")
    assert registry.addresses[2:] == ("[2001:db8::10]:9001", "[::1]:9001")
    assert settings.parse("[registry]\nhost_names = ::1", "x").registry.base_url == "https://[::1]:9001"


@pytest.mark.parametrize("text", ["0.0.0.0:9004", "198.51.100.10:9004", "9004"])
def test_metrics_are_for_this_machine_alone(text: str) -> None:
    assert settings.parse("[agent]\nmetrics = [::1]:9004", "x").agent.metrics == HostPort("::1", 9004)
    with pytest.raises(SettingsError, match="x:2: metrics: "):
        settings.parse(f"[agent]\nmetrics = {text}", "x")


def test_every_problem_is_named_with_file_and_line() -> None:
    text = "\n".join(
        [
            "# a comment",
            "[registry]",
            "port = 99999",
            "colour = red",
            "[tokens]",
            "[agent]",
            "socket = relative/path",
            "collect_grace = -1",
            "[keystone]",
            "auth_url = ftp://x",
        ]
    )
    with pytest.raises(SettingsError) as caught:
        settings.parse(text, "f.conf")
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "f.conf:3",
        "f.conf:4",
        "f.conf:5",
        "f.conf:7",
        "f.conf:8",
        "f.conf:10",
    ]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port = 1", "before any"),
        ("[registry]\nport", "f.conf:2"),
        ("[registry]\nport = 1\nport = 2", "f.conf:3: second port"),
        ("[registry]\n[registry]", "f.conf:2: second section"),
        ("[registry]\nhost_names = a\x00b", "not a host name"),
        ("[registry]\nhost_names =", "at least one"),
        ("[registry]\nhost_names = 2001:db8:::1", "neither a host name nor an IPv6 address"),
        ("[registry]\nhost_names = [registry.local]", "not a host name"),
        ("[registry]\nhost_names = fe80::1%eth0", "has a zone"),
        ("[keystone]\nauth_url = http://k:5000/v2.0/", "API v2.0; sysreg needs v3"),
        ("[keystone]\nauth_url = http://k:5000 /v3", "has a blank"),
        ("[keystone]\nauth_url = k:5000/v3", "not an http:// or https:// URL"),
        ("[keystone]\nauth_url = http://u:p@k:5000/v3", "not an http:// or https:// URL"),
        ("[keystone]\nuser_domain = a\n  b", "control characters"),
    ],
)
def test_bad_syntax_is_one_line_with_its_place(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.parse(text, "f.conf")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[agent]\nlisten = 127.0.0.1:9003", "f.conf:2: listen: port 9003 is already that of metrics"),
        (
            "[agent]\nlisten = [::]:9002",
            "f.conf:2: listen: port 9002 is already that of port in section [token",
        ),
        ("[agent]\nlisten = controller-0:9001", "f.conf:2: listen: port 9001"),
        (
            "[token_server]\n\nport = 9001",
            "f.conf:3: port: port 9001 is already that of port in section [reg",
        ),
        ("[token_server]\nport = 9003\n[registry]\nport = 9003", "f.conf:4: port: port 9003"),
        ("[registry]\nmetrics = 127.0.0.1:9001", "f.conf:2: metrics: port 9001"),
    ],
)
def test_two_services_at_one_port_are_refused_with_the_line(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.parse(text, "f.conf")
    assert any(problem.startswith(says) for problem in caught.value.problems), caught.value.problems


def test_problems_of_every_kind_are_reported_together() -> None:
    text = "port = 1\n[registry]\nport\nport = x\nport = 2\n[registry]\nhost_names = a\n  b_\n[x]\ny = 1\n= 3"
    with pytest.raises(SettingsError) as caught:
        settings.parse(text, "f")
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        *("f:1", "f:3", "f:4", "f:5", "f:6", "f:7", "f:9", "f:11")
    ]


LINES = st.sampled_from(
    [
        *(
            "[keystone]",
            " [agent]",
            "[agent] junk",
            "[nowhere]",
            "[a",
            "[]",
            "",
            "  ",
            "# c",
            "   ; c",
            "x",
            "=x",
        ),
        *(
            "user_domain = 1",
            "USER_DOMAIN=2",
            "  admin_project = 3",
            " group= y ",
            "group=b=c",
            "admin_project =",
        ),
        *("    more", "\tmore # x", "group : y", "user_domain = \u2028z", "admin\x0b = 2"),
    ]
)


@given(st.lists(LINES, max_size=8).map("\n".join))
def test_the_syntax_is_that_of_configparser(text: str) -> None:
    oracle = configparser.ConfigParser(interpolation=None, default_section="", delimiters=("=",))
    try:
        oracle.read_string(text)
        values = {(name, key): value for name in oracle.sections() for key, value in oracle.items(name)}
        known = {("keystone", "user_domain"), ("keystone", "admin_project"), ("agent", "group")}
        good = set(oracle.sections()) <= {"keystone", "agent"} and set(values) <= known
        good = good and not any("\n" in value for value in values.values())
    except configparser.Error:
        good = False
    if not good:
        with pytest.raises(SettingsError):
            settings.parse(text, "f")
        return
    loaded = settings.parse(text, "f")
    for (section, key), value in values.items():
        assert getattr(getattr(loaded, section), key) == value


def test_one_port_at_two_addresses_is_no_clash() -> None:
    text = "[token_server]\nlisten = 127.0.0.2\nport = 9444\n[agent]\nlisten = 127.0.0.1:9444"
    assert settings.parse(text, "f.conf").agent.listen == HostPort("127.0.0.1", 9444)
    assert settings.parse("[agent]\nlisten = 198.51.100.10:9003", "f.conf").agent.listen


def test_binary_files_and_directories_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "b.conf"
    binary.write_bytes(b"\xff\xfe[registry]")
    with pytest.raises(SettingsError, match="UTF-8"):
        settings.load(binary)
    with pytest.raises(SettingsError, match="directory"):
        settings.load(tmp_path)


def test_the_sample_names_every_key_with_its_default() -> None:
    text = SAMPLE.read_text()
    assert settings.parse(text, "sample") == settings.Settings()
    before, rule, behind = text.partition("#[retention NAME]")
    rule, paths, behind = (rule + behind).partition("[paths]")
    assert settings.parse(_uncommented(before + paths + behind), "sample") == settings.Settings()
    for section in dataclasses.fields(settings.Settings):
        if section.name != "retention":
            assert_documented(getattr(settings.Settings(), section.name), text.split(f"[{section.name}]")[1])
    assert_documented(settings.RetentionSettings(), rule)
    filled = _uncommented(rule).replace("images =", "images = *").replace("match =", "match = *")
    loaded = settings.parse(f"[retention NAME]\n{filled}", "sample")
    assert loaded.retention == {"NAME": settings.RetentionSettings(images=("*",), match=("*",))}


def _uncommented(text: str) -> str:
    return "\n".join(
        line[1:] if line.startswith("#") and " =" in line and line[1] != " " else line
        for line in text.splitlines()
    )


def assert_documented(section: Any, text: str) -> None:
    for key in dataclasses.fields(section):
        assert f"\n#{key.name} =" in text, f"{type(section).__name__}.{key.name} is not in the sample"


RULE = "[retention ci]\nimages = ci/* x\n"


def test_rules_of_retention_are_sections_of_their_own() -> None:
    text = (
        f"{RULE}keep = 5\nolder_than = 8w\nmatch = dev-*\nat_most = 90\n[retention b.2]\nimages = *\nkeep = 0"
    )
    assert settings.parse(text, "x").retention == {
        "ci": settings.RetentionSettings(
            ("ci/*", "x"), ("dev-*",), keep=5, older_than=8 * 7 * 86400, at_most=90
        ),
        "b.2": settings.RetentionSettings(("*",), keep=0),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"#\n{RULE}", "x:2: section [retention ci] needs keep, older_than or match"),
        ("[retention ci]\nkeep = 5", "x:1: section [retention ci] needs images"),
        ("[retention ci]", "x:1: section [retention ci] needs images"),
        (f"{RULE}keep = -1", "x:3: keep: '-1' is not a whole number"),
        (f"{RULE}older_than = 30", "x:3: older_than: '30' is not a time such as"),
        (f"{RULE}older_than = 0d", "x:3: older_than: '0d' is not a time such as"),
        (f"{RULE}older_than = 9999w", "x:3: older_than: '9999w' is not a time such as"),
        (f"{RULE}at_most = 101", "x:3: at_most: '101' is not a whole number between 0 and 100"),
        (f"{RULE}colour = red", "x:3: unknown key colour in section [retention ci]"),
        (f"{RULE}keep = 1\n[retention ci]", "x:4: second section [retention ci]"),
        ("[retention]", "x:1: unknown section [retention]"),
        ("[retention a b]", "x:1: unknown section [retention a b]"),
    ],
)
def test_a_rule_of_retention_that_makes_no_sense_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.parse(text, "x")
    assert any(problem.startswith(says) for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("text", "seconds"), [("45m", 2700), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("9s", 9)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: int) -> None:
    assert settings.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "d", "0s", "-1d", "1.5d", "1 d", "30D", "\u0663d", "99999999w", "1d\n"]
)
def test_a_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as"):
        settings.duration(text)
