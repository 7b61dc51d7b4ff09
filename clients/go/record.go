package injector

// Outcome says whether the cluster, or an endpoint, recovered.
type Outcome string

// The outcomes. Only Recovered is one: unknown is not recovered.
const (
	Recovered     Outcome = "recovered"
	NotRecovered  Outcome = "not_recovered"
	Censored      Outcome = "censored"
	Unknown       Outcome = "unknown"
	HarnessFailed Outcome = "harness_failed"
)

// Recovery is the recovery record: the result of one partition. Its fields, and those of its parts, have the names of the record;
// docs/reference/record.md explains each of them.
//
// Names that end in Ns are nanoseconds: instants of CLOCK_MONOTONIC of the daemon's host, or lengths of time. Wall is nanoseconds
// since the Unix epoch. What is missing is nil, and never zero.
type Recovery struct {
	Schema          int64            `json:"schema"`
	Name            string           `json:"name"`
	Generation      int64            `json:"generation"`
	Clock           *HostClock       `json:"clock"`
	Trial           *int64           `json:"trial"`
	Attempt         *int64           `json:"attempt"`
	Shape           ShapePair        `json:"shape"`
	Traffic         *Traffic         `json:"traffic"`
	Seed            *int64           `json:"seed"`
	HoldNs          *int64           `json:"hold_ns"`
	DeadlineNs      int64            `json:"deadline_ns"`
	ObserveNs       int64            `json:"observe_ns"`
	Cut             *Stamped         `json:"cut"`
	Heal            *Stamped         `json:"heal"`
	HealedBy        *string          `json:"healed_by"`
	Links           []LinkRecord     `json:"links"`
	Endpoints       []EndpointRecord `json:"endpoints"`
	Phases          Phases           `json:"phases"`
	Outage          []ClusterOutage  `json:"outage,omitempty"`
	HealToReadyNs   *int64           `json:"heal_to_ready_ns"`
	HealToSettledNs *int64           `json:"heal_to_settled_ns"`
	Host            HostRecord       `json:"host"`
	Starved         bool             `json:"starved"`
	Warnings        []Warning        `json:"warnings"`
	LostEvents      *int64           `json:"lost_events"`
	Proved          bool             `json:"proved"`
	Final           bool             `json:"final"`
	Outcome         *Outcome         `json:"outcome"`
	OutcomeReason   *string          `json:"outcome_reason"`
	ClosedBy        *string          `json:"closed_by"`
	ObservedUntilNs *int64           `json:"observed_until_ns"`
}

// Stamped is the interval around the one store that cut or healed; both ends are equal where a time was set ahead.
type Stamped struct {
	BeginNs int64 `json:"begin_ns"`
	EndNs   int64 `json:"end_ns"`
	Wall    int64 `json:"wall"`
}

// TimeRange is a stretch of time; UntilNs is nil while it lasts.
type TimeRange struct {
	FromNs  int64  `json:"from_ns"`
	UntilNs *int64 `json:"until_ns"`
}

// HostClock says whose clock stamps are of.
type HostClock struct {
	Host string `json:"host"`
	Boot string `json:"boot"`
}

// NamedLink is a directed link, from sender to receiver.
type NamedLink struct {
	Src string `json:"src"`
	Dst string `json:"dst"`
}

// Warning is what makes a record doubtful without deciding its outcome.
type Warning struct {
	Code    string  `json:"code"`
	Subject *string `json:"subject"`
	Text    string  `json:"text"`
}

// ShapePair is the shape as asked, and after drawing, roles and presets.
type ShapePair struct {
	Asked     Shape               `json:"asked"`
	Resolved  Shape               `json:"resolved,omitempty"`
	Direction string              `json:"direction"`
	Roles     map[string][]string `json:"roles"`
}

// Traffic is what the cut did to packets.
type Traffic struct {
	Direction string   `json:"direction"`
	Scopes    []string `json:"scopes"`
	Loss      string   `json:"loss"`
	Flap      *string  `json:"flap"`
	Neighbour string   `json:"neighbour"`
}

// Uncovered is a time at which an interface had no hook.
type Uncovered struct {
	Interface string `json:"interface"`
	FromNs    int64  `json:"from_ns"`
	UntilNs   *int64 `json:"until_ns"`
}

// Bypassed is a time at which something could send packets past the hook of an interface.
type Bypassed struct {
	Interface string `json:"interface"`
	Why       string `json:"why"`
	FromNs    int64  `json:"from_ns"`
	UntilNs   *int64 `json:"until_ns"`
}

// Coverage says how far a link's paths pass hooks.
type Coverage struct {
	State        string  `json:"state"`
	Reason       *string `json:"reason"`
	IsTranslated bool    `json:"is_translated"`
}

// LinkCheck is what the active check saw of a link.
type LinkCheck struct {
	Control           *int64   `json:"control"`
	Forms             []string `json:"forms"`
	Sent              int64    `json:"sent"`
	ArrivedAfterCut   *int64   `json:"arrived_after_cut"`
	ArrivedBeforeHeal *int64   `json:"arrived_before_heal"`
	CheckedUntilNs    *int64   `json:"checked_until_ns"`
	WhyNot            *string  `json:"why_not"`
}

// TCPState is a TCP socket of a link's sender, shortly before a deadline that was about to be missed.
type TCPState struct {
	SeenNs      int64  `json:"seen_ns"`
	LocalPort   int64  `json:"local_port"`
	RemotePort  int64  `json:"remote_port"`
	State       string `json:"state"`
	RtoNs       int64  `json:"rto_ns"`
	Backoff     int64  `json:"backoff"`
	Retransmits int64  `json:"retransmits"`
}

// LinkRecord is one directed link of a partition.
type LinkRecord struct {
	Src             string      `json:"src"`
	Dst             string      `json:"dst"`
	DroppedPackets  *int64      `json:"dropped_packets"`
	DroppedBytes    *int64      `json:"dropped_bytes"`
	GroupPackets    *int64      `json:"group_packets"`
	FirstDropNs     *int64      `json:"first_drop_ns"`
	LastDropNs      *int64      `json:"last_drop_ns"`
	FirstPacketNs   *int64      `json:"first_packet_ns"`
	FirstSynNs      *int64      `json:"first_syn_ns"`
	FirstSynackNs   *int64      `json:"first_synack_ns"`
	FirstDataNs     *int64      `json:"first_data_ns"`
	FirstExchangeNs *int64      `json:"first_exchange_ns"`
	ReconnectedNs   *int64      `json:"reconnected_ns"`
	StillCutBy      []string    `json:"still_cut_by"`
	Uncovered       []Uncovered `json:"uncovered"`
	Bypassed        []Bypassed  `json:"bypassed"`
	LeakedPackets   *int64      `json:"leaked_packets"`
	FirstLeakNs     *int64      `json:"first_leak_ns"`
	UnnamedPackets  int64       `json:"unnamed_packets"`
	HooksUnread     bool        `json:"hooks_unread"`
	LatePackets     *int64      `json:"late_packets"`
	CrossedBytes    *int64      `json:"crossed_bytes"`
	CrossedFlows    *int64      `json:"crossed_flows"`
	Check           *LinkCheck  `json:"check"`
	InForce         *string     `json:"in_force"`
	Proved          bool        `json:"proved"`
	Coverage        *Coverage   `json:"coverage"`
	LeftOut         bool        `json:"left_out"`
	TCP             []TCPState  `json:"tcp,omitempty"`
}

// Outage says when one endpoint was out of service, from the cut to the end of the watch.
type Outage struct {
	ServedWithinNs int64       `json:"served_within_ns"`
	Windows        []TimeRange `json:"windows"`
	SumNs          *int64      `json:"sum_ns"`
	LongestNs      *int64      `json:"longest_ns"`
	BeforeHealNs   *int64      `json:"before_heal_ns"`
	AfterHealNs    int64       `json:"after_heal_ns"`
	Open           bool        `json:"open"`
	FailOver       *string     `json:"fail_over"`
	FailOverNs     *int64      `json:"fail_over_ns"`
	LostByHealNs   *int64      `json:"lost_by_heal_ns"`
	Tolerated      int64       `json:"tolerated"`
	StallNs        *int64      `json:"stall_ns"`
	Unseen         bool        `json:"unseen"`
}

// ClusterOutage is the outages of all required endpoints of one base name together.
type ClusterOutage struct {
	Name            string      `json:"name"`
	Endpoints       int64       `json:"endpoints"`
	WithoutData     int64       `json:"without_data"`
	Some            []TimeRange `json:"some"`
	All             []TimeRange `json:"all,omitempty"`
	SomeNs          int64       `json:"some_ns"`
	SomeAfterHealNs int64       `json:"some_after_heal_ns"`
	AllNs           *int64      `json:"all_ns"`
	ShareNs         *int64      `json:"share_ns"`
	Open            bool        `json:"open"`
}

// EndpointRecord is one endpoint: "ingress@n1", or the base name of one without peers.
type EndpointRecord struct {
	Name              string   `json:"name"`
	Peer              *string  `json:"peer"`
	Address           *string  `json:"address"`
	Required          bool     `json:"required"`
	HealthyBefore     *bool    `json:"healthy_before"`
	FailureRateBefore *float64 `json:"failure_rate_before"`
	Impaired          *bool    `json:"impaired"`
	FirstResponseNs   *int64   `json:"first_response_ns"`
	FirstOkNs         *int64   `json:"first_ok_ns"`
	ReadyNs           *int64   `json:"ready_ns"`
	SettledNs         *int64   `json:"settled_ns"`
	Relapses          int64    `json:"relapses"`
	ProbesSent        int64    `json:"probes_sent"`
	ProbesFailed      int64    `json:"probes_failed"`
	Outage            *Outage  `json:"outage"`
	Outcome           *Outcome `json:"outcome"`
}

// Phases says where the time from heal to settled went, over the links that dropped something.
type Phases struct {
	SilenceNs    *int64     `json:"silence_ns"`
	ReconnectNs  *int64     `json:"reconnect_ns"`
	ReturnNs     *int64     `json:"return_ns"`
	RelapseNs    *int64     `json:"relapse_ns"`
	RelapseOutNs *int64     `json:"relapse_out_ns"`
	AfterLinksNs *int64     `json:"after_links_ns"`
	LastLink     *NamedLink `json:"last_link"`
	LastSynackNs *int64     `json:"last_synack_ns"`
}

// HostRecord is the instrument's own condition.
type HostRecord struct {
	ProbeLatenessP99Ns *int64   `json:"probe_lateness_p99_ns"`
	ProbeRate          *float64 `json:"probe_rate"`
	CPUPressure        *float64 `json:"cpu_pressure"`
	IOPressure         *float64 `json:"io_pressure"`
}
