package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestNodeScenarios(t *testing.T) {
	scenarios(t, "node", func(*testing.T) scenario {
		now := time.Unix(0, 0)
		return &nodeScenario{now: now, n: NewNode(NodeConfig{Join: Join{Protocol: Protocol, Worker: "a", Host: "host", PID: 1}, Job: "job",
			Heartbeat: time.Second, Grace: 20 * time.Second, Patience: time.Minute}, now)}
	})
}

// nodeScenario plays on the Node of worker a, whose heartbeat is a second and
// whose patience a minute. Verbs beside the coordinator's messages are the
// driver's events: loaded, loadfailed, listens, caught, committed, loopended,
// loopbroke, haltednow, offerready, waiting, barred, retire, depart. Heartbeats are not shown.
type nodeScenario struct {
	n   *Node
	now time.Time
}

func (s *nodeScenario) state() string {
	return fmt.Sprintf("%s, generation %d, step %d, %d reports", s.n.Phase(), s.n.generation, s.n.Committed(), len(s.n.Reports()))
}

func (s *nodeScenario) event(c command) (out []string) {
	for _, a := range s.n.Handle(s.now, s.parse(c)) {
		if t, ok := a.(Tell); ok {
			if _, ok := t.Msg.(*Heartbeat); ok {
				continue
			}
		}
		out = append(out, show(a))
	}
	return out
}

func (s *nodeScenario) parse(c command) NodeEvent {
	step := uint64(c.num("step", int(s.n.step)))
	digest := digestOf(step)
	switch d := c.args["digest"]; d {
	case "":
	case "none":
		digest = ""
	default:
		digest = d
	}
	generation := uint64(c.num("generation", int(s.n.generation)))
	err := errors.New(c.args["error"])
	switch c.verb {
	case "after":
		s.now = s.now.Add(c.duration(c.who[0]))
		return tick{}
	case "loaded":
		return Loaded{Step: step, State: c.args["state"] == "true", Digest: digest}
	case "loadfailed":
		return LoadFailed{Err: err, Digest: c.args["digest"]}
	case "listens":
		return Listens{generation}
	case "caught":
		var reports []*Report
		for i := range c.num("reports", 0) {
			reports = append(reports, &Report{Worker: "b", Step: step - uint64(i)})
		}
		return Caught{generation, reports}
	case "committed":
		return Committed{Report{Step: uint64(c.num("step", int(s.n.step)+1))}}
	case "loopended":
		return LoopEnded{digest}
	case "loopbroke":
		return LoopBroke{Err: err, Peer: c.args["peer"], Fatal: c.args["fatal"] == "true", Lost: c.args["lost"] == "true",
			Unlike: c.args["unlike"] == "true", Digest: digest}
	case "haltednow":
		return HaltedNow{digest}
	case "offerready":
		return OfferReady{Offer{Generation: generation, Step: step, Part: c.num("part", 0), Parts: c.num("parts", 1), Digest: digest}}
	case "waiting":
		return Waiting{Stall{Step: step + 1, Peer: "b", Seconds: 5}}
	case "barred":
		return Barred{Err: err}
	case "retire":
		return retire{"a signal"}
	case "depart":
		return depart{"a signal"}
	case "assign":
		m := c.message().(*Assign)
		if m.Coordinator == "" {
			m.Coordinator = "lead"
		}
		if m.First == nil {
			m.First = m.Group.Micro
		}
		if m.Digest == "" {
			m.Digest = digestOf(m.Step)
		}
		return m
	case "recall":
		m := c.message().(*Recall)
		if m.Coordinator == "" {
			m.Coordinator = "lead"
		}
		return m
	}
	m := c.message()
	if m == nil {
		c.t.Fatalf("unknown event in %q", c.line)
	}
	if g, ok := m.(*Go); ok && g.Generation == 0 {
		g.Generation = s.n.generation
	}
	return m.(NodeEvent)
}
