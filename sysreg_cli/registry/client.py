"""Client of the registry's HTTP API v2 (distribution specification): catalog, tags, manifests."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from sysreg_cli.errors import (
    BY_STATUS,
    NotAuthenticated,
    NotAuthorized,
    NotFound,
    NotStored,
    NotSupported,
    ProtocolError,
    SysregError,
    TagsLeft,
    TooManyRequests,
    Unavailable,
)
from sysreg_cli.reference import ImageReference, is_digest, is_repository
from sysreg_cli.registry.authorization import Authorizer
from sysreg_cli.registry.challenge import Challenge, parse_bearer
from sysreg_cli.registry.manifests import ACCEPT, RemoteManifest, UnreadableManifest, digest_of
from sysreg_cli.registry.pages import next_page
from sysreg_cli.registry.transport import CONNECTIONS, Response, Transport
from sysreg_cli.text import shorten
from sysreg_cli.tokens.access import Access
from sysreg_cli.tokens.claims import subject
from sysreg_cli.tokens.times import SET_CLOCKS, wrong_clock

#: what a token has to allow for the list of all repositories
CATALOG = Access("registry", "catalog", ("*",))
# Entries of a page, in the order of trying. 2.8 allows 1,000, or what its catalog.maxentries says.
# For each page the registry walks over all repositories, however short the page is.
_CATALOG_PAGES = (1000, 500, 250, 125)
# Repositories for which one token is requested: 25 to 50 is the fastest (measured).
_TOKEN_BATCH = 32
# A longer listing is not that of a controller's registry, but of a server that never stops.
_MAX_ENTRIES = 1_000_000

_SEE_JOURNAL = "see its journal: its disk may be full, or files of its storage may belong to another user"

_PULL = ("pull",)
_WRITE = ("delete", "pull", "push")
# method of a request about a manifest -> its verb in messages, and what its token has to allow
_METHODS = {
    "GET": ("reading", _PULL),
    "HEAD": ("reading", _PULL),
    "PUT": ("writing", _WRITE),
    "DELETE": ("deleting", _WRITE),
}

_T = TypeVar("_T")
_R = TypeVar("_R")


class _PageTooLarge(ProtocolError):
    """A listing's page may not have as many entries as requested."""


class RegistryClient:
    """Client of the registry at ``transport``. Several threads may use it.

    Every method raises what Transport.request and the authorizer raise, and for the registry's refusals:
    NotAuthenticated, NotAuthorized, NotFound, NotSupported, TooManyRequests, Unavailable, ProtocolError.
    """

    def __init__(self, transport: Transport, authorizer: Authorizer) -> None:
        self._transport = transport
        self._authorizer = authorizer
        self._challenge: Challenge | None = None
        self._version_checked = False

    @property
    def where(self) -> str:
        """host:port, for messages."""
        return self._transport.where

    @property
    def certificate_ends(self) -> float | None:
        """When the registry's certificate ends, in seconds since the epoch. None before a response."""
        return self._transport.certificate_ends

    def token(self, *access: Access) -> str:
        """Return the token that the registry gets for ``access``, "" if it takes none.

        The agent takes it, too, for calls about the registry's storage.
        """
        challenge = self._first_challenge()
        return self._authorizer.token(challenge, access) if challenge else ""

    def user(self, repository: str) -> str:
        """Return the user that the token for the repository names, "" if the registry takes no tokens."""
        return subject(self.token(pulls(repository)))

    # -- listings

    def catalog(self) -> list[str]:
        """Return every repository once, in plain byte order."""
        arguments = ("repositories", (CATALOG,), "listing the repositories")
        for size in _CATALOG_PAGES:
            with contextlib.suppress(_PageTooLarge):
                return self._listing(f"/v2/_catalog?n={size}", *arguments)
        return self._listing("/v2/_catalog", *arguments)

    def tags(self, repository: str, access: Sequence[Access] = ()) -> list[str]:
        """Return every tag, sorted. An unknown repository has none. ``access``: what the token allows."""
        what = f"listing the tags of {repository}"
        try:
            return self._listing(f"/v2/{repository}/tags/list", "tags", access or (pulls(repository),), what)
        except NotFound:
            return []

    def tagged(self, repositories: Sequence[str]) -> list[str]:
        """Return those of ``repositories`` that hold a tag, in the same order. Requests run in parallel."""
        names = [name for name in repositories if is_repository(name)]
        size = max(1, min(_TOKEN_BATCH, math.ceil(len(names) / CONNECTIONS)))
        batches = [names[start : start + size] for start in range(0, len(names), size)]

        def check(batch: list[str]) -> list[str]:
            access = tuple(pulls(name) for name in batch)
            return [name for name in batch if self.tags(name, access)]

        return [name for batch in in_parallel(check, batches) for name in batch]

    def _listing(self, target: str, key: str, access: Sequence[Access], what: str) -> list[str]:
        """Return all pages of one listing, each entry once, sorted."""
        entries: set[str] = set()
        seen = {target}
        while True:
            response = self._send("GET", target, access, what, allowed=(200,))
            page = _entries(response, key)
            before = len(entries)
            entries.update(page)
            link = response.headers.get("Link", "")
            target = next_page(self._transport.base_url + target, link) if link else ""
            if not target:
                return sorted(entries)
            if target in seen or len(entries) == before:
                raise ProtocolError(f"{self.where}: {what}: the pages go round in a circle")
            if len(entries) > _MAX_ENTRIES:
                raise ProtocolError(f"{self.where}: {what}: more than {_MAX_ENTRIES:,} entries")
            seen.add(target)

    # -- manifests

    def manifest(
        self, image: ImageReference, known: RemoteManifest | None = None
    ) -> RemoteManifest | UnreadableManifest | None:
        """Return what a tag or a digest stands for, or None if the registry knows nothing of it.

        ``known`` is what it stood for before. If it still does, the registry neither reads nor sends it.
        """
        headers, allowed = {"Accept": ACCEPT}, [200, 404, 500]
        if known is not None:
            headers["If-None-Match"] = f'"{known.digest}"'
            allowed.append(304)
        response = self._manifest_request("GET", image, allowed=allowed, headers=headers)
        if response.status == 304:
            return known
        if response.status == 404:
            return None
        if response.status == 500:
            return UnreadableManifest(image.digest)
        media_type = str(response.headers.get("Content-Type", "")).partition(";")[0].strip()
        manifest = RemoteManifest(media_type, response.body)
        digest = image.digest or str(response.headers.get("Docker-Content-Digest", ""))
        if is_digest(digest) and digest.startswith("sha256:") and manifest.digest != digest:
            return UnreadableManifest(digest)
        return manifest

    def stands_for(self, image: ImageReference, digest: str) -> bool:
        """Whether a tag stands for ``digest``. The registry compares them without reading the manifest."""
        headers = {"Accept": ACCEPT, "If-None-Match": f'"{digest}"'}
        response = self._manifest_request("HEAD", image, allowed=(200, 304, 404, 500), headers=headers)
        return response.status == 304

    def put_manifest(self, image: ImageReference, manifest: RemoteManifest) -> None:
        """Store ``manifest`` under a tag or its own digest. Raises NotStored, for example on a full disk."""
        headers = {"Content-Type": manifest.media_type}
        response = self._manifest_request(
            "PUT", image, allowed=(201, 500), headers=headers, body=manifest.content
        )
        if response.status == 500:
            message = self._failure(response, f"writing {image}")
            raise NotStored(message, next_step=_SEE_JOURNAL)

    def delete_manifest(self, image: ImageReference) -> bool:
        """Delete a digest, and on distribution **every tag on it**. Return False if it did not exist.

        Raises TagsLeft if the manifest is deleted, but its tags are not.
        """
        response = self._manifest_request("DELETE", image, allowed=(202, 400, 404, 500))
        if response.status == 500:
            # 2.8 deletes the manifest before it reads the tags, and stops at one that it cannot read.
            kind = TagsLeft if self.manifest(image) is None else ProtocolError
            raise kind(self._failure(response, f"deleting {image}"), next_step=_SEE_JOURNAL)
        if (
            response.status == 400
        ):  # 2.8 cannot delete a manifest whose link is empty, but a push mends the link
            message = self._failure(response, f"deleting {image}")
            raise ProtocolError(message, next_step="push the same image again, and then delete it")
        return response.status == 202

    def delete_tag(self, image: ImageReference) -> bool:
        """Delete a tag and nothing else. Return False where the registry cannot: 2.8 cannot, 3 can.

        Raises NotSupported if the registry is read-only or has deletes switched off.
        """
        response = self._manifest_request("DELETE", image, allowed=(202, 400, 404))
        if response.status == 400 and response.error.code != "DIGEST_INVALID":
            raise self._refusal(response, f"deleting {image}")
        return response.status != 400

    # -- blobs

    def put_blob(self, repository: str, content: bytes) -> str:
        """Store a blob, and return its digest. Raises NotStored, for example on a full disk."""
        digest = digest_of(content)
        what, access = f"writing a blob of {repository}", (changes(repository),)
        target, body, status = f"/v2/{repository}/blobs/uploads/", b"", 202
        for method in ("POST", "PUT"):
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
            response = self._send(
                method, target, access, what, allowed=(status, 500), headers=headers, body=body
            )
            if response.status == 500:
                raise NotStored(self._failure(response, what), next_step=_SEE_JOURNAL)
            # the address of the upload, which may be absolute, and has a state of the registry's in its query
            location = urlsplit(response.headers.get("Location", ""))
            query = "&".join(filter(None, (location.query, f"digest={quote(digest, safe=':')}")))
            target, body, status = f"{location.path}?{query}", content, 201
        return digest

    def blob(self, repository: str, digest: str) -> bytes:
        """Return the content of a blob. Raises NotFound."""
        target = f"/v2/{repository}/blobs/{digest}"
        what = f"reading {digest} of {repository}"
        return self._send("GET", target, (pulls(repository),), what, allowed=(200,)).body

    def _manifest_request(
        self,
        method: str,
        image: ImageReference,
        *,
        allowed: Sequence[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        verb, actions = _METHODS[method]
        return self._send(
            method,
            f"/v2/{image.repository}/manifests/{quote(image.tag or image.digest, safe=':')}",
            (Access("repository", image.repository, actions),),
            f"{verb} {image}",
            allowed=allowed,
            headers=headers,
            body=body,
        )

    # -- requests

    def _send(
        self,
        method: str,
        target: str,
        access: Sequence[Access],
        what: str,
        *,
        allowed: Sequence[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Send one request with a token for ``access``. Raises an error unless its status is ``allowed``."""
        challenge, token = self._first_challenge(), ""
        for fresh in (False, True):
            sent = dict(headers or {})
            if challenge:
                token = self._authorizer.token(challenge, access, fresh=fresh)
                sent["Authorization"] = f"Bearer {token}"
            response = self._transport.request(method, target, headers=sent, body=body)
            refused = _challenge_of(response) if response.status == 401 else None
            if refused is None or refused.error == "insufficient_scope" or challenge is None:
                break
        if response.status not in allowed:
            raise self._refusal(response, what, token)
        return response

    def _first_challenge(self) -> Challenge | None:
        """Find out once, with GET /v2/, whether this is a registry and whether it wants tokens."""
        if not self._version_checked:
            response = self._transport.request("GET", "/v2/")
            challenge = _challenge_of(response)
            if response.status >= 500 or response.status == 429:
                raise self._refusal(response, "asking for the API version")
            if response.status not in (200, 401) or (response.status == 401 and challenge is None):
                raise ProtocolError(
                    f"{self.where}: is not a registry that takes tokens (GET /v2/ answered"
                    f" {response.status})",
                    next_step="check the registry's address",
                )
            if response.status == 200:
                response.json()
            self._challenge, self._version_checked = challenge, True
        return self._challenge

    def _refusal(self, response: Response, what: str, token: str = "") -> SysregError:
        status = response.status
        if status == 401:
            refused = _challenge_of(response)
            if refused and refused.error == "insufficient_scope":
                return NotAuthorized(
                    f"{what} failed: {self.where}: this user may not do it",
                    next_step="use the credentials of its owner or of an administrator",
                )
            refused_token = f"{what} failed: {self.where} refused the token"
            if clock := wrong_clock(token, response.headers.get("Date", "")):
                return NotAuthenticated(f"{refused_token}: {clock}", next_step=SET_CLOCKS)
            return NotAuthenticated(f"{refused_token}{response.error.suffix}")
        if status == 405:
            return NotSupported(
                f"{what} failed: {self.where} is read-only, or has deletes switched off",
                next_step="see storage.delete and storage.maintenance of its configuration",
            )
        if status == 400 and response.error.code == "PAGINATION_NUMBER_INVALID":
            return _PageTooLarge(self._failure(response, what))
        kind = Unavailable if status >= 500 else BY_STATUS.get(status, ProtocolError)
        later = "try again later" if kind in (Unavailable, TooManyRequests) else ""
        return kind(self._failure(response, what), next_step=later)

    def _failure(self, response: Response, what: str) -> str:
        return f"{what} failed: {self.where} answered {response.status}{response.error.suffix}"


def in_parallel(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Call ``function`` for every item with as many threads as there are connections. Keep the order.

    Raises the first error at once, without waiting for the calls that still run.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def pulls(repository: str) -> Access:
    """Return what a token has to allow for the reading of a repository."""
    return Access("repository", repository, _PULL)


def changes(repository: str) -> Access:
    """Return what a token has to allow for the change of a repository."""
    return Access("repository", repository, _WRITE)


def _challenge_of(response: Response) -> Challenge | None:
    return parse_bearer(response.headers.get_all("WWW-Authenticate", []))


def _entries(response: Response, key: str) -> list[str]:
    data: Any = response.json()
    entries = data.get(key) if isinstance(data, dict) else None
    if isinstance(data, dict) and key in data and entries is None:
        return []  # 2.8 answers this after the last tag was deleted
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        shown = shorten(response.body[:100].decode(errors="replace"))
        raise ProtocolError(
            f"{response.where}: the answer has no list of {key}: {shown}",
            next_step="check that this is the registry's address",
        )
    return entries
