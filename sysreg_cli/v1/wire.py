"""Frozen dataclasses from JSON and to JSON, and their OpenAPI 3.0 schemas.

Supported field types: str, int, float, bool, enumerations of strings, dataclasses, ``X | None``,
``tuple[X, ...]`` and ``Mapping[str, X]``. A field ``SomeEnum | str`` keeps a word that the enumeration lacks.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sysreg_cli.errors import ProtocolError

T = TypeVar("T")

_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
}


def to_json(value: Any) -> Any:
    """Return ``value``, a dataclass or a part of one, as what ``json.dumps`` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def from_json(cls: type[T], document: Any, where: str) -> T:
    """Parse ``document`` as the dataclass ``cls``; ``where`` names the source in messages.

    A missing field takes its default; unknown fields are ignored. Raises ProtocolError for a document that
    is no object, a field of another type, and a missing field without a default.
    """
    if not isinstance(document, Mapping):
        raise ProtocolError(f"{where} makes no sense: it is not an object")
    values: dict[str, Any] = {}
    for name, (kind, required) in _fields(cls).items():
        if name in document:
            try:
                values[name] = _parse(kind, document[name], f"{where}: {name}")
            except (TypeError, ValueError):
                raise ProtocolError(f"{where} makes no sense: {name} has another type") from None
        elif required:
            raise ProtocolError(f"{where} makes no sense: {name} is missing")
    return cls(**values)


def schema(cls: type[Any]) -> dict[str, Any]:
    """Return the OpenAPI schema of the dataclass ``cls``. Other dataclasses become references to schemas."""
    fields = _fields(cls)
    return {
        "type": "object",
        "required": list(fields),
        "properties": {name: _schema(kind) for name, (kind, _) in fields.items()},
    }


def _read_fields(cls: Any) -> dict[str, tuple[Any, bool]]:
    """Map the name of each field to its type, and to whether it lacks a default."""
    kinds = typing.get_type_hints(cls)
    return {
        field.name: (
            kinds[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    }


# a plan may have 100,000 blobs
_fields: Callable[[Any], dict[str, tuple[Any, bool]]] = functools.cache(_read_fields)


def _parse(kind: Any, value: Any, where: str) -> Any:
    """Raises TypeError or ValueError if ``value`` is not of the type ``kind``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _parse_union(arguments, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_parse(arguments[0], item, where) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {str(key): _parse(arguments[1], item, where) for key, item in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return from_json(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise TypeError(kind)


def _parse_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _parse(kind, value, where)
            except (TypeError, ValueError):
                continue
    raise TypeError(kinds)


def _schema(kind: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        # of ``SomeEnum | str`` any string is valid
        inner = _schema(str if str in kinds else kinds[0])
        if type(None) not in arguments:
            return inner
        return {"allOf": [inner], "nullable": True} if "$ref" in inner else {**inner, "nullable": True}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if dataclasses.is_dataclass(kind):
        return reference(typing.cast("type[Any]", kind))
    if issubclass(kind, enum.Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    return dict(_JSON_TYPES[kind])


def reference(cls: type[Any]) -> dict[str, Any]:
    """Return a reference to the schema of the dataclass ``cls`` among the OpenAPI components."""
    return {"$ref": f"#/components/schemas/{cls.__name__}"}
