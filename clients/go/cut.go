package injector

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"sync/atomic"
	"time"
)

// Shape says which links are cut, in the JSON form of the API: docs/reference/api.md explains each shape. The functions below
// make them. Wherever a peer is named, a role such as "@leader" may be.
type Shape map[string]any

// Isolate cuts these peers, as one group, off from all the others.
func Isolate(peers ...string) Shape {
	return Shape{"isolate": list(peers)}
}

// Split cuts groups off from each other; peers that are not named form one more.
func Split(groups ...[]string) Shape {
	return Shape{"split": lists(groups)}
}

// Between cuts groups off from each other, and no one else.
func Between(groups ...[]string) Shape {
	return Shape{"between": lists(groups)}
}

// Halves cuts a smaller first half off from a larger second half, by name.
func Halves() Shape {
	return Shape{"halves": map[string]any{}}
}

// RandomHalves does so with the peers shuffled. This shape and the ones below that are drawn draw from all peers, or only among
// those that are named.
func RandomHalves(among ...string) Shape {
	return drawn("random_halves", nil, among)
}

// RandomGroups cuts the shuffled peers into so many groups, whose sizes differ by one at most.
func RandomGroups(groups int, among ...string) Shape {
	return drawn("random_groups", map[string]any{"groups": groups}, among)
}

// RandomNode isolates one peer.
func RandomNode(among ...string) Shape {
	return drawn("random_node", nil, among)
}

// Random isolates so many peers, as one group.
func Random(peers int, among ...string) Shape {
	return drawn("random", map[string]any{"peers": peers}, among)
}

// Minority isolates the largest group without a majority.
func Minority(among ...string) Shape {
	return drawn("minority", nil, among)
}

// MinorityThird isolates the largest group below a third.
func MinorityThird(among ...string) Shape {
	return drawn("minority_third", nil, among)
}

// MajoritiesRing lets every peer of a ring see a majority, no two the same one.
func MajoritiesRing(among ...string) Shape {
	return drawn("majorities_ring", nil, among)
}

// Bridge makes two halves; one peer of the second half stays connected to both.
func Bridge(via string) Shape {
	return Shape{"bridge": map[string]any{"via": via}}
}

// Links cuts exactly these directed links, each from its sender to its receiver.
func Links(links ...NamedLink) Shape {
	return Shape{"links": append([]NamedLink{}, links...)}
}

// Grudge cuts, for each receiver, the senders that it drops from.
func Grudge(drops map[string][]string) Shape {
	return Shape{"grudge": drops}
}

// Preset is a shape that the config names.
func Preset(name string) Shape {
	return Shape{"preset": name}
}

func drawn(shape string, parameters map[string]any, among []string) Shape {
	if parameters == nil {
		parameters = map[string]any{}
	}
	if len(among) > 0 {
		parameters["among"] = among
	}
	return Shape{shape: parameters}
}

// list is never null in JSON.
func list(names []string) []string {
	return append([]string{}, names...)
}

func lists(groups [][]string) [][]string {
	all := [][]string{}
	for _, group := range groups {
		all = append(all, list(group))
	}
	return all
}

// Cut says what to cut, and how. What is left out is as the daemon has it by default; docs/reference/api.md explains each option.
type Cut struct {
	// Which links; required.
	Shape Shape
	// The partition's name; without it one that nobody else has.
	Name string

	// The traffic to cut, such as "tcp/5122"; without scopes all of it.
	Scopes []string
	// "both", "out" or "in", relative to the shape's first group.
	Direction string
	// The share of packets to drop, such as "30%".
	Loss string
	// Period and share that drops, such as "200ms/50%".
	Flap string
	// What happens to ARP and neighbour discovery: "auto", "keep" or "drop".
	Neighbour string

	// How long the cut lasts; the kernel ends it. Without it, and at most, the config's max_for.
	For time.Duration
	// How long after the heal the cluster may take.
	Deadline time.Duration
	// The seed of a drawn shape.
	Seed *int64

	// Endpoints that do not gate the verdict, by base or full name.
	Advisory []string
	// Go on although links are not covered; they are left out of the verdict.
	AllowUncovered bool
	// Cut SSH connections to the daemon's host too.
	AllowSSH bool
	// Whether what is unknown counts as not in force.
	Strict bool
	// "active": check the cut with frames of the daemon's own.
	Verify string
}

// request is the body of a request.
func (c Cut) request() (map[string]any, error) {
	if len(c.Shape) != 1 {
		return nil, &Error{
			Code:   CodeUsage,
			Detail: fmt.Sprintf("a partition has exactly one shape, not %d", len(c.Shape)),
			Field:  "shape",
			Remedy: `give one, as in injector.Cut{Shape: injector.Isolate("n1")}`,
		}
	}
	for field, span := range map[string]time.Duration{"for": c.For, "deadline": c.Deadline} {
		if span < 0 {
			return nil, &Error{Code: CodeUsage, Detail: fmt.Sprintf("%v is no length of time", span), Field: field}
		}
	}
	request := map[string]any{
		"shape": c.Shape,
		// The partition heals when this process ends, however it ends.
		"owner": "connection",
		// The same request under a live name is answered as that partition. Somebody else's must not be taken for ours, since ours
		// is healed at the end.
		"request_id": random(16),
	}
	add := func(name string, value any, isGiven bool) {
		if isGiven {
			request[name] = value
		}
	}
	add("scopes", c.Scopes, len(c.Scopes) > 0)
	add("direction", c.Direction, c.Direction != "")
	add("loss", c.Loss, c.Loss != "")
	add("flap", c.Flap, c.Flap != "")
	add("neighbour", c.Neighbour, c.Neighbour != "")
	add("for", span(c.For), c.For != 0)
	add("deadline", span(c.Deadline), c.Deadline != 0)
	add("seed", c.Seed, c.Seed != nil)
	add("advisory", c.Advisory, len(c.Advisory) > 0)
	add("allow_uncovered", true, c.AllowUncovered)
	add("allow_ssh", true, c.AllowSSH)
	add("strict", true, c.Strict)
	add("verify", c.Verify, c.Verify != "")
	return request, nil
}

// span is a length of time as the API writes it.
func span(length time.Duration) string {
	return fmt.Sprintf("%dns", length.Nanoseconds())
}

// How many names were made.
var names atomic.Int64

// What no other process has in its names.
var word = random(2)

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._]+`)

// NewName makes a name for a partition that nobody else has. It begins with a text, such as a test's name, and carries the process
// id and a random word, since two containers may have equal process ids.
func NewName(stem string) string {
	stem = notInNames.ReplaceAllString(stem, "_")
	if len(stem) > 32 {
		stem = stem[:32]
	}
	return fmt.Sprintf("%s-%d-%s-%d", stem, os.Getpid(), word, names.Add(1))
}

// random is a word of so many random bytes.
func random(bytes int) string {
	drawn := make([]byte, bytes)
	if _, err := rand.Read(drawn); err != nil {
		panic(err)
	}
	return hex.EncodeToString(drawn)
}
