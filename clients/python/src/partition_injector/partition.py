"""A partition that this client made."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Mapping, Optional, Type

from . import calls, flows
from .caller import Caller
from .duration import Duration, nanoseconds
from .errors import HealWarning, InjectorError, Problem, hides_frames
from .flows import End
from .handle import Handle
from .record import RecoveryRecord
from .verdict import assert_recovered, check_question
from .view import Healed, PartitionView, ProbeView

__tracebackhide__ = hides_frames


class Partition(Handle):
    """A partition of the daemon. As a context manager it heals at the end of its block, and raises NotInForce if
    something else ended it before, or packets passed it. A call of its own heal() or assert_recovers() within the block
    ends it as well: the rest of the block runs uncut."""

    def __init__(self, caller: Caller, view: PartitionView, has_end: bool) -> None:
        super().__init__(view, has_end)
        self._caller = caller

    def view(self) -> PartitionView:
        """The newest partition of this name, as the daemon has it now."""
        return self._caller.call(calls.partition(self.name))

    def enable(self, at: Optional[Mapping[str, int]] = None) -> PartitionView:
        """Cuts what was prepared."""
        return self._caller.call(calls.enable(self.name, at))

    def heal(self) -> Healed:
        """Heals it. Answers when and by what, also if it had ended before. A second call answers the same."""
        return self._ended().healed

    def _ended(self) -> End:
        if self._end is None:
            flow = flows.heal(self.applied)
            self._end = self._caller.run_owned(flow) if self._is_owned else self._caller.run(flow)
            self._caller.note_healed(self.generation)
        return self._end

    def finish(self) -> Healed:
        """Heals it, as the end of its block does: raises NotInForce unless it was in force until then, or until the
        ``for_`` that it was given. A second call says the same."""
        if not self._is_checked:
            try:
                end = self._ended()
            except Problem as problem:
                self._broken = flows.forgotten(self.name, problem)
            else:
                self._broken = self._caller.run(flows.check(self.applied, end, self._may_end_first))
            self._is_checked = True
        if self._broken is not None:
            raise self._broken
        return self.heal()

    def record(self) -> RecoveryRecord:
        """Its record as it is now; ``final`` says whether it still changes."""
        return self._caller.call(calls.recovery(self.name, self.generation, 0))

    def recovery(self, timeout: Optional[Duration] = None) -> RecoveryRecord:
        """Its final record. Waits as long as it takes; with a timeout, NotFinal is raised when it ends."""
        limit = None if timeout is None else nanoseconds(timeout)
        may_wait = self._has_end or self._end is not None
        return self._caller.run(flows.recovery(self.name, self.generation, limit, may_wait))

    def probes(self) -> list[ProbeView]:
        """Every probe of its record."""
        return self._caller.call(calls.probes(self.name, self.generation))

    def assert_recovers(self, within: Optional[Duration] = None, endpoint: Optional[str] = None) -> RecoveryRecord:
        """Heals it, waits for its record, and raises NotRecovered unless the required endpoints (or this one, by its
        full or base name) settled within so long of its heal. The message shows phases and links. Where partitions
        overlap, ask the one that is healed last: the record of another one may be final before that heal."""
        self.finish()
        check_question(self.record(), within, endpoint)
        return assert_recovered(self.recovery(), within, endpoint)

    def __enter__(self) -> Partition:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not self._ends_here:
            return
        if error is None:
            self.finish()
            return
        try:
            self.heal()
        except InjectorError as failure:
            # The block's own error is what the caller must see.
            warnings.warn(f'"{self.name}" could not be healed: {failure}', HealWarning, stacklevel=2)
