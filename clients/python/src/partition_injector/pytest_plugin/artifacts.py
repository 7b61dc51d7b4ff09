"""What is kept of a test that cut: one folder a test, with its records and its timeline."""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Iterable

from ..event import Event
from ..record import RecoveryRecord


def write(folder: pathlib.Path, test: str, records: Iterable[RecoveryRecord], events: Iterable[Event]) -> pathlib.Path:
    """Writes ``record-NAME.json``, one each, and ``timeline.jsonl``. Answers the test's folder."""
    # A name of a file has at most 255 bytes, and a test may have any name.
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", test).strip("_.")[-160:]
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    place = folder / (f"{name}-{worker}" if worker else name)
    place.mkdir(parents=True, exist_ok=True)
    for record in records:
        text = json.dumps(record.raw, indent=2, ensure_ascii=False) + "\n"
        # The locale of a CI job may be one of ASCII.
        (place / f"record-{record.name}.json").write_text(text, encoding="utf-8")
    lines = (json.dumps(event.raw, ensure_ascii=False) + "\n" for event in events)
    (place / "timeline.jsonl").write_text("".join(lines), encoding="utf-8")
    return place
