package injector

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// These ask the daemon that INJECTOR_SOCKET names, else the usual one.

func TestClientAndDaemonAreOfOneVersion(t *testing.T) {
	status, err := New("").Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if status.Version != Version {
		t.Errorf("the daemon is of version %s, and this client of %s", status.Version, Version)
	}
}

func TestAnotherVersionSaysSo(t *testing.T) {
	ctx := context.Background()
	unknown := call{method: "GET", path: "/weather"}
	for version, how := range map[string]string{"99.0.0": "newer", "0.0.1": "older"} {
		client := New("")
		client.version = version
		sentence := "this client (" + version + ") is " + how + " than the daemon (" + Version + ")"
		// A call that this daemon does not know.
		err := client.call(ctx, unknown, &struct{}{})
		if CodeOf(err) != CodeVersion || !strings.HasPrefix(err.Error(), sentence+", and ") {
			t.Error(err)
		}
		// An answer without a datum that this client needs.
		var future struct {
			Mood string `json:"mood"`
		}
		err = client.call(ctx, call{method: "GET", path: "/status"}, &future)
		if CodeOf(err) != CodeVersion || !strings.Contains(err.Error(), "answer.mood is missing") {
			t.Error(err)
		}
		// A shape that this daemon does not know stays the daemon's problem, with the versions beside it.
		_, err = client.Partition(ctx, Cut{Shape: Shape{"encircle": []string{"n1"}}})
		var problem *Error
		if !errors.As(err, &problem) || problem.Code != "bad-body" || problem.Status != 400 || !strings.Contains(problem.Remedy, sentence) {
			t.Errorf("%#v", err)
		}
	}
	// Of one version nothing is said of versions.
	err := New("").call(ctx, unknown, &struct{}{})
	if CodeOf(err) != "no-such-call" || strings.Contains(err.Error(), "version") {
		t.Error(err)
	}
}
