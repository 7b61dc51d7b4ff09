// Package injectortest has what Go tests use of the partition injector: cuts that are healed at the end of their test, also
// where it fails or panics, and records in the log of a test that fails.
package injectortest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"injector"
)

// MissingVariable names the environment variable that says what a test does without a daemon, rights or peers: it fails, unless the
// variable is "skip".
const MissingVariable = "INJECTOR_MISSING"

// patience is how long a test waits at its end.
const patience = 30 * time.Second

// Open returns a client for a test, which ends here unless the daemon answers and has these peers. The socket is the one that
// INJECTOR_SOCKET names, else the usual one. A mark on the timeline says that the test begins.
func Open(t testing.TB, peers ...string) *injector.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := injector.New("")
	err := check(ctx, client, peers)
	if err == nil {
		err = client.Mark(ctx, t.Name()+" begins")
	}
	if err == nil {
		return client
	}
	if os.Getenv(MissingVariable) == "skip" && isMissing(err) {
		t.Skip(err)
	}
	t.Fatal(err)
	return nil
}

func check(ctx context.Context, client *injector.Client, peers []string) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	var lacking []string
	for _, peer := range peers {
		if _, isThere := status.Peers[peer]; !isThere {
			lacking = append(lacking, peer)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	has := strings.Join(status.PeerNames(), ", ")
	return &injector.Error{
		Code:   injector.CodeMissing,
		Detail: "the daemon at " + client.Socket() + " has no peer " + strings.Join(lacking, ", ") + " (it has " + has + ")",
		Remedy: "start it with the lab's config: sudo injector start --config lab.yaml",
	}
}

// isMissing reports whether an error says that what the test needs is not there, and not that it is wrong.
func isMissing(err error) bool {
	switch injector.CodeOf(err) {
	case injector.CodeUnreachable, injector.CodeNotPermitted, injector.CodeMissing:
		return true
	}
	return false
}

// Cut cuts for a test. The partition has the test's name in its own unless the cut names it. It is healed at the end of the test at the
// latest; then the test fails if the partition was not in force until there, and the record of a test that failed is logged. The
// partitions of others are left alone.
func Cut(t testing.TB, client *injector.Client, cut injector.Cut) *injector.Partition {
	t.Helper()
	if cut.Name == "" {
		cut.Name = injector.NewName(t.Name())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	partition, err := client.Partition(ctx, cut)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, partition) })
	return partition
}

// finish heals what is left.
func finish(t testing.TB, partition *injector.Partition) {
	t.Helper()
	// Whatever a call can't heal, the end of its connection does.
	defer partition.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// A test that has healed knows how it ended.
	if partition.Healed() == nil {
		if _, err := partition.Heal(ctx); err != nil {
			t.Error(err)
		}
	}
	if !t.Failed() {
		return
	}
	record, err := partition.Record(ctx)
	if err != nil {
		t.Log("the record can't be obtained: ", err)
		return
	}
	t.Log(record)
}

// Heal heals before the end of the test, which ends here if the partition was not in force until now.
func Heal(t testing.TB, partition *injector.Partition) injector.Healed {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	healed, err := partition.Heal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return healed
}

// Recovers heals, waits for the final record, and ends the test unless all required endpoints settled within so long of its heal.
// The message shows phases, links and endpoints. Where partitions overlap, ask the one that is healed last.
func Recovers(t testing.TB, partition *injector.Partition, within time.Duration) *injector.Recovery {
	t.Helper()
	record, err := partition.Recovers(context.Background(), within)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// WaitHealthy waits until every required endpoint is healthy, except for those named here, and ends the test if they are not in time.
func WaitHealthy(t testing.TB, client *injector.Client, timeout time.Duration, advisory ...string) injector.Status {
	t.Helper()
	status, err := client.WaitHealthy(context.Background(), timeout, advisory...)
	if err != nil {
		t.Fatal(err)
	}
	return status
}
