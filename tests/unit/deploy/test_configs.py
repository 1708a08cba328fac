"""The configurations of docker-registry and containerd."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli import settings as settings_module
from sysreg_cli.deploy import configs
from sysreg_cli.errors import SysregError
from sysreg_cli.settings import Settings


def test_the_settings_reach_the_registrys_configuration() -> None:
    text = (
        "[registry]\nhost_names = r.example 198.51.100.7\nport = 9443\nmetrics = 127.0.0.1:9555\n"
        "[token_server]\nport = 9444\n"
    )
    config = configs.registry_config(settings_module.parse(text, "x"))
    assert config["http"]["addr"] == ":9443"  # type: ignore[index]
    assert config["http"]["debug"]["addr"] == "127.0.0.1:9555"  # type: ignore[index]
    token = config["auth"]["token"]  # type: ignore[index]
    assert token["realm"] == "https://r.example:9444/token/"
    assert token["service"] == "r.example:9443"
    assert "cache" not in config["storage"]  # type: ignore[operator]
    assert config["http"]["http2"] == {"disabled": True}  # type: ignore[index]


def test_the_realm_of_an_ipv6_address_is_a_url() -> None:
    config = configs.registry_config(settings_module.parse("[registry]\nhost_names = 2001:db8::10", "x"))
    token = config["auth"]["token"]  # type: ignore[index]
    assert token["realm"] == "https://[2001:db8::10]:9002/token/"
    assert token["service"] == "[2001:db8::10]:9001"


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "registry.env"
    secret = configs.registry_secret(path)
    path.write_bytes(secret)
    assert configs.registry_secret(path) == secret
    path.write_bytes(b"REGISTRY_HTTP_SECRET=\n")
    assert configs.registry_secret(path) not in (secret, b"REGISTRY_HTTP_SECRET=\n")


@pytest.mark.parametrize(
    ("present", "table"),
    [
        ("", 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'),
        ("version = 2\n", '[plugins."io.containerd.grpc.v1.cri".registry]\n'),
        ("version = 3\n", '[plugins."io.containerd.cri.v1.images".registry]\n'),
    ],
)
def test_containerd_is_told_where_the_trust_is(present: str, table: str) -> None:
    lines = f'{table}  config_path = "/etc/containerd/certs.d"\n'
    assert configs.containerd_lines(present, Settings()) == lines
    marked = f"{present}# begin sysreg-deploy\n{lines}# end sysreg-deploy\n"
    assert configs.containerd_lines(marked, Settings()) == lines, "lines of an earlier run change nothing"


def test_a_containerd_that_reads_the_directory_anyhow_is_left_alone() -> None:
    table = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
    text = f'{table}config_path = "/etc/containerd/certs.d:/x"\n'
    assert configs.containerd_lines(text, Settings()) == ""


@pytest.mark.parametrize(
    ("present", "says"),
    [
        ("version = ", "is not TOML"),
        ("oom_score = 1\n", "has no version"),
        (
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/x"\n',
            "does not read",
        ),
    ],
)
def test_a_containerd_that_cannot_be_told_is_an_error_that_says_what_to_do(present: str, says: str) -> None:
    with pytest.raises(SysregError, match=says) as caught:
        configs.containerd_lines(present, Settings())
    assert caught.value.next_step
