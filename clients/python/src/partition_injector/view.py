"""What the daemon answers beside records: status, partitions, heals, probes. docs/reference/api.md has every field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from .record_parts import CoverageState, HealedBy, HostClock, NamedLink, RecordWarning, Stamped

PartitionState = Literal["prepared", "scheduled", "active", "watched", "closed"]
NameSource = Literal["listed", "listed_mac", "vip", "held", "mac", "port", "listens", "process", "cgroup"]
WireSight = Literal["seen", "not_seen", "not_looked"]


@dataclass(frozen=True)
class Healed(Stamped):
    """When and by what a partition was healed: possibly something before the request that is answered with it."""

    name: str
    generation: int
    healed_by: HealedBy


@dataclass(frozen=True)
class LinkCounters:
    """What one link has dropped so far; None where the kernel's counts can't be read."""

    src: str
    dst: str
    dropped_packets: Optional[int]
    dropped_bytes: Optional[int]


@dataclass(frozen=True)
class LinkTotals:
    """All links in sum; the sums are None where counting takes too long."""

    links: int
    dropped_packets: Optional[int]
    dropped_bytes: Optional[int]
    #: How many links of the shape have neither end here.
    not_here: int = 0


@dataclass(frozen=True)
class LinkCoverageView:
    """How far one link is covered, why, and what to write into the config."""

    src: str
    dst: str
    state: CoverageState
    reason: Optional[str]
    remedy: Optional[str]


@dataclass(frozen=True)
class PartitionView:
    """A partition as the daemon has it. ``request`` and ``resolved`` are JSON."""

    name: str
    generation: int
    state: PartitionState
    request: dict[str, Any]
    resolved: dict[str, Any]
    seed: Optional[int]
    totals: LinkTotals
    links: Optional[list[LinkCounters]]
    effective: Optional[Stamped]
    ends_at_ns: Optional[int]
    healed: Optional[Healed]
    coverage: Optional[list[LinkCoverageView]]
    not_here: Optional[list[NamedLink]]
    warnings: list[RecordWarning]
    #: Required endpoints that were not healthy when it was cut; None in lists, and from daemons that do not say it.
    not_healthy: Optional[list[str]] = None
    #: Who held each role that the shape names, when it was asked for.
    roles: dict[str, list[str]] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class ProbeView:
    """One probe of a record; ``error`` and ``code`` are None for a success."""

    endpoint: str
    scheduled_ns: int
    done_ns: int
    error: Optional[str]
    code: Optional[str]
    #: When it was sent.
    begun_ns: Optional[int] = None


@dataclass(frozen=True)
class EndpointAnswer:
    """An endpoint's answer when it was asked once."""

    name: str
    scheduled_ns: int
    done_ns: int
    error: Optional[str]
    wire: Optional[WireSight]
    wire_seen_ns: Optional[int]


@dataclass(frozen=True)
class AttachmentView:
    """Where the programs are on one interface; ``hook`` is None while the interface is absent."""

    interface: str
    netns: Optional[str]
    hook: Optional[str]
    why: str
    others: list[str]


@dataclass(frozen=True)
class NameView:
    """Something that a peer's frames are named by."""

    name: str
    source: NameSource
    from_: Optional[str]


@dataclass(frozen=True)
class ExitView:
    """A device by which a peer's frames leave its home, and the attached interface that sees them."""

    interface: str
    hook: Optional[str]


@dataclass(frozen=True)
class PeerView:
    """A peer of the config."""

    addresses: list[str]
    mac: Optional[str]
    names: list[NameView]
    home: Optional[str]
    exits: list[ExitView]
    is_closed: bool
    is_here: bool
    is_plain: bool
    forwards: bool


@dataclass(frozen=True)
class ProbeRules:
    """How an endpoint is probed. Lengths of time are texts, as in the config."""

    stimulus: str
    interval: str
    timeout: str
    connection: Literal["fresh", "pooled"]
    settings: Optional[dict[str, str]] = None
    addresses: Optional[list[str]] = None


@dataclass(frozen=True)
class EndpointView:
    """An endpoint; ``healthy`` is None before there were enough probes."""

    name: str
    peer: Optional[str]
    address: Optional[str]
    required: bool
    healthy: Optional[bool]
    last_error: Optional[str]
    probe: ProbeRules


@dataclass(frozen=True)
class CoverageSummary:
    """How far the links between the peers are covered: counts, and the links that are not, the worst first."""

    covered: int
    unknown: int
    partly: int
    not_: int
    links: list[LinkCoverageView]


@dataclass(frozen=True)
class Rules:
    """What decides verdicts. Lengths of time are texts, as in the config."""

    consecutive: int
    observe: str
    observe_max: str
    tolerate: str
    deadline: str
    max_for: str


@dataclass(frozen=True)
class RefusedConfig:
    """A reload that left the config before in force."""

    at_ns: int
    wall: int
    outcome: Literal["in_force", "unchanged", "refused", "failed"]
    what: str


@dataclass(frozen=True)
class Status:
    """The daemon itself."""

    version: str
    abi: int
    kernel: str
    pid: int
    config_number: int
    refused_config: Optional[RefusedConfig]
    now_ns: int
    clock: HostClock
    attachments: list[AttachmentView]
    peers: dict[str, PeerView]
    coverage: Optional[CoverageSummary]
    partitions: list[PartitionView]
    endpoints: list[EndpointView]
    rules: Rules
    lost_events: Optional[int]
    lost_log_lines: int
    counters: dict[str, int]
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
