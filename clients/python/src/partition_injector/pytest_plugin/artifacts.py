"""What is kept of a test that cut: one folder a test, with its records and its timeline."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
from collections import Counter
from typing import Iterable, Sequence

from ..event import Event
from ..record import RecoveryRecord


def write(folder: pathlib.Path, test: str, records: Sequence[RecoveryRecord], events: Iterable[Event]) -> pathlib.Path:
    """Writes ``record-NAME.json`` for each partition, and ``timeline.jsonl``. Partitions of one name have
    ``record-NAME@GENERATION.json``. Answers the test's folder."""
    # A name of a file has at most 255 bytes, and a test may have any name: the digest tells apart what looks alike then.
    digest = hashlib.sha256(test.encode(errors="surrogatepass")).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", test).strip("_.")[-160:] + f"-{digest}"
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    place = folder / (f"{name}-{worker}" if worker else name)
    place.mkdir(parents=True, exist_ok=True)
    names = Counter(record.name for record in records)
    for record in records:
        # A partition's name has no "@".
        file = record.name if names[record.name] == 1 else f"{record.name}@{record.generation}"
        text = json.dumps(record.raw, indent=2, ensure_ascii=False) + "\n"
        # The locale of a CI job may be one of ASCII.
        (place / f"record-{file}.json").write_text(text, encoding="utf-8")
    lines = (json.dumps(event.raw, ensure_ascii=False) + "\n" for event in events)
    (place / "timeline.jsonl").write_text("".join(lines), encoding="utf-8")
    return place
