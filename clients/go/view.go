package injector

import (
	"sort"
	"strings"
)

// View is a partition as the daemon has it: the part that tests ask for.
type View struct {
	Name       string              `json:"name"`
	Generation int64               `json:"generation"`
	State      string              `json:"state"`
	Request    Asked               `json:"request"`
	Resolved   Shape               `json:"resolved"`
	Roles      map[string][]string `json:"roles"`
	Seed       *int64              `json:"seed"`
	Effective  *Stamped            `json:"effective"`
	EndsAtNs   *int64              `json:"ends_at_ns"`
	Healed     *Healed             `json:"healed"`
	Warnings   []Warning           `json:"warnings"`
}

// isSame reports whether a later view is of the same partition. A generation alone does not tell: each daemon counts from 1, so that
// after a restart another client's partition may have this one's name and generation.
func (v View) isSame(later View) bool {
	one, other := v.Request.RequestID, later.Request.RequestID
	return v.Generation == later.Generation && one != nil && other != nil && *one == *other
}

// Asked is the request that made a partition, with the daemon's defaults: the part that this package needs.
type Asked struct {
	RequestID *string `json:"request_id"`
	// The API leaves it out where it is false.
	Strict bool `json:"strict,omitempty"`
}

// Healed says when and by what a partition was healed: possibly something before the request that is answered with it.
type Healed struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	BeginNs    int64  `json:"begin_ns"`
	EndNs      int64  `json:"end_ns"`
	Wall       int64  `json:"wall"`
	HealedBy   string `json:"healed_by"`
}

// Status is the daemon itself: the part that tests ask for.
type Status struct {
	Version    string          `json:"version"`
	Kernel     string          `json:"kernel"`
	NowNs      int64           `json:"now_ns"`
	Peers      map[string]Peer `json:"peers"`
	Partitions []View          `json:"partitions"`
	Endpoints  []Endpoint      `json:"endpoints"`
}

// Peer is a peer of the config.
type Peer struct {
	Addresses []string `json:"addresses"`
	IsHere    bool     `json:"is_here"`
}

// Endpoint is an endpoint; Healthy is nil before there were enough probes.
type Endpoint struct {
	Name      string  `json:"name"`
	Peer      *string `json:"peer"`
	Address   *string `json:"address"`
	Required  bool    `json:"required"`
	Healthy   *bool   `json:"healthy"`
	LastError *string `json:"last_error"`
}

// hasRequired reports whether an endpoint gates verdicts.
func (s Status) hasRequired() bool {
	for _, endpoint := range s.Endpoints {
		if endpoint.Required {
			return true
		}
	}
	return false
}

// sick describes the endpoints that are not healthy and have to be.
func (s Status) sick(advisory []string) []string {
	var sick []string
	for _, endpoint := range s.Endpoints {
		if !endpoint.Required || endpoint.isNamed(advisory) || endpoint.Healthy != nil && *endpoint.Healthy {
			continue
		}
		why := "too few probes yet"
		if endpoint.Healthy != nil && endpoint.LastError != nil {
			why = *endpoint.LastError
		}
		sick = append(sick, endpoint.Name+": "+why)
	}
	return sick
}

// isNamed reports whether one of the names is this endpoint's full or base name.
func (e Endpoint) isNamed(names []string) bool {
	base, _, _ := strings.Cut(e.Name, "@")
	for _, name := range names {
		if name == e.Name || name == base {
			return true
		}
	}
	return false
}

// PeerNames lists the peers of the config.
func (s Status) PeerNames() []string {
	var names []string
	for name := range s.Peers {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
