"""From JSON to dataclasses, by their annotations."""

from __future__ import annotations

import dataclasses
import typing
from functools import lru_cache
from typing import Any, Dict, Literal, Mapping, Tuple, Type, TypeVar, Union

from .errors import Misread, hides_frames

__tracebackhide__ = hides_frames

T = TypeVar("T")


def key(name: str) -> str:
    """The JSON name of a field: a name that Python reserves has an underscore behind it."""
    return name[:-1] if name.endswith("_") else name


@lru_cache(maxsize=None)
def _fields(cls: Type[Any]) -> Tuple[Tuple[str, Any, bool], ...]:
    """Name, type, and whether there is a default, of each field."""
    hints = typing.get_type_hints(cls)
    missing = dataclasses.MISSING

    def has_default(field: "dataclasses.Field[Any]") -> bool:
        return field.default is not missing or field.default_factory is not missing

    return tuple((field.name, hints[field.name], has_default(field)) for field in dataclasses.fields(cls))


def read(cls: Type[T], value: Any, where: str = "answer") -> T:
    """Reads a dataclass. Fields that it does not know are in its ``raw``, if it has one; a datum that is missing is
    None, and never anything else."""
    if not isinstance(value, Mapping):
        raise Misread(f"{where} is no object")
    found: Dict[str, Any] = {}
    for name, hint, has_default in _fields(cls):  # type: ignore[arg-type]
        if name == "raw":
            found[name] = value
        elif key(name) in value:
            found[name] = _value(hint, value[key(name)], f"{where}.{key(name)}")
        elif not has_default:
            found[name] = _value(hint, None, f"{where}.{key(name)}")
    return cls(**found)


def _value(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        if value is None:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _value(inner, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read(hint, value, where)
    if origin is list:
        return [_value(arguments[0], item, f"{where}[{at}]") for at, item in enumerate(_expect(list, value, where))]
    if origin is dict:
        pairs = _expect(dict, value, where).items()
        return {name: _value(arguments[1], item, f"{where}.{name}") for name, item in pairs}
    if origin is Literal:
        # A later daemon may know more words.
        return _expect(str, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _expect(hint, value, where)


def _expect(kind: Type[T], value: Any, where: str) -> T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Misread(f"{where} is {'missing' if value is None else repr(value)[:60]}, not of type {kind.__name__}")
    return value
