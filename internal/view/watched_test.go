package view

import (
	"fmt"
	"io"
	"os"
	"testing"
)

// An output that nobody reads any more is told of once, and then takes all;
// another failure is the writer's to see.
func TestWatched(t *testing.T) {
	r, w := io.Pipe()
	gone := 0
	o := NewWatched(w, func() { gone++ })
	go fmt.Fprint(o, "hello")
	if b, err := io.ReadAll(io.LimitReader(r, 5)); string(b) != "hello" || err != nil || gone != 0 {
		t.Fatalf("read %q, %v; gone %d times", b, err, gone)
	}
	r.Close()
	for range 3 {
		if n, err := fmt.Fprint(o, "lost"); n != 4 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if gone != 1 {
		t.Errorf("told of it %d times", gone)
	}
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	o = NewWatched(f, func() { t.Error("a file has no reader to lose") })
	if _, err := fmt.Fprint(o, "x"); err == nil {
		t.Error("a closed file took it")
	}
}

// The file behind an output is found: what is drawn in place asks it for its size.
func TestFile(t *testing.T) {
	watched := NewWatched(os.Stdout, nil)
	o := newOutlet(watched, 10, MissingText)
	defer o.Close(t.Context())
	if file(os.Stdout) != os.Stdout || file(watched) != os.Stdout || file(o) != os.Stdout || file(io.Discard) != nil {
		t.Error("not found")
	}
}
