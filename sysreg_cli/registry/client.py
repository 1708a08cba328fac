"""Client of the registry's HTTP API v2 (distribution specification): catalog, tags, manifests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from sysreg_cli.errors import (
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    NotStored,
    NotSupported,
    ProtocolError,
    SysregError,
    TooManyRequests,
    Unavailable,
)
from sysreg_cli.reference import is_repository, shorten
from sysreg_cli.registry.authorization import Authorizer, explain
from sysreg_cli.registry.challenge import Challenge, parse_bearer
from sysreg_cli.registry.manifests import ACCEPT, Manifest
from sysreg_cli.registry.pages import next_page
from sysreg_cli.registry.transport import CONNECTIONS, Answer, Transport

CATALOG_SCOPE = "registry:catalog:*"
# The most that 2.8 allows; every page costs the registry a walk over all repositories, however short it is.
_CATALOG_PAGE = 1000
# Repositories per token request; 25 to 50 is the fastest (docs/behaviour.rst, "docker-registry").
_TOKEN_BATCH = 32
# More is no listing of a controller's registry, but a server that never stops.
_MAX_ENTRIES = 1_000_000

_T = TypeVar("_T")
_R = TypeVar("_R")


class RegistryClient:
    """The registry at ``transport``; may be used by several threads.

    Every method raises what Transport.request and the authorizer raise, and for the registry's refusals:
    NotAuthenticated, NotAuthorized, NotFound, NotSupported, TooManyRequests, Unavailable, ProtocolError.
    """

    def __init__(self, transport: Transport, authorizer: Authorizer) -> None:
        self._transport = transport
        self._authorizer = authorizer
        self._challenge: Challenge | None = None
        self._asked = False

    @property
    def where(self) -> str:
        """host:port, for messages."""
        return self._transport.where

    @property
    def certificate_ends(self) -> float | None:
        """When the registry's certificate ends, in seconds since the epoch; None before the first answer."""
        return self._transport.certificate_ends

    # -- listings

    def catalog(self) -> list[str]:
        """Every repository, sorted by plain byte order, without duplicates."""
        return self._listing(
            f"/v2/_catalog?n={_CATALOG_PAGE}", "repositories", (CATALOG_SCOPE,), "listing the repositories"
        )

    def tags(self, repository: str) -> list[str]:
        """Every tag, sorted; empty for a repository that is unknown or holds no tag."""
        return self._tags(repository, (pull_scope(repository),))

    def tagged(self, repositories: Sequence[str]) -> list[str]:
        """Those of ``repositories`` that hold a tag, in the same order; asked in parallel."""
        names = [name for name in repositories if is_repository(name)]
        size = max(1, min(_TOKEN_BATCH, math.ceil(len(names) / CONNECTIONS)))
        batches = [names[start : start + size] for start in range(0, len(names), size)]

        def check(batch: list[str]) -> list[str]:
            scopes = tuple(pull_scope(name) for name in batch)
            return [name for name in batch if self._tags(name, scopes)]

        return [name for found in in_parallel(check, batches) for name in found]

    def _tags(self, repository: str, scopes: Sequence[str]) -> list[str]:
        try:
            return self._listing(
                f"/v2/{repository}/tags/list", "tags", scopes, f"listing the tags of {repository}"
            )
        except NotFound:
            return []

    def _listing(self, target: str, key: str, scopes: Sequence[str], what: str) -> list[str]:
        """All pages of one listing, each entry once, sorted."""
        entries: set[str] = set()
        seen = {target}
        while True:
            answer = self._send("GET", target, scopes, what, allowed=(200,))
            page = _entries(answer, key)
            before = len(entries)
            entries.update(page)
            link = answer.headers.get("Link", "")
            target = next_page(self._transport.base_url + target, link) if link else ""
            if not target:
                return sorted(entries)
            if target in seen or len(entries) == before:
                raise ProtocolError(f"{self.where}: {what}: the pages go round in a circle")
            if len(entries) > _MAX_ENTRIES:
                raise ProtocolError(f"{self.where}: {what}: more than {_MAX_ENTRIES:,} entries")
            seen.add(target)

    # -- manifests

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """What a tag or a digest stands for, or None if there is nothing."""
        answer = self._send(
            "GET",
            f"/v2/{repository}/manifests/{reference}",
            (pull_scope(repository),),
            f"reading {join(repository, reference)}",
            allowed=(200, 404),
            headers={"Accept": ACCEPT},
        )
        if answer.status == 404:
            return None
        media_type = str(answer.headers.get("Content-Type", "")).partition(";")[0].strip()
        manifest = Manifest(media_type, answer.body)
        if ":" in reference and reference.startswith("sha256:") and manifest.digest != reference:
            raise ProtocolError(
                f"{self.where}: {join(repository, reference)}: the content has another digest"
            )
        return manifest

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        """Store ``manifest`` under a tag, or under its own digest."""
        self._send(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            (write_scope(repository),),
            f"writing {join(repository, reference)}",
            allowed=(201,),
            headers={"Content-Type": manifest.media_type},
            body=manifest.content,
        )

    def delete_manifest(self, repository: str, digest: str) -> bool:
        """Delete a manifest, and on distribution **every tag on it**; False if it wasn't there."""
        answer = self._send(
            "DELETE",
            f"/v2/{repository}/manifests/{digest}",
            (write_scope(repository),),
            f"deleting {repository}@{digest}",
            allowed=(202, 404),
        )
        return answer.status == 202

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Delete a tag and nothing else, or return False where the registry can't: 2.8 can't, 3 can.

        Raises NotSupported if the registry is read-only or has deletes switched off.
        """
        answer = self._send(
            "DELETE",
            f"/v2/{repository}/manifests/{quote(tag)}",
            (write_scope(repository),),
            f"deleting {repository}:{tag}",
            allowed=(202, 400, 404),
        )
        if answer.status == 400 and "DIGEST_INVALID" not in explain(answer):
            raise self._refusal(answer, f"deleting {repository}:{tag}")
        return answer.status != 400

    # -- requests

    def _send(
        self,
        method: str,
        target: str,
        scopes: Sequence[str],
        what: str,
        *,
        allowed: Sequence[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request with a token for ``scopes``; any status not ``allowed`` is raised as an error."""
        challenge = self._first_challenge()
        for fresh in (False, True):
            sent = dict(headers or {})
            if challenge:
                sent["Authorization"] = "Bearer " + self._authorizer.token(challenge, scopes, fresh=fresh)
            answer = self._transport.request(method, target, headers=sent, body=body)
            refused = (
                parse_bearer(answer.headers.get_all("WWW-Authenticate", [])) if answer.status == 401 else None
            )
            if refused is None or refused.error == "insufficient_scope" or challenge is None:
                break
        if answer.status not in allowed:
            raise self._refusal(answer, what)
        return answer

    def _first_challenge(self) -> Challenge | None:
        """Ask /v2/ once whether tokens are wanted, which also tells a registry from any other web server."""
        if not self._asked:
            answer = self._transport.request("GET", "/v2/")
            challenge = parse_bearer(answer.headers.get_all("WWW-Authenticate", []))
            if answer.status >= 500 or answer.status == 429:
                raise self._refusal(answer, "asking for the API version")
            if answer.status not in (200, 401) or (answer.status == 401 and challenge is None):
                raise ProtocolError(
                    f"{self.where}: is not a registry that takes tokens (GET /v2/ answered {answer.status})",
                    next_step="check the registry's address",
                )
            if answer.status == 200:
                answer.json()
            self._challenge, self._asked = challenge, True
        return self._challenge

    def _refusal(self, answer: Answer, what: str) -> SysregError:
        status = answer.status
        message = f"{what} failed: {self.where} answered {status}{explain(answer)}"
        if status == 401:
            refused = parse_bearer(answer.headers.get_all("WWW-Authenticate", []))
            if refused and refused.error == "insufficient_scope":
                return NotAuthorized(
                    f"{what} failed: {self.where}: this user may not do it",
                    next_step="use the credentials of its owner or of an administrator",
                )
            return NotAuthenticated(f"{what} failed: {self.where} refused the token{explain(answer)}")
        if status == 403:
            return NotAuthorized(message)
        if status == 404:
            return NotFound(message)
        if status == 405:
            return NotSupported(
                f"{what} failed: {self.where} is read-only, or has deletes switched off",
                next_step="see storage.delete and storage.maintenance of its configuration",
            )
        if status == 429:
            return TooManyRequests(message, next_step="try again later")
        if status == 500 and what.startswith("writing"):
            return NotStored(message, next_step="its disk may be full: see its journal")
        if status >= 500:
            return Unavailable(message, next_step="try again later")
        return ProtocolError(message)


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def write_scope(repository: str) -> str:
    return f"repository:{repository}:delete,pull,push"


def join(repository: str, reference: str) -> str:
    """``name:tag`` or ``name@digest``, for messages."""
    return f"{repository}{'@' if ':' in reference else ':'}{reference}"


def in_parallel(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """``function`` of every item, in order, with as many threads as there are connections.

    The first error is raised at once; what runs then is left behind.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _entries(answer: Answer, key: str) -> list[str]:
    data: Any = answer.json()
    entries = data.get(key) if isinstance(data, dict) else None
    if isinstance(data, dict) and key in data and entries is None:
        return []  # 2.8 answers so when the last tag went
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ProtocolError(
            f"{answer.where}: the answer has no list of {key}: {_shown(answer.body)}",
            next_step="check that this is the registry's address",
        )
    return entries


def _shown(body: bytes) -> str:
    return shorten(body[:100].decode(errors="replace"))
