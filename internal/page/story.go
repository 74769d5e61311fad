package page

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/plain"
)

// What a story keeps, at most: of each list the newest.
const (
	maxStays  = 4000
	maxMarks  = 2000
	maxWaits  = 4000
	maxNotes  = 400
	maxGens   = 2000
	maxPhases = 4000
	maxTables = 64
	maxText   = 2000 // bytes of a text
)

// story is what events.jsonl tells of a run. Moments are in milliseconds since 1970.
type story struct {
	Sessions []session    `json:"sessions"`
	Stays    []*stay      `json:"stays"`
	Gens     []generation `json:"generations"`
	Phases   []phase      `json:"phases"`
	Marks    []mark       `json:"marks"`
	Waits    []wait       `json:"waits"`
	Notes    []said       `json:"notes"`
	Newest   int64        `json:"newest"`             // moment of the newest line
	LeftOut  int          `json:"left_out,omitempty"` // of the lists, the oldest

	Parameters float64 `json:"parameters,omitempty"`
	Road       string  `json:"road,omitempty"` // by which gradients travel, in words

	tables []table
	here   map[string]*stay
	seen   map[string]bool
	why    map[string]said // what was last said of a worker
}

// session is a coordinator's time.
type session struct {
	At      int64  `json:"at"`
	Step    uint64 `json:"step"`
	Version string `json:"version"`
}

// stay is one process's time as a member of the job.
type stay struct {
	Worker string  `json:"worker"`
	Host   string  `json:"host"`
	PID    int     `json:"pid"`
	From   int64   `json:"from"`
	To     int64   `json:"to"` // 0: it is there
	Step   uint64  `json:"step"`
	Left   uint64  `json:"left,omitempty"`  // step at its end
	Why    string  `json:"why,omitempty"`   // it ended
	Lost   bool    `json:"lost,omitempty"`  // it ended before its time
	Again  bool    `json:"again,omitempty"` // the worker was there before
	Places []place `json:"places"`
}

// place is a rank from a moment on.
type place struct {
	At    int64 `json:"at"`
	Rank  int   `json:"rank"`
	Spare bool  `json:"spare,omitempty"`
}

type generation struct {
	At      int64  `json:"at"`
	Number  int    `json:"number"`
	Workers int    `json:"workers"`
	Step    uint64 `json:"step"`
}

type phase struct {
	At   int64  `json:"at"`
	Name string `json:"name"`
	Step uint64 `json:"step"`
}

// mark is a moment worth a sign on the time line: saved, eval, stall, straggler, end.
type mark struct {
	At   int64  `json:"at"`
	Kind string `json:"kind"`
	Step uint64 `json:"step"`
	Text string `json:"text"`

	// Of a stall who waits, for how long and for whom, and of a straggler who it is; empty: it
	// is said of several.
	Worker  string  `json:"worker,omitempty"`
	Peer    string  `json:"peer,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

// wait is what each worker has waited for the ring up to a moment, of the time of its
// steps, in seconds.
type wait struct {
	At   int64                 `json:"at"`
	From int64                 `json:"from"`
	Ring map[string][2]float64 `json:"ring"`
}

type said struct {
	At    int64  `json:"at"`
	Level string `json:"level"`
	Step  uint64 `json:"step"`
	Text  string `json:"text"`
}

// table is what was measured of a checkpoint on the held-out split, as eval prints it.
type table struct {
	Step   uint64          `json:"step"`
	Report json.RawMessage `json:"report"`
	EMA    json.RawMessage `json:"ema,omitempty"`
}

func newStory() *story {
	return &story{Sessions: []session{}, Stays: []*stay{}, Gens: []generation{}, Phases: []phase{}, Marks: []mark{}, Waits: []wait{}, Notes: []said{}, here: map[string]*stay{}, seen: map[string]bool{}, why: map[string]said{}}
}

// line is what of a line of events.jsonl matters here.
type line struct {
	At      time.Time `json:"at"`
	Event   string    `json:"event"`
	Step    uint64    `json:"step"`
	Text    string    `json:"text"`
	Level   string    `json:"level"`
	Version string    `json:"version"`
	Change  string    `json:"change"`
	Worker  string    `json:"worker"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Rank    int       `json:"rank"`
	Spare   bool      `json:"spare"`
	Phase   string    `json:"phase"`
	Stored  uint64    `json:"stored"`
	Outcome string    `json:"outcome"`

	Parameters float64         `json:"parameters"`
	Report     json.RawMessage `json:"report"`
	EMA        json.RawMessage `json:"ema"`

	Seconds float64               `json:"seconds"`
	Ring    map[string][2]float64 `json:"ring"`
}

var (
	generationText = regexp.MustCompile(`^generation (\d+): (\d+) workers? from step (\d+)`)
	stallText      = regexp.MustCompile(`^stall: worker ([^ ,;:()]+).* has waited ([0-9.]+) s .*, for worker ([^ ,;:()]+)`)
	workerNamed    = regexp.MustCompile(`worker ([^ ,;:()]+)`)
)

// add takes a line of events.jsonl; one that is none changes nothing.
func (s *story) add(b []byte) {
	var e line
	if json.Unmarshal(b, &e) != nil || e.At.IsZero() {
		return
	}
	at := e.At.UnixMilli()
	e.Text = plain.Text(e.Text)
	if len(e.Text) > maxText {
		e.Text = strings.ToValidUTF8(e.Text[:maxText], "") + "…"
	}
	e.Worker, e.Host = plain.Line(e.Worker, 100), plain.Line(e.Host, 100)
	switch e.Event {
	case "start":
		if e.Version != "" { // the journal's own: a coordinator begins
			s.endAll(s.Newest, "the coordinator ended")
			clear(s.seen) // who registers with the next one has not been away
			s.Sessions = trim(append(s.Sessions, session{at, e.Step, plain.Line(e.Version, 100)}), maxStays, &s.LeftOut)
		} else {
			s.Parameters = e.Parameters
		}
	case "member":
		s.member(at, &e)
	case "waits":
		if len(e.Ring) > 0 {
			of := make(map[string][2]float64, len(e.Ring))
			for id, x := range e.Ring {
				of[plain.Line(id, 100)] = x
			}
			s.Waits = trim(append(s.Waits, wait{at, at - int64(e.Seconds*1e3), of}), maxWaits, &s.LeftOut)
		}
	case "phase":
		s.Phases = trim(append(s.Phases, phase{at, plain.Line(e.Phase, 40), e.Step}), maxPhases, &s.LeftOut)
	case "saved":
		s.mark(at, "saved", e.Stored, "checkpoint of step "+strconv.FormatUint(e.Stored, 10))
	case "eval":
		var of struct {
			Step uint64 `json:"step"`
		}
		if json.Unmarshal(e.Report, &of) == nil {
			s.tables = slices.DeleteFunc(s.tables, func(t table) bool { return t.Step >= of.Step }) // a resumed run measures again
			s.tables = append(s.tables, table{of.Step, e.Report, e.EMA})
			s.tables = s.tables[max(0, len(s.tables)-maxTables):]
		}
		s.mark(at, "eval", e.Step, "measured on the held-out split")
	case "end":
		s.endAll(at, "the run ended: "+plain.Line(e.Outcome, 40))
		s.mark(at, "end", e.Step, plain.Line(e.Outcome, 40))
	case "note":
		s.note(at, &e)
	}
	if e.Event != "note" && e.Text != "" {
		s.say(said{at, "info", e.Step, e.Text})
	}
	s.Newest = max(s.Newest, at)
}

func (s *story) say(n said) { s.Notes = trim(append(s.Notes, n), maxNotes, &s.LeftOut) }

func (s *story) mark(at int64, kind string, step uint64, text string) {
	s.Marks = trim(append(s.Marks, mark{At: at, Kind: kind, Step: step, Text: text}), maxMarks, &s.LeftOut)
}

func (s *story) note(at int64, e *line) {
	n := said{at, plain.Line(e.Level, 10), e.Step, e.Text}
	s.say(n)
	if m := generationText.FindStringSubmatch(e.Text); m != nil {
		number, _ := strconv.Atoi(m[1])
		workers, _ := strconv.Atoi(m[2])
		step, _ := strconv.ParseUint(m[3], 10, 64)
		s.Gens = trim(append(s.Gens, generation{at, number, workers, step}), maxGens, &s.LeftOut)
		return
	}
	if road, is := strings.CutPrefix(e.Text, "ring: "); is {
		s.Road = road
		return
	}
	for _, kind := range []string{"stall", "straggler"} {
		if strings.HasPrefix(e.Text, kind+":") {
			s.mark(at, kind, e.Step, e.Text)
			m := &s.Marks[len(s.Marks)-1]
			if x := stallText.FindStringSubmatch(e.Text); x != nil {
				m.Worker, m.Peer = x[1], x[3]
				m.Seconds, _ = strconv.ParseFloat(x[2], 64)
			} else if x := workerNamed.FindStringSubmatch(e.Text); x != nil && kind == "straggler" {
				m.Worker = x[1]
			}
			return
		}
	}
	for _, m := range workerNamed.FindAllStringSubmatch(e.Text, -1) {
		if before, had := s.why[m[1]]; s.here[m[1]] != nil && (!had || at-before.At > 2000 || !strings.HasPrefix(before.Text, "lost ")) {
			s.why[m[1]] = n
		}
	}
}

func (s *story) member(at int64, e *line) {
	w := s.here[e.Worker]
	switch e.Change {
	case "joined":
		if w != nil {
			s.leave(w, at, "")
		}
		again := s.seen[e.Worker]
		if len(s.seen) < maxStays {
			s.seen[e.Worker] = true
		}
		w = &stay{Worker: e.Worker, Host: e.Host, PID: e.PID, From: at, Step: e.Step, Again: again, Places: []place{{at, e.Rank, e.Spare}}}
		s.here[e.Worker] = w
		s.Stays = trim(append(s.Stays, w), maxStays, &s.LeftOut)
	case "place":
		if w != nil && len(w.Places) < maxGens {
			w.Places = append(w.Places, place{at, e.Rank, e.Spare})
		}
	case "gone":
		if w == nil {
			return
		}
		why := ""
		if n, had := s.why[e.Worker]; had && at-n.At < 3000 {
			why = n.Text
			w.Lost = strings.HasPrefix(n.Text, "lost ") || n.Level != "info"
		}
		w.Left = e.Step
		s.leave(w, at, why)
	}
}

func (s *story) leave(w *stay, at int64, why string) {
	w.To, w.Why = max(at, w.From), why
	delete(s.here, w.Worker)
	delete(s.why, w.Worker)
}

// endAll ends what lasts: who leads has ended.
func (s *story) endAll(at int64, why string) {
	for _, w := range s.here {
		s.leave(w, at, why)
	}
}

// trim keeps the newest most of a list.
func trim[T any](l []T, most int, left *int) []T {
	if n := len(l) - most; n > 0 { // a part at once, so that most lines move nothing
		n = max(n, most/8)
		*left += n
		return append(l[:0:0], l[n:]...)
	}
	return l
}
