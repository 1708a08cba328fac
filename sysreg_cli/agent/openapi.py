"""The OpenAPI description of the agent's API, served at GET /v1/openapi.json to whoever can connect.

The schemas come from the values in ``v1``. To describe a new call, add it to ``_CALLS``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli import __version__
from sysreg_cli.settings import MAX_DURATION, MAX_GRACE
from sysreg_cli.v1 import paths, wire
from sysreg_cli.v1.certificates import (
    Certificate,
    CertificateHistory,
    CertificateRequest,
    CertificateRequests,
    Certificates,
    ClientRestart,
    HistoryEntry,
    Installation,
    KeyKind,
    Mode,
    PlannedChange,
    Preview,
    Uninstallation,
)
from sysreg_cli.v1.collections import (
    CollectionOptions,
    CollectionPlan,
    CollectionResult,
    CollectionStatus,
    PlannedBlob,
)
from sysreg_cli.v1.faults import ErrorBody
from sysreg_cli.v1.health import BlobReading, Trial
from sysreg_cli.v1.hosts import JoinFile, RegistryHost, RegistryHosts
from sysreg_cli.v1.images import Image, ImageDetails, Images, Layer, Platform, StoredTags
from sysreg_cli.v1.prune import PrunedTag, Pruning
from sysreg_cli.v1.restore import DeletedTag, DeletedTags, Restoration, RestoredImage
from sysreg_cli.v1.usage import Grouping, Usage, UsageRow

_SCHEMAS = (
    *(ImageDetails, Platform, Layer),
    *(Image, Images, StoredTags, ErrorBody, Certificate, Certificates, Installation, PlannedChange, Preview),
    *(CertificateRequest, CertificateRequests),
    *(Usage, UsageRow, Pruning, PrunedTag, Trial, BlobReading),
    *(DeletedTags, DeletedTag, Restoration, RestoredImage),
    *(RegistryHost, RegistryHosts, JoinFile),
    *(HistoryEntry, CertificateHistory, ClientRestart, Uninstallation),
    *(CollectionStatus, CollectionOptions, CollectionResult, CollectionPlan, PlannedBlob),
)
_TEXT = {"type": "string"}
_FLAG = {"type": "string", "enum": ["0", "1", "True", "False"]}
_NUMBER = {"type": "integer", "minimum": 0}
_RESTART_CLIENTS = "restart docker and containerd, which read CA certificates only when they start"
_KEY_KIND = {"type": "string", "enum": [kind.value for kind in KeyKind]}
# parameters of the query: name -> schema and meaning
_QUERY: dict[str, tuple[dict[str, Any], str]] = {
    "image_name": (_TEXT, "name of an image"),
    "filter_out_untagged": (_FLAG, "only images with at least one tag"),
    "image_name_and_tag": (_TEXT, "NAME:TAG; for details and restore also NAME@DIGEST"),
    "as": (_TEXT, "restore it under this tag"),
    "digest": (_TEXT, "digest of a manifest; empty for a tag whose link is damaged"),
    "tag": (_TEXT, "a tag of the image"),
    "garbage_collect": (_FLAG, "True"),
    "dry_run": (_FLAG, "only plan"),
    "delete_untagged": (_FLAG, "also remove old manifests that no tag reaches"),
    "grace": (
        {"type": "integer", "minimum": 0, "maximum": MAX_GRACE},
        "seconds for which uploaded content is kept",
    ),
    "keep_deleted": (
        {"type": "integer", "minimum": 0, "maximum": MAX_DURATION},
        "seconds; tags that were deleted within them can still be restored afterwards",
    ),
    "serial": ({"type": "string", "pattern": "^[0-9]{1,60}$"}, "serial number of a kept certificate"),
    "wait": (_NUMBER, "seconds that the client waits for the response, as in the form of an install"),
    "restart_clients": (_FLAG, _RESTART_CLIENTS),
    "name": ({"type": "array", "items": _TEXT}, "DNS names and IP addresses beside the configured ones"),
    "key": (
        {"type": "string", "enum": [kind.value for kind in KeyKind]},
        "kind of the new key; p256 if missing",
    ),
    "by": (
        {"type": "string", "enum": [group.value for group in Grouping]},
        "what a row stands for; `tag` needs image_name. Without it there are no rows",
    ),
    "plan": (_FLAG, "also what the last one had planned"),
    "image": ({"type": "array", "items": _TEXT}, "globs of images; all if missing"),
    "match": ({"type": "array", "items": _TEXT}, "globs of the tags that may go; all if missing"),
    "keep": (_NUMBER, "how many of the newest tags of each image are kept"),
    "older_than": (
        {"type": "integer", "minimum": 1, "maximum": MAX_DURATION},
        "seconds; tags that were pushed within them are kept",
    ),
    "at_most": (
        {"type": "integer", "minimum": 0, "maximum": 100},
        "if more than so many percent of an image's tags would go, all are kept; 50 if missing",
    ),
    "yes": (_FLAG, "ignore at_most"),
    "policy": (_FLAG, "the rules of sysreg.conf, and none in the query"),
}
_REQUIRED = ("image_name_and_tag", "garbage_collect", "digest")
_UUID = {"name": "uuid", "in": "path", "required": True, "schema": _TEXT}
_FORM = {
    "type": "object",
    "required": ["file", "mode"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "mode": {"type": "string", "enum": [mode.value for mode in Mode]},
        "passphrase": _TEXT,
        "force": {"type": "string", "description": "ignored"},
        "restart_clients": {**_FLAG, "description": _RESTART_CLIENTS},
        "require_all_hosts": {**_FLAG, "description": "refuse if a host of the cluster is down"},
        "hosts_wait": {**_NUMBER, "description": "seconds to wait for the hosts to have the certificate"},
        "wait": {
            "type": "number",
            "description": "seconds that the client waits for the response; the agent waits for four fifths"
            " of them, 240 s at most, while a collection or another change is under way",
        },
    },
}
_ERRORS = {
    400: "the request is wrong",
    401: "no token, or a wrong one",
    403: "not allowed",
    404: "there is no such image, certificate or collection",
    405: "the registry is read-only, or has deletes switched off",
    408: "the form did not arrive in time",
    409: "something else is under way",
    413: "the request is too long",
    429: "too many calls; see Retry-After",
    500: "the agent failed; `journalctl -u sysreg-agent` says why",
    502: "what answers for the registry or Keystone makes no sense",
    503: "the registry, Keystone or a lock is not available now",
}
# every call may end so
_COMMON_ERRORS = (400, 401, 403, 413, 429, 500, 502, 503)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call. ``result`` is the body of the response, None for a 204. ``errors`` are its own ones."""

    method: str
    path: str
    summary: str
    result: type[Any] | None = None
    errors: tuple[int, ...] = ()
    query: tuple[str, ...] = ()
    form: dict[str, Any] = field(default_factory=dict)
    registry_token: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the operation object."""
        done = {"200": _json(self.result, "done")} if self.result else {"204": {"description": "done"}}
        codes = sorted({*_COMMON_ERRORS, *self.errors})
        operation: dict[str, Any] = {
            "summary": self.summary,
            "parameters": [_parameter(name) for name in self.query],
            "responses": {**done, **{str(code): _reference_to_error(code) for code in codes}},
        }
        if "{uuid}" in self.path:
            operation["parameters"].append(_UUID)
        if self.registry_token:
            operation["security"] = [{"keystone": []}, {"registry": []}]
        if self.form:
            content = {"multipart/form-data": {"schema": self.form}}
            operation["requestBody"] = {"required": True, "content": content}
        return operation


_IMAGE, _COLLECT, _CERTIFICATE = paths.REGISTRY_IMAGE, paths.GARBAGE_COLLECT, paths.CERTIFICATE
_HOST = f"{paths.REGISTRY_HOST}/{{uuid}}"
_LIST = "The images that the caller may pull; with image_name the tags of one, none if it is unknown."
_INSTALL = "Install a certificate (role admin). A refused one is 200 with `error` set."
_PREVIEW = "Check a certificate as an install does, and say what it would change (role admin)."
_CALLS = (
    _Call("get", _IMAGE, _LIST, Images, query=("image_name", "filter_out_untagged"), registry_token=True),
    _Call(
        "delete",
        _IMAGE,
        "Delete one tag (role admin).",
        errors=(404, 405, 409),
        query=("image_name_and_tag",),
    ),
    _Call(
        "post",
        _IMAGE,
        "Start a garbage collection (role operator).",
        errors=(409,),
        query=("garbage_collect", "dry_run", "delete_untagged", "grace", "keep_deleted"),
    ),
    _Call(
        "get",
        paths.STORED_TAGS,
        "The tags of an image that the caller may pull, with their digests, read from the storage.",
        StoredTags,
        errors=(405,),
        query=("image_name",),
        registry_token=True,
    ),
    _Call(
        "delete",
        paths.STORED_TAGS,
        "Remove a tag that stands for the digest; without tag all that stand for a deleted manifest.",
        errors=(405, 409),
        query=("image_name", "digest", "tag"),
        registry_token=True,
    ),
    _Call(
        "get",
        _COLLECT,
        "The running and the last collections (role reader).",
        CollectionStatus,
        (),
        ("plan",),
    ),
    _Call(
        "get",
        paths.IMAGE_DETAILS,
        "What a tag, or with NAME@DIGEST a manifest, stands for, and what its delete frees.",
        ImageDetails,
        errors=(404, 405),
        query=("image_name_and_tag",),
    ),
    _Call(
        "get",
        paths.USAGE,
        "Where the space went; a caller without the role reader gets the figures of their own images.",
        Usage,
        errors=(404, 405),
        query=("by", "image_name"),
    ),
    _Call(
        "post",
        paths.PRUNE,
        "Remove tags by keep, older_than or match, of which one is required, or by policy (role admin).",
        Pruning,
        errors=(404, 405),
        query=("image", "match", "keep", "older_than", "at_most", "yes", "policy", "dry_run"),
    ),
    _Call(
        "post",
        paths.TRIAL,
        "Push, pull, compare and delete a test image, and remove every trace of it (role admin).",
        Trial,
    ),
    _Call(
        "get",
        paths.BLOBS,
        "Read every blob at the lowest priority, and name what is damaged; it may take hours (role admin).",
        BlobReading,
        errors=(405, 409),
    ),
    _Call(
        "get",
        paths.DELETED,
        "The deleted tags of images that the caller may pull, until a collection frees their records.",
        DeletedTags,
        errors=(405,),
        registry_token=True,
    ),
    _Call(
        "post",
        paths.RESTORE,
        "Restore deleted tags of images to which the caller may push; image_name_and_tag may be repeated.",
        Restoration,
        errors=(405,),
        query=("image_name_and_tag", "as"),
        registry_token=True,
    ),
    _Call("delete", _COLLECT, "Cancel the running collection (role operator).", errors=(404,)),
    _Call("post", paths.CERTIFICATE_INSTALL, _INSTALL, Installation, errors=(408, 409), form=_FORM),
    _Call("post", paths.CERTIFICATE_PREVIEW, _PREVIEW, Preview, errors=(408,), form=_FORM),
    _Call(
        "post",
        paths.CERTIFICATE_ROLLBACK,
        "Go back to a kept certificate, the last one without `serial` (role admin).",
        Installation,
        errors=(404, 409),
        query=("serial", "wait"),
    ),
    _Call(
        "post",
        paths.CERTIFICATE_REQUEST,
        "Make a key that stays here, and a certificate signing request for it (role admin).",
        CertificateRequest,
        errors=(409,),
        query=("name", "key"),
    ),
    _Call("get", paths.CERTIFICATE_REQUEST, "The pending requests (role reader).", CertificateRequests),
    _Call(
        "delete",
        f"{paths.CERTIFICATE_REQUEST}/{{uuid}}",
        "Cancel a request, and remove its key (role admin).",
        errors=(404,),
    ),
    _Call("get", paths.CERTIFICATE_HISTORY, "Every install (role reader).", CertificateHistory),
    _Call("get", _CERTIFICATE, "The installed certificates (role reader).", Certificates),
    _Call(
        "get",
        f"{_CERTIFICATE}/{{uuid}}",
        "One, by uuid or name (role reader).",
        Certificate,
        errors=(404, 409),
    ),
    _Call(
        "delete",
        f"{_CERTIFICATE}/{{uuid}}",
        "Remove a CA certificate, by uuid or name (role admin).",
        Uninstallation,
        errors=(404, 409),
        query=("wait", "restart_clients"),
    ),
    _Call("get", paths.REGISTRY_HOST, "This controller and the other hosts (role reader).", RegistryHosts),
    _Call("get", _HOST, "One host, by its name (role reader).", RegistryHost, errors=(404,)),
    _Call(
        "post",
        _HOST,
        "Add a host of this name, and return its join file (role admin).",
        JoinFile,
        errors=(409,),
    ),
    _Call("delete", _HOST, "Delete a host, by its name (role admin).", RegistryHost, errors=(404, 409)),
)


def _parameter(name: str) -> dict[str, Any]:
    schema, text = _QUERY[name]
    required = name in _REQUIRED
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": text}


def _reference_to_error(code: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{code}"}


def _json(kind: type[Any], text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": wire.reference(kind)}}}


def _describe() -> dict[str, Any]:
    health = {"description": "it does", "content": {"application/json": {"schema": {"type": "object"}}}}
    operations: dict[str, dict[str, Any]] = {
        paths.HEALTH: {
            "get": {
                "summary": "Whether the agent answers.",
                "security": [],
                "responses": {"200": health, "429": _reference_to_error(429)},
            }
        }
    }
    for call in _CALLS:
        operations.setdefault(call.path, {})[call.method] = call.describe()
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "sysreg-agent",
            "version": __version__,
            "description": "Images, garbage collection and certificates; shaped like StarlingX's v1 API.",
        },
        "security": [{"keystone": []}],
        "paths": operations,
        "components": {
            "securitySchemes": {
                "keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "registry": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "schemas": {kind.__name__: wire.schema(kind) for kind in _SCHEMAS},
            "responses": {str(code): _json(ErrorBody, text) for code, text in _ERRORS.items()},
        },
    }


DESCRIPTION: dict[str, Any] = _describe()


def routes() -> list[Route]:
    """Return the route of the description."""

    async def show(_request: Request) -> Response:
        return JSONResponse(DESCRIPTION)

    return [Route(paths.OPENAPI, show, methods=["GET"])]
