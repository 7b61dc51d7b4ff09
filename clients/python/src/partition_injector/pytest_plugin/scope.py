"""What one test cut: healed at its end, and shown if it fails."""

from __future__ import annotations

import re
import time
import warnings
from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple, Union

import pytest

from ..client import Injector
from ..describe import timeline_text
from ..duration import Duration
from ..errors import HealWarning, InjectorError, Missing, Problem, UsageError, hides_frames
from ..event import Event
from ..lab import Lab
from ..partition import Partition
from ..record import RecoveryRecord
from ..record_errors import NotFinal, NotRecovered
from ..view import Healed
from .artifacts import write
from .options import Options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..request import Cut

__tracebackhide__ = hides_frames


class TestInjector(Injector):
    """The client of one test. It keeps what the test cut in ``partitions_made``."""

    __test__ = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.partitions_made: list[Partition] = []
        #: The generations that the test healed by their name: it wanted their end.
        self._healed_by_name: set[int] = set()

    def partition(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> Partition:
        """As ``Injector.partition``; healed at the end of the test at the latest."""
        partition = super().partition(name, **cut)
        self.partitions_made.append(partition)
        return partition

    def prepare(self, name: Optional[str] = None, **cut: Unpack[Cut]) -> Partition:
        """As ``Injector.prepare``; healed at the end of the test at the latest."""
        partition = super().prepare(name, **cut)
        self.partitions_made.append(partition)
        return partition

    def heal(self, name: str) -> Healed:
        """As ``Injector.heal``."""
        healed = super().heal(name)
        self._healed_by_name.add(healed.generation)
        return healed

    def heal_all(self) -> list[Healed]:
        """As ``Injector.heal_all``."""
        healed = super().heal_all()
        self._healed_by_name |= {each.generation for each in healed}
        return healed

    def assert_recovers(self, within: Optional[Duration] = None, endpoint: Optional[str] = None) -> RecoveryRecord:
        """Heals all that this test cut, waits for the record of the partition that was healed last, and fails unless the
        required endpoints (or this one) settled within so long of its heal. The message shows phases and links."""
        if not self.partitions_made:
            raise UsageError("this test has cut nothing", remedy="cut with injector.partition(…) first")
        self.heal_mine()
        return last_healed(self.partitions_made).assert_recovers(within, endpoint)

    def heal_mine(self) -> None:
        """Heals all that this test cut, the newest first. Continues past what can't be healed, or was not in force until
        then, and raises the first error at the end. What the end of a block has said already is not said again."""
        failure: Union[InjectorError, OSError, None] = None
        for partition in reversed(self.partitions_made):
            if partition.is_checked or partition.generation in self._healed_by_name:
                continue
            try:
                partition.finish()
            except (InjectorError, OSError) as error:
                failure = failure or error
        if failure is not None:
            raise failure


def last_healed(partitions: Sequence[Partition]) -> Partition:
    """The partition that was healed last, of several that are healed: of nested ones the outer. The record of another
    one may be final before the last heal, and says nothing of what that one does to the cluster."""
    ended: list[Tuple[int, int, Partition]] = []
    for partition in partitions:
        try:
            record = partition.record()
        except Problem as problem:
            # A daemon that was restarted knows only the partitions that were made later.
            if problem.code != "unknown-partition":
                raise
            continue
        # One that was prepared and never enabled cut nothing.
        if record.cut is not None and record.heal is not None:
            ended.append((record.heal.end_ns, record.generation, partition))
    return max(ended, key=lambda end: end[:2])[2] if ended else partitions[-1]


class Scope:
    """One test."""

    def __init__(self, item: pytest.Item, options: Options, lab: Optional[Lab]) -> None:
        self._item = item
        self._options = options
        stem = re.sub(r"[^A-Za-z0-9._]+", "_", item.name)[:24]
        if lab is not None:
            self.injector = TestInjector(lab.socket, stem=stem)
        else:
            self.injector = TestInjector(options.socket, host=options.host, stem=stem)
        self._is_reported = False
        self._records: Optional[list[RecoveryRecord]] = None
        self._events: list[Event] = []
        try:
            known = self.injector.status().peers
            lacking = [peer for peer in options.peers if peer not in known]
            if lacking:
                raise Missing(
                    f"the daemon at {self.injector.address} has no peer {', '.join(lacking)} "
                    f"(it has {', '.join(sorted(known))})",
                    remedy="start it with the lab's config: sudo injector start --config lab.yaml",
                )
            self._begin = self.injector.mark(f"{self._name} begins")
        except BaseException:
            self.injector.close()
            raise

    @property
    def _name(self) -> str:
        # A mark has at most 1,024 bytes.
        return self._item.nodeid.encode()[-900:].decode(errors="ignore")

    def report(self, report: pytest.TestReport, error: Optional[BaseException]) -> None:
        """Adds the records and the timeline to the first report that says that the test failed. The message of
        NotRecovered has its record already."""
        # What is wrong here may be why the test failed, and must not hide what the test says itself. A warning could be an
        # error, and pytest ends a run whose reports raise one.
        for doubt in (self._heal(), self._collect(self._options.record_wait)):
            if doubt is not None:
                _add_section(report, "partition injector", str(doubt))
        if self._is_reported:
            return
        self._is_reported = True
        said = error.record.generation if isinstance(error, NotRecovered) else None
        for record in self._records or []:
            if record.generation != said:
                _add_section(report, f"partition {record.name}", record.describe())
        if self._events:
            _add_section(report, "partition timeline", timeline_text(self._events))

    def finish(self) -> None:
        """Heals what is left, writes the artifacts, and closes the client, which heals whatever a call could not. Raises
        NotInForce for a partition that something else ended before, unless the test has failed anyway."""
        try:
            failure = self._heal()
            # A test that passed waits for nothing.
            doubt = self._collect(0)
            if failure is not None:
                raise failure
            if doubt is not None:
                warnings.warn(doubt, HealWarning)
        finally:
            self.injector.close()

    def _heal(self) -> Union[InjectorError, OSError, None]:
        try:
            self.injector.heal_mine()
        except (InjectorError, OSError) as failure:
            return failure
        return None

    def _collect(self, wait: float) -> Optional[str]:
        """Takes in the records and the events of this test, which has healed its partitions; only once. Waits for so many
        seconds at most, in all, until the records are final. Answers what kept it from that, which is no failure of the test."""
        if self._records is not None or not self.injector.partitions_made:
            return None
        try:
            self._take(time.monotonic() + wait)
        except (InjectorError, OSError, ValueError) as error:
            return f"the test's records can't be obtained, or not be kept: {error}"
        return None

    def _take(self, end: float) -> None:
        records = (self._record(partition, end) for partition in self.injector.partitions_made)
        self._records = [record for record in records if record is not None]
        with self.injector.events(since=self._begin.id - 1, follow=False) as events:
            self._events = list(events)
        for place, record in enumerate(self._records, 1):
            self._item.user_properties += _properties(place, record)
        if self._options.artifacts is not None:
            write(self._options.artifacts, self._item.nodeid, self._records, self._events)

    def _record(self, partition: Partition, end: float) -> Optional[RecoveryRecord]:
        """None for what was cut before the daemon was restarted."""
        try:
            return partition.recovery(max(0, end - time.monotonic()))
        except NotFinal as error:
            return error.record
        except Problem as problem:
            if problem.code != "unknown-partition":
                raise
            return None


def _properties(place: int, record: RecoveryRecord) -> list[Tuple[str, object]]:
    """What JUnit results have of a record. The names are the same in each run; what is not known is left out."""
    found: dict[str, object] = {"name": record.name, "outcome": record.outcome or "not final"}
    for name, ns in (("ready", record.heal_to_ready_ns), ("settled", record.heal_to_settled_ns)):
        if ns is not None:
            found[f"heal_to_{name}_ms"] = round(ns / 1e6, 3)
    return [(f"injector:{place}:{name}", value) for name, value in found.items()]


def _add_section(report: pytest.TestReport, title: str, text: str) -> None:
    """Adds it to what the test failed with, which JUnit results have too, and else to the report's own sections, which only
    the terminal shows."""
    add = getattr(report.longrepr, "addsection", None)
    if add is not None:
        add(title, text)
    else:
        report.sections.append((title, text))
