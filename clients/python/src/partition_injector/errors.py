"""What can go wrong. Every error has a code for programs, a sentence for people, and mostly a remedy."""

from __future__ import annotations

import json
from typing import Optional


def hides_frames(of: object = None) -> bool:
    """Whether pytest leaves out this package's frames for an ``ExceptionInfo``: where the package itself says what is
    wrong, how it found that is of no use. Modules have it as ``__tracebackhide__``; ``--full-trace`` shows all."""
    return isinstance(getattr(of, "value", None), InjectorError)


class InjectorError(Exception):
    """The root of all errors of this package.

    ``code`` is a fixed word, such as ``unknown-peer``; ``detail`` says what is wrong and where; ``field`` names the
    field of the request that is wrong; ``remedy`` says what to do. The last two are None where there is none.
    """

    code: str = "error"

    def __init__(
        self,
        detail: str,
        *,
        code: Optional[str] = None,
        field: Optional[str] = None,
        remedy: Optional[str] = None,
    ) -> None:
        super().__init__(detail if remedy is None else f"{detail}; {remedy}")
        if code is not None:
            self.code = code
        self.detail = detail
        self.field = field
        self.remedy = remedy


class Problem(InjectorError):
    """The daemon refused a call; nothing has changed. The codes are listed in docs/reference/api.md."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        status: int,
        field: Optional[str] = None,
        remedy: Optional[str] = None,
    ) -> None:
        super().__init__(detail, code=code, field=field, remedy=remedy)
        self.status = status

    @classmethod
    def read(cls, status: int, body: bytes) -> Optional[Problem]:
        """The problem document of an answer; None if the body is none."""
        try:
            document = json.loads(body)
            code, detail = document["code"], document["detail"]
        except (ValueError, KeyError, TypeError):
            return None
        return cls(
            str(detail), code=str(code), status=status, field=document.get("field"), remedy=document.get("remedy")
        )


def is_forgotten(error: BaseException) -> bool:
    """Whether the daemon says that it knows no such partition, so that nothing of it is cut."""
    return isinstance(error, Problem) and error.code == "unknown-partition"


class UsageError(InjectorError, ValueError):
    """An argument is wrong, and the daemon was not asked."""

    code = "usage"


class Unreachable(InjectorError):
    """No daemon answers there."""

    code = "unreachable"


class NotPermitted(InjectorError):
    """This user may not use the daemon, or may not start one."""

    code = "not-permitted"


class Missing(InjectorError):
    """A program, a config or a peer that the tests need is not there."""

    code = "missing"


class Broken(InjectorError):
    """The connection ended before the answer. Partitions that it owned are healed."""

    code = "broken"


class Misread(InjectorError):
    """The daemon's answer is not what this version of the client expects."""

    code = "misread"


class VersionMismatch(InjectorError):
    """The daemon and this client are of different versions, and a call failed for it."""

    code = "version"


class VersionWarning(UserWarning):
    """The daemon and this client are of different versions."""


class HealWarning(UserWarning):
    """A partition could not be healed by a call; the end of its connection heals it."""


class OutOfTime(InjectorError, TimeoutError):
    """Something did not come in the time that it was given."""

    code = "timeout"


class NotHealthy(OutOfTime):
    """The required endpoints did not become healthy in time."""

    code = "not-healthy"


class NotInForce(InjectorError):
    """A partition was not in force until this client healed it: what was seen under it is no result."""

    code = "not-in-force"
