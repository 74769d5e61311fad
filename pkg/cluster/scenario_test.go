package cluster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios do now into their files")

// Scenarios are text files under testdata. Each opens with a sentence on what
// it guards; then come events, one a line, and after each block of them ----
// and the actions that they caused. Events are
//
//	VERB [WORKER …] [key=value …]     any message by its name on the wire, with its fields by theirs; more verbs below
//	after DURATION [WORKER …]         lets time pass: a heartbeat of each worker, then a Tick
//	~ …                               an event whose actions are not shown
//
// A message that names several workers is sent by each of them.
func scenarios(t *testing.T, dir string, begin func(*testing.T) scenario) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios in testdata/%s: %v", dir, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			in := string(b)
			if !strings.HasPrefix(in, "# ") {
				t.Fatal("a scenario opens with a comment that says what it guards")
			}
			got := play(t, begin(t), in)
			if *rewrite {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != in {
				t.Errorf("%s does this now (go test ./pkg/cluster -run Scenarios -rewrite accepts it):\n%s", f, got)
			}
		})
	}
}

// scenario is what a file plays on: it takes events and returns the actions in words.
type scenario interface {
	event(line command) []string
	state() string
}

// command is a line of a scenario.
type command struct {
	t    *testing.T
	line string
	verb string
	who  []string
	args map[string]string
}

func parseCommand(t *testing.T, line string) command {
	c := command{t: t, line: line, args: map[string]string{}}
	f := strings.Fields(line)
	c.verb = f[0]
	for i := 1; i < len(f); i++ {
		k, v, ok := strings.Cut(f[i], "=")
		if !ok {
			c.who = append(c.who, f[i])
			continue
		}
		if strings.HasPrefix(v, `"`) { // up to the closing quote
			for !strings.HasSuffix(v, `"`) || v == `"` {
				i++
				v += " " + f[i]
			}
			v = strings.Trim(v, `"`)
		}
		c.args[k] = v
	}
	return c
}

func (c command) num(key string, def int) int {
	if c.args[key] == "" {
		return def
	}
	n, err := strconv.Atoi(c.args[key])
	if err != nil {
		c.t.Fatalf("%q: %v", c.line, err)
	}
	return n
}

func (c command) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		c.t.Fatalf("%q: %v", c.line, err)
	}
	return d
}

// play runs a scenario and returns it with its outputs brought up to date.
func play(t *testing.T, s scenario, in string) string {
	var out strings.Builder
	var acts []string
	lines := strings.Split(strings.TrimRight(in, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch {
		case l == "----":
			out.WriteString("----\n")
			for _, a := range acts {
				out.WriteString("  " + a + "\n")
			}
			out.WriteString("[" + s.state() + "]\n\n")
			acts = nil
			for i+1 < len(lines) && lines[i+1] != "" {
				i++
			}
			i++ // the blank line that ends the output
		case l == "" || l[0] == '#':
			out.WriteString(l + "\n")
		default:
			out.WriteString(l + "\n")
			if quiet, ok := strings.CutPrefix(l, "~ "); ok {
				s.event(parseCommand(t, quiet))
			} else {
				acts = append(acts, s.event(parseCommand(t, l))...)
			}
		}
	}
	if len(acts) > 0 {
		t.Fatal("the scenario's last block has no ----")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// message makes one of the kinds of message of a line, or nil.
func (c command) message() Message {
	typ, ok := kinds[c.verb]
	if !ok {
		return nil
	}
	m := reflect.New(typ)
	for k, v := range c.args {
		if err := setField(m.Elem(), k, v); err != nil {
			c.t.Fatalf("%q: %v", c.line, err)
		}
	}
	return m.Interface().(Message)
}

// setField sets a field by its name on the wire; a.b is field b of field a.
func setField(m reflect.Value, key, val string) error {
	key, rest, _ := strings.Cut(key, ".")
	for i := range m.NumField() {
		tag, _, _ := strings.Cut(m.Type().Field(i).Tag.Get("json"), ",")
		if tag == "" {
			tag = strings.ToLower(m.Type().Field(i).Name)
		}
		if tag != key {
			continue
		}
		f := m.Field(i)
		if f.Kind() == reflect.Pointer {
			if f.IsNil() {
				f.Set(reflect.New(f.Type().Elem()))
			}
			f = f.Elem()
		}
		if f.Kind() == reflect.Struct {
			return setField(f, rest, val)
		}
		return setValue(f, val)
	}
	return fmt.Errorf("%v has no field %q", m.Type(), key)
}

func setValue(f reflect.Value, val string) error {
	switch f.Kind() {
	case reflect.String:
		f.SetString(val)
	case reflect.Bool:
		f.SetBool(val == "true")
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(val, 0, 64)
		f.SetInt(n)
		return err
	case reflect.Uint16, reflect.Uint64:
		n, err := strconv.ParseUint(val, 0, 64)
		f.SetUint(n)
		return err
	case reflect.Float64:
		x, err := strconv.ParseFloat(val, 64)
		f.SetFloat(x)
		return err
	case reflect.Slice:
		f.SetZero()
		for s := range strings.SplitSeq(val, ",") {
			e := reflect.New(f.Type().Elem()).Elem()
			if err := setValue(e, s); err != nil {
				return err
			}
			f.Set(reflect.Append(f, e))
		}
	default:
		return fmt.Errorf("cannot set a %v", f.Type())
	}
	return nil
}

// show is an action in words.
func show(a any) string {
	switch a := a.(type) {
	case answer:
		if a.Refused != "" {
			return "answer: refused, " + a.Refused
		}
		return "answer: welcome, state from " + [...]string{"the coordinator", "its peers", "itself"}[a.Source]
	case send:
		return a.To + " <- " + showMessage(a.Msg)
	case Tell:
		return "tell " + showMessage(a.Msg)
	case stepDone:
		var who []string
		for _, r := range a.Reports {
			who = append(who, r.Worker)
		}
		return fmt.Sprintf("step %d is done, say %s", a.Reports[0].Step, strings.Join(who, ", "))
	case save:
		var who []string
		for _, p := range a.Parts {
			who = append(who, p.Worker)
		}
		return fmt.Sprintf("save step %d from %s", a.Step, strings.Join(who, ", "))
	case rewind:
		return "rewind to the disk"
	case disown:
		return fmt.Sprintf("drop what is kept after step %d, keep %+v, and rewind to the disk", a.After, a.Record)
	case keep:
		return fmt.Sprintf("keep %+v", a.Record)
	case unwanted:
		return a.Worker + " is not wanted back"
	case note:
		if a.Bad {
			return "warning: " + a.Text
		}
		return "note: " + a.Text
	case Finish:
		return fmt.Sprintf("finish: %s at step %d, stored %v: %s", a.Outcome, a.Step, a.Stored, a.Reason)
	case Introduced:
		s := "introduce itself"
		if a.Join.Seat != nil {
			s += fmt.Sprintf(" with seat %+v", *a.Join.Seat)
		}
		return s
	case Form:
		return "form " + showMessage(a.Assign)
	case Run:
		return "run " + showMessage(a.Assign)
	case Exit:
		return fmt.Sprintf("exit: %s, %s, rescue %v", a.End.Outcome, a.End.Reason, a.Rescue)
	}
	return fmt.Sprintf("%s %+v", strings.ToLower(reflect.TypeOf(a).Name()), a)
}

func showMessage(m Message) string {
	v := reflect.Indirect(reflect.ValueOf(m))
	name := strings.ToLower(v.Type().Name())
	switch m := m.(type) {
	case *Assign:
		g := m.Group
		s := fmt.Sprintf("assign generation %d rank %d of %v, micro %v", g.Generation, g.Rank, g.Members, g.Micro)
		if !slices.Equal(g.Micro, m.First) {
			s += fmt.Sprintf(", first %v", m.First)
		}
		s += fmt.Sprintf(", from step %d %s", m.Step, m.Digest)
		if len(m.Sources) > 0 {
			s += fmt.Sprintf(" of %v", m.Sources)
		}
		if m.Streams != nil {
			lengths := make([]int, len(m.Secrets))
			for i, x := range m.Secrets {
				lengths[i] = len(x) / 2
			}
			s += fmt.Sprintf(", streams %q with secrets of %v bytes", m.Streams, lengths)
		}
		if m.Hosts != nil {
			s += fmt.Sprintf(", hosts %v with memory %q", m.Hosts, m.Memory)
		}
		if v := m.Verify; v != nil {
			s += fmt.Sprintf(", checks %v by a key of %d bytes", v.Share, len(v.Key)/2)
			if v.First {
				s += ", all of the first step"
			}
		}
		return s
	case *Standing:
		if m.Verdict != nil {
			return fmt.Sprintf("standing at step %d with verdict %+v", m.Step, *m.Verdict)
		}
		return strings.Replace(fmt.Sprintf("standing %+v", *m), " Verdict:<nil>", "", 1)
	case *Fault: // of a state that is shared out alone
		s := fmt.Sprintf("fault %+v", *m)
		return strings.Replace(strings.Replace(s, " Lost:false", "", 1), " Unlike:false", "", 1)
	case *Report: // a mixture's alone has losses by set
		return strings.Replace(fmt.Sprintf("report %+v", *m), " Sets:[]", "", 1)
	case *Recall:
		return fmt.Sprintf("recall to generation %d, reported %d: %s", m.Generation, m.Reported, m.Reason)
	case *End:
		if m.Keep {
			return fmt.Sprintf("end: %s, it keeps its state, %s", m.Outcome, m.Reason)
		}
		return fmt.Sprintf("end: %s, %s", m.Outcome, m.Reason)
	}
	return fmt.Sprintf("%s %+v", name, v.Interface())
}

// --- the machine

func TestMachineScenarios(t *testing.T) {
	scenarios(t, "machine", func(*testing.T) scenario {
		return &machineScenario{now: time.Unix(0, 0)}
	})
}

// machineScenario plays on a machine. Verbs beside the messages:
//
//	config [key=number …] [straggler=…] [divergence=…] [takeover=true]
//	running WORKER …          those join, load, form and run
//	run N [WORKER=FACTOR …]   all of the ring report the next N steps, some that many times slower
//	stand WORKER …            those answer a recall, or have left their loop, at their step, or step= of digest=
//	gone, stop, hopeless, scale, saved, restored    the driver's events
type machineScenario struct {
	m   *machine
	now time.Time
}

func (s *machineScenario) state() string {
	l := []string{}
	for _, w := range s.m.roster.byRank() {
		l = append(l, fmt.Sprintf("%s %s", w.Worker, w.Status))
	}
	return fmt.Sprintf("%s, generation %d, step %d: %s", s.m.phase, s.m.generation, s.m.ledger.committed, strings.Join(l, ", "))
}

func (s *machineScenario) step(ev Event) (out []string) {
	for _, a := range s.m.Handle(s.now, ev) {
		out = append(out, show(a))
	}
	return out
}

// roads are the kinds of pkg/train, by the names that scenarios have for them.
var roads = map[string]Road{
	"auto":   {Name: "auto", Shares: true},
	"nats":   {Name: "nats"},
	"shm":    {Name: "shm", Shares: true, Alone: true},
	"direct": {Name: "direct", Shares: true, Network: "direct connections"},
}

// digestOf is what all say of the state after a step, but those that diverged.
func digestOf(step uint64) string { return fmt.Sprintf("d%d", step) }

func (s *machineScenario) event(c command) (out []string) {
	do := func(ev Event) { out = append(out, s.step(ev)...) }
	m := s.m
	switch c.verb {
	case "config":
		def, start := c.num("workers", 2), c.num("start", 0)
		cfg := Config{Coordinator: "lead", Job: "job", Workers: def, MinWorkers: c.num("min", 1), MaxWorkers: c.num("max", 8),
			Micro: c.num("micro", 4), Steps: uint64(c.num("steps", 100)), StartStep: uint64(start), Stored: start > 0,
			Reported: uint64(c.num("reported", start)), Takeover: c.args["takeover"] == "true",
			Deadline: time.Second, JoinTimeout: time.Minute,
			Straggler: StragglerPolicy(c.args["straggler"]), Divergence: DivergencePolicy(c.args["divergence"]),
			MaxDivergences: c.num("divergences", 0), MaxEnds: c.num("ends", 0), Road: roads[c.args["road"]],
			Verify: float64(c.num("verify", 0)) / 100, Secret: []byte("secret")}
		if d := c.args["deadline"]; d != "" {
			cfg.Deadline = c.duration(d)
		}
		if d := c.args["join"]; d != "" {
			cfg.JoinTimeout = c.duration(d)
		}
		if d := c.args["store_wait"]; d != "" {
			cfg.StoreWait = c.duration(d)
		}
		s.m = newMachine(cfg, s.now)
	case "after":
		s.now = s.now.Add(c.duration(c.who[0]))
		for _, id := range c.who[1:] {
			if w := m.roster.members[id]; w != nil {
				phase := w.Phase
				if c.args["phase"] != "" {
					phase = c.args["phase"]
				}
				beat := &Heartbeat{Worker: id, Generation: m.generation, Coordinator: "lead", Step: w.Step,
					At: phaseOf(phase), Phase: phase}
				for _, a := range s.m.Handle(s.now, beat) {
					if b, ok := a.(send); !ok || reflect.TypeOf(b.Msg) != reflect.TypeFor[*Beat]() {
						out = append(out, show(a))
					}
				}
			}
		}
		do(tick{})
	case "running":
		for _, id := range c.who {
			do(&Join{Protocol: Protocol, Worker: id, Host: "host", PID: 1})
			do(&Ready{Worker: id, Step: m.rollback.base.Step, State: true, Digest: digestOf(m.rollback.base.Step)})
		}
		for _, id := range c.who {
			do(&Formed{Worker: id, Generation: m.generation})
		}
	case "run":
		for range c.num("steps", 1) {
			step := m.ledger.committed + 1
			for r, p := range m.roster.places {
				w := m.roster.members[p.Worker]
				if m.phase != Running || w == nil {
					continue
				}
				micro := m.roster.bounds[r+1] - m.roster.bounds[r]
				slow := float64(c.num(p.Worker, 1))
				do(&Report{Worker: p.Worker, Generation: m.generation, Rank: r, World: len(m.roster.places), Step: step,
					Targets: m.cfg.Micro, Micro: micro, Times: Times{Forward: 0.1 * slow * float64(micro)}})
				if w := m.roster.members[p.Worker]; w != nil {
					w.LastSeen = s.now
				}
			}
		}
	case "stand":
		for _, id := range c.who {
			w := m.roster.members[id]
			e := &Standing{Worker: id, Generation: uint64(c.num("generation", int(m.generation))), Step: w.Step, State: w.State}
			if c.args["step"] != "" {
				e.Step = uint64(c.num("step", 0))
			}
			if e.Digest = digestOf(e.Step); c.args["digest"] != "" {
				e.Digest = c.args["digest"]
			}
			if v := strings.Split(c.args["verdict"], ","); len(v) == 6 { // of the next step: micro, owner, checker, claim, check, own
				e.Verdict = &Verdict{Step: e.Step + 1, Owner: v[1], Checker: v[2], Claim: v[3], Check: v[4], Own: v[5]}
				fmt.Sscan(v[0], &e.Verdict.Micro)
			}
			do(e)
		}
	case "gone":
		do(WorkerGone{c.who[0], "its process was killed"})
	case "stop":
		do(StopRequest{"stopped by Ctrl-C"})
	case "hopeless":
		do(Hopeless{"every worker process ends as soon as it begins"})
	case "scale":
		do(scaleTo{c.num("workers", 0)})
	case "saved":
		var err error
		if c.args["err"] != "" {
			err = errors.New(c.args["err"])
		}
		if c.args["bad"] != "" {
			err = &PartError{strings.Split(c.args["bad"], ","), "its files make another state"}
		}
		do(saved{uint64(c.num("step", 0)), err})
	case "restored":
		var err error
		if c.args["err"] != "" {
			err = errors.New(c.args["err"])
		}
		do(restored{Step: uint64(c.num("step", 0)), Err: err, Disowned: c.args["disowned"] == "true"})
	case "lead":
		do(c.message().(*Lead))
	default:
		if kinds[c.verb] == nil || len(c.who) == 0 {
			c.t.Fatalf("unknown event, or no worker, in %q", c.line)
		}
		for _, id := range c.who {
			do(s.fromWorker(c, id))
		}
	}
	return out
}

// phaseOf is where a node stands that says so: the words of its step loop where
// they are not a phase's name, as Node.Phase has it.
func phaseOf(words string) nodePhase {
	if i := slices.Index(nodePhases[:], words); i >= 0 {
		return nodePhase(i)
	}
	return nodeStepping
}

// fromWorker is a message with what a worker says of itself filled in.
func (s *machineScenario) fromWorker(c command, id string) Event {
	msg := c.message()
	v := reflect.ValueOf(msg).Elem()
	v.FieldByName("Worker").SetString(strings.TrimPrefix(id, "@")) // @ is nobody
	if f := v.FieldByName("Generation"); f.IsValid() && c.args["generation"] == "" {
		f.SetUint(s.m.generation)
	}
	step := uint64(0)
	if w := s.m.roster.members[id]; w != nil {
		step = w.Step
	}
	switch e := msg.(type) {
	case *Join:
		if c.args["protocol"] == "" {
			e.Protocol = Protocol
		}
		if c.args["host"] == "" {
			e.Host, e.PID = "host", 1
		}
		if e.Seat != nil && e.Seat.Job == "" {
			e.Seat.Job = "job"
		}
	case *Ready:
		if e.State && e.Digest == "" {
			e.Digest = digestOf(e.Step)
		}
	case *Heartbeat:
		e.At = phaseOf(e.Phase)
		if c.args["coordinator"] == "" {
			e.Coordinator = "lead"
		}
	case *Fault:
		if c.args["step"] == "" {
			e.Step = step
		}
	case *Offer:
		if c.args["digest"] == "" {
			e.Digest = digestOf(e.Step)
		}
	case *Report:
		if c.args["targets"] == "" && c.args["refused"] == "" {
			e.Targets = s.m.cfg.Micro
		}
		if c.args["world"] == "" {
			e.World = len(s.m.roster.places)
		}
		for r, p := range s.m.roster.places {
			if p.Worker == id && c.args["rank"] == "" {
				e.Rank = r
			}
		}
	}
	return msg.(Event)
}
