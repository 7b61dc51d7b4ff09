"""The parts of a recovery record, as docs/reference/record.md has it.

Names that end in ``_ns`` are nanoseconds: instants of ``CLOCK_MONOTONIC`` of the daemon's host, or lengths of time.
``wall`` is nanoseconds since the Unix epoch. A datum that is missing is None, and never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Optional

Outcome = Literal["recovered", "not_recovered", "censored", "unknown", "harness_failed"]
HealedBy = Literal["request", "deadline", "lease", "shutdown", "disconnect"]
InForce = Literal["yes", "no", "unknown"]
CoverageState = Literal["covered", "unknown", "partly", "not"]
CheckForm = Literal["ethertype", "ip"]
FailOver = Literal["never_out", "back", "not_back"]
WarningCode = Literal[
    "foreign_ahead", "hook_unreadable", "loss_not_once", "left_out", "coverage_unknown", "groups_lost",
    "foreign_source", "unnamed", "not_checked", "overlapped", "other",
]  # fmt: skip


@dataclass(frozen=True)
class Stamped:
    """The interval around the one store that cut or healed; both ends are equal where a time was set ahead."""

    begin_ns: int
    end_ns: int
    wall: int


@dataclass(frozen=True)
class TimeRange:
    """A stretch of time; ``until_ns`` is None while it lasts."""

    from_ns: int
    until_ns: Optional[int]


@dataclass(frozen=True)
class HostClock:
    """Whose clock stamps are of."""

    host: str
    boot: str


@dataclass(frozen=True)
class NamedLink:
    """A directed link, from sender to receiver."""

    src: str
    dst: str

    def __str__(self) -> str:
        return f"{self.src}→{self.dst}"


@dataclass(frozen=True)
class RecordWarning:
    """What makes a record doubtful without deciding its outcome."""

    code: WarningCode
    subject: Optional[str]
    text: str


@dataclass(frozen=True)
class ShapePair:
    """The shape as asked, and with its roles, drawing and presets resolved (None where a role was not), in the JSON form
    of the API."""

    asked: dict[str, Any]
    resolved: Optional[dict[str, Any]]
    direction: Literal["both", "out", "in"]
    #: Who held each role that the shape names, when it was asked for.
    roles: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Traffic:
    """What the cut did to packets."""

    direction: Literal["both", "out", "in"]
    scopes: list[str]
    loss: str
    flap: Optional[str]
    neighbour: Literal["auto", "keep", "drop"]


@dataclass(frozen=True)
class Uncovered:
    """A time at which an interface had no hook."""

    interface: str
    from_ns: int
    until_ns: Optional[int]


@dataclass(frozen=True)
class Bypassed:
    """A time at which something could send packets past the hook of an interface."""

    interface: str
    why: str
    from_ns: int
    until_ns: Optional[int]


@dataclass(frozen=True)
class Coverage:
    """How far a link's paths pass hooks."""

    state: CoverageState
    reason: Optional[str]
    is_translated: bool = False


@dataclass(frozen=True)
class LinkCheck:
    """What the active check saw of a link."""

    control: Optional[int]
    forms: list[CheckForm]
    sent: int
    arrived_after_cut: Optional[int]
    arrived_before_heal: Optional[int]
    checked_until_ns: Optional[int]
    why_not: Optional[str]


@dataclass(frozen=True)
class TcpState:
    """A TCP socket of a link's sender, shortly before a deadline that was about to be missed."""

    seen_ns: int
    local_port: int
    remote_port: int
    state: str
    rto_ns: int
    backoff: int
    retransmits: int


@dataclass(frozen=True)
class LinkRecord:
    """One directed link of a partition."""

    src: str
    dst: str
    dropped_packets: Optional[int]
    dropped_bytes: Optional[int]
    group_packets: Optional[int]
    first_drop_ns: Optional[int]
    last_drop_ns: Optional[int]
    first_packet_ns: Optional[int]
    first_syn_ns: Optional[int]
    first_synack_ns: Optional[int]
    first_data_ns: Optional[int]
    first_exchange_ns: Optional[int]
    reconnected_ns: Optional[int]
    still_cut_by: list[str]
    uncovered: list[Uncovered]
    bypassed: list[Bypassed]
    leaked_packets: Optional[int]
    first_leak_ns: Optional[int]
    unnamed_packets: int
    hooks_unread: bool
    late_packets: Optional[int]
    crossed_bytes: Optional[int]
    crossed_flows: Optional[int]
    check: Optional[LinkCheck]
    in_force: Optional[InForce]
    proved: bool
    coverage: Optional[Coverage]
    left_out: bool
    tcp: Optional[list[TcpState]]

    def __str__(self) -> str:
        return f"{self.src}→{self.dst}"


@dataclass(frozen=True)
class Outage:
    """When one endpoint was out of service, from the cut to the end of the watch."""

    served_within_ns: int
    windows: list[TimeRange]
    sum_ns: Optional[int]
    longest_ns: Optional[int]
    before_heal_ns: Optional[int]
    after_heal_ns: int
    open: bool
    fail_over: Optional[FailOver]
    fail_over_ns: Optional[int]
    lost_by_heal_ns: Optional[int]
    tolerated: int
    stall_ns: Optional[int]
    unseen: bool


@dataclass(frozen=True)
class ClusterOutage:
    """The outages of all required endpoints of one base name together."""

    name: str
    endpoints: int
    without_data: int
    some: list[TimeRange]
    all: Optional[list[TimeRange]]
    some_ns: int
    some_after_heal_ns: int
    all_ns: Optional[int]
    share_ns: Optional[int]
    open: bool


@dataclass(frozen=True)
class EndpointRecord:
    """One endpoint: ``ingress@n1``, or the base name of one without peers."""

    name: str
    peer: Optional[str]
    address: Optional[str]
    required: bool
    healthy_before: Optional[bool]
    failure_rate_before: Optional[float]
    impaired: Optional[bool]
    first_response_ns: Optional[int]
    first_ok_ns: Optional[int]
    ready_ns: Optional[int]
    settled_ns: Optional[int]
    relapses: int
    probes_sent: int
    probes_failed: int
    outage: Optional[Outage]
    outcome: Optional[Outcome]

    def is_named(self, name: str) -> bool:
        """Whether ``name`` is this endpoint's full name, or its base name."""
        return name in (self.name, self.name.split("@", 1)[0])


@dataclass(frozen=True)
class Phases:
    """Where the time from heal to settled went, over the links that dropped something."""

    silence_ns: Optional[int]
    reconnect_ns: Optional[int]
    return_ns: Optional[int]
    relapse_ns: Optional[int]
    relapse_out_ns: Optional[int]
    after_links_ns: Optional[int]
    last_link: Optional[NamedLink]
    last_synack_ns: Optional[int]


@dataclass(frozen=True)
class HostRecord:
    """The instrument's own condition."""

    probe_lateness_p99_ns: Optional[int]
    probe_rate: Optional[float]
    cpu_pressure: Optional[float]
    io_pressure: Optional[float]
