"""What a partition's handle knows without asking the daemon; the same for both kinds of client."""

from __future__ import annotations

import os
from typing import Optional, TypeVar

from .errors import NotInForce
from .flows import End
from .view import Healed, PartitionView

H = TypeVar("H", bound="Handle")


class Handle:
    """The daemon's answer to a cut, and how this client healed it."""

    def __init__(self, view: PartitionView, has_end: bool) -> None:
        self._has_end = has_end
        #: Whether its own end may come before that of its block.
        self._may_end_first = has_end
        self._end: Optional[End] = None
        self._is_checked = False
        self._broken: Optional[NotInForce] = None
        self._process = os.getpid()
        #: The daemon's answer when it was applied.
        self.applied = view

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.applied.resolved}>"

    @property
    def _ends_here(self) -> bool:
        """Whether the end of its block heals it: not in a child that was forked within the block."""
        return self._process == os.getpid()

    @property
    def _is_owned(self) -> bool:
        """Whether it hangs on its client's connection: not on that of a forked child."""
        return self.applied.request.get("owner") == "connection" and self._process == os.getpid()

    @property
    def is_checked(self) -> bool:
        """Whether this client has healed it, and knows whether it was in force until then."""
        return self._is_checked

    def outlasting(self: H) -> H:
        """The same; its own end, too, must not come before that of its block."""
        self._may_end_first = False
        return self

    @property
    def name(self) -> str:
        """Its name."""
        return self.applied.name

    @property
    def generation(self) -> int:
        """Its number among all partitions of the daemon."""
        return self.applied.generation

    @property
    def healed(self) -> Optional[Healed]:
        """How this client healed it; None before."""
        return None if self._end is None else self._end.healed
