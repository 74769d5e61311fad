// Package teamtest holds what every allreduce.Team must do.
package teamtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/allreduce"
)

// Words and Floats are the least that a Make must give.
const (
	Words  = 40
	Floats = 5000
)

// Make makes the n teams of one host, each with two slabs of its own.
type Make func(t *testing.T, n int) (teams []allreduce.Team, slabs [][2][]float32)

// Run runs the suite.
func Run(t *testing.T, mk Make) {
	t.Run("words", func(t *testing.T) { words(t, mk) })
	t.Run("memory", func(t *testing.T) { memory(t, mk) })
	t.Run("bell", func(t *testing.T) { bell(t, mk) })
}

func words(t *testing.T, mk Make) {
	teams, _ := mk(t, 3)
	for i, a := range teams {
		if a.Len() != 3 || a.Self() != i || a.Words() < Words {
			t.Fatalf("team %d is place %d of %d with %d words", i, a.Self(), a.Len(), a.Words())
		}
		for w := range Words {
			if v := a.Load((i+1)%3, w); v != 0 {
				t.Fatalf("word %d begins as %d", w, v)
			}
		}
	}
	for i, a := range teams {
		a.Store(3, uint64(100+i))
		a.Store(Words-1, 1<<63+uint64(i))
	}
	for _, a := range teams {
		for r := range teams {
			if a.Load(r, 3) != uint64(100+r) || a.Load(r, Words-1) != 1<<63+uint64(r) {
				t.Errorf("rank %d published %d and %d, rank %d sees %d and %d", r, 100+r, uint64(1<<63)+uint64(r), a.Self(), a.Load(r, 3), a.Load(r, Words-1))
			}
		}
	}
}

func memory(t *testing.T, mk Make) {
	teams, slabs := mk(t, 2)
	for r, a := range teams {
		for i, s := range slabs[r] {
			if len(s) < Floats {
				t.Fatalf("a slab of %d floats", len(s))
			}
			for k := range s {
				s[k] = float32(1000*r + 100*i + k%7)
			}
			if k, ok := a.Index(s); !ok || k != uint64(i) {
				t.Errorf("slab %d of rank %d is number %d, %v", i, r, k, ok)
			}
		}
		if _, ok := a.Index([]float32{1}); ok {
			t.Error("memory of this process alone is a slab")
		}
	}
	for _, a := range teams {
		for r := range teams {
			for i := range 2 {
				s, err := a.Slab(r, uint64(i))
				if err != nil || s[0] != float32(1000*r+100*i) || s[Floats-1] != float32(1000*r+100*i+(Floats-1)%7) {
					t.Fatalf("slab %d of rank %d as rank %d sees it: %v, %v", i, r, a.Self(), s[0], err)
				}
			}
			if _, err := a.Slab(r, 2); err == nil {
				t.Error("a slab that nobody made")
			}
			if _, err := a.Slab(r, 1<<63); err == nil {
				t.Error("a slab beyond all")
			}
		}
	}
	if n := len(teams[0].Sum()); n < Floats {
		t.Fatalf("a sum of %d floats", n)
	}
	teams[0].Sum()[0], teams[1].Sum()[Floats-1] = 3, 4
	if teams[1].Sum()[0] != 3 || teams[0].Sum()[Floats-1] != 4 {
		t.Error("the sum is not one memory")
	}
}

func bell(t *testing.T, mk Make) {
	teams, _ := mk(t, 2)
	woken := func(a allreduce.Team) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return a.Wait(ctx)
	}
	all := func() {
		for i := range teams {
			teams[0].Bell(i)
		}
	}
	all() // before anyone waits
	for _, a := range teams {
		if err := woken(a); err != nil {
			t.Fatal(err)
		}
	}
	done := func(a allreduce.Team) chan error {
		c := make(chan error, 1)
		go func() {
			for a.Load(0, 5) != 1 {
				if err := woken(a); err != nil {
					c <- err
					return
				}
			}
			c <- nil
		}()
		return c
	}
	l := []chan error{done(teams[0]), done(teams[1])}
	teams[0].Store(5, 1)
	all()
	for _, c := range l {
		if err := <-c; err != nil {
			t.Fatal(err)
		}
	}
	cause := errors.New("recalled")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for { // what rang before may be heard first
		if err := teams[1].Wait(ctx); errors.Is(err, cause) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	all() // and one that was cancelled hears the next
	for _, a := range teams {
		if err := woken(a); err != nil {
			t.Fatal(err)
		}
	}
	quiet := func() bool {
		short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		return teams[1].Wait(short) != nil
	}
	for !quiet() { // what rang before
	}
	teams[1].Bell(0) // which is not for the second
	if err := woken(teams[0]); err != nil {
		t.Fatal(err)
	}
	if !quiet() {
		t.Error("a bell for the first rank woke the second")
	}
}
