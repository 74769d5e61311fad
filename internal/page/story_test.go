package page

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func tell(s *story, at int, rest string) {
	s.add(fmt.Appendf(nil, `{"at":"2026-01-01T00:00:%02d.000Z",%s}`, at, rest))
}

// A worker that is killed and comes back has two stays, and the first one says why it
// ended. Lines are those of a real run.
func TestStory(t *testing.T) {
	s := newStory()
	tell(s, 1, `"event":"start","pid":1,"step":0,"version":"v"`)
	tell(s, 1, `"event":"start","parameters":7,"step":0,"text":"x"`)
	tell(s, 2, `"event":"member","change":"joined","worker":"w0","host":"vm","pid":10,"rank":-1,"step":0`)
	tell(s, 2, `"event":"member","change":"joined","worker":"w1","host":"vm","pid":11,"rank":-1,"step":0`)
	tell(s, 3, `"event":"note","level":"info","step":0,"text":"generation 1: 2 workers from step 0 (w0, w1)"`)
	tell(s, 3, `"event":"note","level":"info","step":0,"text":"ring: shm within vm (2 workers)"`)
	tell(s, 3, `"event":"member","change":"place","worker":"w1","rank":1,"step":0`)
	tell(s, 3, `"event":"phase","phase":"running","workers":2,"step":0`)
	tell(s, 9, `"event":"note","level":"info","step":279,"text":"lost worker w1 (rank 1): its process ended with signal: killed"`)
	tell(s, 9, `"event":"note","level":"info","step":279,"text":"generation 1 is over: worker w1 was lost after step 279: its process ended with signal: killed"`)
	tell(s, 9, `"event":"member","change":"gone","worker":"w1","step":279`)
	tell(s, 10, `"event":"member","change":"joined","worker":"w1","host":"vm","pid":12,"rank":-1,"step":280`)
	tell(s, 12, `"event":"note","level":"info","step":300,"text":"stall: worker w1 has waited 3.0 s"`)
	tell(s, 12, `"event":"waits","seconds":5.5,"ring":{"w0":[1.5,5.2],"w1":[0,5.2]},"step":300`)
	tell(s, 13, `"event":"saved","step":306,"stored":300`)
	tell(s, 14, `"event":"eval","step":300,"report":{"step":300,"actions":{}}`)
	tell(s, 15, `"event":"eval","step":300,"report":{"step":300,"actions":{"l1":1}}`)
	if len(s.Stays) != 3 || s.Parameters != 7 || s.Road != "shm within vm (2 workers)" {
		t.Fatalf("%d stays; %+v", len(s.Stays), s)
	}
	first, second := s.Stays[1], s.Stays[2]
	if !first.Lost || first.To == 0 || first.Left != 279 || first.Why != "lost worker w1 (rank 1): its process ended with signal: killed" || len(first.Places) != 2 || first.Places[1].Rank != 1 {
		t.Errorf("the first stay: %+v", first)
	}
	if !second.Again || second.To != 0 || second.PID != 12 || second.Lost {
		t.Errorf("the second stay: %+v", second)
	}
	if len(s.Gens) != 1 || s.Gens[0].Workers != 2 || len(s.tables) != 1 || !strings.Contains(string(s.tables[0].Report), "l1") || len(s.Marks) != 4 || s.Marks[0].Kind != "stall" {
		t.Errorf("generations %v, tables %v, marks %v", s.Gens, s.tables, s.Marks)
	}
	if len(s.Waits) != 1 || s.Waits[0].Ring["w0"] != [2]float64{1.5, 5.2} || s.Waits[0].At-s.Waits[0].From != 5500 {
		t.Errorf("waits: %+v", s.Waits)
	}
	tell(s, 40, `"event":"start","pid":2,"step":300,"version":"v"`) // the coordinator had died
	if w := s.Stays[0]; w.To != s.Marks[3].At || w.Lost || len(s.here) != 0 {
		t.Errorf("what lasted when the coordinator died: %+v", w)
	}
	tell(s, 41, `"event":"member","change":"joined","worker":"w0","host":"vm","pid":10,"rank":-1,"step":300`)
	tell(s, 50, `"event":"end","outcome":"done","step":500`)
	if w := s.Stays[3]; w.To == 0 || w.Lost || w.Again || w.Why != "the run ended: done" {
		t.Errorf("at the end: %+v", w)
	}
}

// Whatever a file holds, a story stays bounded, and its texts are fit to be shown.
func TestStoryIsBounded(t *testing.T) {
	s := newStory()
	for i := range maxStays + 500 {
		tell(s, 1, fmt.Sprintf(`"event":"member","change":"joined","worker":"w%d","pid":1`, i))
		tell(s, 1, fmt.Sprintf(`"event":"note","text":"generation %d: 2 workers from step 0"`, i))
		tell(s, 1, `"event":"saved","stored":1`)
		tell(s, 1, `"event":"phase","phase":"running"`)
	}
	tell(s, 2, `"event":"note","level":"warn","text":"\u001b[2J`+strings.Repeat("é", 5000)+`"`)
	s.add([]byte("junk"))
	s.add([]byte(`{"event":"member"}`))
	if len(s.Stays) > maxStays || len(s.Gens) > maxGens || len(s.Marks) > maxMarks || len(s.Notes) > maxNotes || s.LeftOut == 0 {
		t.Errorf("%d stays, %d generations, %d marks, %d notes", len(s.Stays), len(s.Gens), len(s.Marks), len(s.Notes))
	}
	last := s.Notes[len(s.Notes)-1].Text
	if len(last) > maxText+10 || strings.ContainsRune(last, 0x1b) {
		t.Errorf("a note of %d bytes: %q", len(last), last[:20])
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
}

// Stalls and stragglers are said of workers, in the words of the coordinator's log.
func TestWhoWaits(t *testing.T) {
	for text, want := range map[string]mark{
		"stall: worker w1 (rank 1) has waited 3.2 s in step 7, bucket 2, reduce chunk 0, for worker w0 (rank 0)": {Kind: "stall", Worker: "w1", Peer: "w0", Seconds: 3.2},
		"stall: worker a-7 has waited 12.0 s in step 7, bucket 2, broadcast chunk 1, for worker b.c":             {Kind: "stall", Worker: "a-7", Peer: "b.c", Seconds: 12},
		"stall: 9 workers wait, the longest 4.0 s; not waiting, and waited for: worker w3":                       {Kind: "stall"},
		"straggler: worker w2 (rank 2) takes 2.5 times as long a micro-batch as the others; policy: keep":        {Kind: "straggler", Worker: "w2"},
	} {
		s := newStory()
		b, _ := json.Marshal(text)
		tell(s, 5, `"event":"note","level":"info","step":7,"text":`+string(b))
		if len(s.Marks) != 1 {
			t.Fatalf("%q: %+v", text, s.Marks)
		}
		got := s.Marks[0]
		if got.Text != text {
			t.Errorf("%q", got.Text)
		}
		if got.At, got.Step, got.Text = 0, 0, ""; got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}
