package view

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// gate is a reader's side that can be shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{}
	got  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.Write(p)
}

// Nobody waits for an output that nobody reads: what does not fit is dropped by
// whole lines and counted in its place, what must be there is there, and once
// somebody reads, all that was kept comes in order.
func TestOutletNeverBlocks(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	o := newOutlet(g, 100, MissingText)
	fmt.Fprintln(o, "first")
	for !o.behind() {
		time.Sleep(time.Millisecond)
	}
	for { // until it is the writer's
		o.mu.Lock()
		taken := o.writing
		o.mu.Unlock()
		if taken {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for i := range 30 {
		fmt.Fprintf(o, "line %02d\n", i)
	}
	o.Keep([]byte("the end\n"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	o.Close(ctx)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("closing took %v after its context had ended", d)
	}
	close(g.open)
	o.Close(t.Context())
	var want strings.Builder
	want.WriteString("first\n")
	for i := range 12 { // of eight bytes each
		fmt.Fprintf(&want, "line %02d\n", i)
	}
	want.WriteString("… 18 lines are missing here: nobody read this output\nthe end\n")
	if got := g.got.String(); got != want.String() {
		t.Errorf("written:\n%swant:\n%s", got, want.String())
	}
}

// What was dropped last is told of at the end.
func TestOutletTellsAtTheEnd(t *testing.T) {
	var b bytes.Buffer
	o := newOutlet(&b, 10, MissingEvent)
	fmt.Fprintln(o, "more than ten bytes")
	o.Close(t.Context())
	if got, want := b.String(), `{"event":"missing","lines":1}`+"\n"; got != want {
		t.Errorf("written: %q, want %q", got, want)
	}
}
