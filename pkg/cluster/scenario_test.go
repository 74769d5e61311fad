package cluster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios do now into their files")

// Each file under testdata is a sentence on what it guards, then events, one a
// line, each block followed by ---- and the actions that they caused.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(in), "#") {
				t.Fatal("a scenario opens with a comment that says what it guards")
			}
			got := play(t, string(in))
			if *rewrite {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(in) {
				t.Errorf("%s does this now (-rewrite accepts it):\n%s", f, got)
			}
		})
	}
}

// play runs a scenario and returns it with its outputs brought up to date.
func play(t *testing.T, in string) string {
	var out, acts strings.Builder
	var m *Machine
	now := time.Unix(0, 0)
	lines := strings.Split(strings.TrimRight(in, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch {
		case l == "----":
			out.WriteString("----\n" + acts.String() + "\n")
			acts.Reset()
			for i+1 < len(lines) && lines[i+1] != "" {
				i++
			}
			i++ // the blank line that ends the output
		case l == "" || l[0] == '#':
			out.WriteString(l + "\n")
		default:
			out.WriteString(l + "\n")
			f := strings.Fields(l)
			args := map[string]string{}
			for _, x := range f[1:] {
				k, v, _ := strings.Cut(x, "=")
				args[k] = v
			}
			num := func(k string) int {
				n, err := strconv.Atoi(args[k])
				if err != nil {
					t.Fatalf("%q: %s: %v", l, k, err)
				}
				return n
			}
			if f[0] == "config" {
				m = NewMachine(Config{Workers: num("workers"), Micro: num("micro"), Steps: uint64(num("steps")), StartStep: uint64(num("start")),
					Deadline: time.Second, JoinTimeout: time.Minute}, now)
				continue
			}
			if f[0] == "after" {
				d, err := time.ParseDuration(f[1])
				if err != nil {
					t.Fatal(err)
				}
				now = now.Add(d)
				for _, a := range m.Step(now, Tick{}) {
					fmt.Fprintln(&acts, show(a))
				}
				continue
			}
			for _, a := range m.Step(now, event(t, l, f[0], args, num)) {
				fmt.Fprintln(&acts, show(a))
			}
			fmt.Fprintf(&acts, "[%s, generation %d]\n", m.Phase(), m.Generation())
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func event(t *testing.T, line, verb string, args map[string]string, num func(string) int) any {
	w := args["w"]
	gen := func() uint64 {
		if args["gen"] == "" {
			return 1
		}
		return uint64(num("gen"))
	}
	switch verb {
	case "join":
		p := Protocol
		if args["protocol"] != "" {
			p = num("protocol")
		}
		return &Join{Protocol: p, Version: "v1", Worker: w, Host: "host"}
	case "ready":
		return &Ready{Worker: w, Step: uint64(num("step")), Weights: args["weights"]}
	case "formed":
		return &Formed{Worker: w, Generation: gen()}
	case "report":
		norm := 1.0
		if args["norm"] != "" {
			norm = float64(num("norm"))
		}
		return &Report{Worker: w, Generation: gen(), Rank: num("rank"), Step: uint64(num("step")), Losses: []float64{1}, GradNorm: norm}
	case "heartbeat":
		return &Heartbeat{Worker: w, Phase: args["phase"]}
	case "offer":
		return &Offer{Worker: w, Step: uint64(num("step"))}
	case "saved":
		s := Saved{From: w, Step: uint64(num("step"))}
		if args["err"] != "" {
			s.Err = errors.New(args["err"])
		}
		return s
	case "gone":
		return WorkerGone{w, "its process was killed"}
	case "halted":
		return &Halted{Worker: w, Generation: gen(), Step: uint64(num("step"))}
	case "fault":
		return &Fault{Worker: w, Step: uint64(num("step")), Error: "something broke", Peer: args["peer"]}
	case "leave":
		return &Leave{Worker: w, Reason: "asked to"}
	case "stop":
		return StopRequest{"stopped by Ctrl-C"}
	}
	t.Fatalf("unknown event in %q", line)
	return nil
}

func show(a any) string {
	switch a := a.(type) {
	case Answer:
		if a.Refused != "" {
			return "answer: refused, " + a.Refused
		}
		return "answer: welcome"
	case Send:
		return fmt.Sprintf("to %s: %T%+v", a.To, a.Msg, deref(a.Msg))
	case StepDone:
		return fmt.Sprintf("step %d done by %d ranks", a.Reports[0].Step, len(a.Reports))
	case Save:
		return fmt.Sprintf("save step %d from %s", a.Offer.Step, a.Offer.Worker)
	case Note:
		return "note: " + a.Text
	case Finish:
		return fmt.Sprintf("finish: %s at step %d, stored %v, %q", a.Outcome, a.Step, a.Stored, a.Reason)
	}
	return fmt.Sprintf("%T", a)
}

func deref(m any) any {
	switch m := m.(type) {
	case *Assign:
		return *m
	case *Go:
		return *m
	case *Halt:
		return *m
	case *Stored:
		return *m
	case *End:
		return *m
	case *Control:
		return *m
	case *Snapshot:
		return *m
	}
	return m
}
