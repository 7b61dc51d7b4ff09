"""The client of the partition injector: cut the network between peers, heal it, and measure the recovery.

>>> from partition_injector import Injector
>>> with Injector().partition(isolate=["n1"], scopes=["tcp/5122"]) as partition: ...
>>> partition.recovery(timeout="60s").heal_to_settled_ns

``partition_injector.aio.AsyncInjector`` is the same for asyncio, and the pytest plugin has the fixtures ``injector`` and ``lab``.
"""

__version__ = "0.1.0"

from .client import Injector
from .duration import Duration
from .errors import (
    Broken,
    HealWarning,
    InjectorError,
    Misread,
    Missing,
    NotHealthy,
    NotInForce,
    NotPermitted,
    OutOfTime,
    Problem,
    Unreachable,
    UsageError,
    VersionMismatch,
    VersionWarning,
)
from .event import (
    ConfigEvent,
    CutEvent,
    Event,
    FirstEvent,
    HealEvent,
    HealthEvent,
    InterfaceEvent,
    LeaseLapsedEvent,
    LostEvent,
    MarkEvent,
    RecordEvent,
)
from .events import Events
from .partition import Partition
from .record import RecoveryRecord
from .record_errors import NotFinal, NotRecovered, RecoveryUnknown
from .record_parts import EndpointRecord, LinkRecord, Outcome, Phases
from .request import Cut
from .verdict import assert_recovered
from .view import Healed, PartitionView, Status

__all__ = [
    "Broken", "ConfigEvent", "Cut", "CutEvent", "Duration", "EndpointRecord", "Event", "Events", "FirstEvent",
    "HealEvent", "HealWarning", "Healed", "HealthEvent", "Injector", "InjectorError", "InterfaceEvent",
    "LeaseLapsedEvent", "LinkRecord", "LostEvent", "MarkEvent", "Misread", "Missing", "NotFinal", "NotHealthy",
    "NotInForce", "NotPermitted", "NotRecovered", "OutOfTime", "Outcome", "Partition", "PartitionView", "Phases",
    "Problem", "RecordEvent", "RecoveryRecord", "RecoveryUnknown", "Status", "Unreachable", "UsageError",
    "VersionMismatch", "VersionWarning", "assert_recovered",
]  # fmt: skip
