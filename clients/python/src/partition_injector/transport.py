"""A byte stream to the daemon: its Unix socket, or ssh and ``injector dial-stdio`` on the daemon's host."""

from __future__ import annotations

import grp
import os
import select
import socket
import subprocess
import tempfile
import weakref
from typing import IO, Any, Callable, Optional, Protocol

from .address import Address, SocketAddress, SshAddress
from .errors import InjectorError, NotPermitted, Unreachable, hides_frames

__tracebackhide__ = hides_frames

#: How long a connect may take: the daemon accepts at once, unless its queue is full.
_CONNECT_TIMEOUT = 10.0

#: What "injector dial-stdio" ends with where the socket there is not for this user.
_NOT_PERMITTED = 77

_open: "weakref.WeakSet[Stream]" = weakref.WeakSet()
_clients: "weakref.WeakSet[Forgetful]" = weakref.WeakSet()


class Forgetful(Protocol):
    """A client, which has streams of its own."""

    def forget(self) -> None:
        """In a forked child: its streams are the parent's."""


def forget_in_children(client: Forgetful) -> None:
    """Has a client begin anew in each forked child, as if nothing were connected yet."""
    _clients.add(client)


class Stream:
    """An open stream; closed when it is dropped."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._stderr: Optional[IO[bytes]] = None
        self._second: Optional[socket.socket] = None
        if isinstance(address, SocketAddress):
            self.socket = _dial(address)
        else:
            self.socket = self._carry(address)
        _open.add(self)

    def _carry(self, address: SshAddress) -> socket.socket:
        ours, theirs = socket.socketpair()
        # Where this process ends without a word, ssh hands the end of its input on, and the daemon ends the connection.
        self._stderr = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                address.command(), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=self._stderr
            )
        except OSError as error:
            ours.close()
            self.close()
            raise Unreachable(f"{address}: ssh can't be started: {error}", remedy="install an ssh client") from error
        finally:
            theirs.close()
        return ours

    @property
    def is_closed(self) -> bool:
        """Whether this end is closed."""
        return self.socket.fileno() < 0

    def is_stale(self) -> bool:
        """Whether the daemon has ended an idle stream: it sends nothing unasked."""
        if self.is_closed:
            return True
        readable = select.poll()
        readable.register(self.socket, select.POLLIN)
        return bool(readable.poll(0))

    def close(self) -> None:
        """Ends it at once, even if somebody still reads from it. Partitions that it owns heal."""
        if hasattr(self, "socket") and not self.is_closed:
            try:
                # This wakes a reader in another thread, and reaches the second descriptor.
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                # The other end was first.
                pass
            self.socket.close()
        self._end_process()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def second(self) -> socket.socket:
        """A second descriptor, for an event loop that closes what it is given."""
        self._second = self.socket.dup()
        return self._second

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def forget(self) -> None:
        """In a forked child: the stream is the parent's, whose end alone must decide what it owns."""
        self.socket.close()
        if self._second is not None:
            self._second.close()
        self._process = None

    def why_ended(self) -> Optional[InjectorError]:
        """The reason behind a stream that broke, if ssh or the far end says one."""
        if self._process is None or self._stderr is None:
            return None
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return None
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()}" if lines else ""
        if status == _NOT_PERMITTED:
            return NotPermitted(f"{self.address}: not permitted there{said}", remedy=_JOIN)
        if status == 0:
            return None
        return Unreachable(
            f"the daemon at {self.address} can't be reached: ssh, or injector dial-stdio there, ended with status "
            f"{status}{said}",
            remedy=f"try it by hand: {' '.join(_without_dial(self.address))} injector status",
        )

    def __del__(self) -> None:
        self.close()


_JOIN = "use sudo, or join the group that owns the socket"


def _without_dial(address: Address) -> list[str]:
    command = address.command() if isinstance(address, SshAddress) else []
    return command[: command.index("injector")] if "injector" in command else command


def _dial(address: SocketAddress) -> socket.socket:
    dialled = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        dialled.settimeout(_CONNECT_TIMEOUT)
        dialled.connect(address.path)
        return dialled
    except PermissionError as error:
        dialled.close()
        raise NotPermitted(f"{address}: not permitted for this user", remedy=_how_to_join(address.path)) from error
    except OSError as error:
        dialled.close()
        why = error.strerror or str(error)
        raise Unreachable(
            f"the daemon at {address} can't be reached: {why}",
            remedy="is it running? Start it with: sudo injector start --config lab.yaml",
        ) from error


def _how_to_join(path: str) -> str:
    try:
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        return _JOIN
    if group == "root":
        return "run the tests with sudo"
    return f"run the tests with sudo, or join the socket's group with: sudo usermod -aG {group} $USER"


def _after_fork() -> None:
    for stream in list(_open):
        stream.forget()
    _open.clear()
    for client in list(_clients):
        client.forget()


_register: Callable[..., Any] = os.register_at_fork
_register(after_in_child=_after_fork)
