"""Timelines as text for people."""

from __future__ import annotations

from typing import Iterable, Optional

from .event import (
    ConfigEvent,
    CutEvent,
    Event,
    FirstEvent,
    HealEvent,
    HealthEvent,
    InterfaceEvent,
    LostEvent,
    MarkEvent,
    RecordEvent,
)


def timeline_text(events: Iterable[Event]) -> str:
    """Events, one a line, timed from the first."""
    lines: list[str] = []
    begin: Optional[int] = None
    for event in events:
        begin = event.at_ns if begin is None else begin
        lines.append(f"{(event.at_ns - begin) / 1e9:+9.3f} s  {event_text(event)}")
    return "\n".join(lines)


def event_text(event: Event) -> str:
    """What happened, in a few words."""
    if isinstance(event, CutEvent):
        return f"cut {event.name}"
    if isinstance(event, HealEvent):
        return f"heal {event.healed.name}, by {event.healed.healed_by}"
    if isinstance(event, FirstEvent):
        return f"first {event.what} of {event.subject} ({event.name})"
    if isinstance(event, HealthEvent):
        return f"{event.endpoint} is {'healthy' if event.healthy else 'not healthy: ' + (event.error or '?')}"
    if isinstance(event, RecordEvent):
        return f"record of {event.name}: {event.outcome}"
    if isinstance(event, InterfaceEvent):
        return f"interface {event.interface}: {event.what}"
    if isinstance(event, ConfigEvent):
        return f"config {event.number}: {event.outcome}: {event.what}"
    if isinstance(event, MarkEvent):
        return f"mark: {event.text}"
    if isinstance(event, LostEvent):
        return f"{event.count} events are missing here"
    return event.kind.replace("_", " ")
