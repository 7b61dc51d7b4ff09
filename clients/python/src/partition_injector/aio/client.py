"""The asynchronous client of the daemon."""

from __future__ import annotations

import asyncio
import os
import warnings
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
    overload,
)

from .. import calls, flows
from ..address import Address, address
from ..calls import Call
from ..client import NAME_VARIABLE
from ..duration import Duration, nanoseconds, seconds
from ..errors import InjectorError, VersionWarning, hides_frames, is_forgotten
from ..event import Event
from ..flows import Flow
from ..line import Ended, lost_owner
from ..record import RecoveryRecord
from ..request import Cut, InKeywords, Names, body
from ..transport import forget_in_children
from ..versions import REMEDY, diagnosed, difference, is_suspect
from ..view import EndpointAnswer, Healed, PartitionView, ProbeView, Status
from .events import AsyncEvents
from .line import AsyncLine
from .partition import AsyncPartition

if TYPE_CHECKING:
    from typing_extensions import Unpack

__tracebackhide__ = hides_frames

T = TypeVar("T")


class AsyncInjector:
    """The twin of ``partition_injector.Injector``. Tasks may use it at once: a connection serves one call at a time, and a second
    one is opened if it is busy. Use it in one event loop."""

    def __init__(
        self, socket: Union[str, "os.PathLike[str]", None] = None, *, host: Optional[str] = None, stem: str = "py"
    ) -> None:
        self._address = address(socket, host)
        self._names = Names(stem)
        self._spare: Optional[AsyncLine] = None
        self._owner = _Owner(self._address)
        forget_in_children(self)

    @property
    def address(self) -> Address:
        """Where the daemon is."""
        return self._address

    async def __aenter__(self) -> AsyncInjector:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all connections. Partitions that are still cut heal."""
        self._owner.close()
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    async def partition(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> AsyncPartition:
        """Cuts, and answers when the cut is in force (or scheduled).

        >>> async with await injector.partition(isolate=["n1"]) as partition: ...
        """
        return await self._made(name, cut, calls.apply)

    async def prepare(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> AsyncPartition:
        """Does everything but the cut; ``AsyncPartition.enable`` cuts."""
        return await self._made(name, cut, calls.prepare)

    async def dry_run(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> PartitionView:
        """The links that would be cut, and how far they are covered. Nothing changes."""
        call = calls.apply(name or self._names.next(), body(cut, name), dry_run=True)
        with InKeywords(cut):
            return await self.call(call)

    async def _made(
        self, name: Optional[str], cut: Mapping[str, Any], of: Callable[[str, Mapping[str, Any]], Call[PartitionView]]
    ) -> AsyncPartition:
        request = body(cut, name)
        call = of(name or self._names.next(), request)
        owned = request["owner"] == "connection"
        with InKeywords(cut):
            view = await self._diagnosing(lambda: self._owner.apply(call) if owned else self._try(call))
        return AsyncPartition(self, view, has_end="for" in request)

    def note_healed(self, generation: int) -> None:
        """A partition of this client is healed: the end of its connection means nothing to it any more."""
        self._owner.live.discard(generation)

    @overload
    async def with_(self, what: Sequence[str], name: Optional[str] = None, **cut: Unpack[Cut]) -> int: ...

    @overload
    async def with_(
        self, what: Callable[[AsyncPartition], Awaitable[T]], name: Optional[str] = None, **cut: Unpack[Cut]
    ) -> T: ...

    async def with_(
        self,
        what: Union[Sequence[str], Callable[[AsyncPartition], Awaitable[T]]],
        name: Optional[str] = None,
        **cut: Unpack[Cut],
    ) -> Any:
        """Runs a command, or a coroutine function of the partition, under a partition that is always healed. Answers
        the command's exit code, or the function's value. Raises NotInForce if the partition ended before it."""
        async with (await self.partition(name, **cut)).outlasting() as partition:
            if callable(what):
                return await what(partition)
            process = await asyncio.create_subprocess_exec(*what, env={**os.environ, NAME_VARIABLE: partition.name})
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()

    async def partitions(self) -> list[PartitionView]:
        """All partitions that are not closed, and the closed ones that are still kept; also those of others."""
        return await self.call(calls.partitions())

    async def view(self, name: str, links_from: Optional[int] = None) -> PartitionView:
        """The newest partition of a name. Of more than 1,000 links it lists none unless ``links_from`` says from which one on
        (counted from 0) up to 1,000 are to be listed."""
        return await self.call(calls.partition(name, links_from))

    async def heal(self, name: str) -> Healed:
        """Heals the partition of a name, no matter who made it."""
        return await self.call(calls.heal(name))

    async def heal_all(self) -> list[Healed]:
        """Heals every partition of the daemon, also those of others."""
        return await self.call(calls.heal_all())

    async def record(self, name: str, generation: Optional[int] = None) -> RecoveryRecord:
        """The record of a name as it is now; ``final`` says whether it still changes."""
        return await self.call(calls.recovery(name, generation, 0))

    async def probes(self, name: str, generation: Optional[int] = None) -> list[ProbeView]:
        """Every probe of a record."""
        return await self.call(calls.probes(name, generation))

    async def status(self) -> Status:
        """The daemon's status. Warns if the daemon is of another version than this client."""
        status = await self.call(calls.status())
        sentence = difference(status.version)
        if sentence is not None:
            warnings.warn(f"{sentence}; if a call fails, {REMEDY}", VersionWarning, stacklevel=2)
        return status

    async def wait_healthy(self, timeout: Duration = "60s", advisory: Collection[str] = ()) -> Status:
        """Waits until every required endpoint is healthy, except for those named here. Raises NotHealthy, and
        UsageError if the config has no required endpoint."""
        return await self.run(flows.wait_healthy(nanoseconds(timeout), advisory))

    async def probe_once(self) -> list[EndpointAnswer]:
        """Asks every endpoint once."""
        return await self.call(calls.probe_once())

    async def mark(self, text: str) -> Event:
        """Puts a text on the timeline."""
        return await self.call(calls.mark(text))

    def events(self, since: int = 0, follow: bool = True, timeout: Optional[Duration] = None) -> AsyncEvents:
        """What happened after the event of this id, and keeps happening if ``follow``. ``AsyncEvents.last_id`` is
        where to resume. With a timeout, OutOfTime is raised if nothing happens for so long."""
        return AsyncEvents(self._address, since, follow, None if timeout is None else seconds(timeout))

    def forget(self) -> None:
        """In a forked child: its parent's connections are not its own."""
        self._spare = None
        self._owner.forget()

    async def run(self, flow: Flow[T]) -> T:
        """Carries out what takes several calls."""
        return await self._run(flow, self.call)

    async def run_owned(self, flow: Flow[T]) -> T:
        """Carries out a heal over the connection that owns partitions, so that it needs no other. Whatever keeps it from
        that, also a cancellation, closes this connection: the daemon then heals what hangs on it."""
        try:
            return await self._run(flow, self._call_owned)
        except BaseException as error:
            if not is_forgotten(error):
                self._owner.close()
            raise

    async def _run(self, flow: Flow[T], make: Callable[[Call[Any]], Awaitable[Any]]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = flow.send(None)
                    continue
                try:
                    answer = await make(step)
                except InjectorError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    async def call(self, call: Call[T]) -> T:
        """Makes one call."""
        return await self._diagnosing(lambda: self._try(call))

    async def _call_owned(self, call: Call[T]) -> T:
        return await self._diagnosing(lambda: self._owner.call(call, self._try))

    async def _diagnosing(self, job: Callable[[], Awaitable[T]]) -> T:
        try:
            return await job()
        except InjectorError as error:
            if not is_suspect(error):
                raise
            try:
                daemon = await self._try(calls.version())
            except InjectorError:
                raise error from None
            found = diagnosed(error, daemon)
            if found is error:
                raise
            raise found from error

    async def _try(self, call: Call[T]) -> T:
        while True:
            line = await self._take()
            was_new = line.is_new
            try:
                answer = await line.call(call)
            except Ended as ended:
                # The daemon ends idle connections, also in the moment between.
                if was_new or not ended.untouched or not call.repeatable:
                    raise ended.error from None
                continue
            finally:
                self._give(line)
            return answer

    async def _take(self) -> AsyncLine:
        line, self._spare = self._spare, None
        if line is not None and line.is_stale:
            line.close()
            line = None
        return line or await AsyncLine.open(self._address)

    def _give(self, line: AsyncLine) -> None:
        if self._spare is None and not line.stream.is_closed:
            self._spare = line
        else:
            line.close()


class _Owner:
    """The connection that partitions hang on. It is opened for the first of them, and then kept."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock: Optional[asyncio.Lock] = None
        self._line: Optional[AsyncLine] = None
        #: The generations that hang on it, and are not known to be healed.
        self.live: set[int] = set()

    async def call(self, call: Call[T], otherwise: Callable[[Call[T]], Awaitable[T]]) -> T:
        """Makes a call that may be repeated; by ``otherwise`` if the connection is busy, or has ended."""
        line = self._line
        if line is None or line.is_stale or self._lock is None or self._lock.locked():
            return await otherwise(call)
        async with self._lock:
            try:
                return await line.call(call)
            except Ended as ended:
                if not ended.untouched:
                    raise ended.error from None
        return await otherwise(call)

    async def apply(self, call: Call[PartitionView]) -> PartitionView:
        # Before Python 3.10 a lock belongs to the loop that runs when it is made.
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            line = self._line
            if line is not None and line.is_stale:
                line.close()
                self._line = line = None
                lost, self.live = self.live, set()
                if lost:
                    raise lost_owner(self._address)
            if line is None:
                line = self._line = await AsyncLine.open(self._address)
            try:
                view = await line.call(call)
            except Ended as ended:
                raise ended.error from None
            finally:
                if line.stream.is_closed:
                    self._line = None
            self.live.add(view.generation)
            return view

    def forget(self) -> None:
        """In a forked child: the connection, and what hangs on it, are the parent's. A thread that held the lock is none
        of the child's."""
        self._lock = None
        self._line = None
        self.live = set()

    def close(self) -> None:
        line, self._line = self._line, None
        self.live = set()
        if line is not None:
            line.close()
