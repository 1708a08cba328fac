"""What is read of the registry's config.yml."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysreg_cli.addresses import HostPort
from sysreg_cli.errors import SysregError
from sysreg_cli.host import registry_config


def test_debians_own_config_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "storage:\n  cache: {blobdescriptor: inmemory}\n  filesystem: {rootdirectory: /srv}\n"
        "  delete: {enabled: true}\nhttp:\n  addr: :5000\n"
    )
    config = registry_config.read(path)
    assert (config.driver, config.root, config.cache) == ("filesystem", Path("/srv"), "inmemory")
    assert (config.listen, config.debug) == (HostPort("", 5000), None)


def test_variables_override_the_file_as_in_the_registry(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("storage: {filesystem: {rootdirectory: /srv, maxthreads: 9}}\nhttp: {addr: ':5000'}\n")
    config = registry_config.read(
        path,
        {
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": "/elsewhere",
            "REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR": "redis",
            "REGISTRY_HTTP_ADDR": "127.0.0.1:9001",
            "REGISTRY_HTTP_SECRET": "secret",
            "registry_http_debug_addr": "127.0.0.1:5001",
            "REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED": "true",
            "AWS_REGION": "here",
        },
    )
    assert (config.driver, config.root, config.cache) == ("filesystem", Path("/elsewhere"), "redis")
    assert (config.listen, config.debug) == (HostPort("127.0.0.1", 9001), HostPort("127.0.0.1", 5001))
    assert config.environment["AWS_REGION"] == "here"
    assert "secret" not in config.environment.values()
    assert registry_config.read(path, {"REGISTRY_STORAGE": "inmemory"}).root is None
    with pytest.raises(SysregError, match="or several"):
        registry_config.read(path, {"REGISTRY_STORAGE_S3_BUCKET": "images"})
    with pytest.raises(SysregError, match="or a variable, is not YAML"):
        registry_config.read(path, {"REGISTRY_STORAGE_S3_BUCKET": "{"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("storage: {}", "no driver"),
        ("storage: {s3: {}, filesystem: {}}", "or several"),
        ("- a list", "no driver"),
        ("a: b: c", "not YAML"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(SysregError, match=reason):
        registry_config.read(path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(SysregError, match=r"config\.yml: No such file"):
        registry_config.read(tmp_path / "config.yml")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":5001", HostPort("", 5001)),
        ("127.0.0.1:5001", HostPort("127.0.0.1", 5001)),
        ("[::1]:5001", HostPort("::1", 5001)),
        ("localhost:", None),
        ("localhost", None),
        ("/run/registry.sock", None),
        ("", None),
    ],
)
def test_an_address_may_lack_its_host_but_not_its_port(
    tmp_path: Path, address: str, expected: HostPort | None
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "storage: filesystem\nhttp:\n"
        f"  addr: '{address}'\n  debug: {{addr: '{address}', prometheus: {{enabled: true}}}}\n"
    )
    config = registry_config.read(path)
    assert (config.listen, config.debug) == (expected, expected)
