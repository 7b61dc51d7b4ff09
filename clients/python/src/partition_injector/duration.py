"""Lengths of time, as the API writes them and as Python has them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Optional, Union

from .errors import UsageError, hides_frames

__tracebackhide__ = hides_frames

#: ``"5s"``, ``"1m 30s"``, ``"250ms"``; a number of seconds; or a ``timedelta``.
Duration = Union[str, float, timedelta]

_UNITS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "sec": 10**9,
    "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]+)")


def nanoseconds(value: Duration) -> int:
    """A length of time in nanoseconds."""
    if isinstance(value, timedelta):
        return round(value.total_seconds() * 1e9)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value < 1e9:
            raise UsageError(f"{value!r} is no length of time", remedy='write seconds, or a text such as "5s"')
        return round(value * 1e9)
    text, total, at = str(value), 0, 0
    for part in _PART.finditer(text):
        if part.start() != at or part.group(2) not in _UNITS:
            break
        total += round(float(part.group(1)) * _UNITS[part.group(2)])
        at = part.end()
    if at == 0 or text[at:].strip():
        raise UsageError(f"{value!r} is no length of time", remedy='write a number and a unit, as in "250ms" or "5s"')
    return total


def seconds(value: Duration) -> float:
    """A length of time in seconds."""
    return nanoseconds(value) / 1e9


def wire(value: Duration) -> str:
    """As a request has it. A text is left as it is, so that the daemon names what is wrong with it."""
    return value if isinstance(value, str) else f"{nanoseconds(value)}ns"


def words(ns: Optional[int]) -> str:
    """For people: three digits and a unit, or a dash for what is not known."""
    if ns is None:
        return "–"
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 10**3)):
        # What three digits round up to the next unit is shown in that.
        if abs(ns) >= 0.9995 * size:
            return f"{ns / size:.3g} {unit}" if abs(ns) < 999.5 * size else f"{ns / size:.0f} {unit}"
    return f"{ns} ns"
