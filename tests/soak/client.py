"""What the load of a soak consists of: a registry client by the specification, and figures of what happened.

It shares no code with sysreg_cli.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from devstack import images
from devstack.controller import Controller

# Longer than the token server holds a request for a write token.
TIMEOUT = 400


@dataclass
class Figures:
    """What happened; ``failures`` must stay empty."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    collections: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, number: int = 1) -> None:
        with self.lock:
            self.counts[what] += number

    def fail(self, text: str) -> None:
        with self.lock:
            self.failures.append(f"{time.strftime('%H:%M:%S')} {text}")
        print(f"FAILED {text}", file=sys.stderr, flush=True)

    def lines(self) -> Iterator[str]:
        done = [one for one in self.collections if one["outcome"] == "done"]
        drains = [one["seconds"].get("drain", 0.0) for one in done if one["writes_held"]]
        held = [one["writes_held"] for one in done if one["writes_held"]]
        longest = [one["longest_hold"] for one in self.collections if one["longest_hold"]]
        yield "  ".join(f"{name} {number}" for name, number in sorted(self.counts.items()))
        yield f"collections {len(self.collections)}, of them done {len(done)}, that held writes {len(held)}"
        yield f"blobs freed {sum(one['blobs'] for one in done)}, bytes {sum(one['bytes'] for one in done)}, "
        yield f"kept for pushes under way {sum(one['pinned'] for one in done)}"
        for name, values in (
            ("drain s", drains),
            ("writes held s", held),
            ("longest hold s", longest),
            ("pushes waited s", self.waits),
        ):
            if values:
                ordered = sorted(values)
                yield (
                    f"{name}: {len(values)} times, median {ordered[len(ordered) // 2]:.1f},"
                    f" most {ordered[-1]:.1f}"
                )
        yield f"failures {len(self.failures)}"
        yield from self.failures[:20]


class Client:
    """One person's registry client: keeps a token as long as it may, as c/image does."""

    def __init__(self, controller: Controller, figures: Figures) -> None:
        self._controller = controller
        self._figures = figures
        self._session = requests.Session()
        self._session.trust_env = False
        self._tokens: dict[str, tuple[float, str]] = {}

    def call(self, method: str, path: str, scope: str, **options: Any) -> requests.Response:
        headers = {**options.pop("headers", {}), "Authorization": f"Bearer {self._token(scope)}"}
        url = path if path.startswith("https://") else self._controller.url + path
        return self._session.request(
            method,
            url,
            headers=headers,
            verify=str(self._controller.paths.ca_file),
            timeout=TIMEOUT,
            **options,
        )

    def _token(self, scope: str) -> str:
        until, token = self._tokens.get(scope, (0.0, ""))
        if time.monotonic() < until:
            return token
        begun = time.monotonic()
        answer = self._session.get(
            self._controller.token_url,
            params={"service": self._controller.address, "scope": scope},
            auth=("admin", self._controller.passwords["admin"]),
            verify=str(self._controller.paths.ca_file),
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        waited = time.monotonic() - begun
        if waited > 1:
            with self._figures.lock:
                self._figures.waits.append(waited)
        body = answer.json()
        self._tokens[scope] = (begun + waited + body["expires_in"] - 1, body["token"])
        return str(body["token"])

    def upload(self, repository: str, data: bytes, *, pieces: int = 1, pause: float = 0.0) -> None:
        """One blob, in ``pieces`` with a ``pause`` before each, in one request: drop by drop."""
        scope = f"repository:{repository}:pull,push"
        begun = self.call("POST", f"/v2/{repository}/blobs/uploads/", scope)
        begun.raise_for_status()
        place = begun.headers["Location"]
        size = max(1, -(-len(data) // pieces))

        def drops() -> Iterator[bytes]:
            for start in range(0, len(data), size):
                time.sleep(pause)
                yield data[start : start + size]

        self.call(
            "PUT",
            f"{place}{'&' if '?' in place else '?'}digest=sha256:{hashlib.sha256(data).hexdigest()}",
            scope,
            data=drops() if pause else data,
            headers={"Content-Type": "application/octet-stream"},
        ).raise_for_status()
        self._figures.count("blobs sent")

    def put_manifest(self, repository: str, tag: str, image: images.Image) -> None:
        self.call(
            "PUT",
            f"/v2/{repository}/manifests/{tag}",
            f"repository:{repository}:pull,push",
            data=image.manifest,
            headers={"Content-Type": image.media_type},
        ).raise_for_status()

    def pull(self, repository: str, reference: str) -> dict[str, bytes] | None:
        """Everything of an image by digest, checked against it; None if the tag is gone."""
        scope = f"repository:{repository}:pull"
        accept = {"Accept": ", ".join(images.MANIFEST_TYPES)}
        answer = self.call("GET", f"/v2/{repository}/manifests/{reference}", scope, headers=accept)
        if answer.status_code == 404 and not reference.startswith("sha256:"):
            return None
        answer.raise_for_status()
        found = {images.digest_of(answer.content): answer.content}
        body = json.loads(answer.content)
        for child in body.get("manifests", ()):
            found |= self.pull(repository, child["digest"]) or {}
        for blob in [body["config"], *body["layers"]] if "config" in body else ():
            answer = self.call("GET", f"/v2/{repository}/blobs/{blob['digest']}", scope)
            answer.raise_for_status()
            if images.digest_of(answer.content) != blob["digest"]:
                raise ValueError(f"{repository}: {blob['digest']} came back changed")
            found[blob["digest"]] = answer.content
        return found

    def delete(self, repository: str, tag: str) -> None:
        scope = f"repository:{repository}:pull,push,delete"
        digest = None
        answer = self.call(
            "HEAD",
            f"/v2/{repository}/manifests/{tag}",
            scope,
            headers={"Accept": ", ".join(images.MANIFEST_TYPES)},
        )
        digest = answer.headers.get("Docker-Content-Digest")
        self.call("DELETE", f"/v2/{repository}/manifests/{digest}", scope).raise_for_status()
