package injector_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"injector"
	"injector/injectortest"
)

// These cut at the daemon that INJECTOR_SOCKET names, whose config has the peers n1 and n2, a required endpoint "web", and a short
// observation. injector/tests/netns_go.rs starts it, with traffic between the peers.

const patience = time.Minute

func view(t *testing.T, partition *injector.Partition) injector.View {
	t.Helper()
	view, err := partition.View(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return view
}

func recovery(t *testing.T, partition *injector.Partition) *injector.Recovery {
	t.Helper()
	record, err := partition.Recovery(context.Background(), patience)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestACutIsProvedAndItsRecordIsTyped(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	injectortest.WaitHealthy(t, client, patience)
	// The test that drives this one looks at the packets of that time.
	partition := injectortest.Cut(t, client, injector.Cut{Name: "go-proof", Shape: injector.Isolate("n1")})
	if state := view(t, partition).State; state != "active" || partition.Applied().Effective == nil {
		t.Fatalf("%s: %+v", state, partition.Applied())
	}
	early, err := partition.Recovery(context.Background(), 50*time.Millisecond)
	if injector.CodeOf(err) != injector.CodeNotFinal || early == nil || early.Final || early.Heal != nil || early.HoldNs != nil {
		t.Errorf("a record before the heal: %v: %v", err, early)
	}
	time.Sleep(time.Second)
	healed := injectortest.Heal(t, partition)
	again := injectortest.Heal(t, partition)
	if healed.HealedBy != "request" || healed != again {
		t.Errorf("%+v, then %+v", healed, again)
	}

	record := recovery(t, partition)
	if record.Outcome == nil || *record.Outcome != injector.Recovered || !record.Final || !record.Proved {
		t.Fatal(record)
	}
	if record.HoldNs == nil || time.Duration(*record.HoldNs) < time.Second || record.HealedBy == nil || *record.HealedBy != "request" {
		t.Error(record)
	}
	if len(record.Links) != 2 {
		t.Error(record)
	}
	for _, link := range record.Links {
		if !link.Proved || link.InForce == nil || *link.InForce != "yes" || link.DroppedPackets == nil || *link.DroppedPackets == 0 {
			t.Errorf("%s→%s: %v", link.Src, link.Dst, record)
		}
		if link.FirstPacketNs == nil || *link.FirstPacketNs < record.Heal.BeginNs {
			t.Errorf("%s→%s: the first packet after the heal: %v", link.Src, link.Dst, record)
		}
	}
	if record.HealToReadyNs == nil || record.HealToSettledNs == nil || len(record.Endpoints) != 1 {
		t.Fatal(record)
	}
	// The probe comes from n2, so that the endpoint on n1 was out.
	if web := record.Endpoints[0]; web.Name != "web@n1" || !web.Required || web.Outage == nil {
		t.Errorf("%+v", web)
	}
}

func TestARefusalIsTypedAndCutsNothing(t *testing.T) {
	ctx := context.Background()
	client := injectortest.Open(t)
	for _, wrong := range []struct {
		cut               injector.Cut
		code, field, says string
	}{
		{injector.Cut{Shape: injector.Isolate("n9")}, "unknown-peer", "shape", "n9"},
		{injector.Cut{Shape: injector.Isolate("n1"), Scopes: []string{"tpc/1"}}, "bad-body", "", "unknown protocol"},
		{injector.Cut{Shape: injector.Isolate("n1"), Advisory: []string{"nobody"}}, "unknown-endpoint", "advisory", "nobody"},
	} {
		_, err := client.Partition(ctx, wrong.cut)
		var refused *injector.Error
		if !errors.As(err, &refused) {
			t.Fatalf("%v: %v", wrong.cut, err)
		}
		if refused.Code != wrong.code || refused.Status != 400 || !strings.Contains(refused.Error(), wrong.says) {
			t.Errorf("%#v", refused)
		}
		if wrong.field != "" && refused.Field != wrong.field {
			t.Errorf("%#v", refused)
		}
	}
	_, err := client.Partition(ctx, injector.Cut{Shape: injector.Isolate("n9")})
	var refused *injector.Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Remedy, "n1, n2") {
		t.Errorf("%#v", err)
	}
	status, err := client.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, partition := range status.Partitions {
		if partition.Healed == nil {
			t.Errorf("%s is cut", partition.Name)
		}
	}
}

func TestWithoutADaemonTheErrorSaysWhatHelps(t *testing.T) {
	ctx := context.Background()
	nowhere := injector.New("/nowhere/api.sock")
	_, err := nowhere.Status(ctx)
	if injector.CodeOf(err) != injector.CodeUnreachable || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%#v", err)
	}
	if _, err := nowhere.Partition(ctx, injector.Cut{Shape: injector.Isolate("n1")}); !strings.Contains(err.Error(), "sudo injector start") {
		t.Error(err)
	}
}

func TestPartitionsDoNotHealEachOther(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	first := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1")})
	second := injectortest.Cut(t, client, injector.Cut{Shape: injector.Links(injector.NamedLink{Src: "n1", Dst: "n2"})})
	if first.Name() == second.Name() || !strings.HasPrefix(first.Name(), "TestPartitionsDoNotHealEachOther-") {
		t.Error(first.Name(), second.Name())
	}
	injectortest.Heal(t, first)
	if state := view(t, second).State; state != "active" {
		t.Error(state)
	}
}

func TestWhatEndedAPartitionEarlyIsSaid(t *testing.T) {
	ctx := context.Background()
	client := injectortest.Open(t, "n1", "n2")
	partition := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1")})
	if _, err := client.Heal(ctx, partition.Name()); err != nil {
		t.Fatal(err)
	}
	// The name is free again, and somebody else's now.
	theirs := injectortest.Cut(t, client, injector.Cut{Name: partition.Name(), Shape: injector.Isolate("n1")})
	healed, err := partition.Heal(ctx)
	if injector.CodeOf(err) != injector.CodeNotInForce || healed.HealedBy != "request" {
		t.Error(healed, err)
	}
	if err == nil || !strings.Contains(err.Error(), "another client healed it") {
		t.Error(err)
	}
	if state := view(t, theirs).State; state != "active" {
		t.Errorf("it was healed: %s", state)
	}
}

func TestAnEndOfItsOwnIsNoSurprise(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	partition := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1"), For: 300 * time.Millisecond})
	time.Sleep(600 * time.Millisecond)
	if healed := injectortest.Heal(t, partition); healed.HealedBy != "deadline" || partition.Healed() == nil {
		t.Errorf("%+v", healed)
	}
}

func TestABoundBeyondTheDeadlineIsRefused(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	partition := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1"), Deadline: 5 * time.Second})
	_, err := partition.Recovers(context.Background(), 6*time.Second)
	var refused *injector.Error
	if !errors.As(err, &refused) || refused.Code != injector.CodeUsage || refused.Field != "within" {
		t.Fatalf("%#v", err)
	}
	if !strings.Contains(refused.Error(), "watched for 5s after the heal, and not for 6s; give the Cut a longer Deadline") {
		t.Error(refused)
	}
	if partition.Healed() == nil {
		t.Error("it is not healed")
	}
}

func TestCloseHeals(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	partition := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1")})
	partition.Close()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if healed := view(t, partition).Healed; healed != nil {
			if healed.HealedBy != "disconnect" {
				t.Errorf("%+v", healed)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("it was never healed")
		}
	}
	if _, err := partition.Heal(context.Background()); injector.CodeOf(err) != injector.CodeNotInForce {
		t.Error(err)
	}
}

func TestACancelledContextEndsAWait(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	partition := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1")})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := partition.Recovery(ctx, patience); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	// The partition does not hang on that call.
	if state := view(t, partition).State; state != "active" {
		t.Error(state)
	}
}
