"""The options of the plugin, on the command line and in the ini file."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Optional

import pytest

from ..duration import seconds
from ..errors import UsageError

_SETTINGS = {
    "socket": "the daemon's socket (default: INJECTOR_SOCKET, or the usual one)",
    "host": "ssh://user@host of a daemon elsewhere",
    "config": "the config from which the fixture `lab` starts a daemon",
    "binary": "the program `injector` (default: INJECTOR_BINARY, or the one in PATH)",
    "artifacts": "a directory for the records and timelines of tests that cut",
    "missing": "what a test does without a daemon, rights or peers: fail (default) or skip",
    "record-wait": "how long a failing test waits for its records to become final, in all (default: 0s)",
}


def add_options(parser: pytest.Parser) -> None:
    """Declares them: ``--injector-socket`` is ``injector_socket`` in the ini file."""
    group = parser.getgroup("injector", "partition injector")
    for name, text in _SETTINGS.items():
        dest = f"injector_{name.replace('-', '_')}"
        choices: Any = ("fail", "skip") if name == "missing" else None
        group.addoption(f"--injector-{name}", dest=dest, default=None, choices=choices, help=text)
        parser.addini(dest, text, default=None)
    parser.addini("injector_peers", "peers that the daemon's config must have", type="args", default=[])


class Options:
    """The settings of a run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.socket = self._path("socket")
        self.host = self._text("host")
        self.config = self._path("config")
        self.binary = self._text("binary") or os.environ.get("INJECTOR_BINARY") or "injector"
        self.artifacts = self._path("artifacts")
        #: In seconds.
        self.record_wait = self._seconds("record_wait")
        self.peers: list[str] = list(config.getini("injector_peers"))
        missing = self._text("missing") or "fail"
        if missing not in ("fail", "skip"):
            raise pytest.UsageError(f'injector_missing: "{missing}" is neither "fail" nor "skip"')
        self.skips_missing = missing == "skip"

    @property
    def run(self) -> str:
        """A word that all workers of one run share, and no other run has."""
        worker: Optional[dict[str, Any]] = getattr(self._config, "workerinput", None)
        return str(worker["testrunuid"]) if worker else f"pid-{os.getpid()}"

    def from_ini(self, path: str) -> pathlib.Path:
        """A path as the ini file has it: relative to that file's folder."""
        base = self._config.inipath.parent if self._config.inipath else self._config.rootpath
        return base / path

    def _text(self, name: str) -> Optional[str]:
        value = self._config.getoption(f"injector_{name}") or self._config.getini(f"injector_{name}")
        return str(value) if value else None

    def _seconds(self, name: str) -> float:
        try:
            return seconds(self._text(name) or 0)
        except UsageError as error:
            raise pytest.UsageError(f"injector_{name}: {error}") from None

    def _path(self, name: str) -> Optional[pathlib.Path]:
        given = self._config.getoption(f"injector_{name}")
        if given:
            return self._config.invocation_params.dir / str(given)
        written = self._config.getini(f"injector_{name}")
        return self.from_ini(str(written)) if written else None
