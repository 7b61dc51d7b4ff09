package injector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Partition is a partition that this process made. It may be used from several goroutines.
type Partition struct {
	client  *Client
	applied View
	// Whether an end of its own was asked for.
	hasEnd bool
	// What it hangs on: the daemon heals it when this connection ends.
	owner net.Conn

	mutex   sync.Mutex
	healed  *Healed
	verdict error
}

// Partition cuts, and returns when the cut is in force. A refusal cuts nothing; its error has the daemon's words.
func (c *Client) Partition(ctx context.Context, cut Cut) (*Partition, error) {
	request, err := cut.request()
	if err != nil {
		return nil, err
	}
	name := cut.Name
	if name == "" {
		name = NewName("go")
	}
	path, err := partitionPath(name, "")
	if err != nil {
		return nil, err
	}
	owner, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	partition := &Partition{client: c, hasEnd: cut.For > 0, owner: owner}
	err = c.exchange(ctx, over(owner), call{method: http.MethodPut, path: path, body: request}, &partition.applied)
	if err != nil {
		// Where the answer was lost, the daemon heals what it may have cut.
		owner.Close()
		return nil, c.diagnosed(ctx, err)
	}
	return partition, nil
}

// over is an HTTP client that has one connection and opens no other: a new one would hide that the first has ended.
func over(conn net.Conn) *http.Client {
	var once sync.Once
	dial := func(context.Context, string, string) (net.Conn, error) {
		var given net.Conn
		once.Do(func() { given = conn })
		if given == nil {
			return nil, errors.New("the connection has ended")
		}
		return given, nil
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

// Applied returns the daemon's answer when it was cut: the peers that were drawn, the seed.
func (p *Partition) Applied() View {
	return p.applied
}

// Name returns its name.
func (p *Partition) Name() string {
	return p.applied.Name
}

// Healed returns how it ended, as [Partition.Heal] found it; nil before.
func (p *Partition) Healed() *Healed {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.healed
}

// View asks for the newest partition of its name, as the daemon has it now.
func (p *Partition) View(ctx context.Context) (View, error) {
	var view View
	path, err := partitionPath(p.Name(), "")
	if err != nil {
		return view, err
	}
	err = p.client.call(ctx, call{method: http.MethodGet, path: path}, &view)
	return view, err
}

// Record asks for its record as it is now; Final says whether it still changes.
func (p *Partition) Record(ctx context.Context) (*Recovery, error) {
	return p.record(ctx, 0)
}

// Recovery waits for its final record. After the timeout the error has [CodeNotFinal], and the record is as it was then.
func (p *Partition) Recovery(ctx context.Context, timeout time.Duration) (*Recovery, error) {
	end := time.Now().Add(timeout)
	for {
		record, err := p.record(ctx, time.Until(end))
		if err != nil {
			return nil, err
		}
		if record.Final {
			return record, nil
		}
		if !time.Now().Before(end) {
			state := "its endpoints are still watched"
			if record.Heal == nil {
				state = "it is not healed"
			}
			return record, &Error{
				Code:   CodeNotFinal,
				Detail: fmt.Sprintf("the record of %q is not final after %v: %s", p.Name(), timeout, state),
				Remedy: "wait longer, or set a shorter Deadline or the config's ready: observe",
			}
		}
	}
}

func (p *Partition) record(ctx context.Context, wait time.Duration) (*Recovery, error) {
	if wait < 0 {
		wait = 0
	}
	if wait > longestWait {
		wait = longestWait
	}
	query := fmt.Sprintf("/recovery?wait=%s&generation=%d", span(wait), p.applied.Generation)
	path, err := partitionPath(p.Name(), query)
	if err != nil {
		return nil, err
	}
	record := new(Recovery)
	if err := p.client.call(ctx, call{method: http.MethodGet, path: path, wait: wait}, record); err != nil {
		return nil, err
	}
	// After a restart of the daemon, another client's partition may have this one's name and generation, and no record says which
	// request made it. It did not begin at the same nanosecond.
	if cut, applied := record.Cut, p.applied.Effective; cut != nil && applied != nil && *cut != *applied {
		return nil, p.notInForce("the daemon was restarted meanwhile, and another client's partition has its name", nil)
	}
	return record, nil
}

// Recovers heals, waits for the final record, and fails with [CodeNotRecovered] unless all required endpoints settled within so
// long of its heal. The message has the record, which is returned as well. Where partitions overlap, ask the one that is healed last:
// the record of another one may be final before that heal. A bound beyond [Cut.Deadline], or the config's deadline, is a [CodeUsage]
// error: nobody watches for so long.
func (p *Partition) Recovers(ctx context.Context, within time.Duration) (*Recovery, error) {
	if _, err := p.Heal(ctx); err != nil {
		return nil, err
	}
	watched, err := p.Record(ctx)
	if err != nil {
		return nil, err
	}
	if err := watched.mayAnswer(within); err != nil {
		return watched, err
	}
	// The observation and its relapses come after the bound.
	record, err := p.Recovery(ctx, within+2*time.Minute)
	if record == nil {
		return nil, err
	}
	return record, record.within(within)
}

// Heal heals it, and returns when the links carry again. It never heals a partition that has its name by now. The error has
// [CodeNotInForce] if something else ended it before (other than the end that [Cut.For] asked for), or if packets passed it, or may
// have where [Cut.Strict] is set: what the test saw was not under the partition. A second call answers as the first did.
func (p *Partition) Heal(ctx context.Context) (Healed, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.healed == nil {
		healed, verdict := p.heal(ctx)
		if healed == nil {
			return Healed{}, verdict
		}
		p.healed, p.verdict = healed, verdict
		// It owns nothing any more.
		p.owner.Close()
	}
	return *p.healed, p.verdict
}

// Close ends the connection that the partition hangs on. If it is still cut, the daemon heals it at once. Close does not wait for
// that, as Heal does.
func (p *Partition) Close() error {
	return p.owner.Close()
}

var whoElse = map[string]string{
	"request":    "another client healed it, or a call of Client.Heal",
	"deadline":   "its deadline came first; give it a longer For, or raise max_for in the config",
	"lease":      "the daemon was held up, and the lease ended it; see the daemon's log",
	"shutdown":   "the daemon was stopped",
	"disconnect": "the connection that owned it broke",
}

// heal answers how the partition ended, and what is wrong with that. Without an end, only the error counts.
func (p *Partition) heal(ctx context.Context) (*Healed, error) {
	before, err := p.View(ctx)
	if err != nil {
		return nil, p.forgotten(err)
	}
	isOurs := p.applied.isSame(before)
	wasLive := isOurs && (before.State == "active" || before.State == "scheduled" || before.State == "prepared")
	var healed *Healed
	if isOurs {
		answer, err := p.client.Heal(ctx, p.Name())
		if err != nil {
			return nil, p.forgotten(err)
		}
		healed = &answer
	}
	record, err := p.Record(ctx)
	if err != nil {
		return healed, p.forgotten(err)
	}
	if healed == nil {
		// It ended before, and another partition has its name.
		if healed = record.healed(); healed == nil {
			return nil, p.notInForce("its end is not known any more", nil)
		}
	}
	switch {
	case healed.HealedBy == "request" && wasLive:
	case healed.HealedBy == "deadline" && p.hasEnd:
	default:
		why, isKnown := whoElse[healed.HealedBy]
		if !isKnown {
			why = "it was ended by: " + healed.HealedBy
		}
		return healed, p.notInForce(why, nil)
	}
	for _, link := range record.Links {
		if link.InForce != nil && *link.InForce == "no" {
			why := fmt.Sprintf("packets of %s→%s passed the cut, or could pass; `injector wait %s` says how", link.Src, link.Dst, p.Name())
			return healed, p.notInForce(why, nil)
		}
	}
	for _, link := range record.Links {
		if link.InForce != nil && *link.InForce == "unknown" && p.applied.Request.Strict {
			why := fmt.Sprintf(
				"it is not known whether packets of %s→%s passed the cut, and Strict counts that as no; `injector wait %s` says why",
				link.Src, link.Dst, p.Name())
			return healed, p.notInForce(why, nil)
		}
	}
	return healed, nil
}

// forgotten is the error for a daemon that does not know the partition; any other error stays.
func (p *Partition) forgotten(err error) error {
	if CodeOf(err) != "unknown-partition" {
		return err
	}
	return p.notInForce("the daemon does not know it any more; it was restarted meanwhile", err)
}

func (p *Partition) notInForce(why string, cause error) error {
	detail := fmt.Sprintf("%q was not in force until it was healed: %s", p.Name(), why)
	return &Error{Code: CodeNotInForce, Detail: detail, cause: cause}
}
