"""The timeline as an iterator."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Iterator, Optional, Type

from . import calls
from .errors import OutOfTime, hides_frames
from .event import Event
from .line import Ended, Line

__tracebackhide__ = hides_frames


class Events:
    """Events as they come, over a connection of their own. ``last_id`` is the id of the last one that was read:
    ``events(since=events.last_id)`` continues behind it, also on another connection."""

    def __init__(self, line: Line, since: int, follow: bool, timeout: Optional[float]) -> None:
        self.last_id = since
        self._line = line
        self._timeout = timeout
        self._lines = line.lines(calls.events(since, follow), timeout)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            event = next(self._lines)
        except TimeoutError:
            raise OutOfTime(f"no event in {self._timeout:g} s") from None
        except Ended as ended:
            raise ended.error from None
        self.last_id = event.id
        return event

    def close(self) -> None:
        """Ends the stream, also while another thread reads from it, which gets Broken."""
        self._line.close()
        with contextlib.suppress(ValueError):
            # It is running in that thread, and ends there.
            self._lines.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()
