"""A registry client for tests: plain HTTP by the specification. It shares no code with sysreg_cli.

It checks what sysreg_cli reports, so it must not be the same client.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from devstack.images import MANIFEST_TYPES, Image, digest_of

_TIMEOUT = 60


class IndependentClient:
    """Talks to the registry at ``url`` (https://host:port) as one user; usable from several threads.

    ``user`` None means no credentials. A Bearer challenge is answered with a token for the scope it names.
    Methods that return a requests.Response don't judge its status; the others raise requests.HTTPError.
    """

    def __init__(self, url: str, ca_file: Path, user: str | None = None, password: str = "") -> None:
        self.url = url
        self._ca = str(ca_file)
        self._basic = (user, password) if user is not None else None
        self._tokens: dict[str, str] = {}
        self._local = threading.local()

    @property
    def _http(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request to ``path`` (/v2/...), with a token if the registry asks for one."""
        url = urljoin(self.url, path)
        key = f"{'r' if method in ('GET', 'HEAD') else method}:{path.rpartition('/')[0]}"
        for _ in range(2):
            headers = dict(options.get("headers") or {})
            if key in self._tokens:
                headers["Authorization"] = f"Bearer {self._tokens[key]}"
            answer = self._http.request(
                method, url, **{"timeout": _TIMEOUT, **options, "headers": headers, "verify": self._ca}
            )
            challenge = dict(re.findall(r'(\w+)="([^"]*)"', answer.headers.get("WWW-Authenticate", "")))
            if answer.status_code != 401 or "realm" not in challenge or self._basic is None:
                break
            self._tokens[key] = self.token(
                challenge["realm"], challenge["service"], challenge.get("scope", "")
            )
        return answer

    def token(self, realm: str, service: str, scope: str = "") -> str:
        """A token of the token server. Raises requests.HTTPError if it refuses."""
        words = {"service": service, **({"scope": scope} if scope else {})}
        answer = self._http.get(realm, params=words, auth=self._basic, verify=self._ca, timeout=_TIMEOUT)
        answer.raise_for_status()
        return str(answer.json()["token"])

    def put_blob(self, repository: str, data: bytes) -> str:
        """Upload one blob, unless it is there; returns its digest."""
        digest = digest_of(data)
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}").ok:
            return digest
        begun = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        begun.raise_for_status()
        place = begun.headers["Location"]
        self.request(
            "PUT",
            place + ("&" if "?" in place else "?") + f"digest={digest}",
            data=data,
            headers={"Content-Type": "application/octet-stream"},
        ).raise_for_status()
        return digest

    def put_manifest(self, repository: str, reference: str, image: Image) -> str:
        """Upload the manifest alone; returns its digest."""
        self.request(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            data=image.manifest,
            headers={"Content-Type": image.media_type},
        ).raise_for_status()
        return image.digest

    def push(self, repository: str, reference: str, image: Image) -> str:
        """Push an image with all its blobs and children; ``reference`` is a tag or the digest."""
        for child in image.children:
            self.push(repository, child.digest, child)
        for data in image.blobs:
            self.put_blob(repository, data)
        return self.put_manifest(repository, reference, image)

    def manifest(self, repository: str, reference: str) -> requests.Response:
        """GET of a manifest, whatever its type."""
        path = f"/v2/{repository}/manifests/{reference}"
        return self.request("GET", path, headers={"Accept": ", ".join(MANIFEST_TYPES)})

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest a tag points at, or None."""
        answer = self.manifest(repository, reference)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return digest_of(answer.content)

    def is_whole(self, repository: str, reference: str) -> bool:
        """Whether the image can be pulled: its manifest, its children's, and every blob, byte for byte."""
        answer = self.manifest(repository, reference)
        if not answer.ok:
            return False
        body = answer.json()
        if "manifests" in body:
            return all(self.is_whole(repository, child["digest"]) for child in body["manifests"])
        for descriptor in (body["config"], *body["layers"]):
            blob = self.request("GET", f"/v2/{repository}/blobs/{descriptor['digest']}")
            if not blob.ok or digest_of(blob.content) != descriptor["digest"]:
                return False
        return True

    def tags(self, repository: str) -> list[str]:
        """The repository's tags, sorted; empty if it is unknown."""
        answer = self.request("GET", f"/v2/{repository}/tags/list")
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        return sorted(answer.json()["tags"] or [])

    def catalog(self) -> list[str]:
        """Every repository, through all pages."""
        names: list[str] = []
        path = "/v2/_catalog?n=1000"
        while path:
            answer = self.request("GET", path)
            answer.raise_for_status()
            names += answer.json()["repositories"]
            path = answer.links.get("next", {}).get("url", "")
        return names

    def delete(self, repository: str, digest: str) -> requests.Response:
        return self.request("DELETE", f"/v2/{repository}/manifests/{digest}")
