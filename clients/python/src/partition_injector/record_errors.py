"""Errors that carry the record that they are about."""

from __future__ import annotations

from typing import Optional

from .errors import InjectorError, OutOfTime
from .record import RecoveryRecord


class NotFinal(OutOfTime):
    """A record was not final in time; ``record`` is what was known then."""

    code = "not-final"

    def __init__(self, detail: str, record: RecoveryRecord, *, remedy: Optional[str] = None) -> None:
        super().__init__(detail, remedy=remedy)
        self.record = record


class NotRecovered(InjectorError, AssertionError):
    """The cluster, or an endpoint, did not settle in time. The message shows phases and links."""

    code = "not-recovered"

    def __init__(self, detail: str, record: RecoveryRecord, *, remedy: Optional[str] = None) -> None:
        super().__init__(detail, remedy=remedy)
        self.record = record


class RecoveryUnknown(NotRecovered):
    """It is not known whether the cluster recovered: unknown is not recovered."""

    code = "recovery-unknown"
