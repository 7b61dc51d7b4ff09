//go:build driven

package injector_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"injector"
	"injector/injectortest"
)

// Tests that fail, that end the process, or that need the world to be in some state. injector/tests/netns_go.rs runs each by its
// name, and judges what became of it.

func TestFailsWhileCut(t *testing.T) {
	injectortest.Cut(t, injectortest.Open(t, "n1", "n2"), injector.Cut{Name: "go-fails", Shape: injector.Isolate("n1")})
	t.Fatal("the test's own failure")
}

func TestPanicsWhileCut(t *testing.T) {
	injectortest.Cut(t, injectortest.Open(t, "n1", "n2"), injector.Cut{Name: "go-panics", Shape: injector.Isolate("n1")})
	panic("the test's own panic")
}

func TestDiesWhileCut(t *testing.T) {
	injectortest.Cut(t, injectortest.Open(t, "n1", "n2"), injector.Cut{Name: "go-dies", Shape: injector.Isolate("n1")})
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {}
}

func TestWasHealedByAnother(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	injectortest.Cut(t, client, injector.Cut{Name: "go-healed", Shape: injector.Isolate("n1")})
	if _, err := client.Heal(context.Background(), "go-healed"); err != nil {
		t.Fatal(err)
	}
}

// waitForDriver says that a test is as far as its driver waits for, and waits until the driver ends the line.
func waitForDriver(t *testing.T) {
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// The daemon is restarted while this waits, and another client's partition gets the name, and the first generation too.
func TestHealsNotWhatAnotherCutAfterARestart(t *testing.T) {
	ctx := context.Background()
	client := injectortest.Open(t, "n1", "n2")
	partition, err := client.Partition(ctx, injector.Cut{Name: "go-restarted", Shape: injector.Isolate("n1")})
	if err != nil {
		t.Fatal(err)
	}
	defer partition.Close()
	waitForDriver(t)
	theirs := view(t, partition)
	if theirs.Generation != partition.Applied().Generation || theirs.State != "active" {
		t.Fatalf("%+v", theirs)
	}
	if _, err := partition.Record(ctx); injector.CodeOf(err) != injector.CodeNotInForce {
		t.Errorf("the record of another's partition: %v", err)
	}
	if _, err := partition.Heal(ctx); injector.CodeOf(err) != injector.CodeNotInForce || !strings.Contains(err.Error(), "restarted") {
		t.Error(err)
	}
	if state := view(t, partition).State; state != "active" {
		t.Errorf("it was healed: %s", state)
	}
}

// A device of n1 passes no hook, and nobody knows whether packets take it. A second heal answers as the first did.
func TestUnknownIsNoForAStrictCut(t *testing.T) {
	ctx := context.Background()
	client := injectortest.Open(t, "n1", "n2")
	for _, strict := range []bool{false, true} {
		partition, err := client.Partition(ctx, injector.Cut{Shape: injector.Isolate("n1"), Strict: strict})
		if err != nil {
			t.Fatal(err)
		}
		defer partition.Close()
		time.Sleep(300 * time.Millisecond)
		for range []int{1, 2} {
			_, err = partition.Heal(ctx)
			isRefused := injector.CodeOf(err) == injector.CodeNotInForce && strings.Contains(err.Error(), "it is not known whether packets of")
			if isRefused != strict || !strict && err != nil {
				t.Errorf("strict %v: %v", strict, err)
			}
		}
	}
}

// The server of the endpoint fails.
func TestIsNotHealthyInTime(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	status, err := client.WaitHealthy(context.Background(), 200*time.Millisecond)
	if injector.CodeOf(err) != injector.CodeNotHealthy || !strings.Contains(err.Error(), "web@n1: ") {
		t.Errorf("%v: %+v", err, status.Endpoints)
	}
	injectortest.WaitHealthy(t, client, 200*time.Millisecond, "web")
}

// The server of the endpoint fails from before the cut on: unknown is not recovered.
func TestIsNotKnownToRecover(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	partition := injectortest.Cut(t, client, injector.Cut{
		Name:     "go-unknown",
		Shape:    injector.Isolate("n1"),
		Deadline: time.Second,
	})
	time.Sleep(500 * time.Millisecond)
	injectortest.Recovers(t, partition, time.Second)
}

// The config has no endpoint.
func TestHasNothingToWaitFor(t *testing.T) {
	_, err := injectortest.Open(t, "n1", "n2").WaitHealthy(context.Background(), time.Second)
	if injector.CodeOf(err) != injector.CodeMissing || !strings.Contains(err.Error(), "no required endpoint to wait for; add endpoints:") {
		t.Error(err)
	}
}

func TestNeedsAPeer(t *testing.T) {
	injectortest.Open(t, "n1", "n9")
}
