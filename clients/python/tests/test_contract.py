"""The types of the client are those of the daemon's contract."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import subprocess
import typing
from typing import Any

import pytest
from conftest import BINARY

import partition_injector as injector
from partition_injector import Cut, RecoveryRecord, event, record, record_parts, view
from partition_injector.request import DRAWN, OPTIONS, SHAPES
from partition_injector.wire import key

ROOT = pathlib.Path(__file__).parents[3]
SCHEMAS: dict[str, Any] = json.loads((ROOT / "injector/tests/data/golden/openapi.json").read_text())["components"]["schemas"]
#: Named otherwise here, since Python has a Warning of its own.
NAMES = {"RecordWarning": "Warning"}

TYPES = [
    cls
    for module in (record, record_parts, view)
    for cls in vars(module).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module.__name__
]


def fields(cls: type) -> set[str]:
    return {key(field.name) for field in dataclasses.fields(cls) if field.name != "raw"}


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: cls.__name__)
def test_a_type_has_the_fields_of_its_schema(cls: type) -> None:
    schema = SCHEMAS[NAMES.get(cls.__name__, cls.__name__)]
    assert fields(cls) == set(schema["properties"])
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "raw":
            continue
        is_optional = type(None) in typing.get_args(hints[field.name])
        described = schema["properties"][key(field.name)]
        may_be_null = "null" in json.dumps(described.get("type", "")) or {"type": "null"} in described.get("anyOf", [])
        assert is_optional == may_be_null, f"{cls.__name__}.{field.name}"


def test_every_kind_of_event_has_a_type_with_its_fields() -> None:
    common = {"id", "at_ns", "wall"}
    kinds = {kind["properties"]["kind"]["const"]: set(kind["properties"]) for kind in SCHEMAS["Event"]["oneOf"]}
    assert {kind: fields(cls) - common for kind, cls in event.KINDS.items()} == kinds


def test_every_shape_and_option_has_a_keyword() -> None:
    shapes = {name for shape in SCHEMAS["Shape"]["oneOf"] for name in shape["properties"]}
    assert set(SHAPES) == shapes
    options = set(SCHEMAS["PartitionRequest"]["properties"]) - {"shape"}
    assert {key(name) for name in OPTIONS} == options
    assert set(Cut.__annotations__) == {*SHAPES, *OPTIONS, "among", "shape"}
    drawn = {name for shape in SCHEMAS["Shape"]["oneOf"] for name, of in shape["properties"].items() if "Draw" in str(of)}
    assert set(DRAWN) == drawn


def test_words_are_those_of_the_contract() -> None:
    for schema, literal in {
        "Outcome": record_parts.Outcome,
        "HealedBy": record_parts.HealedBy,
        "InForce": record_parts.InForce,
        "CoverageState": record_parts.CoverageState,
        "FailOver": record_parts.FailOver,
        "WarningCode": record_parts.WarningCode,
        "PartitionState": view.PartitionState,
        "NameSource": view.NameSource,
        "WireSight": view.WireSight,
    }.items():
        assert set(typing.get_args(literal)) == {word["const"] for word in SCHEMAS[schema]["oneOf"]}, schema


def test_stored_records_are_read() -> None:
    folder = ROOT / "injector-core/tests/data/golden"
    full = RecoveryRecord.from_json((folder / "record.json").read_text())
    assert full.links[0].check is not None and full.links[0].check.control == 6
    assert full.phases.last_link == record_parts.NamedLink("n1", "n2")
    empty = RecoveryRecord.from_json((folder / "record-empty.json").read_text())
    # Missing is None, and never zero.
    assert empty.heal_to_settled_ns is None and empty.outcome is None
    with pytest.raises(injector.Misread, match="record.hold_ns is '1 s', not of type int"):
        RecoveryRecord.from_json(json.dumps({**full.raw, "hold_ns": "1 s"}))


def test_client_and_daemon_are_of_one_version() -> None:
    said = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\d+\.\d+\.\d+", said)[0] == injector.__version__
