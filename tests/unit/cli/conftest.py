from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from pytest_httpserver import HTTPServer

from sysreg_cli.cli.invocation import Invocation
from sysreg_cli.cli.main import run
from sysreg_cli.registry.transport import Transport

Outcome = tuple[int, str, str]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def _one_server(server_tls: ssl.SSLContext) -> Iterator[HTTPServer]:
    with HTTPServer(host="localhost", port=0, ssl_context=server_tls, threaded=True) as server:
        yield server


@pytest.fixture
def https_server(_one_server: HTTPServer) -> Iterator[HTTPServer]:
    """An HTTPS server that answers what the test expects, and 500 to everything else."""
    yield _one_server
    _one_server.clear()


@pytest.fixture
def system(ca_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `system` in this process, with no environment but what the test gives."""
    settings = tmp_path / "sysreg.conf"
    settings.write_text(f"[paths]\ndocker_trust = {tmp_path}/certs.d\n")

    def call(*words: str, **environ: str) -> Outcome:
        variables = {
            "SYSREG_CONF": str(settings),
            "SYSREG_REGISTRY_CA": str(ca_file),
            "OS_USERNAME": "admin",
            "OS_PASSWORD": "the-secret",
            **environ,
        }
        code = run(words, Invocation(variables))
        out, err = capsys.readouterr()
        assert "the-secret" not in out + err
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is tried again is tried at once."""
    monkeypatch.setattr(Transport, "backoff", 0.0)


@pytest.fixture
def listing(system: Callable[..., Outcome]) -> Callable[..., str]:
    """`registry-image-list` against a port; must fail with one line, which is returned."""

    def call(port: int, *words: str, **environ: str) -> str:
        where = f"localhost:{port}"
        code, out, err = system("registry-image-list", "--registry", where, *words, **environ)
        assert (code, out) == (1, "")
        assert err.startswith("system: ")
        assert err.count("\n") == 1
        return err

    return call


@pytest.fixture
def registry(https_server: HTTPServer) -> HTTPServer:
    """A registry that wants no tokens and says nothing else yet."""
    https_server.expect_request("/v2/").respond_with_json({})
    return https_server
