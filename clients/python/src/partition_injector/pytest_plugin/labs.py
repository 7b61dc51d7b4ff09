"""The daemons of a run."""

from __future__ import annotations

import os
import pathlib
from typing import Optional

from ..errors import Missing, hides_frames
from ..lab import Lab
from .options import Options

__tracebackhide__ = hides_frames


class Labs:
    """One daemon at a time: two would attach to the same interfaces."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lab: Optional[Lab] = None
        self._pid = os.getpid()

    def get(self, config: Optional[str]) -> Lab:
        """The daemon of a config, started if it does not run; without one, of the configured one."""
        path: Optional[pathlib.Path] = self._options.config if config is None else self._options.from_ini(config)
        if path is None:
            raise Missing(
                "the fixture `lab` has no config",
                remedy="set injector_config in the ini file, or give --injector-config lab.yaml",
            )
        if self._lab is not None and self._lab.config != path.absolute():
            self.stop()
        if self._lab is None:
            lab = Lab(path, binary=self._options.binary, share=self._options.run)
            lab.start()
            self._lab = lab
        return self._lab

    def stop(self) -> None:
        """Stops it, unless another worker still uses it."""
        lab, self._lab = self._lab, None
        if lab is not None and self._pid == os.getpid():
            lab.stop()
