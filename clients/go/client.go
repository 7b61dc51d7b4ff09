// Package injector is a client of the partition injector's daemon: it cuts the network between peers, heals it, and measures
// the recovery. It needs the standard library alone. Package injectortest has what tests use.
//
// A partition hangs on a connection of its own. The daemon heals it when that connection ends: by [Partition.Close], and also
// where this process exits, panics or is killed.
package injector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// Version is the version of this client. Where a call fails and the daemon is of another version, the error says so.
const Version = "0.1.0"

// DefaultSocket is the socket of a daemon whose config names no other.
const DefaultSocket = "/run/injector/injector.sock"

const (
	// The daemon answers within 10 s; a little more is for a host that is busy.
	patience = 20 * time.Second
	// The longest time that one call may wait for a record.
	longestWait = 10 * time.Minute
	// How often the endpoints' health is asked for.
	poll = 100 * time.Millisecond
)

// Client calls one daemon. It may be used from several goroutines.
type Client struct {
	socket  string
	version string
	shared  *http.Client
	// Why no call can be made, if so.
	fault error
}

// New returns a client of the daemon that has this socket; "" is the socket that INJECTOR_SOCKET names, else [DefaultSocket].
// The first call connects.
func New(socket string) *Client {
	client := &Client{socket: socket, version: Version}
	if socket == "" {
		client.socket, client.fault = fromEnvironment()
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return client.dial(ctx) }
	// The daemon ends connections that are idle for a minute. This end does so earlier, so that no call meets one that ends.
	client.shared = &http.Client{Transport: &http.Transport{DialContext: dial, IdleConnTimeout: 30 * time.Second}}
	return client
}

func fromEnvironment() (string, error) {
	if host := os.Getenv("INJECTOR_HOST"); host != "" {
		return host, &Error{
			Code:   CodeUsage,
			Detail: fmt.Sprintf("INJECTOR_HOST names %s, and this client calls sockets of this host alone", host),
			Field:  "INJECTOR_HOST",
			Remedy: "forward the socket (ssh -N -L /tmp/injector.sock:" + DefaultSocket + " user@host) and name it in INJECTOR_SOCKET",
		}
	}
	if socket := os.Getenv("INJECTOR_SOCKET"); socket != "" {
		return socket, nil
	}
	return DefaultSocket, nil
}

// Socket returns the daemon's socket.
func (c *Client) Socket() string {
	return c.socket
}

// Status asks for the daemon's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	err := c.call(ctx, call{method: http.MethodGet, path: "/status"}, &status)
	return status, err
}

// WaitHealthy waits until every required endpoint is healthy, except for those named here by their base or full names. After
// the timeout the error has [CodeNotHealthy] and names the endpoints that are not. A config without a required endpoint is an error of
// [CodeMissing]: there is nothing to wait for, and no recovery will be known.
func (c *Client) WaitHealthy(ctx context.Context, timeout time.Duration, advisory ...string) (Status, error) {
	end := time.Now().Add(timeout)
	for {
		status, err := c.Status(ctx)
		if err != nil {
			return status, err
		}
		if !status.hasRequired() {
			return status, &Error{
				Code:   CodeMissing,
				Detail: "the daemon's config has no required endpoint to wait for",
				Remedy: "add endpoints: to the config",
			}
		}
		sick := status.sick(advisory)
		if len(sick) == 0 {
			return status, nil
		}
		if !time.Now().Before(end) {
			return status, &Error{
				Code:   CodeNotHealthy,
				Detail: fmt.Sprintf("not healthy within %v: %s", timeout, strings.Join(sick, "; ")),
				Remedy: "`injector probe` asks every endpoint once",
			}
		}
		select {
		case <-ctx.Done():
			return status, &Error{Code: CodeBroken, Detail: "waiting for healthy endpoints: " + ctx.Err().Error(), cause: ctx.Err()}
		case <-time.After(poll):
		}
	}
}

// Heal heals the newest partition of a name, no matter who made it. [Partition.Heal] heals one's own and nothing else.
func (c *Client) Heal(ctx context.Context, name string) (Healed, error) {
	var answer struct {
		Healed Healed `json:"healed"`
	}
	path, err := partitionPath(name, "")
	if err != nil {
		return answer.Healed, err
	}
	err = c.call(ctx, call{method: http.MethodDelete, path: path}, &answer)
	return answer.Healed, err
}

// Mark puts a text on the timeline.
func (c *Client) Mark(ctx context.Context, text string) error {
	var event struct {
		ID int64 `json:"id"`
	}
	body := map[string]string{"text": text}
	return c.call(ctx, call{method: http.MethodPost, path: "/marks", body: body}, &event)
}

// call is one call of the API.
type call struct {
	method, path string
	body         any
	// How long the daemon may hold the answer back.
	wait time.Duration
}

func (c call) String() string {
	return c.method + " /v1" + c.path
}

// call makes one call over the connections that all of them share.
func (c *Client) call(ctx context.Context, call call, answer any) error {
	return c.diagnosed(ctx, c.exchange(ctx, c.shared, call, answer))
}

// exchange makes one call over the connections of an HTTP client, and reads its answer.
func (c *Client) exchange(ctx context.Context, over *http.Client, call call, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, patience+call.wait)
	defer cancel()
	request, err := call.request(ctx)
	if err != nil {
		return err
	}
	response, err := over.Do(request)
	if err != nil {
		return c.unanswered(call, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return c.unanswered(call, err)
	}
	if response.StatusCode/100 != 2 {
		return c.refusal(call, response.StatusCode, text)
	}
	if err := read(text, answer); err != nil {
		return &Error{Code: CodeMisread, Detail: fmt.Sprintf("%v: the answer is not understood: %v", call, err), cause: err}
	}
	return nil
}

func (c call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body)
		if err != nil {
			return nil, &Error{Code: CodeUsage, Detail: fmt.Sprintf("%v: the request is no JSON: %v", c, err), cause: err}
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, "http://injector/v1"+c.path, body)
	if err != nil {
		return nil, &Error{Code: CodeUsage, Detail: fmt.Sprintf("%v: %v", c, err), cause: err}
	}
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.method == http.MethodDelete {
		// A heal may be sent again where the connection had ended. net/http does not send a header without values.
		request.Header["Idempotency-Key"] = []string{}
	}
	return request, nil
}

// dial opens a connection to the daemon.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if c.fault != nil {
		return nil, c.fault
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, c.notConnected(err)
	}
	return conn, nil
}

var legalName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// partitionPath is the path of a partition's calls. A name that the server would refuse could also mean another path.
func partitionPath(name, rest string) (string, error) {
	if !legalName.MatchString(name) || name == "." || name == ".." {
		return "", &Error{
			Code:   CodeUsage,
			Detail: fmt.Sprintf("%q can't be a partition's name", name),
			Field:  "name",
			Remedy: "use 1 to 64 letters, digits, dots, underscores and hyphens, but not . or .. alone",
		}
	}
	return "/partitions/" + name + rest, nil
}
