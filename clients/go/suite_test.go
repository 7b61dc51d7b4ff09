// The suite of docs/clients/go.md, as it is written there.

package injector_test

import (
	"testing"
	"time"

	"injector"
	"injector/injectortest"
)

func TestTheMajorityServesAndTheClusterRecovers(t *testing.T) {
	client := injectortest.Open(t, "n1", "n2")
	injectortest.WaitHealthy(t, client, time.Minute)
	partition := injectortest.Cut(t, client, injector.Cut{Shape: injector.Isolate("n1")})
	time.Sleep(time.Second) // the test's own work: the majority must serve
	injectortest.Recovers(t, partition, 20*time.Second)
}
