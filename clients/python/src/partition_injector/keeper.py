"""Keeps a daemon for as long as somebody holds the writing end of a FIFO; run as a program of its own.

Arguments: a folder, the daemon's program, its config, its socket. The folder has the FIFO ``holders`` and the file
``lock``; this program writes ``log``, and ``ended`` if the daemon ends by itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
#: How long nobody may take hold at the beginning.
_GRACE = 10.0


def main(folder: pathlib.Path, program: str, config: str, socket: str) -> None:
    """Runs the daemon until nobody holds on to it."""
    fifo = os.open(folder / "holders", os.O_RDONLY | os.O_NONBLOCK)
    libc = ctypes.CDLL(None)

    def end_with_keeper() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    environment = {name: value for name, value in os.environ.items() if name not in ("INJECTOR_SOCKET", "INJECTOR_HOST")}
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            [program, "start", "--config", config, "--socket", socket],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            preexec_fn=end_with_keeper,
        )
    _until_abandoned(folder, fifo, daemon)
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    shutil.rmtree(folder)


def _until_abandoned(folder: pathlib.Path, fifo: int, daemon: "subprocess.Popen[bytes]") -> None:
    """Returns with the lock taken, so that nobody takes hold any more."""
    patience = time.monotonic() + _GRACE
    had_holder, is_told = False, False
    while True:
        if daemon.poll() is not None and not is_told:
            (folder / "ended.new").write_text(json.dumps({"status": daemon.returncode}))
            (folder / "ended.new").rename(folder / "ended")
            is_told = True
        if not _is_abandoned(fifo):
            had_holder = True
        elif had_holder or time.monotonic() > patience:
            lock = os.open(folder / "lock", os.O_RDWR)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_abandoned(fifo):
                return
            os.close(lock)
        time.sleep(0.02)


def _is_abandoned(fifo: int) -> bool:
    """Whether nobody holds the writing end."""
    try:
        return os.read(fifo, 1) == b""
    except BlockingIOError:
        return False


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:5])
