package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/limits"
)

// The most members there can be, with the longest names and addresses there can
// be, are told their places, and tell theirs, in messages that are read. On one
// host, on one each, and two on each.
func TestMostMembersFitMessages(t *testing.T) {
	n := limits.Workers
	long := func(i, bytes int) string { return fmt.Sprintf("%0*d", bytes, i) }
	for name, perHost := range map[string]int{"one host": n, "a host each": 1, "two on each": 2} {
		m := newMachine(Config{Coordinator: long(1, 16), Road: roads["direct"], Workers: n, MaxWorkers: n, Micro: limits.Samples, Steps: 9,
			Deadline: time.Minute, Secret: []byte("secret")}, time.Unix(1000, 0))
		m.generation = maxGeneration
		m.start.digest = long(0, 64)
		for i := range n {
			memory := &Memory{Host: long(i/perHost, limits.Address), Address: long(i, limits.Address)}
			j := Join{Worker: long(i, limits.Name), Host: "host", Stream: long(i, limits.Address), Memory: memory}
			w := &Member{Join: j, Rank: i, State: true, behind: true}
			m.roster.enlist(w)
			m.roster.places = append(m.roster.places, place{w.Worker, 0, limits.Samples})
			m.start.sources = append(m.start.sources, w.Worker)
		}
		m.roster.bounds = evenBounds(limits.Samples, n)
		for r := range m.roster.places {
			m.roster.places[r].Lo, m.roster.places[r].Hi = m.roster.bounds[r], m.roster.bounds[r+1]
		}
		m.start.hosts = m.hosts()
		for _, rank := range []int{0, 1, n / 2, n - 1} {
			a := m.assignment(m.roster.members[m.roster.places[rank].Worker])
			got, err := Decode(Encode(a))
			if err != nil {
				t.Fatalf("%s: the assignment of rank %d: %v", name, rank, err)
			}
			if !got.(*Assign).sound() {
				t.Errorf("%s: the assignment of rank %d cannot be carried out", name, rank)
			}
		}
		seat := &Seat{Job: long(0, 64), Generation: maxGeneration, Step: 9, Micro: m.roster.bounds}
		for _, p := range m.roster.places {
			seat.Members = append(seat.Members, p.Worker)
		}
		j := m.roster.list[0].Join
		j.Seat = seat
		got, err := Decode(Encode(&j))
		if err != nil {
			t.Fatalf("%s: the introduction of a worker that lived on: %v", name, err)
		}
		if err := got.(*Join).Seat.check(&m.cfg, 0); err != nil {
			t.Errorf("%s: its seat: %v", name, err)
		}
	}
}

// Each rank is told of the neighbours that it may connect to and of the memory
// on its host, and of no other.
func TestAssignmentsHoldWhatIsNeeded(t *testing.T) {
	m := newMachine(Config{Road: roads["direct"], Micro: 8, Secret: []byte("s")}, time.Unix(1000, 0))
	for i, host := range []string{"a", "a", "a", "b", "b", "c", "c"} {
		j := Join{Worker: fmt.Sprintf("w%d", i), Stream: fmt.Sprintf("s%d", i), Memory: &Memory{Host: host, Address: fmt.Sprintf("m%d", i)}}
		w := &Member{Join: j, Rank: i}
		m.roster.enlist(w)
		m.roster.places = append(m.roster.places, place{Worker: w.Worker})
	}
	check := func(rank int, memory, streams string) {
		t.Helper()
		s, _ := m.streams(rank)
		if got := strings.Join(m.memories(rank), " "); got != memory {
			t.Errorf("rank %d: memory %q, want %q", rank, got, memory)
		}
		if got := strings.Join(s, " "); got != streams {
			t.Errorf("rank %d: streams %q, want %q", rank, got, streams)
		}
	}
	m.start.hosts = m.hosts() // lanes 0 3 5 and 1 4 6
	check(0, "m0 m1 m2    ", "   s3  s5 ")
	check(1, "m0 m1 m2    ", "    s4  s6")
	check(2, "m0 m1 m2    ", "      ")
	check(3, "   m3 m4  ", "s0     s5 ")
	check(6, "     m5 m6", " s1   s4  ")
	m.start.hosts = nil
	check(0, "", " s1     s6")
	check(4, "", "   s3  s5 ")
}

// Of many that have the state each newcomer is given some, other ones than
// others are.
func TestSourcesAreSpread(t *testing.T) {
	var all []string
	for i := range 512 {
		all = append(all, fmt.Sprint(i))
	}
	if got := someOf(all[:limits.Sources], 3); !slices.Equal(got, all[:limits.Sources]) {
		t.Errorf("of few: %v", got)
	}
	seen := map[string]bool{}
	for rank := range 8 {
		l := someOf(all, rank)
		if len(l) != limits.Sources {
			t.Fatalf("%d sources", len(l))
		}
		for _, id := range l {
			seen[id] = true
		}
	}
	if len(seen) != 512 {
		t.Errorf("8 newcomers ask %d of 512", len(seen))
	}
}
