"""The OpenAPI description of the agent's API, served at GET /v1/openapi.json to whoever can connect."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sysreg_cli import __version__
from sysreg_cli.v1.paths import GARBAGE_COLLECT as STATUS_PATH

PATH = "/v1/openapi.json"

_TEXT = {"type": "string"}
_FLAG = {"type": "string", "enum": ["0", "1", "True", "False"]}


def routes() -> list[Route]:
    """GET /v1/openapi.json."""

    async def show(_request: Request) -> Response:
        return JSONResponse(DESCRIPTION)

    return [Route(PATH, show, methods=["GET"])]


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(schema: dict[str, Any], what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _answers(done: dict[str, Any], *errors: int) -> dict[str, Any]:
    """What every call may answer, and the further ``errors`` of this one."""
    codes = sorted({400, 401, 403, 413, 429, 500, 502, 503, *errors})
    return {**done, **{str(code): {"$ref": f"#/components/responses/{code}"} for code in codes}}


def _query(name: str, schema: dict[str, Any], what: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": what}


_ERRORS = {
    400: "the request is wrong",
    401: "no token, or a wrong one",
    403: "not allowed",
    404: "there is no such image or certificate",
    405: "the registry is read-only, or has deletes switched off",
    408: "the form did not arrive in time",
    409: "something else is under way",
    413: "the request is too long",
    429: "too many calls; see Retry-After",
    500: "the agent failed; its journal holds the reason",
    502: "what answers for the registry or Keystone makes no sense",
    503: "the registry, Keystone or a lock is not available now",
}

_CERTIFICATE_KEYS = ("uuid", "certtype", "signature", "start_date", "expiry_date", "subject")
_CERTIFICATE = {
    "type": "object",
    "required": [*_CERTIFICATE_KEYS],
    "properties": dict.fromkeys(_CERTIFICATE_KEYS, _TEXT),
}
_IMAGE = {
    "type": "object",
    "required": ["name", "tag"],
    "properties": {"name": _TEXT, "tag": {"type": "string", "nullable": True}},
}
_ERROR = {
    "type": "object",
    "required": ["error_message", "error"],
    "properties": {
        "error": {"type": "string", "description": "the faultstring"},
        "error_message": {
            "type": "string",
            "description": "JSON text of an object with faultstring, faultcode and debuginfo",
        },
    },
}
_INSTALL_FORM = {
    "type": "object",
    "required": ["file", "mode"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "mode": {"type": "string", "enum": ["docker_registry", "ssl_ca"]},
        "passphrase": _TEXT,
        "force": {"type": "string", "description": "ignored"},
        "wait": {
            "type": "number",
            "description": "seconds that the client waits for the response; the agent waits for four fifths"
            " of them, 240 s at most, while a collection or another change is under way",
        },
    },
}
_INSTALLED = {
    "type": "object",
    "required": ["success", "error", "body", "certificates"],
    "properties": {
        "success": _TEXT,
        "error": {
            "type": "string",
            "description": "why the certificate was refused; empty if it was installed",
        },
        "body": _TEXT,
        "certificates": {"type": "array", "items": _reference("Certificate")},
    },
}
_COLLECTION = {
    "type": "object",
    "required": ["state", "phase", "progress", "last_result"],
    "properties": {
        "state": {"type": "string", "enum": ["idle", "running"]},
        "phase": _TEXT,
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "last_result": {"type": "object", "nullable": True},
    },
}

_PATHS: dict[str, Any] = {
    "/v1/registry_image": {
        "get": {
            "summary": "The images, or with image_name the tags of one, that the caller may pull.",
            "parameters": [
                _query("image_name", _TEXT, "name of an image"),
                _query("filter_out_untagged", _FLAG, "only images with at least one tag"),
            ],
            "responses": _answers(
                {
                    "200": _answer(
                        {
                            "type": "object",
                            "required": ["registry_images"],
                            "properties": {
                                "registry_images": {"type": "array", "items": _reference("Image")}
                            },
                        },
                        "names with tag null, or one entry for each tag; an unknown image has none",
                    )
                }
            ),
        },
        "delete": {
            "summary": "Delete one tag, and no other on the same image (role admin).",
            "parameters": [_query("image_name_and_tag", _TEXT, "NAME:TAG", required=True)],
            "responses": _answers({"204": {"description": "deleted"}}, 404, 405, 409),
        },
        "post": {
            "summary": "Start a garbage collection (role operator).",
            "parameters": [
                _query("garbage_collect", _FLAG, "True", required=True),
                _query("dry_run", _FLAG, "only plan"),
                _query("delete_untagged", _FLAG, "also remove old manifests that no tag reaches"),
                _query("grace", {"type": "integer", "minimum": 0}, "seconds that young content is kept"),
            ],
            "responses": _answers({"204": {"description": "started"}}, 409),
        },
    },
    STATUS_PATH: {
        "get": {
            "summary": "The running collection, or the last one (role reader).",
            "parameters": [_query("plan", _FLAG, "also what was planned")],
            "responses": _answers({"200": _answer(_reference("Collection"), "state and last result")}),
        },
        "delete": {
            "summary": "Cancel the running collection (role operator).",
            "responses": _answers({"204": {"description": "cancelled"}}, 404, 409),
        },
    },
    "/v1/certificate/certificate_install": {
        "post": {
            "summary": "Install a certificate (role admin). A refused one is 200 with `error` set.",
            "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _INSTALL_FORM}}},
            "responses": _answers(
                {"200": _answer(_reference("Installed"), "installed, or refused")}, 408, 409
            ),
        }
    },
    "/v1/certificate": {
        "get": {
            "summary": "The installed certificates (role reader).",
            "responses": _answers(
                {
                    "200": _answer(
                        {
                            "type": "object",
                            "required": ["certificates"],
                            "properties": {
                                "certificates": {"type": "array", "items": _reference("Certificate")}
                            },
                        },
                        "all certificates",
                    )
                }
            ),
        }
    },
    "/v1/certificate/{uuid}": {
        "get": {
            "summary": "One certificate, by uuid or name (role reader).",
            "parameters": [{"name": "uuid", "in": "path", "required": True, "schema": _TEXT}],
            "responses": _answers({"200": _answer(_reference("Certificate"), "the certificate")}, 404),
        }
    },
    "/health": {
        "get": {
            "summary": "Whether the agent answers.",
            "security": [],
            "responses": {
                "200": _answer({"type": "object"}, "it does"),
                "429": {"$ref": "#/components/responses/429"},
            },
        }
    },
}

DESCRIPTION: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {
        "title": "sysreg-agent",
        "version": __version__,
        "description": "Images, garbage collection and certificates; shaped like StarlingX's v1 API.",
    },
    "security": [{"keystone": []}],
    "paths": _PATHS,
    "components": {
        "securitySchemes": {"keystone": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        "schemas": {
            "Image": _IMAGE,
            "Certificate": _CERTIFICATE,
            "Collection": _COLLECTION,
            "Installed": _INSTALLED,
            "Error": _ERROR,
        },
        "responses": {str(code): _answer(_reference("Error"), what) for code, what in _ERRORS.items()},
    },
}
