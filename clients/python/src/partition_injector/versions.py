"""Whether the client and the daemon are of one version, and what to do if they are not."""

from __future__ import annotations

import re
from typing import Optional

from . import __version__
from .errors import InjectorError, Misread, Problem, VersionMismatch, hides_frames

__tracebackhide__ = hides_frames

#: Problems that a newer or older daemon may answer with, where this version's would not.
_SUSPECT = ("no-such-call", "wrong-method", "bad-body", "bad-parameter", "bad-shape")
_UNSUPPORTED = ("no-such-call", "wrong-method")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def difference(daemon: str) -> Optional[str]:
    """A sentence on how the daemon's version differs from this client's; None if it does not."""
    if daemon == __version__:
        return None
    how = "newer" if _numbers(__version__) > _numbers(daemon) else "older"
    return f"this client ({__version__}) is {how} than the daemon ({daemon})"


REMEDY = "install the client of the daemon's version (pip install ./clients/python in its source), or update the daemon"


def is_suspect(error: InjectorError) -> bool:
    """Whether an error may come from another version."""
    return isinstance(error, Misread) or (isinstance(error, Problem) and error.code in _SUSPECT)


def diagnosed(error: InjectorError, daemon: str) -> InjectorError:
    """The error, with what the versions have to do with it."""
    sentence = difference(daemon)
    if sentence is None:
        return error
    if isinstance(error, Problem) and error.code not in _UNSUPPORTED:
        # Its code and field stay: it may be a plain mistake.
        remedy = "; ".join(filter(None, [error.remedy, f"{sentence}: {REMEDY}"]))
        return Problem(error.detail, code=error.code, status=error.status, field=error.field, remedy=remedy)
    return VersionMismatch(f"{sentence}, and {error.detail}", remedy=REMEDY)
