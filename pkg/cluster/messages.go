package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// Protocol is the version of everything that workers and the coordinator say
// to each other: these messages, the ring's frames and the blobs. Both sides
// must speak the same one; a worker of another version is refused by name.
const Protocol = 1

// maxMessage bounds a control message; the largest is Welcome with its vocabulary.
const maxMessage = 1 << 20

// Join asks for membership. It is the one request; the rest is published.
type Join struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"` // of the program, for the message of a refusal
	Worker   string `json:"worker"`  // unique id, also the member name in the ring
	Host     string `json:"host"`
	PID      int    `json:"pid"`
	Threads  int    `json:"threads"`
	CPU      string `json:"cpu"` // kernel level: avx512, avx2, …
}

// Welcome answers Join. Where Refused is not empty the worker must leave, and
// says why with it.
type Welcome struct {
	Refused   string          `json:"refused,omitempty"`
	Job       string          `json:"job,omitempty"`      // resolved job file
	BaseDir   string          `json:"base_dir,omitempty"` // where the job's relative paths start
	Data      json.RawMessage `json:"data,omitempty"`     // data.Meta
	StartStep uint64          `json:"start_step"`         // steps already committed
	State     []Blob          `json:"state,omitempty"`    // files to fetch from the coordinator; none: initialise from the seed
}

// Blob names one file on offer.
type Blob struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Ready says that a worker holds the job's state and could start.
type Ready struct {
	Worker  string `json:"worker"`
	Step    uint64 `json:"step"`    // committed steps its weights stand for
	Weights string `json:"weights"` // SHA-256 of its weights
}

// Assign gives a worker its place in a new generation. It answers Formed.
type Assign struct {
	Group allreduce.Group `json:"group"`
	Step  uint64          `json:"step"` // first step to run, counted from 0
}

// Formed says that a worker listens on the ring of a generation.
type Formed struct {
	Worker     string `json:"worker"`
	Generation uint64 `json:"generation"`
}

// Go starts a generation: everyone has formed.
type Go struct {
	Generation uint64 `json:"generation"`
}

// Heartbeat shows that a worker lives, and where it is.
type Heartbeat struct {
	Worker string `json:"worker"`
	Step   uint64 `json:"step"`  // committed
	Phase  string `json:"phase"` // what it is doing: data, forward, backward, ring, …
}

// Times are seconds spent in each part of a step.
type Times struct {
	Data      float64 `json:"data"`
	Forward   float64 `json:"forward"`
	Backward  float64 `json:"backward"`
	Ring      float64 `json:"ring"` // waiting for the ring after backward ended: what overlap did not hide
	Optimizer float64 `json:"optimizer"`
}

// Report is what a worker says of a step it has committed.
type Report struct {
	Worker     string    `json:"worker"`
	Generation uint64    `json:"generation"`
	Rank       int       `json:"rank"`
	Step       uint64    `json:"step"`   // committed steps, so the first report says 1
	Losses     []float64 `json:"losses"` // of its micro-batches, in order
	GradNorm   float64   `json:"grad_norm"`
	LR         float64   `json:"lr"`
	Times      Times     `json:"times"`
	RingBytes  uint64    `json:"ring_bytes"` // sent in this generation
	Faults     uint64    `json:"faults"`     // ring frames lost, doubled, corrupt or stale in this generation
}

// Control raises flags that the ring carries to all at one step.
type Control struct {
	Flags allreduce.Flags `json:"flags"`
}

// Halt ends a generation at once: the ring is broken. Workers keep their last
// committed state and answer Halted.
type Halt struct {
	Generation uint64 `json:"generation"`
	Reason     string `json:"reason"`
}

// Halted answers Halt.
type Halted struct {
	Worker     string `json:"worker"`
	Generation uint64 `json:"generation"`
	Step       uint64 `json:"step"` // committed
}

// Snapshot asks a halted worker to offer its committed state.
type Snapshot struct{}

// Offer says that a worker holds a snapshot of the state after Step on offer.
type Offer struct {
	Worker string `json:"worker"`
	Step   uint64 `json:"step"`
	Files  []Blob `json:"files"`
}

// Stored tells the worker that its offer of Step is no longer needed: it is on
// the coordinator's disk, or could not be put there (Error).
type Stored struct {
	Step  uint64 `json:"step"`
	Error string `json:"error,omitempty"`
}

// Fault says that a worker cannot go on, and why. It keeps its committed
// state until told to end.
type Fault struct {
	Worker string `json:"worker"`
	Step   uint64 `json:"step"` // committed
	Error  string `json:"error"`
	Peer   string `json:"peer,omitempty"` // the member it blames, if any
}

// Leave says that a worker goes away by itself.
type Leave struct {
	Worker string `json:"worker"`
	Reason string `json:"reason"`
}

// End tells a worker to exit.
type End struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason"`
}

// kinds maps each message's name on the wire, its type's name in lower case, to the type.
var kinds = func() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, v := range []any{Join{}, Welcome{}, Ready{}, Assign{}, Formed{}, Go{}, Heartbeat{}, Report{}, Control{},
		Halt{}, Halted{}, Snapshot{}, Offer{}, Stored{}, Fault{}, Leave{}, End{}} {
		t := reflect.TypeOf(v)
		m[strings.ToLower(t.Name())] = t
	}
	return m
}()

type envelope struct {
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Encode returns the wire form of a message, which must be a pointer to one of
// this file's types.
func Encode(m any) []byte {
	body, err := json.Marshal(m)
	if err != nil { // the types hold nothing that JSON cannot say, but for NaN, which reports must not carry
		panic(fmt.Sprintf("cluster: encoding %T: %v", m, err))
	}
	kind := strings.ToLower(reflect.TypeOf(m).Elem().Name())
	if _, ok := kinds[kind]; !ok {
		panic(fmt.Sprintf("cluster: %T is no message", m))
	}
	out, _ := json.Marshal(envelope{kind, body})
	return out
}

// Decode is the inverse of Encode for bytes from anyone. It refuses messages
// that are too large, of an unknown kind, or with unknown fields.
func Decode(data []byte) (any, error) {
	if len(data) > maxMessage {
		return nil, fmt.Errorf("control message of %d bytes is over the limit of %d", len(data), maxMessage)
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	t, ok := kinds[e.Kind]
	if !ok {
		return nil, fmt.Errorf("control message of unknown kind %.40q", e.Kind)
	}
	m := reflect.New(t).Interface()
	d := json.NewDecoder(bytes.NewReader(e.Body))
	if e.Kind != "join" && e.Kind != "welcome" { // these two must be readable across protocol versions
		d.DisallowUnknownFields()
	}
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("control message %q: %w", e.Kind, err)
	}
	return m, nil
}

// PhaseStopped is the Heartbeat phase of a worker that has left its step loop.
const PhaseStopped = "stopped"

// CoordinatorSubject is where workers send everything.
func CoordinatorSubject(job string) string { return "vlaring." + job + ".coordinator" }

// WorkerSubject is where one worker listens.
func WorkerSubject(job, worker string) string { return "vlaring." + job + ".worker." + worker }
