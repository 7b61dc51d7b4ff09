"""The calls of the API: what each one sends, and how its answer is read. Both clients make them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Callable, Generic, Mapping, Optional, TypeVar, Union
from urllib.parse import urlencode

from . import http
from .errors import Misread, Problem, UsageError, hides_frames
from .event import Event
from .record import RecoveryRecord
from .view import EndpointAnswer, Healed, PartitionView, ProbeView, Status
from .wire import read

__tracebackhide__ = hides_frames

T = TypeVar("T")

#: The daemon answers within 10 s; a little more is for a host that is busy.
_PATIENCE = 20.0
#: Probing every endpoint once takes as long as the slowest timeout.
_PROBING = 75.0
#: The longest that one call may wait for a record.
LONGEST_WAIT_NS = 60 * 10**9


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call. ``patience`` is how long its answer may take, in seconds; one that is ``repeatable`` may be sent again
    if its connection ends before an answer comes."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Optional[Mapping[str, Any]] = None
    patience: float = _PATIENCE
    repeatable: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def request(self) -> bytes:
        """What is sent."""
        body = None if self.body is None else json.dumps(self.body, ensure_ascii=False).encode()
        return http.request(self.method, self.path, body)

    def answer(self, answer: http.Answer) -> T:
        """What is answered. Raises Problem if the daemon refused, and Misread if the answer is another one."""
        if not 200 <= answer.status < 300:
            problem = Problem.read(answer.status, bytes(answer.body))
            raise problem or Misread(f"{self}: the daemon answered with status {answer.status}")
        return self.line(answer.body)

    def line(self, text: Union[bytes, bytearray]) -> T:
        """Reads a body, or one line of a stream."""
        try:
            return self.read(json.loads(text))
        except ValueError as error:
            raise Misread(f"{self}: the answer is no JSON: {error}") from error
        except Misread as error:
            raise Misread(f"{self}: {error}") from error


def _path(name: str, rest: str = "", **query: Any) -> str:
    # A name that the server would refuse could also mean another path.
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) or name in (".", ".."):
        raise UsageError(
            f'"{name}" can\'t be a partition\'s name',
            field="name",
            remedy="use 1 to 64 letters, digits, dots, underscores and hyphens, but not . or .. alone",
        )
    asked = {key: value for key, value in query.items() if value is not None}
    return f"/v1/partitions/{name}{rest}" + (f"?{urlencode(asked)}" if asked else "")


def _list(read_one: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    def read_all(value: Any) -> list[T]:
        if not isinstance(value, list):
            raise Misread("the answer is no list")
        return [read_one(item) for item in value]

    return read_all


def _healed(read_one: Callable[[Any], T]) -> Callable[[Any], T]:
    return lambda value: read_one(value.get("healed") if isinstance(value, Mapping) else None)


def _view(value: Any) -> PartitionView:
    return read(PartitionView, value, "partition")


def status() -> Call[Status]:
    """``GET /v1/status``."""
    return Call("GET", "/v1/status", lambda value: read(Status, value, "status"))


def version() -> Call[str]:
    """The daemon's version alone, which daemons of every version have."""
    return Call("GET", "/v1/status", lambda value: str(value["version"]) if isinstance(value, Mapping) else "?")


def apply(name: str, request: Mapping[str, Any], dry_run: bool = False) -> Call[PartitionView]:
    """``PUT /v1/partitions/{name}``."""
    path = _path(name, dry_run="true" if dry_run else None)
    return Call("PUT", path, _view, request, repeatable=dry_run)


def prepare(name: str, request: Mapping[str, Any]) -> Call[PartitionView]:
    """``POST …/prepare``."""
    return Call("POST", _path(name, "/prepare"), _view, request, repeatable=False)


def enable(name: str, at: Optional[Mapping[str, int]]) -> Call[PartitionView]:
    """``POST …/enable``."""
    return Call("POST", _path(name, "/enable"), _view, {} if at is None else {"at": dict(at)}, repeatable=False)


def partitions() -> Call[list[PartitionView]]:
    """``GET /v1/partitions``."""
    return Call("GET", "/v1/partitions", _list(_view))


def partition(name: str, links_from: Optional[int] = None) -> Call[PartitionView]:
    """``GET /v1/partitions/{name}``."""
    return Call("GET", _path(name, links_from=links_from), _view)


def heal(name: str) -> Call[Healed]:
    """``DELETE /v1/partitions/{name}``."""
    return Call("DELETE", _path(name), _healed(lambda value: read(Healed, value, "healed")))


def heal_all() -> Call[list[Healed]]:
    """``DELETE /v1/partitions``."""
    return Call("DELETE", "/v1/partitions", _healed(_list(lambda value: read(Healed, value, "healed"))))


def recovery(name: str, generation: Optional[int], wait_ns: int) -> Call[RecoveryRecord]:
    """``GET …/recovery``: the record when it is final, or as it is after the wait."""
    wait_ns = max(0, min(wait_ns, LONGEST_WAIT_NS))
    path = _path(name, "/recovery", wait=f"{wait_ns}ns", generation=generation)
    return Call("GET", path, lambda value: read(RecoveryRecord, value, "record"), patience=_PATIENCE + wait_ns / 1e9)


def probes(name: str, generation: Optional[int]) -> Call[list[ProbeView]]:
    """``GET …/probes``."""
    path = _path(name, "/probes", generation=generation)
    return Call("GET", path, _list(lambda value: read(ProbeView, value, "probe")))


def probe_once() -> Call[list[EndpointAnswer]]:
    """``POST /v1/probes``."""
    reader = _list(lambda value: read(EndpointAnswer, value, "answer"))
    return Call("POST", "/v1/probes", reader, patience=_PROBING)


def mark(text: str) -> Call[Event]:
    """``POST /v1/marks``."""
    return Call("POST", "/v1/marks", Event.read, {"text": text}, repeatable=False)


def events(since: int, follow: bool) -> Call[Event]:
    """``GET /v1/events``: one event a line, so that it is read by its own parser."""
    path = f"/v1/events?since={since}&follow={'true' if follow else 'false'}"
    return Call("GET", path, Event.read, repeatable=False)
