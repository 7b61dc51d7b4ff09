"""What takes several calls, written once for both clients: generators that yield calls, or pauses in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Collection, Generator, Optional, TypeVar, Union

from . import calls
from .calls import Call
from .duration import words
from .errors import NotHealthy, NotInForce, Problem, UsageError, hides_frames, is_forgotten
from .record import RecoveryRecord
from .record_errors import NotFinal
from .view import EndpointView, Healed, PartitionView, Status

__tracebackhide__ = hides_frames

T = TypeVar("T")

#: Yields a call, and gets its answer; or yields seconds to pause.
Flow = Generator[Union[Call[Any], float], Any, T]

#: How often the endpoints' health is asked for.
_POLL = 0.1


@dataclass(frozen=True)
class End:
    """How a partition ended, as the flow that healed it has found it."""

    healed: Healed
    #: Whether it cut, or was still to cut, when its heal was asked for.
    was_live: bool


def heal(applied: PartitionView) -> Flow[End]:
    """Heals this very partition: a name that was healed may be in use again, by somebody else."""
    name, generation = applied.name, applied.generation
    gone = Problem(f'the end of "{name}" is not known any more', code="unknown-partition", status=404)
    found: PartitionView = yield calls.partition(name)
    # A daemon counts generations from its start on: a lower one, or the same one of another request, is a new daemon's.
    if found.generation < generation or found.generation == generation and not _is_same_request(found, applied):
        raise gone
    if found.generation == generation:
        healed: Healed = yield calls.heal(name)
        return End(healed, found.state in ("active", "scheduled", "prepared"))
    record: RecoveryRecord = yield calls.recovery(name, generation, 0)
    if record.heal is None or record.healed_by is None or not _is_same_cut(record, applied):
        raise gone
    stamp = record.heal
    return End(Healed(stamp.begin_ns, stamp.end_ns, stamp.wall, name, generation, record.healed_by), was_live=False)


def _is_same_request(found: PartitionView, applied: PartitionView) -> bool:
    return bool(found.request.get("request_id") == applied.request.get("request_id"))


def _is_same_cut(record: RecoveryRecord, applied: PartitionView) -> bool:
    """A record has no request; two cuts do not begin at one instant."""
    if applied.state != "active" or applied.effective is None:
        return True
    return record.cut is not None and record.cut.begin_ns == applied.effective.begin_ns


_WHY = {
    "request": "another client healed it, or a call of heal(name) or heal_all()",
    "deadline": "its deadline came first; give it a longer for_, or raise max_for in the config",
    "lease": "the daemon was held up, and the lease ended it; see the daemon's log",
    "shutdown": "the daemon was stopped",
    "disconnect": "the connection that owned it broke",
}


def _broken(name: str, why: str) -> NotInForce:
    return NotInForce(f'"{name}" was not in force until this client healed it: {why}')


def forgotten(name: str, problem: Problem) -> NotInForce:
    """What it means that the daemon refused a heal: it does not know what was cut before it was restarted. Raises any other
    problem."""
    if not is_forgotten(problem):
        raise problem
    return _broken(name, "the daemon does not know it any more; it was restarted meanwhile")


def check(applied: PartitionView, end: End, may_end_first: bool) -> Flow[Optional[NotInForce]]:
    """Why it was not in force until its heal, or until its own end if that may come first; None if it was."""
    name, healed_by = applied.name, end.healed.healed_by
    if healed_by == "request" and not end.was_live or healed_by not in ("request", "deadline"):
        return _broken(name, _WHY[healed_by])
    if healed_by == "deadline" and not may_end_first:
        return _broken(name, _WHY["deadline"])
    try:
        record: RecoveryRecord = yield calls.recovery(name, applied.generation, 0)
    except Problem as problem:
        if not is_forgotten(problem):
            raise
        # This client healed it a while ago, and the daemon has dropped the record since.
        return None
    for link in record.links:
        if link.in_force == "no":
            return _broken(name, f"packets of {link} passed the cut, or could pass; `injector wait {name}` says how")
    for link in record.links:
        if link.in_force == "unknown" and applied.request.get("strict"):
            return _broken(
                name,
                f"it is not known whether packets of {link} passed the cut, and strict counts that as no; "
                f"`injector wait {name}` says why",
            )
    return None


def recovery(name: str, generation: int, timeout_ns: Optional[int], may_wait: bool) -> Flow[RecoveryRecord]:
    """Waits for the final record; without a timeout as long as it takes, which is bounded once it is healed."""
    if timeout_ns is None and not may_wait:
        found: PartitionView = yield calls.partition(name)
        if found.generation == generation and found.healed is None:
            raise UsageError(
                f'"{name}" is still cut, so that its record can\'t become final',
                remedy="heal it first, give it a for_, or say how long to wait with timeout=",
            )
    end = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
    while True:
        left = calls.LONGEST_WAIT_NS if end is None else max(0, end - time.monotonic_ns())
        record: RecoveryRecord = yield calls.recovery(name, generation, left)
        if record.final:
            return record
        if end is not None and time.monotonic_ns() >= end:
            state = "it is not healed" if record.heal is None else "its endpoints are still watched"
            raise NotFinal(
                f'the record of "{name}" is not final after {words(timeout_ns)}: {state}',
                record,
                remedy="wait longer, or set a shorter deadline= or the config's ready: observe",
            )


def wait_healthy(timeout_ns: int, advisory: Collection[str]) -> Flow[Status]:
    """Waits until every required endpoint is healthy."""
    end = time.monotonic_ns() + timeout_ns
    while True:
        status: Status = yield calls.status()
        if not any(endpoint.required for endpoint in status.endpoints):
            raise UsageError(
                "the daemon's config has no required endpoint to wait for", remedy="add endpoints: to the config"
            )
        sick = [endpoint for endpoint in status.endpoints if _gates(endpoint, advisory) and endpoint.healthy is not True]
        if not sick:
            return status
        if time.monotonic_ns() >= end:
            raise NotHealthy(
                f"not healthy within {words(timeout_ns)}: {'; '.join(map(_sick, sick))}",
                remedy="`injector probe` asks every endpoint once",
            )
        yield _POLL


def _gates(endpoint: EndpointView, advisory: Collection[str]) -> bool:
    return endpoint.required and not {endpoint.name, endpoint.name.split("@", 1)[0]} & set(advisory)


def _sick(endpoint: EndpointView) -> str:
    why = endpoint.last_error if endpoint.healthy is False else None
    return f"{endpoint.name}: {why or 'too few probes yet'}"
