"""Where the daemon is: a Unix socket on this host, or ssh to another one."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Optional, Union

from .errors import UsageError, hides_frames

__tracebackhide__ = hides_frames

#: The socket of a daemon whose config names no other.
DEFAULT_SOCKET = "/run/injector/injector.sock"

# ssh would read a leading hyphen as an option, and the far shell would read quotes and blanks.
_WORD = r"[^-/@\s'\"][^/@\s'\"]*"
_SSH = re.compile(rf"ssh://(?:(?P<user>{_WORD})@)?(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<host>[^-/@:\s'\"][^/@:\s'\"]*))(?::(?P<port>\d+))?/?")


@dataclass(frozen=True)
class SocketAddress:
    """A socket on this host."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class SshAddress:
    """A daemon on another host, reached by ``injector dial-stdio`` there; ``socket`` is the path there."""

    destination: str
    port: Optional[int]
    socket: Optional[str]

    def __str__(self) -> str:
        return f"ssh://{self.destination}" + (f":{self.port}" if self.port else "")

    def command(self) -> list[str]:
        """What is run here."""
        command = ["ssh", "-T", "-o", "ConnectTimeout=10"]
        if self.port:
            command += ["-p", str(self.port)]
        command += [self.destination, "injector", "dial-stdio"]
        if self.socket:
            # ssh joins its arguments and gives them to a shell.
            command += ["--socket", shlex.quote(self.socket)]
        return command


Address = Union[SocketAddress, SshAddress]


def address(socket: Union[str, "os.PathLike[str]", None], host: Optional[str]) -> Address:
    """The daemon that the arguments name, else INJECTOR_HOST and INJECTOR_SOCKET, else the usual socket here."""
    named_by = "host"
    if socket is None and host is None:
        host, named_by = os.environ.get("INJECTOR_HOST") or None, "INJECTOR_HOST"
    path = os.fspath(socket) if socket is not None else os.environ.get("INJECTOR_SOCKET") or None
    if host is None:
        return SocketAddress(path or DEFAULT_SOCKET)
    several = host.split(",")
    if len(several) > 1:
        raise UsageError(
            f"{named_by} names {len(several)} hosts, and a client asks one daemon",
            field=named_by,
            remedy="name one, or make a client for each with host=",
        )
    found = _SSH.fullmatch(host)
    if found is None:
        raise UsageError(
            f'{named_by}: "{host}" is not a host', field=named_by, remedy="write it as ssh://user@host or ssh://user@host:22"
        )
    name, user = found["v6"] or found["host"], found["user"]
    port = int(found["port"]) if found["port"] else None
    return SshAddress(f"{user}@{name}" if user else name, port, path)
