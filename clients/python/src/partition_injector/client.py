"""The client of the daemon."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Collection, Mapping, Optional, Sequence, Type, TypeVar, Union, overload

from . import calls, flows
from .address import Address, address
from .calls import Call
from .duration import Duration, nanoseconds, seconds
from .errors import InjectorError, VersionWarning, hides_frames, is_forgotten
from .event import Event
from .events import Events
from .flows import Flow
from .line import Ended, Line, lost_owner
from .partition import Partition
from .record import RecoveryRecord
from .request import Cut, InKeywords, Names, body
from .transport import forget_in_children
from .versions import REMEDY, diagnosed, difference, is_suspect
from .view import EndpointAnswer, Healed, PartitionView, ProbeView, Status

if TYPE_CHECKING:
    from typing_extensions import Unpack

__tracebackhide__ = hides_frames

T = TypeVar("T")

#: Names the partition to a command that runs under it, as ``injector with`` does.
NAME_VARIABLE = "INJECTOR_PARTITION"


class Injector:
    """A client of one daemon.

    It may be used from several threads: a connection serves one call at a time, and a second one is opened if it is
    busy. Partitions are owned by a connection of their own, which is kept open: they heal when this client is closed,
    or its process ends, however it ends.

    ``socket`` is the daemon's socket, else INJECTOR_SOCKET, else the usual one. ``host`` is ``ssh://user@host`` of a
    daemon elsewhere, else INJECTOR_HOST; ``injector dial-stdio`` is run there.
    """

    def __init__(
        self, socket: Union[str, "os.PathLike[str]", None] = None, *, host: Optional[str] = None, stem: str = "py"
    ) -> None:
        self._address = address(socket, host)
        self._names = Names(stem)
        self._lock = threading.Lock()
        self._spare: Optional[Line] = None
        self._owner = _Owner(self._address)
        forget_in_children(self)

    @property
    def address(self) -> Address:
        """Where the daemon is."""
        return self._address

    def __enter__(self) -> Injector:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all connections. Partitions that are still cut heal. The client can still be used, and reconnects."""
        self._owner.close()
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    # Partitions.

    def partition(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> Partition:
        """Cuts, and answers when the cut is in force (or scheduled). ``with`` heals at the end of the block.

        >>> with injector.partition(isolate=["n1"], scopes=["tcp/5122"]) as partition: ...
        """
        return self._made(name, cut, calls.apply)

    def prepare(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> Partition:
        """Does everything but the cut; ``Partition.enable`` cuts."""
        return self._made(name, cut, calls.prepare)

    def dry_run(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> PartitionView:
        """The links that would be cut, and how far they are covered. Nothing changes."""
        call = calls.apply(name or self._names.next(), body(cut, name), dry_run=True)
        with InKeywords(cut):
            return self.call(call)

    def _made(
        self, name: Optional[str], cut: Mapping[str, Any], of: Callable[[str, Mapping[str, Any]], Call[PartitionView]]
    ) -> Partition:
        request = body(cut, name)
        call = of(name or self._names.next(), request)
        owned = request["owner"] == "connection"
        with InKeywords(cut):
            view = self._diagnosing(lambda: self._owner.apply(call) if owned else self._try(call))
        return Partition(self, view, has_end="for" in request)

    def note_healed(self, generation: int) -> None:
        """A partition of this client is healed: the end of its connection means nothing to it any more."""
        self._owner.live.discard(generation)

    @overload
    def with_(self, what: Sequence[str], name: Optional[str] = None, **cut: Unpack[Cut]) -> subprocess.CompletedProcess[bytes]: ...

    @overload
    def with_(self, what: Callable[[Partition], T], name: Optional[str] = None, **cut: Unpack[Cut]) -> T: ...

    def with_(self, what: Union[Sequence[str], Callable[[Partition], T]], name: Optional[str] = None, **cut: Unpack[Cut]) -> Any:
        """Runs a command under a partition that is always healed, or calls a function with the partition. Answers the
        finished command, or the function's value. Raises NotInForce if the partition ended before it.

        >>> injector.with_(lambda partition: run_my_test(), isolate=["n1"])
        """
        with self.partition(name, **cut).outlasting() as partition:
            if callable(what):
                return what(partition)
            return subprocess.run([*what], env={**os.environ, NAME_VARIABLE: partition.name}, check=False)

    def partitions(self) -> list[PartitionView]:
        """All partitions that are not closed, and the closed ones that are still kept; also those of others."""
        return self.call(calls.partitions())

    def view(self, name: str, links_from: Optional[int] = None) -> PartitionView:
        """The newest partition of a name. Of more than 1,000 links it lists none unless ``links_from`` says from which one on
        (counted from 0) up to 1,000 are to be listed."""
        return self.call(calls.partition(name, links_from))

    def heal(self, name: str) -> Healed:
        """Heals the partition of a name, no matter who made it."""
        return self.call(calls.heal(name))

    def heal_all(self) -> list[Healed]:
        """Heals every partition of the daemon, also those of others."""
        return self.call(calls.heal_all())

    def record(self, name: str, generation: Optional[int] = None) -> RecoveryRecord:
        """The record of a name as it is now; ``final`` says whether it still changes."""
        return self.call(calls.recovery(name, generation, 0))

    def probes(self, name: str, generation: Optional[int] = None) -> list[ProbeView]:
        """Every probe of a record."""
        return self.call(calls.probes(name, generation))

    # The daemon.

    def status(self) -> Status:
        """The daemon's status. Warns if the daemon is of another version than this client."""
        status = self.call(calls.status())
        sentence = difference(status.version)
        if sentence is not None:
            warnings.warn(f"{sentence}; if a call fails, {REMEDY}", VersionWarning, stacklevel=2)
        return status

    def wait_healthy(self, timeout: Duration = "60s", advisory: Collection[str] = ()) -> Status:
        """Waits until every required endpoint is healthy, except for those named here. Raises NotHealthy, and
        UsageError if the config has no required endpoint."""
        return self.run(flows.wait_healthy(nanoseconds(timeout), advisory))

    def probe_once(self) -> list[EndpointAnswer]:
        """Asks every endpoint once."""
        return self.call(calls.probe_once())

    def mark(self, text: str) -> Event:
        """Puts a text on the timeline."""
        return self.call(calls.mark(text))

    def events(self, since: int = 0, follow: bool = True, timeout: Optional[Duration] = None) -> Events:
        """What happened after the event of this id, and keeps happening if ``follow``. ``Events.last_id`` is where
        to resume. With a timeout, OutOfTime is raised if nothing happens for so long."""
        line = Line(self._address)
        return Events(line, since, follow, None if timeout is None else seconds(timeout))

    # How calls are made.

    def forget(self) -> None:
        """In a forked child: its parent's connections are not its own."""
        self._lock = threading.Lock()
        self._spare = None
        self._owner.forget()

    def run(self, flow: Flow[T]) -> T:
        """Carries out what takes several calls."""
        return self._run(flow, self.call)

    def run_owned(self, flow: Flow[T]) -> T:
        """Carries out a heal over the connection that owns partitions, so that it needs no other. Whatever keeps it from
        that, also Ctrl-C, closes this connection: the daemon then heals what hangs on it."""
        try:
            return self._run(flow, self._call_owned)
        except BaseException as error:
            if not is_forgotten(error):
                self._owner.close()
            raise

    def _run(self, flow: Flow[T], make: Callable[[Call[Any]], Any]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = flow.send(None)
                    continue
                try:
                    answer = make(step)
                except InjectorError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value

    def call(self, call: Call[T]) -> T:
        """Makes one call."""
        return self._diagnosing(lambda: self._try(call))

    def _call_owned(self, call: Call[T]) -> T:
        return self._diagnosing(lambda: self._owner.call(call, self._try))

    def _diagnosing(self, job: Callable[[], T]) -> T:
        try:
            return job()
        except InjectorError as error:
            if not is_suspect(error):
                raise
            try:
                daemon = self._try(calls.version())
            except InjectorError:
                raise error from None
            found = diagnosed(error, daemon)
            if found is error:
                raise
            raise found from error

    def _try(self, call: Call[T]) -> T:
        while True:
            line = self._take()
            was_new = line.is_new
            try:
                answer = line.call(call)
            except Ended as ended:
                # The daemon ends idle connections, also in the moment between.
                if was_new or not ended.untouched or not call.repeatable:
                    raise ended.error from None
                continue
            finally:
                self._give(line)
            return answer

    def _take(self) -> Line:
        with self._lock:
            line, self._spare = self._spare, None
        if line is not None and line.stream.is_stale():
            line.close()
            line = None
        return line or Line(self._address)

    def _give(self, line: Line) -> None:
        with self._lock:
            if self._spare is None and not line.stream.is_closed:
                self._spare = line
                return
        line.close()


class _Owner:
    """The connection that partitions hang on. It is opened for the first of them, and then kept."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._line: Optional[Line] = None
        #: The generations that hang on it, and are not known to be healed.
        self.live: set[int] = set()

    def apply(self, call: Call[PartitionView]) -> PartitionView:
        with self._lock:
            line = self._line
            if line is not None and line.stream.is_stale():
                self._line = line = None
                lost, self.live = self.live, set()
                if lost:
                    raise lost_owner(self._address)
            if line is None:
                line = self._line = Line(self._address)
            try:
                view = line.call(call)
            except Ended as ended:
                raise ended.error from None
            finally:
                if line.stream.is_closed:
                    self._line = None
            self.live.add(view.generation)
            return view

    def call(self, call: Call[T], otherwise: Callable[[Call[T]], T]) -> T:
        """Makes a call that may be repeated; by ``otherwise`` if the connection is busy, or has ended."""
        # A signal handler may heal while this thread cuts.
        if not self._lock.acquire(blocking=False):
            return otherwise(call)
        try:
            line = self._line
            if line is not None and not line.stream.is_stale():
                try:
                    return line.call(call)
                except Ended as ended:
                    if not ended.untouched:
                        raise ended.error from None
        finally:
            self._lock.release()
        return otherwise(call)

    def forget(self) -> None:
        """In a forked child: the connection, and what hangs on it, are the parent's. A thread that held the lock is none
        of the child's."""
        self._lock = threading.Lock()
        self._line = None
        self.live = set()

    def close(self) -> None:
        # Also while a call holds it: the daemon heals what that one may still cut.
        line, self._line = self._line, None
        self.live = set()
        if line is not None:
            line.close()
