"""The recovery record: the whole story of one partition, as docs/reference/record.md has it.

Names that end in ``_ns`` are nanoseconds: instants of ``CLOCK_MONOTONIC`` of the daemon's host, or lengths of time.
``wall`` is nanoseconds since the Unix epoch. A datum that is missing is None, and never zero.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence, Union

from .duration import words
from .errors import Misread, hides_frames
from .record_parts import (
    ClusterOutage,
    EndpointRecord,
    HealedBy,
    HostClock,
    HostRecord,
    LinkRecord,
    Outcome,
    Phases,
    RecordWarning,
    ShapePair,
    Stamped,
    Traffic,
)
from .wire import read

__tracebackhide__ = hides_frames

#: More links than these are only counted.
_LINKS = 12


@dataclass(frozen=True)
class RecoveryRecord:
    """The result of one partition. ``raw`` is the JSON that it was read from."""

    schema: int
    name: str
    generation: int
    clock: Optional[HostClock]
    trial: Optional[int]
    attempt: Optional[int]
    shape: ShapePair
    traffic: Optional[Traffic]
    seed: Optional[int]
    hold_ns: Optional[int]
    deadline_ns: int
    observe_ns: int
    cut: Optional[Stamped]
    heal: Optional[Stamped]
    healed_by: Optional[HealedBy]
    links: list[LinkRecord]
    endpoints: list[EndpointRecord]
    phases: Phases
    outage: Optional[list[ClusterOutage]]
    heal_to_ready_ns: Optional[int]
    heal_to_settled_ns: Optional[int]
    host: HostRecord
    starved: bool
    warnings: list[RecordWarning]
    lost_events: Optional[int]
    proved: bool
    final: bool
    outcome: Optional[Outcome]
    outcome_reason: Optional[str]
    closed_by: Optional[str]
    observed_until_ns: Optional[int]
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, text: Union[str, bytes]) -> RecoveryRecord:
        """Reads a record, such as a line of ``trials.jsonl`` or an artifact of the pytest plugin."""
        try:
            return read(cls, json.loads(text), "record")
        except ValueError as error:
            raise Misread(f"the record is no JSON: {error}") from error

    def since_heal(self, instant_ns: Optional[int]) -> Optional[int]:
        """How long after the heal an instant of this record lies; None if either is missing."""
        return None if instant_ns is None or self.heal is None else instant_ns - self.heal.end_ns

    def describe(self) -> str:
        """The record as a text for people: outcome, phases, links, endpoints."""
        return record_text(self)


def record_text(record: RecoveryRecord) -> str:
    """A recovery record: outcome, phases, links, endpoints."""
    state = record.outcome or ("not decided" if record.final else "not final yet")
    reason = f": {record.outcome_reason}" if record.outcome_reason else ""
    shape = json.dumps(record.shape.resolved or record.shape.asked, ensure_ascii=False)
    lines = [
        f"{record.name}: {state}{reason}",
        f"  cut {shape}, held {words(record.hold_ns)}, healed by {record.healed_by or '– (still cut)'}; "
        f"{'proved' if record.proved else 'not proved'}",
        f"  heal to ready {words(record.heal_to_ready_ns)}, to settled {words(record.heal_to_settled_ns)}, "
        f"deadline {words(record.deadline_ns)}",
        f"  phases: {_phases(record)}",
    ]
    lines += _indented(_links(record)) + _indented(_endpoints(record))
    lines += [f"  warning: {warning.text}" for warning in record.warnings]
    if record.starved:
        lines.append("  the host was starved: times may be too long")
    return "\n".join(lines)


def _phases(record: RecoveryRecord) -> str:
    phases = record.phases
    parts = [
        f"silence {words(phases.silence_ns)}",
        f"reconnect {words(phases.reconnect_ns)}",
        f"return {words(phases.return_ns)}",
        f"relapse {words(phases.relapse_ns)}",
    ]
    last = f"; the last link was {phases.last_link}" if phases.last_link else ""
    after = f"; after the links {words(phases.after_links_ns)}" if phases.after_links_ns is not None else ""
    return " · ".join(parts) + last + after


def _after(record: RecoveryRecord, instant: Optional[int]) -> str:
    since = record.since_heal(instant)
    return "–" if since is None else f"+{words(since)}" if since >= 0 else words(since)


def _links(record: RecoveryRecord) -> list[list[str]]:
    def lateness(link: LinkRecord) -> float:
        if not link.dropped_packets:
            return -1
        return float("inf") if link.reconnected_ns is None else link.reconnected_ns

    ordered = sorted(record.links, key=lateness, reverse=True)
    rows = [["link", "dropped", "in force", "first packet", "reconnected"]]
    for link in ordered[:_LINKS]:
        in_force = "left out" if link.left_out else link.in_force or "–"
        times = [_after(record, link.first_packet_ns), _after(record, link.reconnected_ns)]
        rows.append([str(link), "–" if link.dropped_packets is None else str(link.dropped_packets), in_force, *times])
    if len(ordered) > _LINKS:
        rows.append([f"and {len(ordered) - _LINKS} more", "", "", "", ""])
    return rows


def _endpoints(record: RecoveryRecord) -> list[list[str]]:
    rows = [["endpoint", "ready", "settled", "relapses", "outcome"]]
    for each in record.endpoints:
        name = each.name if each.required else f"{each.name} (advisory)"
        times = [_after(record, each.ready_ns), _after(record, each.settled_ns)]
        rows.append([name, *times, str(each.relapses), each.outcome or "–"])
    return rows


def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
    if len(rows) < 2:
        return []
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return [f"  {line.rstrip()}" for line in cells]
