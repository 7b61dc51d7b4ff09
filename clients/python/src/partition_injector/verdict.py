"""Whether a cluster recovered, as an assertion."""

from __future__ import annotations

from typing import Optional

from .duration import Duration, nanoseconds, words
from .errors import UsageError, hides_frames
from .record import RecoveryRecord, record_text
from .record_errors import NotRecovered, RecoveryUnknown
from .record_parts import EndpointRecord

__tracebackhide__ = hides_frames


def assert_recovered(
    record: RecoveryRecord, within: Optional[Duration] = None, endpoint: Optional[str] = None
) -> RecoveryRecord:
    """Raises NotRecovered unless the required endpoints of a final record (or one endpoint, by its full or base name)
    settled within so long of the heal; without ``within`` by the record's deadline. RecoveryUnknown is raised where
    that is not known. Answers the record."""
    limit = _limit(record, within)
    watched = _watched(record, endpoint)
    what = endpoint or "the cluster"
    text = record_text(record)
    if record.outcome in (None, "harness_failed", "censored"):
        raise RecoveryUnknown(f"it is not known whether {what} recovered: {_why(record)}\n{text}", record)
    if endpoint is None and record.outcome == "unknown":
        raise RecoveryUnknown(f"it is not known whether {what} recovered: {_why(record)}\n{text}", record)
    for each in watched:
        settled = record.since_heal(each.settled_ns)
        if each.outcome == "recovered" and settled is not None and settled <= limit:
            continue
        if each.outcome == "recovered" or each.outcome == "not_recovered":
            how = "did not settle" if settled is None else f"settled {words(settled)} after the heal"
            raise NotRecovered(f"{each.name} {how}, not within {words(limit)}\n{text}", record)
        raise RecoveryUnknown(f"it is not known whether {each.name} recovered ({each.outcome})\n{text}", record)
    return record


def check_question(record: RecoveryRecord, within: Optional[Duration] = None, endpoint: Optional[str] = None) -> None:
    """Raises UsageError if a record, also one that is not final, will never answer this: it has no such endpoint, or is
    not watched for so long. Asked before the wait for a final record, which takes as long as the recovery."""
    _limit(record, within)
    _watched(record, endpoint)


def _limit(record: RecoveryRecord, within: Optional[Duration]) -> int:
    """In nanoseconds after the heal."""
    limit = record.deadline_ns if within is None else nanoseconds(within)
    if limit > record.deadline_ns:
        raise UsageError(
            f"the record is watched for {words(record.deadline_ns)} after the heal, and not for {words(limit)}",
            field="within",
            remedy="give the partition a longer deadline=",
        )
    return limit


def _watched(record: RecoveryRecord, endpoint: Optional[str]) -> list[EndpointRecord]:
    if endpoint is None:
        found = [each for each in record.endpoints if each.required]
        missing, remedy = "no required endpoint is watched", "add endpoints: to the config"
    else:
        found = [each for each in record.endpoints if each.is_named(endpoint)]
        names = ", ".join(sorted(each.name for each in record.endpoints)) or "none"
        missing, remedy = f'no endpoint is named "{endpoint}"', f"the config has: {names}"
    if not found:
        raise UsageError(missing, field="endpoint", remedy=remedy)
    return found


def _why(record: RecoveryRecord) -> str:
    why = record.outcome_reason or "its record is not final"
    if record.outcome == "censored" and record.closed_by:
        return f'{why} (partition "{record.closed_by}"; suites that measure need a daemon each, or take turns)'
    return f"{record.outcome}: {why}" if record.outcome else why
