package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// random fills every field of a message, so that one without a name on the
// wire, or with another's, does not come back.
func random(r *rand.Rand, v reflect.Value) {
	if v.Type() == reflect.TypeFor[nodePhase]() {
		v.SetInt(int64(r.IntN(len(nodePhases))))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(string([]rune{rune('a' + r.IntN(26)), 'é', '"', '界'}[:1+r.IntN(4)]))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(r.Uint64()))
	case reflect.Uint16:
		v.SetUint(uint64(uint16(r.Uint64())))
	case reflect.Uint64:
		v.SetUint(r.Uint64())
	case reflect.Float64:
		v.SetFloat(r.NormFloat64())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		random(r, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			random(r, v.Field(i))
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{"a":[1,2]}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 4))
		for i := range v.Len() {
			random(r, v.Index(i))
		}
	default:
		panic("a message has a field of type " + v.Type().String())
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for name, typ := range kinds {
		for range 20 {
			m := reflect.New(typ)
			random(r, m.Elem())
			b := Encode(m.Interface().(Message))
			got, err := Decode(b)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, b)
			}
			if !reflect.DeepEqual(got, m.Interface()) {
				t.Fatalf("%s: %+v came back as %+v", name, m.Elem(), got)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "unexpected end"},
		{"{", "unexpected end"},
		{"[]", "cannot unmarshal"},
		{`{"kind":"gossip","body":{}}`, `unknown kind "gossip"`},
		{`{"kind":"","body":{}}`, "unknown kind"},
		{`{"kind":"Go","body":{}}`, "unknown kind"},
		{`{"kind":"` + strings.Repeat("x", 1000) + `","body":{}}`, "unknown kind"},
		{`{"kind":"go","body":{"generation":1,"faster":true}}`, `unknown field "faster"`},
		{`{"kind":"go","body":{"generation":-1}}`, "cannot unmarshal"},
		{`{"kind":"go","body":{"generation":18446744073709551616}}`, "cannot unmarshal"},
		{`{"kind":"go"}`, `"go"`},
		{`{"kind":"go","body":7}`, "cannot unmarshal"},
		{`{"kind":"go","body":null}`, "no body"},
		{`{"kind":"go","body":{"generation":1}} `, ""},
		{`{"kind":"go","body":{"generation":1}}{}`, "after top-level value"},
		{`{"kind":"report","body":{"loss":1e400}}`, "cannot unmarshal"},
		{`{"kind":"report","body":{"loss":NaN}}`, "invalid character"},
		{`{"kind":"join","body":{"protocol":9,"of_tomorrow":[1]}}`, ""}, // readable across versions
		{strings.Repeat(" ", maxMessage+1), "over the limit"},
	} {
		m, err := Decode([]byte(c.in))
		if c.want == "" {
			if err != nil {
				t.Errorf("%.60s: %v", c.in, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 300 {
			t.Errorf("%.60s: got %v and the error %v, want one with %q", c.in, m, err, c.want)
		}
	}
}

// Each kind of message that a scenario sends is known by its type's name.
func TestKinds(t *testing.T) {
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	want := "answered ask assign beat control end fault formed go heartbeat introduce join lead leave " +
		"notice offer ready recall report restore retire snapshot stall standing stored welcome"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("kinds on the wire: %s\nwant %s\nanother set of messages is another Protocol, and belongs into docs/formats.md", got, want)
	}
}

// Whatever comes, Decode returns; what it accepts comes back from Encode the
// same, and neither a machine nor a Node falls over it.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, typ := range kinds {
		m := reflect.New(typ)
		f.Add(Encode(m.Interface().(Message)))
		random(r, m.Elem())
		f.Add(Encode(m.Interface().(Message)))
	}
	f.Add([]byte(`{"kind":"heartbeat","body":{"worker":"a","step":18446744073709551615}}`))
	f.Add([]byte(`{"kind":"offer","body":{"worker":"a","generation":1,"step":1,"parts":2147483647}}`))
	f.Add([]byte(`{"kind":"join","body":{"worker":"c","protocol":2,"host":"h","pid":1,` +
		`"seat":{"job":"job","members":["c"],"micro":[0,4]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again := Encode(m)
		n, err := Decode(again)
		if err != nil {
			t.Fatalf("%s does not come back: %v", again, err)
		}
		if third := Encode(n); !bytes.Equal(again, third) {
			t.Fatalf("%s came back as %s", again, third)
		}
		// whom it reaches: a job in each of its phases, and a worker
		for _, script := range []string{"", "running a b", "running a b;run;gone a", "running a b;run;gone a;gone b;join c;ready c"} {
			s := &machineScenario{now: simStart}
			s.event(parseCommand(t, "config workers=2 micro=4 steps=10 start=2"))
			for l := range strings.SplitSeq(script, ";") {
				if l != "" {
					s.event(parseCommand(t, l))
				}
			}
			m, _ := Decode(b)
			if ev, ok := m.(Event); ok {
				s.m.Handle(s.now, ev)
			}
			if n := len(s.m.roster.members); n > 4 {
				t.Fatalf("%d members", n)
			}
			s.event(parseCommand(t, "after 100ms"))
			s.event(parseCommand(t, "after 5s"))
		}
		assigned := "loaded state=true;recall generation=1;assign group.generation=1 group.rank=0 group.members=a group.micro=0,4"
		for _, script := range []string{"", "loaded state=true", assigned, assigned + ";listens;go", assigned + ";recall generation=2"} {
			n := NewNode(NodeConfig{Join: Join{Worker: "a"}, Heartbeat: time.Second, Patience: time.Minute}, simStart)
			s := &nodeScenario{now: simStart, n: n}
			for l := range strings.SplitSeq(script, ";") {
				if l != "" {
					s.event(parseCommand(t, l))
				}
			}
			m, _ := Decode(b)
			if ev, ok := m.(NodeEvent); ok {
				n.Handle(s.now, ev)
			}
			s.event(parseCommand(t, "after 5s"))
		}
	})
}

// What a member says of itself comes to terminals and logs: it is one line that
// no terminal obeys. What is no text for people stays as it is.
func TestDecodeCleansTexts(t *testing.T) {
	const evil = "x\n12:00:00 ERROR forged\x1b[2J\u202e\xff"
	const tame = "x; 12:00:00 ERROR forged�[2J��"
	m, err := Decode(Encode(&Join{Worker: "a", Host: evil, Version: evil, CPU: strings.Repeat("x", 1<<16),
		Seat: &Seat{Job: evil, Members: []string{evil}}}))
	if err != nil {
		t.Fatal(err)
	}
	j := m.(*Join)
	for _, s := range []string{j.Host, j.Version, j.Seat.Job, j.Seat.Members[0]} {
		if s != tame {
			t.Errorf("%q comes as %q, want %q", evil, s, tame)
		}
	}
	if len(j.CPU) > maxWords+len("…") {
		t.Errorf("a text of %d bytes", len(j.CPU))
	}
	for _, x := range []Message{
		&Fault{Worker: "a", Error: evil}, &Leave{Worker: "a", Reason: evil}, &End{Reason: evil},
		&Heartbeat{Worker: "a", Phase: evil}, &Stall{Worker: "a", Peer: evil},
	} {
		if m, err := Decode(Encode(x)); err != nil || !strings.Contains(fmt.Sprintf("%+v", m), tame) {
			t.Errorf("%T comes as %+v (%v)", x, m, err)
		}
	}
	text := "name: x\nmodel: {kind: vla}\n" + strings.Repeat("# long\n", 1000)
	m, err = Decode(Encode(&Welcome{Job: text, BaseDir: "/odd\ndir"}))
	if w, ok := m.(*Welcome); err != nil || !ok || w.Job != text || w.BaseDir != "/odd\ndir" {
		t.Errorf("the job file comes as %.200q (%v)", m, err)
	}
	_, err = Decode([]byte(`{"kind":"go","body":{"` + strings.Repeat(`\u001b`, 1<<16) + `":1}}`))
	if err == nil || len(err.Error()) > 2*maxExcerpt || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("an error of %d bytes: %.300v", len(fmt.Sprint(err)), err)
	}
}
