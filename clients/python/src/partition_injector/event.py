"""What happened, as ``GET /v1/events`` has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Mapping, Optional, Type

from .errors import Misread, hides_frames
from .record_parts import Outcome, Stamped
from .view import Healed
from .wire import read

__tracebackhide__ = hides_frames


@dataclass(frozen=True)
class Event:
    """Any event: what all have. An event of a kind that this version does not know is one of these."""

    id: int
    at_ns: int
    wall: int
    kind: str
    raw: dict[str, Any] = field(repr=False, compare=False)

    @staticmethod
    def read(value: Any) -> Event:
        """Reads an event as the type of its kind."""
        if not isinstance(value, Mapping):
            raise Misread("the event is no object")
        return read(KINDS.get(str(value.get("kind")), Event), value, "event")

    def concerns(self, name: str) -> bool:
        """Whether it is about the partition of this name."""
        healed = self.raw.get("healed") or {}
        return name in (self.raw.get("name"), healed.get("name"))


@dataclass(frozen=True)
class CutEvent(Event):
    """A partition took effect, or was scheduled."""

    name: str
    generation: int
    effective: Stamped


@dataclass(frozen=True)
class HealEvent(Event):
    """A partition ended."""

    healed: Healed


@dataclass(frozen=True)
class FirstEvent(Event):
    """The kernel stamped a first; ``subject`` is a link or an endpoint."""

    name: str
    generation: int
    what: Literal["drop", "packet", "syn", "synack", "data", "response"]
    subject: str
    stamp_ns: int


@dataclass(frozen=True)
class HealthEvent(Event):
    """An endpoint became healthy or unhealthy."""

    endpoint: str
    healthy: bool
    error: Optional[str]


@dataclass(frozen=True)
class RecordEvent(Event):
    """A record became final."""

    name: str
    generation: int
    outcome: Outcome


@dataclass(frozen=True)
class InterfaceEvent(Event):
    """An interface was attached, lost or found again."""

    interface: str
    what: str


@dataclass(frozen=True)
class ConfigEvent(Event):
    """The config was read again."""

    outcome: Literal["in_force", "unchanged", "refused", "failed"]
    number: int
    what: str


@dataclass(frozen=True)
class MarkEvent(Event):
    """A user's mark."""

    text: str


@dataclass(frozen=True)
class LeaseLapsedEvent(Event):
    """The lease ran out: everything was healed."""


@dataclass(frozen=True)
class LostEvent(Event):
    """Events are missing here: the reader was too slow, or the history too short."""

    count: int


#: The type of each kind.
KINDS: Mapping[str, Type[Event]] = {
    "cut": CutEvent,
    "heal": HealEvent,
    "first": FirstEvent,
    "health": HealthEvent,
    "record": RecordEvent,
    "interface": InterfaceEvent,
    "config": ConfigEvent,
    "mark": MarkEvent,
    "lease_lapsed": LeaseLapsedEvent,
    "lost": LostEvent,
}
