package injector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"strconv"
)

// Codes of errors that this client makes. All other codes are the daemon's, and listed in docs/reference/api.md.
const (
	CodeUsage        = "usage"         // An argument is wrong; the daemon was not asked.
	CodeUnreachable  = "unreachable"   // No daemon answers there.
	CodeNotPermitted = "not-permitted" // This user may not use the daemon.
	CodeBroken       = "broken"        // The connection, or the caller's context, ended before the answer.
	CodeMisread      = "misread"       // The answer is not what this version expects.
	CodeVersion      = "version"       // A call failed because daemon and client are of different versions.
	CodeMissing      = "missing"       // The daemon lacks a peer, or any required endpoint, that the tests need.
	CodeNotHealthy   = "not-healthy"   // The required endpoints did not become healthy in time.
	CodeNotInForce   = "not-in-force"  // A partition was not in force until it was healed: what the test saw is no result.
	CodeNotFinal     = "not-final"     // A record was not final in time.
	CodeNotRecovered = "not-recovered" // The cluster did not settle in time, or that is not known.
)

// Error is the type of every error of this package.
type Error struct {
	// A fixed word for programs, such as "unknown-peer".
	Code string
	// The HTTP status; 0 where the daemon did not refuse.
	Status int
	// What is wrong, and where.
	Detail string
	// The field of the request that is wrong; "" where it is none.
	Field string
	// What to do; "" where nothing helps.
	Remedy string

	cause error
}

// Error returns the detail and the remedy.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Detail
	}
	return e.Detail + "; " + e.Remedy
}

// Unwrap returns the error of the system behind this one, if there is one.
func (e *Error) Unwrap() error {
	return e.cause
}

// CodeOf returns the code of an error of this package; "" for any other error.
func CodeOf(err error) string {
	var found *Error
	if errors.As(err, &found) {
		return found.Code
	}
	return ""
}

// notConnected is the error for a socket that can't be connected to.
func (c *Client) notConnected(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &Error{
			Code:   CodeNotPermitted,
			Detail: c.socket + ": not permitted for this user",
			Remedy: "run the tests with sudo, or join the group that owns the socket",
			cause:  err,
		}
	}
	return &Error{
		Code:   CodeUnreachable,
		Detail: fmt.Sprintf("the daemon at %s can't be reached: %v", c.socket, err),
		Remedy: "is it running? Start it with: sudo injector start --config lab.yaml",
		cause:  err,
	}
}

// unanswered is the error for a call whose connection ended before the answer.
func (c *Client) unanswered(call call, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		// It names the call once more, with a host that does not exist.
		err = wrapped.Err
	}
	detail := fmt.Sprintf("%v: the connection to the daemon at %s broke: %v", call, c.socket, err)
	return &Error{Code: CodeBroken, Detail: detail, Remedy: "look at `injector status`", cause: err}
}

// refusal is the error for an answer that is a problem document.
func (c *Client) refusal(call call, status int, text []byte) error {
	var problem struct{ Code, Detail, Field, Remedy string }
	if err := json.Unmarshal(text, &problem); err != nil || problem.Code == "" {
		detail := fmt.Sprintf("%v: the daemon answered with status %d", call, status)
		return &Error{Code: CodeMisread, Status: status, Detail: detail, cause: err}
	}
	return &Error{
		Code:   problem.Code,
		Status: status,
		Detail: problem.Detail,
		Field:  problem.Field,
		Remedy: problem.Remedy,
	}
}

const newVersion = "take clients/go from the source of the daemon's version, or update the daemon"

// diagnosed adds to an error what the versions have to do with it, if they may have.
func (c *Client) diagnosed(ctx context.Context, err error) error {
	var failure *Error
	if !errors.As(err, &failure) {
		return err
	}
	switch failure.Code {
	case CodeMisread, "no-such-call", "wrong-method", "bad-body", "bad-parameter", "bad-shape":
	default:
		return err
	}
	var daemon struct {
		Version string `json:"version"`
	}
	asked := c.exchange(ctx, c.shared, call{method: "GET", path: "/status"}, &daemon)
	if asked != nil || daemon.Version == c.version {
		return err
	}
	how := "older"
	if isNewer(c.version, daemon.Version) {
		how = "newer"
	}
	sentence := fmt.Sprintf("this client (%s) is %s than the daemon (%s)", c.version, how, daemon.Version)
	if failure.Status == 400 {
		// Its code and field stay: it may be a plain mistake.
		plain := *failure
		plain.Remedy = sentence + ": " + newVersion
		if failure.Remedy != "" {
			plain.Remedy = failure.Remedy + "; " + plain.Remedy
		}
		return &plain
	}
	return &Error{Code: CodeVersion, Detail: sentence + ", and " + failure.Detail, Remedy: newVersion, cause: failure}
}

var numbers = regexp.MustCompile(`\d+`)

// isNewer compares the numbers of two versions.
func isNewer(one, other string) bool {
	ones, others := numbers.FindAllString(one, 3), numbers.FindAllString(other, 3)
	for i := 0; i < len(ones) && i < len(others); i++ {
		a, _ := strconv.Atoi(ones[i])
		b, _ := strconv.Atoi(others[i])
		if a != b {
			return a > b
		}
	}
	return len(ones) > len(others)
}
