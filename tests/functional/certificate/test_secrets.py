"""Nobody else can read keys, passphrases, passwords and tokens anywhere."""

from __future__ import annotations

import base64
import contextlib
import threading
from pathlib import Path

from devstack.options import Options
from devstack.programs import AGENT
from tests.certificates import authority, bundle, key_pem, server
from tests.functional.conftest import NewController

PASSPHRASE = "correct-horse-battery-staple"
_INTERVAL = 0.005


def pieces(pem: bytes) -> set[bytes]:
    """Pieces of a PEM block's text, and of the bytes it stands for."""
    lines = [line for line in pem.splitlines() if line and b"-----" not in line and b":" not in line]
    raw = base64.b64decode(b"".join(lines))
    return {*lines[1:-1], raw[40:72]}


class ProcessWatcher:
    """Reads the journal and the arguments of processes until the context ends.

    The processes are those with ``mark`` in their environment: all of a controller have its root there.
    """

    def __init__(self, journal: Path, *, mark: str) -> None:
        self._mark = mark.encode()
        self.seen: set[bytes] = set()
        self.journals: set[bytes] = set()
        self._journal = journal
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> ProcessWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    # other tests use the same passwords, some of them in arguments
                    if self._mark in (process / "environ").read_bytes():
                        self.seen.add((process / "cmdline").read_bytes())
            try:
                self.journals.add(self._journal.read_bytes())
            except OSError:
                continue


def test_no_secret_is_in_a_log_a_journal_the_process_list_or_a_readable_file(
    new_controller: NewController, tmp_path: Path
) -> None:
    with new_controller(Options(environment={AGENT: {"PYTHONDEVMODE": "1"}})) as controller:
        root = authority()
        leaves = [server(root) for _ in range(4)]
        secrets = {PASSPHRASE.encode(), *(password.encode() for password in controller.passwords.values())}
        file = tmp_path / "server.pem"
        credentials = ("--os-username", "admin")  # makes root send a token
        token = controller.keystone_admin().session.get_token()
        secrets.add(token.encode())

        journal = controller.paths.state / "certificate-journal"
        with ProcessWatcher(journal, mark=str(controller.paths.root)) as watcher:
            for leaf, arguments, passphrase in (
                (leaves[0], credentials, ""),
                (leaves[1], credentials, PASSPHRASE),
                (leaves[2], (), PASSPHRASE + " wrong"),
                (leaves[3], (), PASSPHRASE),
            ):
                clear = key_pem(leaf.key)
                encrypted = key_pem(leaf.key, passphrase=PASSPHRASE.encode()) if passphrase else clear
                secrets |= pieces(clear) | pieces(encrypted)
                file.write_bytes(bundle(leaf, root, key=encrypted))
                done = controller.system(
                    "certificate-install",
                    *arguments,
                    *("-m", "docker_registry", str(file)),
                    env={"SYSREG_PASSPHRASE": passphrase},
                )
                assert done.returncode == (1 if "wrong" in passphrase else 0), done.stderr
                assert not [secret for secret in secrets if secret in (done.stdout + done.stderr).encode()]
            for refused in ("certificate-list", "certificate-show"):
                names = ["docker_registry"] if refused.endswith("show") else []
                controller.system(refused, *names, "--os-auth-token", "x", env={"OS_AUTH_TOKEN": token})
            controller.system("certificate-list", env={"OS_AUTH_TOKEN": token, "SYSREG_AGENT": "/nowhere"})

        assert watcher.journals, "the journal was never seen: the watcher looks in the wrong place"
        assert any(b"certificate-install" in text for text in watcher.seen)
        assert any(b"sysreg-agent" in text for text in watcher.seen)
        seen = [text for text in watcher.seen | watcher.journals if any(secret in text for secret in secrets)]
        assert seen == []

        logs = list((controller.paths.root / "log").iterdir())
        assert any(b"sysreg.audit: certificate install" in log.read_bytes() for log in logs)
        readable = [
            path
            for place in (controller.paths.root, controller.trust_directory)
            for path in place.rglob("*")
            if path.is_file() and not path.is_symlink() and (path in logs or path.stat().st_mode & 0o004)
        ]
        assert (controller.paths.tls / "current" / "server.crt").resolve() in readable
        leaks = {
            str(path.relative_to(controller.paths.root.anchor))
            for path in readable
            if any(secret in path.read_bytes() for secret in secrets)
        }
        assert leaks == set()
