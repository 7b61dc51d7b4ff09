"""From keywords to the body of a request."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import secrets
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterable,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypedDict,
    Union,
)

from .duration import Duration, wire
from .errors import Problem, UsageError, hides_frames

if TYPE_CHECKING:
    Link = Union[str, Tuple[str, str], Mapping[str, str]]

__tracebackhide__ = hides_frames


class Cut(TypedDict, total=False):
    """What to cut, and how: exactly one shape, and options. docs/reference/api.md explains each of them."""

    # The shape.
    isolate: Union[str, Sequence[str]]
    split: Sequence[Sequence[str]]
    between: Sequence[Union[str, Sequence[str]]]
    halves: bool
    random_halves: bool
    random_groups: int
    random_node: bool
    random: int
    minority: bool
    minority_third: bool
    majorities_ring: bool
    bridge: str
    links: Sequence[Link]
    grudge: Mapping[str, Iterable[str]]
    preset: str
    #: The peers that a drawn shape draws from.
    among: Union[str, Sequence[str]]
    #: A shape in its JSON form, for one that has no keyword here.
    shape: Mapping[str, Any]

    # What is done to packets.
    direction: Literal["both", "out", "in"]
    scopes: Union[str, Sequence[str]]
    loss: str
    flap: str
    neighbour: Literal["auto", "keep", "drop"]

    # When, and for how long.
    for_: Duration
    at: Mapping[str, int]

    # What the verdict takes into account.
    deadline: Duration
    advisory: Sequence[str]
    allow_uncovered: bool
    allow_ssh: bool
    strict: bool
    verify: Literal["active"]

    seed: int
    #: ``connection`` (the default here): the partition heals when this client ends, however it ends.
    owner: Literal["none", "connection"]
    request_id: str
    trial: Mapping[str, int]


def _names(value: Union[str, Iterable[str]]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _groups(value: Sequence[Union[str, Sequence[str]]]) -> list[list[str]]:
    return [_names(group) for group in value]


def _text(what: str, example: str) -> Callable[[Any], str]:
    """Takes a text alone: the daemon could only say that a number is no text."""

    def convert(value: Any) -> str:
        if not isinstance(value, str):
            raise UsageError(f"{value!r} is no {what}", remedy=f"write {example}")
        return value

    return convert


def _links(value: Any) -> list[dict[str, str]]:
    return [_link(link) for link in ([value] if isinstance(value, str) else value)]


def _link(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        value = tuple(value.split(":"))
    if isinstance(value, Mapping):
        return {str(key): str(name) for key, name in value.items()}
    if len(value) != 2:
        raise UsageError(f"{value!r} is no link", field="links", remedy='write ("n1", "n2") or "n1:n2"')
    return {"src": value[0], "dst": value[1]}


#: Each shape's keyword, and how its value becomes JSON. A shape that takes nothing is asked for with True.
SHAPES: Mapping[str, Callable[[Any], Any]] = {
    "isolate": _names,
    "split": _groups,
    "between": _groups,
    "halves": lambda value: {},
    "random_halves": lambda value: {},
    "random_groups": lambda value: {"groups": int(value)},
    "random_node": lambda value: {},
    "random": lambda value: {"peers": int(value)},
    "minority": lambda value: {},
    "minority_third": lambda value: {},
    "majorities_ring": lambda value: {},
    "bridge": lambda value: {"via": value},
    "links": _links,
    "grudge": lambda value: {dst: sorted(_names(sources)) for dst, sources in value.items()},
    "preset": lambda value: value,
}

#: The shapes that are drawn, and take ``among``.
DRAWN = ("random_halves", "random_groups", "random_node", "random", "minority", "minority_third", "majorities_ring")

#: The other keywords, and how their values become JSON.
OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "direction": lambda value: value,
    "scopes": _names,
    "loss": _text("share of packets", 'loss="30%", to drop 30 of 100 packets'),
    "flap": _text("period and share", 'flap="200ms/50%"'),
    "neighbour": lambda value: value,
    "for_": wire,
    "at": dict,
    "deadline": wire,
    "advisory": _names,
    "allow_uncovered": bool,
    "allow_ssh": bool,
    "strict": bool,
    "verify": lambda value: value,
    "seed": int,
    "owner": lambda value: value,
    "request_id": lambda value: value,
    "trial": dict,
}


#: What other tools and Python itself call an option.
_OTHER_NAMES = {
    "for_": ("duration", "for", "hold", "lasting", "length", "seconds", "time", "timeout"),
    "scopes": ("port", "ports", "proto", "protocol", "protocols"),
    "isolate": ("node", "nodes", "peer", "peers"),
    "loss": ("drop", "drop_rate", "packet_loss", "probability"),
}


def check_keywords(names: Iterable[str], also: Sequence[str] = ()) -> None:
    """Raises UsageError for a keyword that is neither a shape nor an option, nor one of ``also``."""
    known = [*SHAPES, *OPTIONS, "among", "shape", *also]
    for name in names:
        if name in known:
            continue
        close = [option for option, others in _OTHER_NAMES.items() if name in others]
        close = close or difflib.get_close_matches(name, known, 1)
        remedy = f'do you mean "{close[0]}"?' if close else f"a partition knows {', '.join(known)}"
        raise UsageError(f'a partition knows no "{name}"', field=name, remedy=remedy)


def _converted(name: str, convert: Callable[[Any], Any], value: Any) -> Any:
    """The value as JSON. What is wrong with it is said of its keyword."""
    try:
        return convert(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error.detail}", field=error.field or name, remedy=error.remedy) from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}={value!r}: {error}", field=name) from error


class InKeywords:
    """A block in which what the daemon refuses in the JSON of a request is said of the keyword that it was made of.
    It is no generator, so that no frame of ``contextlib`` is in the traceback of a failing test."""

    def __init__(self, cut: Mapping[str, Any]) -> None:
        self._cut = cut

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not isinstance(error, Problem) or error.code != "bad-body":
            return
        field = re.split(r"[.\[]", error.field or "")[0]
        keyword = next((name for name in OPTIONS if name.rstrip("_") == field and name in self._cut), None)
        if keyword is None:
            return
        detail = re.sub(r" at line \d+ column \d+", "", error.detail)
        # The remedy is about JSON, which the caller has not written.
        raise Problem(f"{keyword}: {detail}", code=error.code, status=error.status, field=error.field) from None


def body(cut: Mapping[str, Any], partition_name: Optional[str] = None) -> dict[str, Any]:
    """The JSON of a request for a partition, and the name that the caller gives it."""
    given = {name: value for name, value in cut.items() if value is not None}
    check_keywords(given)
    among = given.pop("among", None)
    shapes = [name for name in given if (name in SHAPES and given[name] is not False) or name == "shape"]
    if len(shapes) != 1:
        found = f"{' and '.join(shapes)} are given" if shapes else "no shape is given"
        remedy = f"choose one of {', '.join(SHAPES)}"
        if not shapes and partition_name is not None:
            found += f" (the argument {partition_name!r} is the partition's name)"
            remedy = f'write the shape as a keyword, as in isolate=["n1"]; {remedy}'
        raise UsageError(f"a partition has exactly one shape, and {found}", field="shape", remedy=remedy)
    (shape,) = shapes
    value = given[shape]
    request: dict[str, Any] = {"shape": dict(value) if shape == "shape" else {shape: _converted(shape, SHAPES[shape], value)}}
    if among is not None:
        if shape not in DRAWN:
            raise UsageError(f"{shape} draws nothing", field="among", remedy=f"use it with one of {', '.join(DRAWN)}")
        request["shape"][shape]["among"] = _names(among)
    for name, convert in OPTIONS.items():
        if name in given:
            request[name.rstrip("_")] = _converted(name, convert, given[name])
    request.setdefault("owner", "connection")
    # The same request under a live name is answered as that partition. Somebody else's must not be taken for ours,
    # since ours is healed at the end.
    request.setdefault("request_id", secrets.token_hex(16))
    return request


class Names:
    """Names for partitions that are given none. No two are the same, whatever process makes them: they carry the
    worker of pytest-xdist, the process id, and a random word, since two containers may have equal process ids."""

    def __init__(self, stem: str = "py") -> None:
        self._stem = stem
        self._word = secrets.token_hex(2)
        # Threads take their names from one client: a number is taken in one step.
        self._count = itertools.count(1)

    def next(self) -> str:
        """Another name."""
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        parts = [self._stem, *([worker] if worker else []), str(os.getpid()), self._word, str(next(self._count))]
        return "-".join(parts)
