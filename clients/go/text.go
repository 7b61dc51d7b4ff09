package injector

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// More links than these are only counted.
const mostLinks = 12

// SinceHeal returns how long after the heal an instant of the record lies; false if either is missing.
func (r *Recovery) SinceHeal(instantNs *int64) (time.Duration, bool) {
	if instantNs == nil || r.Heal == nil {
		return 0, false
	}
	return time.Duration(*instantNs - r.Heal.EndNs), true
}

// healed is the record's own account of its end; nil before.
func (r *Recovery) healed() *Healed {
	if r.Heal == nil || r.HealedBy == nil {
		return nil
	}
	return &Healed{
		Name:       r.Name,
		Generation: r.Generation,
		BeginNs:    r.Heal.BeginNs,
		EndNs:      r.Heal.EndNs,
		Wall:       r.Heal.Wall,
		HealedBy:   *r.HealedBy,
	}
}

// mayAnswer fails if the record, final or not, will never say whether the cluster settled within so long: it is not watched for
// longer than its deadline.
func (r *Recovery) mayAnswer(limit time.Duration) error {
	deadline := time.Duration(r.DeadlineNs)
	if limit <= deadline {
		return nil
	}
	return &Error{
		Code:   CodeUsage,
		Detail: fmt.Sprintf("the record of %q is watched for %v after the heal, and not for %v", r.Name, deadline, limit),
		Field:  "within",
		Remedy: "give the Cut a longer Deadline",
	}
}

// within fails unless the cluster settled within so long of the heal.
func (r *Recovery) within(limit time.Duration) error {
	if r.Outcome != nil && *r.Outcome == Recovered && r.HealToSettledNs != nil {
		settled := time.Duration(*r.HealToSettledNs)
		if settled <= limit {
			return nil
		}
		return r.notRecovered(fmt.Sprintf("%s settled %s after the heal, not within %v", r.Name, words(r.HealToSettledNs), limit))
	}
	if r.Outcome != nil && *r.Outcome == NotRecovered {
		return r.notRecovered(fmt.Sprintf("%s did not settle within %v", r.Name, limit))
	}
	return r.notRecovered(fmt.Sprintf("it is not known whether %s settled within %v", r.Name, limit))
}

func (r *Recovery) notRecovered(what string) error {
	return &Error{Code: CodeNotRecovered, Detail: what + "\n" + r.String()}
}

// String is the record as a text for people: outcome, phases, links, endpoints.
func (r *Recovery) String() string {
	state := "not final yet"
	if r.Outcome != nil {
		state = string(*r.Outcome)
	} else if r.Final {
		state = "not decided"
	}
	if r.OutcomeReason != nil {
		state += ": " + *r.OutcomeReason
	}
	shape := r.Shape.Resolved
	if shape == nil {
		shape = r.Shape.Asked
	}
	// A shape came as JSON, so that it can be written as such.
	asked, _ := json.Marshal(shape)
	healedBy, proved := "– (still cut)", "not proved"
	if r.HealedBy != nil {
		healedBy = *r.HealedBy
	}
	if r.Proved {
		proved = "proved"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n", r.Name, state)
	fmt.Fprintf(&text, "  cut %s, held %s, healed by %s; %s\n", asked, words(r.HoldNs), healedBy, proved)
	fmt.Fprintf(&text, "  heal to ready %s, to settled %s\n", words(r.HealToReadyNs), words(r.HealToSettledNs))
	fmt.Fprintf(&text, "  phases: silence %s · reconnect %s", words(r.Phases.SilenceNs), words(r.Phases.ReconnectNs))
	fmt.Fprintf(&text, " · return %s · relapse %s", words(r.Phases.ReturnNs), words(r.Phases.RelapseNs))
	if last := r.Phases.LastLink; last != nil {
		fmt.Fprintf(&text, "; the last link was %s→%s", last.Src, last.Dst)
	}
	r.writeLinks(&text)
	for _, endpoint := range r.Endpoints {
		fmt.Fprintf(&text, "\n  %s: ready %s, settled %s", endpoint.Name, r.after(endpoint.ReadyNs), r.after(endpoint.SettledNs))
		fmt.Fprintf(&text, ", %d of %d probes failed", endpoint.ProbesFailed, endpoint.ProbesSent)
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&text, "\n  warning: %s", warning.Text)
	}
	if r.Starved {
		text.WriteString("\n  the host was starved: times may be too long")
	}
	return text.String()
}

func (r *Recovery) writeLinks(text *strings.Builder) {
	for i, link := range r.Links {
		if i == mostLinks {
			fmt.Fprintf(text, "\n  and %d more links", len(r.Links)-mostLinks)
			return
		}
		dropped, inForce := "–", "–"
		if link.DroppedPackets != nil {
			dropped = strconv.FormatInt(*link.DroppedPackets, 10)
		}
		if link.InForce != nil {
			inForce = *link.InForce
		}
		fmt.Fprintf(text, "\n  %s→%s: dropped %s, in force %s", link.Src, link.Dst, dropped, inForce)
		fmt.Fprintf(text, ", first packet %s, reconnected %s", r.after(link.FirstPacketNs), r.after(link.ReconnectedNs))
	}
}

// after is an instant, counted from the heal on.
func (r *Recovery) after(instantNs *int64) string {
	since, isKnown := r.SinceHeal(instantNs)
	if !isKnown {
		return "–"
	}
	// In service at the heal: the instant may lie inside of the heal's own interval.
	if since < 0 {
		since = 0
	}
	return "+" + since.Round(time.Microsecond).String()
}

// words is a length of time; a dash for what is not known.
func words(ns *int64) string {
	if ns == nil {
		return "–"
	}
	return time.Duration(*ns).Round(time.Microsecond).String()
}
