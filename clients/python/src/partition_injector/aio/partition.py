"""A partition that an asynchronous client made."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Mapping, Optional, Type

from .. import calls, flows
from ..caller import AsyncCaller
from ..duration import Duration, nanoseconds
from ..errors import HealWarning, InjectorError, Problem, hides_frames
from ..flows import End
from ..handle import Handle
from ..record import RecoveryRecord
from ..verdict import assert_recovered, check_question
from ..view import Healed, PartitionView, ProbeView

__tracebackhide__ = hides_frames


class AsyncPartition(Handle):
    """The twin of ``partition_injector.Partition``: ``async with`` heals at the end of the block, and raises NotInForce if
    something else ended the partition before, or packets passed it."""

    def __init__(self, caller: AsyncCaller, view: PartitionView, has_end: bool) -> None:
        super().__init__(view, has_end)
        self._caller = caller

    async def view(self) -> PartitionView:
        """The newest partition of this name, as the daemon has it now."""
        return await self._caller.call(calls.partition(self.name))

    async def enable(self, at: Optional[Mapping[str, int]] = None) -> PartitionView:
        """Cuts what was prepared."""
        return await self._caller.call(calls.enable(self.name, at))

    async def heal(self) -> Healed:
        """Heals it. Answers when and by what, also if it had ended before. A second call answers the same."""
        return (await self._ended()).healed

    async def _ended(self) -> End:
        if self._end is None:
            flow = flows.heal(self.applied)
            self._end = await (self._caller.run_owned(flow) if self._is_owned else self._caller.run(flow))
            self._caller.note_healed(self.generation)
        return self._end

    async def finish(self) -> Healed:
        """Heals it, as the end of its block does: raises NotInForce unless it was in force until then, or until the
        ``for_`` that it was given. A second call says the same."""
        if not self._is_checked:
            try:
                end = await self._ended()
            except Problem as problem:
                self._broken = flows.forgotten(self.name, problem)
            else:
                self._broken = await self._caller.run(flows.check(self.applied, end, self._may_end_first))
            self._is_checked = True
        if self._broken is not None:
            raise self._broken
        return await self.heal()

    async def record(self) -> RecoveryRecord:
        """Its record as it is now; ``final`` says whether it still changes."""
        return await self._caller.call(calls.recovery(self.name, self.generation, 0))

    async def recovery(self, timeout: Optional[Duration] = None) -> RecoveryRecord:
        """Its final record. Waits as long as it takes; with a timeout, NotFinal is raised when it ends."""
        limit = None if timeout is None else nanoseconds(timeout)
        may_wait = self._has_end or self._end is not None
        return await self._caller.run(flows.recovery(self.name, self.generation, limit, may_wait))

    async def probes(self) -> list[ProbeView]:
        """Every probe of its record."""
        return await self._caller.call(calls.probes(self.name, self.generation))

    async def assert_recovers(
        self, within: Optional[Duration] = None, endpoint: Optional[str] = None
    ) -> RecoveryRecord:
        """Heals it, waits for its record, and raises NotRecovered unless the required endpoints (or this one) settled
        within so long of its heal. Where partitions overlap, ask the one that is healed last."""
        await self.finish()
        check_question(await self.record(), within, endpoint)
        return assert_recovered(await self.recovery(), within, endpoint)

    async def __aenter__(self) -> AsyncPartition:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not self._ends_here:
            return
        if error is None:
            await self.finish()
            return
        try:
            await self.heal()
        except InjectorError as failure:
            # The block's own error is what the caller must see.
            warnings.warn(f'"{self.name}" could not be healed: {failure}', HealWarning, stacklevel=2)
