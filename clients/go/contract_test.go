package injector

import (
	"context"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// schemas are the types of the daemon's contract.
func schemas(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("../../injector/tests/data/golden/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(text, &contract); err != nil {
		t.Fatal(err)
	}
	return contract.Components.Schemas
}

func properties(t *testing.T, schemas map[string]any, name string) map[string]any {
	t.Helper()
	schema, _ := schemas[name].(map[string]any)
	found, _ := schema["properties"].(map[string]any)
	if len(found) == 0 {
		t.Fatalf("the contract has no %s", name)
	}
	return found
}

// mayBeNull reports whether a property of the contract may be null.
func mayBeNull(property any) bool {
	described := property.(map[string]any)
	if kinds, isList := described["type"].([]any); isList {
		for _, kind := range kinds {
			if kind == "null" {
				return true
			}
		}
	}
	alternatives, _ := described["anyOf"].([]any)
	for _, alternative := range alternatives {
		if alternative.(map[string]any)["type"] == "null" {
			return true
		}
	}
	return false
}

// Types that have all fields of their schema, and types that have some.
var whole = map[string]any{
	"RecoveryRecord": Recovery{},
	"HostClock":      HostClock{},
	"ShapePair":      ShapePair{},
	"Traffic":        Traffic{},
	"Stamped":        Stamped{},
	"NamedLink":      NamedLink{},
	"TimeRange":      TimeRange{},
	"Warning":        Warning{},
	"Uncovered":      Uncovered{},
	"Bypassed":       Bypassed{},
	"Coverage":       Coverage{},
	"LinkCheck":      LinkCheck{},
	"TcpState":       TCPState{},
	"LinkRecord":     LinkRecord{},
	"Outage":         Outage{},
	"ClusterOutage":  ClusterOutage{},
	"EndpointRecord": EndpointRecord{},
	"Phases":         Phases{},
	"HostRecord":     HostRecord{},
	"Healed":         Healed{},
}

var parts = map[string]any{
	"PartitionView":    View{},
	"PartitionRequest": Asked{},
	"Status":           Status{},
	"PeerView":         Peer{},
	"EndpointView":     Endpoint{},
}

// checkFields compares the fields of a type with its schema, and returns how many there are.
func checkFields(t *testing.T, schemas map[string]any, name string, of any) int {
	t.Helper()
	found := properties(t, schemas, name)
	kind := reflect.TypeOf(of)
	for i := 0; i < kind.NumField(); i++ {
		field := kind.Field(i)
		key, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		property, isKnown := found[key]
		if !isKnown {
			t.Errorf("%s has no %q", name, key)
			continue
		}
		// A flag that is left out is false, and never null.
		isNullable := field.Type.Kind() == reflect.Pointer || options == "omitempty" && field.Type.Kind() != reflect.Bool
		if isNullable != mayBeNull(property) {
			t.Errorf("%s.%s: null in the contract is %v", name, key, mayBeNull(property))
		}
	}
	return kind.NumField()
}

func TestTypesHaveTheFieldsOfTheirSchemas(t *testing.T) {
	schemas := schemas(t)
	for name, of := range whole {
		if fields := checkFields(t, schemas, name, of); fields != len(properties(t, schemas, name)) {
			t.Errorf("%s has %d fields, and its schema %d", name, fields, len(properties(t, schemas, name)))
		}
	}
	for name, of := range parts {
		checkFields(t, schemas, name, of)
	}
}

func TestEveryShapeHasAFunction(t *testing.T) {
	made := []Shape{
		Isolate("n1"), Split([]string{"n1"}, []string{"n2"}), Between([]string{"n1"}, []string{"n2"}), Halves(), RandomHalves(),
		RandomGroups(2), RandomNode(), Random(1), Minority(), MinorityThird(), MajoritiesRing(), Bridge("n1"),
		Links(NamedLink{Src: "n1", Dst: "n2"}), Grudge(map[string][]string{"n1": {"n2"}}), Preset("p"),
	}
	lacking := map[string]bool{}
	for _, alternative := range schemas(t)["Shape"].(map[string]any)["oneOf"].([]any) {
		for name := range alternative.(map[string]any)["properties"].(map[string]any) {
			lacking[name] = true
		}
	}
	if len(lacking) < 10 {
		t.Fatalf("the contract has the shapes %v", lacking)
	}
	for _, shape := range made {
		for name := range shape {
			if !lacking[name] {
				t.Errorf("the contract has no shape %q", name)
			}
			delete(lacking, name)
		}
	}
	if len(lacking) != 0 {
		t.Errorf("no function makes %v", lacking)
	}
}

func TestEveryOptionHasAField(t *testing.T) {
	seed := int64(7)
	full := Cut{
		Shape:          Isolate("n1"),
		Scopes:         []string{"tcp"},
		Direction:      "out",
		Loss:           "30%",
		Flap:           "200ms/50%",
		Neighbour:      "keep",
		For:            1,
		Deadline:       1,
		Seed:           &seed,
		Advisory:       []string{"web"},
		AllowUncovered: true,
		AllowSSH:       true,
		Strict:         true,
		Verify:         "active",
	}
	request, err := full.request()
	if err != nil {
		t.Fatal(err)
	}
	known := properties(t, schemas(t), "PartitionRequest")
	for name := range request {
		if _, isKnown := known[name]; !isKnown {
			t.Errorf("the contract has no option %q", name)
		}
	}
	// A start set ahead, and trials of campaigns, are not for tests.
	for name := range known {
		if _, isGiven := request[name]; !isGiven && name != "at" && name != "trial" {
			t.Errorf("no field of Cut gives %q", name)
		}
	}
}

func TestOutcomesAreThoseOfTheContract(t *testing.T) {
	words := map[string]bool{}
	for _, word := range schemas(t)["Outcome"].(map[string]any)["oneOf"].([]any) {
		words[word.(map[string]any)["const"].(string)] = true
	}
	for _, outcome := range []Outcome{Recovered, NotRecovered, Censored, Unknown, HarnessFailed} {
		if !words[string(outcome)] {
			t.Errorf("the contract has no outcome %q", outcome)
		}
		delete(words, string(outcome))
	}
	if len(words) != 0 {
		t.Errorf("no constant is %v", words)
	}
}

func TestStoredRecordsAreRead(t *testing.T) {
	const folder = "../../injector-core/tests/data/golden/"
	full, empty := new(Recovery), new(Recovery)
	for name, record := range map[string]*Recovery{"record.json": full, "record-empty.json": empty} {
		text, err := os.ReadFile(folder + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := read(text, record); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if full.Links[0].Check == nil || *full.Links[0].Check.Control != 6 || full.Phases.LastLink.Dst != "n2" {
		t.Errorf("%+v", full.Links[0])
	}
	// Missing is nil, and never zero.
	if empty.HealToSettledNs != nil || empty.Outcome != nil || empty.Outage != nil {
		t.Errorf("%+v", empty)
	}
	if text := full.String(); !strings.Contains(text, "n1→n2") || !strings.Contains(text, "phases: silence ") {
		t.Error(text)
	}
}

func TestAnAnswerThatLacksADatumIsRefused(t *testing.T) {
	var view View
	err := read([]byte(`{"name": "p", "state": "active"}`), &view)
	if err == nil || err.Error() != "answer.generation is missing" {
		t.Error(err)
	}
	var clock HostClock
	if err := read([]byte(`{"host": "a", "boot": 1}`), &clock); err == nil || !strings.Contains(err.Error(), "boot") {
		t.Error(err)
	}
}

func TestWhatIsWrongIsSaidBeforeTheDaemonIsAsked(t *testing.T) {
	for field, cut := range map[string]Cut{
		"shape": {},
		"for":   {Shape: Halves(), For: -1},
	} {
		_, err := cut.request()
		failure, isOurs := err.(*Error)
		if !isOurs || failure.Code != CodeUsage || failure.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := partitionPath("../status", ""); CodeOf(err) != CodeUsage {
		t.Error(err)
	}
}

func TestNamesAreLegalAndNotGivenTwice(t *testing.T) {
	given := map[string]bool{}
	for i := 0; i < 3; i++ {
		name := NewName("TestOf/a case with a very long name, longer than names may be")
		if _, err := partitionPath(name, ""); err != nil || given[name] || !strings.HasPrefix(name, "TestOf_a_case_") {
			t.Error(name, err)
		}
		given[name] = true
	}
}

func TestHostsOfTheEnvironmentAreRefused(t *testing.T) {
	t.Setenv("INJECTOR_HOST", "ssh://user@vm")
	_, err := New("").Status(context.Background())
	if CodeOf(err) != CodeUsage || !strings.Contains(err.Error(), "ssh -N -L") {
		t.Error(err)
	}
}
