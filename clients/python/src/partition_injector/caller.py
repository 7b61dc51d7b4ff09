"""What a partition's handle needs of the client that made it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from .calls import Call
from .flows import Flow

T = TypeVar("T")


class Caller(Protocol):
    """A client whose calls block."""

    def call(self, call: Call[T]) -> T:
        """Makes one call."""

    def run(self, flow: Flow[T]) -> T:
        """Carries out what takes several calls."""

    def run_owned(self, flow: Flow[T]) -> T:
        """The same over the connection that owns partitions. If it fails, that connection is closed, and they heal."""

    def note_healed(self, generation: int) -> None:
        """A partition of this client is healed."""


class AsyncCaller(Protocol):
    """A client whose calls are awaited."""

    async def call(self, call: Call[T]) -> T:
        """Makes one call."""

    async def run(self, flow: Flow[T]) -> T:
        """Carries out what takes several calls."""

    async def run_owned(self, flow: Flow[T]) -> T:
        """The same over the connection that owns partitions. If it fails, that connection is closed, and they heal."""

    def note_healed(self, generation: int) -> None:
        """A partition of this client is healed."""
