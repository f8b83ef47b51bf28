"""Records: frozen dataclasses that are one JSON object each, written whole and read back strictly."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from .errors import UserError
from .files import read_regular, write

LARGEST = 1_000_000_000  # bytes of a record


class Misfit(ValueError):
    """A piece of JSON is not what a record's types say; the message names the place."""


@dataclass(frozen=True)
class Record:
    """A base of frozen dataclasses; a field's key in JSON is its name, or what its metadata has as "key".

    A field whose metadata has a true "optional" is left out of JSON where it is None.
    """

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values, of which JSON knows all."""
        there = ((field, getattr(self, field.name)) for field in fields(self))
        return {
            _key(field): plain(value)
            for field, value in there
            if value is not None or not field.metadata.get("optional", False)
        }

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Return the record that a JSON object holds; keys of no field are passed over.

        Raises `Misfit` where a key without a default is missing or a value is not of its field's type.
        """
        if not isinstance(content, Mapping):
            raise Misfit(f"{cls.__name__} is no object")
        hints, found = _hints(cls), dict[str, Any]()  # type: ignore[arg-type]
        for field in fields(cls):
            if (key := _key(field)) in content:
                found[field.name] = fitted(content[key], hints[field.name], key)
        try:
            return cls(**found)
        except TypeError:  # a key is missing that has no default
            raise Misfit(f"{cls.__name__} lacks {', '.join(_missing(cls, found))}") from None

    @classmethod
    def read(cls, path: Path, wrong: str) -> Self:
        """Return the record that a JSON file holds. Raises `UserError` with the sentence ``wrong`` for any other."""
        try:
            return cls.from_json(json.loads(read_regular(path, LARGEST).decode()))
        except (OSError, ValueError, RecursionError):
            raise UserError(wrong) from None


@cache
def _hints(cls: type[Record]) -> dict[str, Any]:
    return get_type_hints(cls)


def _key(field: Any) -> str:
    return str(field.metadata.get("key", field.name))


def _missing(cls: type[Record], found: Mapping[str, object]) -> list[str]:
    return [_key(field) for field in fields(cls) if field.name not in found]


def plain(value: object) -> Any:
    """Return a value of records, mappings and sequences as dicts, lists, texts, numbers, booleans and None."""
    if isinstance(value, Record):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(one) for one in value]
    return value


def fitted(value: object, kind: Any, place: str) -> Any:
    """Return a piece of JSON as a type says: a record, a mapping, a list, a union of these, or a plain value.

    A whole number is a float too, but true is no number. Raises `Misfit`.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        for one in inner:
            try:
                return fitted(value, one, place)
            except Misfit:
                continue
    elif isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_json(value)
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {str(key): fitted(one, inner[1], f"{place}.{key}") for key, one in value.items()}
    elif origin is not None and issubclass(origin, Sequence):
        if isinstance(value, list):
            made = [fitted(one, inner[0], f"{place}[]") for one in value]
            return tuple(made) if origin is tuple else made
    elif kind is NoneType or kind is None:
        if value is None:
            return None
    elif kind is float:
        if type(value) in (int, float):
            with suppress(OverflowError):  # a whole number that no float reaches
                return float(value)  # type: ignore[arg-type]
    elif type(value) is kind:
        return value
    raise Misfit(f"{place} is {value!r:.80}")


def write_json(path: Path, content: Record | Mapping[str, Any]) -> None:
    """Write a record or a mapping as JSON, whole. Raises `UserError`."""
    write(path, json.dumps(plain(content), indent=2) + "\n")
