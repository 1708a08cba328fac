"""A secret of Kubernetes as a source: the watch protocol, and what ends or refuses it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.waiting import wait_until
from sysreg_cli.agent.renewal import kubeconfig
from sysreg_cli.agent.renewal.readings import Reading
from sysreg_cli.agent.renewal.secret import FollowedSecret
from sysreg_cli.errors import SysregError
from sysreg_cli.settings import SecretSource
from tests.kubernetes_api import NAME, NAMESPACE, KubernetesApi


class Followed:
    """A follower of the secret, and what it has reported."""

    def __init__(self, config: Path) -> None:
        self.readings: list[Reading] = []
        self._stopping = threading.Event()
        self._source = FollowedSecret(SecretSource(NAMESPACE, NAME), config, pause=0.05)
        # it may wait for the next event when the test ends
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        self._source.follow(self.readings.append, self._stopping)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def ended(self) -> bool:
        self._thread.join(0.05)
        return not self._thread.is_alive()

    def last_is(self, content: bytes) -> bool:
        return bool(self.readings) and self.readings[-1].candidates[:1] == (
            content + b"\n" + content + b"\n",
        )

    @property
    def problem(self) -> str:
        return self.readings[-1].problem if self.readings else ""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with KubernetesApi().serving(tmp_path) as api:
        yield api


@pytest.fixture
def followed(api: KubernetesApi, tmp_path: Path) -> Iterator[Followed]:
    api.write_kubeconfig(tmp_path / "admin.conf")
    followed = Followed(tmp_path / "admin.conf")
    yield followed
    followed.stop()

    def ended() -> bool:
        api.disconnect()  # it may have begun another watch meanwhile
        return followed.ended()

    wait_until(ended)


def put(api: KubernetesApi, content: bytes) -> None:
    api.put(**{"tls.key": content, "tls.crt": content})


def test_changes_arrive_also_after_disconnects_bookmarks_and_forgotten_versions(
    api: KubernetesApi, followed: Followed
) -> None:
    put(api, b"A")
    followed.start()
    wait_until(lambda: followed.last_is(b"A"))
    wait_until(lambda: api.watched)
    put(api, b"B")
    wait_until(lambda: followed.last_is(b"B"))
    api.bookmark(versions=50)
    api.disconnect()
    wait_until(lambda: not api.watched)
    put(api, b"C")
    wait_until(lambda: followed.last_is(b"C"))
    assert "resourceVersion=152" in next(path for path in reversed(api.requests) if "watch" in path), (
        "the watch goes on from the bookmark"
    )
    for content in (b"D", b"E"):  # said once as a status, and once as an event
        wait_until(lambda: api.watched)
        api.forget()
        put(api, content)
        wait_until(lambda content=content: followed.last_is(content))  # type: ignore[misc]
    assert not [reading.problem for reading in followed.readings if reading.problem]
    assert all(f"fieldSelector=metadata.name%3D{NAME}" in path for path in api.requests)


def test_a_secret_that_is_deleted_and_made_anew(api: KubernetesApi, followed: Followed) -> None:
    followed.start()
    wait_until(lambda: followed.problem == "there is no such secret")
    wait_until(lambda: api.watched)
    put(api, b"A")
    wait_until(lambda: followed.last_is(b"A"))
    api.delete()
    wait_until(lambda: followed.problem == "there is no such secret")
    api.put(**{"tls.crt": b"B"})
    wait_until(lambda: followed.problem == "the secret has no tls.key")


def test_revoked_credentials_are_said_and_new_ones_are_used(
    api: KubernetesApi, followed: Followed, tmp_path: Path
) -> None:
    put(api, b"A")
    followed.start()
    wait_until(lambda: api.watched)
    api.revoked = True
    api.disconnect()
    wait_until(lambda: "answers 401: Unauthorized" in followed.problem)
    api.write_kubeconfig(tmp_path / "admin.conf", token="a-good-token")
    api.revoked = False
    wait_until(lambda: followed.last_is(b"A"))


def test_an_api_that_is_away_is_said(tmp_path: Path) -> None:
    with KubernetesApi().serving(tmp_path) as api:
        api.write_kubeconfig(tmp_path / "admin.conf")
    followed = Followed(tmp_path / "admin.conf")
    followed.start()
    wait_until(lambda: "cannot be reached: " in followed.problem)
    assert "0x" not in followed.problem
    followed.stop()
    wait_until(followed.ended)


def test_an_api_with_another_certificate_gets_no_credentials(
    api: KubernetesApi, followed: Followed, tmp_path: Path
) -> None:
    other = KubernetesApi()
    other.port = api.port
    other.write_kubeconfig(tmp_path / "admin.conf", token="a-good-token")
    followed.start()
    wait_until(lambda: "certificate is not trusted" in followed.problem)
    assert api.requests == []
    api.write_kubeconfig(tmp_path / "admin.conf")
    wait_until(lambda: followed.problem == "there is no such secret", 60)


@pytest.mark.parametrize(("name", "says"), [("kubernetes", "no such secret"), ("other", "is not trusted")])
def test_the_name_in_the_kubeconfig_counts(
    api: KubernetesApi, followed: Followed, tmp_path: Path, name: str, says: str
) -> None:
    config = tmp_path / "admin.conf"
    config.write_text(config.read_text().replace("    server:", f"    tls-server-name: {name}\n    server:"))
    followed.start()
    wait_until(lambda: says in followed.problem)
    config.write_text(config.read_text().replace("name: other", "name: kubernetes"))
    wait_until(lambda: "no such secret" in followed.problem)


# kubeconfig files


@pytest.fixture
def config(api: KubernetesApi, tmp_path: Path) -> Path:
    api.write_kubeconfig(tmp_path / "admin.conf")
    return tmp_path / "admin.conf"


def test_files_beside_the_kubeconfig_are_read(config: Path, api: KubernetesApi, tmp_path: Path) -> None:
    api.write_kubeconfig(config, tokenFile="token")
    (tmp_path / "token").write_text("a-good-token\n")
    (tmp_path / "ca.crt").write_bytes(api.ca.pem)
    text = config.read_text()
    ca = base64.b64encode(api.ca.pem).decode()
    config.write_text(text.replace(f"certificate-authority-data: {ca}", "certificate-authority: ca.crt"))
    assert "ca.crt" in config.read_text()
    cluster = kubeconfig.load(config)
    assert cluster.headers == {"Authorization": "Bearer a-good-token"}
    assert "a-good-token" not in repr(cluster)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("contexts:", "nothing:", "is not a kubeconfig"),
        ("current-context: admin", "current-context: other", "is not a kubeconfig"),
        ("https://", "http://", "is not https"),
        ("client-key-data: ", "client-key-data: ###", ""),
        ("client-certificate-data: ", "exec: ", "`exec` is not supported"),
        ("    server:", "    insecure-skip-tls-verify: true\n    server:", "`insecure-skip-tls-verify`"),
        ("apiVersion", "\tapiVersion", "is not YAML"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused_by_name(
    config: Path, old: str, new: str, says: str
) -> None:
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(SysregError) as caught:
        kubeconfig.load(config)
    assert str(caught.value).startswith(str(config))
    assert says in str(caught.value)


def test_a_missing_kubeconfig_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SysregError, match=r"none: No such file"):
        kubeconfig.load(tmp_path / "none")
