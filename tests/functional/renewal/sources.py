"""Where renewed certificates come from: certbot's directories, and a secret that cert-manager keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.functional.certificate.breakable import Bundle
from tests.kubernetes_api import NAME, NAMESPACE, KubernetesApi


class Renewer(Protocol):
    """Keeps a certificate for the agent. ``settings`` are keys of the section [certificate]."""

    @property
    def settings(self) -> Mapping[str, str]: ...

    def renew(self, bundle: Bundle) -> None:
        """Replace what is kept."""

    def renew_half(self, bundle: Bundle) -> None:
        """Replace the chain and not the key."""

    def hide(self) -> None:
        """Take away what is kept."""

    def show(self) -> None:
        """Undo ``hide``."""


def key_of(bundle: Bundle) -> bytes:
    key: bytes = bundle.leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key


def chain_of(bundle: Bundle) -> bytes:
    return b"".join(issued.pem for issued in bundle.chain)


class Certbot:
    """The directories of certbot: ``live/NAME`` has links into ``archive/NAME``, which nobody changes."""

    _KINDS = ("cert", "privkey", "chain", "fullchain")  # the order in which certbot replaces the links

    def __init__(self, root: Path) -> None:
        self.live = root / "live" / "registry.local"
        self._archive = root / "archive" / "registry.local"
        for directory in (self.live, self._archive):
            directory.mkdir(parents=True)
        # certbot's own modes: the agent has to read what belongs to root alone
        for directory in (root / "live", root / "archive"):
            directory.chmod(0o700)

    @property
    def settings(self) -> Mapping[str, str]:
        return {"source": f"files:{self.live}"}

    def renew(self, bundle: Bundle) -> None:
        self._link(self._write(bundle), self._KINDS)

    def renew_half(self, bundle: Bundle) -> None:
        self._link(self._write(bundle), ("cert", "chain", "fullchain"))

    def hide(self) -> None:
        self.live.rename(self.live.with_name("hidden"))

    def show(self) -> None:
        self.live.with_name("hidden").rename(self.live)

    def link(self, number: int) -> None:
        """Point the links at one version."""
        self._link(number, self._KINDS)

    def _write(self, bundle: Bundle) -> int:
        number = len(list(self._archive.glob("cert*.pem"))) + 1
        contents = {
            "cert": bundle.leaf.pem,
            "chain": b"".join(issued.pem for issued in bundle.chain[1:]),
            "fullchain": chain_of(bundle),
            "privkey": key_of(bundle),
        }
        for kind, content in contents.items():
            (self._archive / f"{kind}{number}.pem").write_bytes(content)
        return number

    def _link(self, number: int, kinds: tuple[str, ...]) -> None:
        for kind in kinds:
            link = self.live / f"{kind}.pem"
            link.unlink(missing_ok=True)  # as certbot does: for a moment there is no link
            link.symlink_to(f"../../archive/registry.local/{kind}{number}.pem")


class CertManager:
    """A secret as cert-manager keeps it: the CA's certificate is in ``ca.crt``, too."""

    def __init__(self, api: KubernetesApi, kubeconfig: Path) -> None:
        self.api = api
        self.kubeconfig = kubeconfig
        self._kept: dict[str, bytes] = {}
        api.write_kubeconfig(kubeconfig)

    @property
    def settings(self) -> Mapping[str, str]:
        return {"source": f"secret:{NAMESPACE}/{NAME}", "kubeconfig": str(self.kubeconfig)}

    def renew(self, bundle: Bundle) -> None:
        self._put({"tls.key": key_of(bundle), "tls.crt": chain_of(bundle), "ca.crt": bundle.chain[-1].pem})

    def renew_half(self, bundle: Bundle) -> None:
        self._put({**self._kept, "tls.crt": chain_of(bundle), "ca.crt": b""})

    def hide(self) -> None:
        self.api.delete()

    def show(self) -> None:
        self._put(self._kept)

    def _put(self, files: dict[str, bytes]) -> None:
        self._kept = files
        self.api.put(**files)
