"""A daemon that tests start from a config, and that ends with them, however they end.

The processes of one test run share it: each holds the writing end of a FIFO, and a keeper (``injector/keeper.py``)
ends the daemon when the last of them is gone, also if it was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Callable, Iterator, Optional, Type, Union

from .client import Injector
from .errors import Broken, InjectorError, Missing, NotPermitted, Unreachable, hides_frames
from .view import Status

__tracebackhide__ = hides_frames

#: How long the daemon may take to start: the kernel verifies its programs.
_STARTING = 60.0
_STOPPING = 15.0
#: How long interfaces and silent peers may take to be found.
_FINDING = 5.0

#: What "injector start" ends with for a bad config, and without root.
_BAD_CONFIG = 64
_NOT_PERMITTED = 77


class LabFailed(InjectorError):
    """The daemon did not start, and not for what is missing on this host."""

    code = "lab"


class Lab:
    """A daemon with a config. Use it as a context manager, or call ``start`` and ``stop``.

    ``share`` names what shares the daemon: processes that give the same word and config use the same one.
    """

    def __init__(
        self, config: Union[str, "os.PathLike[str]"], *, binary: str = "injector", share: Optional[str] = None
    ) -> None:
        self.config = pathlib.Path(config).absolute()
        self.binary = binary
        word = hashlib.sha256(f"{self.config}\0{share or os.getpid()}".encode()).hexdigest()[:12]
        # A socket's path has at most 107 bytes.
        self.folder = pathlib.Path(tempfile.gettempdir()) / f"injector-lab-{os.getuid()}-{word}"
        self._hold: Optional[int] = None
        self._process = os.getpid()
        self._keeper: Optional["subprocess.Popen[bytes]"] = None

    @property
    def socket(self) -> str:
        """The daemon's socket."""
        return str(self.folder / "run" / "api.sock")

    @property
    def log(self) -> str:
        """What the daemon has logged."""
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")
        return ""

    def injector(self) -> Injector:
        """A client of it."""
        return Injector(self.socket)

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    def start(self) -> Status:
        """Starts the daemon, or joins the one that another process of the run has started; waits until it answers."""
        if self._hold is not None:
            return self.injector().status()
        if os.geteuid() != 0:
            raise NotPermitted(
                "a lab needs root, to attach to interfaces", remedy="run the tests with: sudo -E python -m pytest"
            )
        binary = self._checked_binary()
        if not self.config.is_file():
            raise Missing(f"{self.config}: no such config", remedy="write one: docs/reference/config.md has every key")
        with _locked(self.folder):
            if self._join():
                return self._ready()
            self._clear()
            os.mkfifo(self._fifo, 0o600)
            program = pathlib.Path(__file__).with_name("keeper.py")
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", str(program), str(self.folder), binary, str(self.config), self.socket],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # The terminal's Ctrl-C is for the tests: the daemon ends after them.
                start_new_session=True,
            )
            try:
                self._wait_for(self._join, "the keeper of the daemon did not start")
                return self._ready()
            except BaseException:
                self._leave()
                raise

    def stop(self) -> None:
        """Leaves the daemon; the last process that does so ends it. A forked child of a process that has joined it has not
        joined it itself."""
        if self._hold is None or self._process != os.getpid():
            return
        self._leave()
        if any(self._others()):
            return
        end = time.monotonic() + _STOPPING
        while self._fifo.exists() and time.monotonic() < end:
            time.sleep(0.01)
        if self._keeper is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(_STOPPING)

    @property
    def _fifo(self) -> pathlib.Path:
        return self.folder / "holders"

    @property
    def _doctor(self) -> str:
        return f"`{self.binary} doctor --config {self.config}` says what this host lacks"

    def _checked_binary(self) -> str:
        found = shutil.which(self.binary)
        if found is None:
            raise Missing(
                f'there is no program "{self.binary}"',
                remedy="build it with `cargo xtask build`, or name it with --injector-binary or INJECTOR_BINARY",
            )
        return os.path.abspath(found)

    def _join(self) -> bool:
        """Takes hold of the keeper; False if there is none."""
        try:
            self._hold = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        self._process = os.getpid()
        holder = self.folder / f"holder-{self._process}"
        holder.touch()
        _holds.add(self._hold)
        return True

    def _leave(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / f"holder-{os.getpid()}").unlink()
        if self._hold is not None:
            _holds.discard(self._hold)
            os.close(self._hold)
            self._hold = None

    def _others(self) -> Iterator[int]:
        for holder in self.folder.glob("holder-*"):
            pid = int(holder.name.rsplit("-", 1)[1])
            if os.path.exists(f"/proc/{pid}"):
                yield pid

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _ready(self) -> Status:
        """Waits until the daemon answers, and until its interfaces are found."""
        end = time.monotonic() + _STARTING
        while True:
            self._check_ended()
            try:
                status = self.injector().status()
                break
            except (Unreachable, Broken):
                # It does not listen yet, or it ends again: the next turn says why.
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        end = time.monotonic() + _FINDING
        while True:
            absent = self._absent(status)
            if absent is None:
                return status
            if time.monotonic() > end:
                raise absent
            time.sleep(0.1)
            status = self.injector().status()

    def _absent(self, status: Status) -> Optional[Missing]:
        remedy = f"start the peers first; {self._doctor}"
        for attachment in status.attachments:
            if attachment.hook is None:
                where = f" in the namespace {attachment.netns}" if attachment.netns else ""
                return Missing(f"the lab's interface {attachment.interface}{where} is not there", remedy=remedy)
        lost = [link for link in (status.coverage.links if status.coverage else []) if link.state == "not"]
        for name in status.peers:
            others = len(status.peers) - 1
            mine = [link for link in lost if name in (link.src, link.dst)]
            if others and len(mine) == 2 * others:
                return Missing(f"the lab's peer {name} is not there: {mine[0].reason}", remedy=remedy)
        return None

    def _check_ended(self) -> None:
        try:
            status = json.loads((self.folder / "ended").read_text())["status"]
        except (OSError, ValueError):
            return
        said = self.log.strip()
        last = said.splitlines()[-1] if said else f"it ended with status {status}"
        if status == _BAD_CONFIG:
            remedy = f"`{self.binary} check --config {self.config}` needs no root"
            raise LabFailed(f"the lab's daemon did not start: {said}", remedy=remedy)
        error = NotPermitted if status == _NOT_PERMITTED else Missing
        raise error(f"the lab's daemon did not start: {last}", remedy=self._doctor)

    def _wait_for(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + _STARTING
        while not condition():
            if time.monotonic() > end or (self._keeper is not None and self._keeper.poll() is not None):
                raise LabFailed(what)
            time.sleep(0.01)


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise LabFailed(f"{folder} belongs to somebody else", remedy="remove it")
        try:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A keeper that ends takes the folder along, and the lock that was waited for.
            if _is_at(lock, folder / "lock"):
                yield
                return
        finally:
            os.close(lock)


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


_holds: "set[int]" = set()


def _after_fork() -> None:
    # A forked child must not keep the daemon of its parent.
    for hold in _holds:
        os.close(hold)
    _holds.clear()


os.register_at_fork(after_in_child=_after_fork)
