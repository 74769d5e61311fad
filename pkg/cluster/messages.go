package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/vlaring/vlaring/internal/limits"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/pkg/allreduce"
)

// Protocol is the version of everything that workers and the coordinator say
// to each other: these messages, the ring's frames and the blobs. Both sides
// must speak the same one; a worker of another version is refused by name. It
// changes when a message does, and docs/formats.md with it.
const Protocol = 7

// maxMessage bounds a control message. What grows with the members (an Assign, a
// Seat) is made so that the most of them fit; what has no such bound, the
// description of a job in a Welcome, is fetched where it is large.
const maxMessage = limits.Message

// Message is one of the types of this file, by pointer.
type Message interface{ message() }

// Join asks for membership, and Welcome answers it. It is a worker's only request:
// its other messages are published, and those that matter are sent again until
// their effect shows.
type Join struct {
	Protocol int     `json:"protocol"`
	Version  string  `json:"version"` // of the program, for the message of a refusal
	Worker   string  `json:"worker"`  // unique id, also the member name in the ring
	Host     string  `json:"host"`
	PID      int     `json:"pid"`
	Threads  int     `json:"threads"`
	CPU      string  `json:"cpu"`              // kernel level: avx512, avx2, …
	Seat     *Seat   `json:"seat,omitempty"`   // of a worker that lived on with the job's state; nil: it has none
	Memory   *Memory `json:"memory,omitempty"` // that it can share; nil: none
	Stream   string  `json:"stream,omitempty"` // host:port where it takes direct connections; empty: it takes none
}

// Seat is the lease of a worker that its coordinator does not know: one that lived
// on while its coordinator died, or that was given up too early. With it the worker
// registers again, and a new coordinator learns how the job stands.
type Seat struct {
	Job        string   `json:"job"` // hash of the resolved job file that it runs
	Generation uint64   `json:"generation"`
	Step       uint64   `json:"step"`            // committed
	Members    []string `json:"members"`         // of that generation, by rank
	Micro      []int    `json:"micro"`           // bounds of the step in progress, as Group.Micro
	Fence      uint64   `json:"fence,omitempty"` // newest that it has heard of
}

// Welcome answers Join.
type Welcome struct {
	Refused   string          `json:"refused,omitempty"`                  // why the worker must leave; empty: it is a member
	Passes    bool            `json:"passes,omitempty"`                   // Refused may not hold for long: it may ask again
	Job       string          `json:"job,omitempty" text:"verbatim"`      // resolved job file
	BaseDir   string          `json:"base_dir,omitempty" text:"verbatim"` // where the job's relative paths start
	Data      json.RawMessage `json:"data,omitempty"`                     // data.Meta
	Source    StateSource     `json:"source"`
	StartStep uint64          `json:"start_step"`        // steps that State stands for
	State     []Blob          `json:"state,omitempty"`   // files to fetch from the coordinator; none: initialise from the seed
	Encrypt   bool            `json:"encrypt,omitempty"` // direct connections are to be, as those to NATS are
	Trace     bool            `json:"trace,omitempty"`   // reports are to have Spans

	// Description is where Job and Data are, where they are too large for this
	// message: both as one JSON object, to be fetched from the coordinator.
	Description *Blob `json:"description,omitempty"`
}

// StateSource says where a new member's weights and moments come from.
type StateSource int

const (
	FromCoordinator StateSource = iota // Welcome.State, or the seed where it is empty
	FromPeers                          // the members that train already; an Assign names them
	FromItself                         // it has them: see Join.Seat
)

// Blob names one file on offer.
type Blob struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Restore tells a worker to take the state of the coordinator's disk: every
// member that had a newer one is gone, or not to be trusted.
type Restore struct {
	// Generation is the newest one when this was decided. A worker that has
	// joined a later one since does not heed it.
	Generation uint64 `json:"generation"`
	StartStep  uint64 `json:"start_step"`
	State      []Blob `json:"state,omitempty"`
	Fence      uint64 `json:"fence,omitempty"` // as of Assign
}

// Ready says that a worker has loaded the job and could start.
type Ready struct {
	Worker string `json:"worker"`
	Step   uint64 `json:"step"`   // committed steps its state stands for
	State  bool   `json:"state"`  // it has weights and moments; else peers must give them
	Digest string `json:"digest"` // of its state
}

// Introduce asks a worker that the coordinator does not know to Join, with its
// Seat if it has one.
type Introduce struct {
	Coordinator string `json:"coordinator"`
}

// Recall aborts all older generations: the worker leaves its ring, keeps the
// micro-gradients that it has, and answers Standing.
type Recall struct {
	Generation  uint64 `json:"generation"`
	Coordinator string `json:"coordinator"`
	Reported    uint64 `json:"reported"` // steps whose reports the coordinator has
	Reason      string `json:"reason"`
}

// Standing says that a worker is at rest, and where: the answer to Recall, and
// what a worker says whose step loop has ended.
type Standing struct {
	Worker     string `json:"worker"`
	Generation uint64 `json:"generation"` // newest that it has heard of
	Step       uint64 `json:"step"`       // committed
	State      bool   `json:"state"`
	Digest     string `json:"digest"` // of weights and moments

	Verdict *Verdict `json:"verdict,omitempty"` // of one that has stopped before a step in dispute
}

// Assign gives a worker its place in a new generation. It answers Formed, once
// it listens on the ring. A worker that is behind takes the state of Step from
// Sources while the others compute. None of them can commit the first step before
// this worker has taken part in its sum, so the state does not change meanwhile.
type Assign struct {
	Coordinator string          `json:"coordinator"`
	Group       allreduce.Group `json:"group"`
	// First are bounds as Group.Micro, of the first step alone: survivors go on
	// with the micro-gradients that they have.
	First   []int           `json:"first"`
	Step    uint64          `json:"step"`              // committed steps; the next one is run first
	Digest  string          `json:"digest"`            // of the state after Step
	Sources []string        `json:"sources,omitempty"` // at most limits.Sources members that have it, for a worker that does not
	Fence   uint64          `json:"fence,omitempty"`   // what members of generations before this one hold does not count
	Hosts   allreduce.Hosts `json:"hosts,omitempty"`   // runs of ranks that share memory
	Memory  []string        `json:"memory,omitempty"`  // its addresses, by rank; empty for a rank that shares none
	// Streams are where its neighbours in the ring take direct connections, by
	// rank. Empty for a rank that is no neighbour, or is reached over NATS.
	Streams []string `json:"streams,omitempty"`
	Secrets []string `json:"secrets,omitempty"` // of the direct connections with these; only their two ends are told

	Verify *Verify `json:"verify,omitempty"` // of this rank alone; nil: it checks nobody
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

// Heartbeat shows that a worker lives, and where it is. Beat answers it.
type Heartbeat struct {
	Worker      string    `json:"worker"`
	Generation  uint64    `json:"generation"`
	Coordinator string    `json:"coordinator"` // whose generation it is
	Step        uint64    `json:"step"`        // committed
	At          nodePhase `json:"at"`          // where it stands: loading, resting, forming, formed, stepping, halting
	Phase       string    `json:"phase"`       // what it is doing, in words for people: data, forward, backward, ring, …
}

// Beat shows a worker that its coordinator lives.
type Beat struct {
	Coordinator string `json:"coordinator"`
	Reported    uint64 `json:"reported"` // steps whose reports it has; later ones are to be sent again
}

// Times are seconds spent in each part of a step.
type Times struct {
	Data      float64 `json:"data"`
	Forward   float64 `json:"forward"`
	Backward  float64 `json:"backward"`
	Ring      float64 `json:"ring"` // waiting for the ring after backward ended: what overlap did not hide
	Optimizer float64 `json:"optimizer"`
	Hash      float64 `json:"hash"` // summing the weights after the update
	// Step is the whole, by the worker's own clock: since the commit before, or
	// since it began this generation's first step.
	Step float64 `json:"step"`
}

// Report is what a worker says of a step that it has committed. Loss, count and
// norm come out of the ring, so that each member knows those of the whole global
// batch and any one report is enough.
type Report struct {
	Worker     string    `json:"worker"`
	Generation uint64    `json:"generation"`
	Rank       int       `json:"rank"`
	World      int       `json:"world"`
	Step       uint64    `json:"step"`              // committed steps, so the first report says 1
	Loss       float64   `json:"loss"`              // the mean over the global batch; 0 where the step was refused
	Targets    int       `json:"targets"`           // that it is the mean over: tokens, or action values; 0 where the step was refused
	Sets       []SetLoss `json:"sets,omitempty"`    // of a mixture of data, by set
	GradNorm   float64   `json:"grad_norm"`         // before clipping
	LR         float64   `json:"lr"`                //
	Refused    string    `json:"refused,omitempty"` // why no update was made: a loss or gradient that is not finite, no target
	Weights    string    `json:"weights,omitempty"` // checksum of the weights after the update
	Micro      int       `json:"micro"`             // micro-batches that this worker computed
	Digest     string    `json:"digest,omitempty"`  // of its state, at steps where all compare theirs
	Times      Times     `json:"times"`
	RingBytes  uint64    `json:"ring_bytes"`      // sent in this generation
	Spans      []Span    `json:"spans,omitempty"` // what was done when, where the run is traced
	Faults     uint64    `json:"faults"`          // ring frames lost, doubled, corrupt or stale in this generation
}

// Span is a part of a step, by the worker's own clock.
type Span struct {
	Name  string `json:"n"`
	Begin int64  `json:"b"` // µs since 1970
	Took  int64  `json:"t"` // µs; 0: a moment, on a line that is not the first
	Line  int    `json:"l,omitempty"`
}

// OverlapLine is the line whose spans may overlap; those of others follow one another.
const OverlapLine = 2

// MaxSpans bounds those of a report: a step of more parts tells its first ones.
const MaxSpans = 512

// SetLoss is the loss of the samples of one set of a mixture in a step.
type SetLoss struct {
	Loss    float64 `json:"loss"`    // the mean over the set's targets; 0 where it has none
	Targets int     `json:"targets"` // in the global batch
}

// Stall says what a worker has been waiting for, and how long.
type Stall struct {
	Worker     string  `json:"worker"`
	Generation uint64  `json:"generation"`
	Step       uint64  `json:"step"` // being run, from 1
	Bucket     int     `json:"bucket"`
	Pass       string  `json:"pass"`
	Chunk      int     `json:"chunk"`
	Peer       string  `json:"peer"` // the member it waits for
	Seconds    float64 `json:"seconds"`
}

// Notice is what a worker has to say to people: a trouble that somebody has to
// mend.
type Notice struct {
	Worker string `json:"worker"`
	Text   string `json:"text"`
}

// Control raises flags that the ring carries to all at one step.
type Control struct {
	Generation uint64          `json:"generation"`
	Flags      allreduce.Flags `json:"flags"`
}

// Snapshot asks a worker at rest to offer one part of its committed state.
type Snapshot struct {
	Generation uint64 `json:"generation"`
	Step       uint64 `json:"step"`
	Part       int    `json:"part"`
	Parts      int    `json:"parts"`
}

// Offer says that a worker holds one part of the state after Step on offer:
// Parts of them are the whole checkpoint.
type Offer struct {
	Worker     string `json:"worker"`
	Generation uint64 `json:"generation"` // that divided the state so
	Step       uint64 `json:"step"`
	Part       int    `json:"part"`
	Parts      int    `json:"parts"`
	Digest     string `json:"digest"` // of the state that it is a part of
	// Sums are checksums of the part and of those after it, in turn, as this
	// worker's state has them. They show which worker hands out something else.
	Sums  []string `json:"sums"`
	Files []Piece  `json:"files"`
}

// Piece is a run of bytes of one file of a checkpoint.
type Piece struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Total  int64  `json:"total"` // of the file
	Blob
}

// Stored tells a worker that its offer of Step is no longer needed: it is on
// the coordinator's disk, or could not be put there (Error).
type Stored struct {
	Step  uint64 `json:"step"`
	Error string `json:"error,omitempty"`
}

// Fault says that a worker cannot go on in its generation, and why. Its committed
// state and its micro-gradients are kept.
type Fault struct {
	Worker     string `json:"worker"`
	Generation uint64 `json:"generation"`
	Step       uint64 `json:"step"` // committed
	Error      string `json:"error"`
	Peer       string `json:"peer,omitempty"`     // the member it blames, if any
	Unshared   bool   `json:"unshared,omitempty"` // it cannot reach the memory of Peer, which it was to share
	Lost       bool   `json:"lost,omitempty"`     // a part of the state that it needs is with no worker: all roll back to the disk's
	Unlike     bool   `json:"unlike,omitempty"`   // another worker has computed the same otherwise
	Fatal      bool   `json:"fatal,omitempty"`    // every worker would fail alike: the job is at fault, not this machine
}

// Retire says that a worker's own machine has told it to go, by a signal say, and asks the
// coordinator to let it go, which is an End. Until then it takes part as before.
type Retire struct {
	Worker string `json:"worker"`
	Reason string `json:"reason"`
}

// Leave says that a worker goes away by itself, and at once.
type Leave struct {
	Worker string `json:"worker"`
	Reason string `json:"reason"`
}

// End tells a worker to exit. It answers Leave.
type End struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason"`
	Keep    bool    `json:"keep,omitempty"`  // the last state is on no disk of the coordinator's: the worker keeps its own
	Alone   bool    `json:"alone,omitempty"` // the worker alone is to go, for Reason, and the job goes on
}

// Lead is what a coordinator says when it begins. First it asks: a coordinator
// that is alive answers with its own Lead, and the newcomer goes. Where none
// answers it tells. A coordinator that hears another one tell, because it was
// frozen or cut off meanwhile, has been superseded.
type Lead struct {
	Coordinator string `json:"coordinator"` // random id of its process
	Host        string `json:"host"`
	PID         int    `json:"pid"`
	Asking      bool   `json:"asking"`
}

// Ask is a question or an order from outside the job; the reply is an Answered.
type Ask struct {
	What    string `json:"what"` // status, stop, scale
	Workers int    `json:"workers,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// Answered is the reply to Ask: the job as it stands.
type Answered struct {
	Error  string          `json:"error,omitempty"`
	Status json.RawMessage `json:"status,omitempty"`
}

// kinds maps each message's name on the wire, its type's name in lower case, to the type.
var kinds = func() map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, v := range []Message{
		&Join{}, &Welcome{}, &Restore{}, &Ready{}, &Introduce{}, &Recall{}, &Standing{}, &Assign{}, &Formed{}, &Go{},
		&Heartbeat{}, &Beat{}, &Report{}, &Stall{}, &Notice{}, &Control{}, &Snapshot{}, &Offer{}, &Stored{}, &Fault{}, &Retire{}, &Leave{}, &End{},
		&Lead{}, &Ask{}, &Answered{},
	} {
		t := reflect.TypeOf(v).Elem()
		m[strings.ToLower(t.Name())] = t
	}
	return m
}()

// required are the fields that each kind of message always has on the wire.
var required = func() map[string][]string {
	m := map[string][]string{}
	for kind, t := range kinds {
		for i := range t.NumField() {
			name, opt, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if opt != "omitempty" && !t.Field(i).Anonymous {
				m[kind] = append(m[kind], name)
			}
		}
	}
	return m
}()

type envelope struct {
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Encode returns the wire form of a message.
func Encode(m Message) []byte {
	body, err := json.Marshal(m)
	if err != nil { // JSON can say all that the types hold but NaN, which reports must not carry
		panic(fmt.Sprintf("cluster: encoding %T: %v", m, err))
	}
	out, _ := json.Marshal(envelope{strings.ToLower(reflect.TypeOf(m).Elem().Name()), body})
	return out
}

// Decode is the inverse of Encode for bytes from anyone. It refuses messages
// that are too large, of an unknown kind, or with fields unknown or missing.
// Texts in what it returns are fit for a terminal and a log; see package plain.
func Decode(data []byte) (Message, error) {
	if len(data) > maxMessage {
		return nil, fmt.Errorf("control message of %d bytes is over the limit of %d", len(data), maxMessage)
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("control message: %s", plain.Line(err.Error(), maxExcerpt))
	}
	t, ok := kinds[e.Kind]
	if !ok {
		return nil, fmt.Errorf("control message of unknown kind %.40q", e.Kind)
	}
	if len(e.Body) == 0 || string(e.Body) == "null" {
		return nil, fmt.Errorf("control message %q has no body", e.Kind)
	}
	m := reflect.New(t).Interface().(Message)
	d := json.NewDecoder(bytes.NewReader(e.Body))
	across := e.Kind == "join" || e.Kind == "welcome" // these two must be readable across protocol versions
	if !across {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("control message %q: %s", e.Kind, plain.Line(err.Error(), maxExcerpt))
	}
	cleanTexts(reflect.ValueOf(m).Elem())
	if across {
		return m, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(e.Body, &fields); err != nil {
		return nil, fmt.Errorf("control message %q: %s", e.Kind, plain.Line(err.Error(), maxExcerpt))
	}
	for _, f := range required[e.Kind] {
		if _, ok := fields[f]; !ok {
			return nil, fmt.Errorf("control message %q lacks %q", e.Kind, f)
		}
	}
	return m, nil
}

// cleanTexts makes every string in v one line of printable text, but for those
// whose field is marked as verbatim.
func cleanTexts(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(plain.Line(v.String(), maxWords))
	case reflect.Pointer:
		if !v.IsNil() {
			cleanTexts(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		if k := v.Type().Elem().Kind(); k == reflect.Uint8 || k == reflect.Int {
			return
		}
		for i := range v.Len() {
			cleanTexts(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("text") != "verbatim" {
				cleanTexts(v.Field(i))
			}
		}
	}
}

// coordinatorSubject is where a coordinator speaks to others that would lead.
func coordinatorSubject(job string) string { return "vlaring." + job + ".coordinator" }

// FromSubject is where a worker says everything: a server that knows who it is lets
// it speak there alone.
func FromSubject(job, worker string) string { return "vlaring." + job + ".from." + worker }

// askSubject is where those outside the job ask, and where they give orders.
func askSubject(job string, order bool) string {
	if order {
		return "vlaring." + job + ".order"
	}
	return "vlaring." + job + ".look"
}

// workerSubject is where one worker listens.
func workerSubject(job, worker string) string { return "vlaring." + job + ".worker." + worker }
