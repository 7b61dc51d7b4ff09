"""What the markers of a test cut."""

from __future__ import annotations

from types import TracebackType
from typing import Optional, Sequence, Tuple, Type

import pytest

from ..duration import Duration
from ..errors import InjectorError, UsageError, hides_frames
from ..partition import Partition
from ..request import check_keywords
from ..verdict import check_question
from .scope import TestInjector, last_healed

__tracebackhide__ = hides_frames

#: The keywords of the marker that are not those of a cut.
_QUESTION = ("recovers_within", "endpoint")


class Marked:
    """The partitions of a test's markers, in force within its block. It uses nothing of ``contextlib``, whose frames would be
    in the traceback of a failing test."""

    def __init__(self, injector: TestInjector, marks: Sequence[pytest.Mark]) -> None:
        self._injector = injector
        #: The outermost first, as ``pytest.Item.iter_markers`` does not have them.
        self._marks = [*reversed(marks)]
        self._partitions: list[Partition] = []

    def __enter__(self) -> Marked:
        try:
            for mark in self._marks:
                self._partitions.append(self._cut(mark))
            for within, endpoint in self._questions():
                # Before the test's call, which may take minutes; and of the outermost, which is healed last.
                check_question(self._partitions[0].record(), within, endpoint)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _cut(self, mark: pytest.Mark) -> Partition:
        check_keywords(mark.kwargs, also=("name", *_QUESTION))
        if len(mark.args) > 1:
            raise UsageError(
                f"the marker takes one argument that is not a keyword, the partition's name, and not {mark.args!r}",
                remedy='write the shape as a keyword, as in @pytest.mark.partition(isolate=["n1"])',
            )
        if "endpoint" in mark.kwargs and "recovers_within" not in mark.kwargs:
            raise UsageError(
                "the marker asks nothing of its endpoint", field="endpoint", remedy='add recovers_within="20s"'
            )
        cut = {key: value for key, value in mark.kwargs.items() if key not in _QUESTION}
        return self._injector.partition(*mark.args, **cut)

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        failure: Optional[InjectorError] = None
        for partition in reversed(self._partitions):
            try:
                partition.__exit__(kind, error, trace)
            except InjectorError as broken:
                failure = failure or broken
        if failure is not None:
            raise failure

    def check(self) -> None:
        """Fails unless the cluster recovered from the last heal as each marker asks."""
        for within, endpoint in self._questions():
            last_healed(self._partitions).assert_recovers(within, endpoint)

    def _questions(self) -> list[Tuple[Duration, Optional[str]]]:
        """The bound and the endpoint of each marker that has a bound."""
        return [
            (mark.kwargs["recovers_within"], mark.kwargs.get("endpoint"))
            for mark in self._marks
            if "recovers_within" in mark.kwargs
        ]
