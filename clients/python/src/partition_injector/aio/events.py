"""The timeline as an asynchronous iterator."""

from __future__ import annotations

from types import TracebackType
from typing import AsyncIterator, Optional, Type

from .. import calls
from ..address import Address
from ..errors import OutOfTime, hides_frames
from ..event import Event
from ..line import Ended
from .line import AsyncLine

__tracebackhide__ = hides_frames


class AsyncEvents:
    """Events as they come, over a connection of their own, which is opened for the first of them. ``last_id`` is the
    id of the last one that was read: ``events(since=events.last_id)`` continues behind it."""

    def __init__(self, address: Address, since: int, follow: bool, timeout: Optional[float]) -> None:
        self.last_id = since
        self._address = address
        self._follow = follow
        self._timeout = timeout
        self._line: Optional[AsyncLine] = None
        self._lines: Optional[AsyncIterator[Event]] = None

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._line is None or self._lines is None:
            self._line = await AsyncLine.open(self._address)
            self._lines = self._line.lines(calls.events(self.last_id, self._follow), self._timeout)
        try:
            event = await self._lines.__anext__()
        except TimeoutError:
            raise OutOfTime(f"no event in {self._timeout:g} s") from None
        except Ended as ended:
            raise ended.error from None
        self.last_id = event.id
        return event

    async def aclose(self) -> None:
        """Ends the stream."""
        if self._line is not None:
            self._line.close()

    async def __aenter__(self) -> AsyncEvents:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.aclose()
