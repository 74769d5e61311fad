package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/run"
)

// view shows a run to whoever watches. Its Write is where the logger writes, so
// that lines and block do not mix.
type view struct {
	mu      sync.Mutex
	out     io.Writer
	how     how
	now     func() time.Time
	width   func() int // columns of the terminal
	drawn   int        // lines of the block now on the screen
	drawnAt time.Time
	said    time.Time // the last line of a step
	state
}

// how is the way in which a run is shown.
type how int

const (
	plainLines how = iota // a line now and then
	inPlace               // a block at the end of a terminal, drawn anew in its place
	events                // a JSON object a line
)

// terminal says whether f is a terminal on which a block can be drawn in place.
func terminal(f *os.File) bool {
	return f != nil && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

func newView(out io.Writer, how how, name string, first, steps uint64) *view {
	v := &view{out: out, how: how, now: time.Now, width: func() int { return widthOf(file(out)) }}
	v.state = state{name: name, first: first, steps: steps, start: v.now()}
	v.last.Step = first
	return v
}

// widthOf is how many columns a terminal has.
func widthOf(f *os.File) int {
	if f != nil {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return 100
}

// Event prints one object for scripts, and a line for people.
func (v *view) Event(kind, text string, fields map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.how != events {
		v.above([]byte(text + "\n"))
		return
	}
	v.object(kind, fields)
}

// Script prints one object for scripts, and nothing for people.
func (v *view) Script(kind string, fields map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.how == events {
		v.object(kind, fields)
	}
}

// Say prints a line for people, and nothing for scripts.
func (v *view) Say(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.how != events {
		v.above([]byte(text + "\n"))
	}
}

func (v *view) object(kind string, fields map[string]any) {
	m := map[string]any{"event": kind}
	for k, x := range fields {
		m[k] = x
	}
	b, err := json.Marshal(m) // keys come out sorted
	if err != nil {
		panic(fmt.Sprintf("view: event %s: %v", kind, err))
	}
	b = append(b, '\n')
	if o, ok := v.out.(*Outlet); ok { // scripts wait for these
		o.Keep(b)
		return
	}
	v.out.Write(b)
}

// Step shows a committed step.
func (v *view) Step(m run.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	v.step(m, now)
	switch v.how {
	case events:
		b, _ := json.Marshal(struct {
			Event string `json:"event"`
			run.Metrics
		}{"step", m})
		v.out.Write(append(b, '\n'))
	case inPlace:
		v.redraw(now, m.Step == v.steps)
	default:
		if m.Step == v.first+1 || m.Step == v.steps || now.Sub(v.said) >= 5*time.Second {
			v.said = now
			fmt.Fprintln(v.out, v.line(now))
		}
	}
}

// Members shows who takes part.
func (v *view) Members(phase cluster.Phase, members []cluster.Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := phase != v.phase || len(members) != len(v.members)
	v.phase, v.members = phase, members
	if v.how == inPlace {
		v.redraw(v.now(), changed)
	}
}

// Saved says that a checkpoint of step is stored.
func (v *view) Saved(step uint64) {
	v.mu.Lock()
	v.stored = step
	v.mu.Unlock()
}

// Standing is the newest stored step and the time that is left.
func (v *view) Standing() (stored uint64, eta string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stored, v.eta(v.now())
}

// Write passes log lines through, above the block.
func (v *view) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.above(p)
	return len(p), nil
}

// Close leaves the last block on the screen.
func (v *view) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.how == inPlace {
		v.redraw(v.now(), true)
		v.how = plainLines
	}
}

// above writes p, and the block below it.
func (v *view) above(p []byte) {
	if v.how != inPlace || v.drawn == 0 {
		v.out.Write(p)
		return
	}
	v.draw(p, v.now())
}

// redraw draws the block in its place, at most ten times a second unless it must.
func (v *view) redraw(now time.Time, force bool) {
	if !force && now.Sub(v.drawnAt) < 100*time.Millisecond {
		return
	}
	if o, ok := v.out.(*Outlet); ok && o.behind() { // a terminal that has not taken the last one yet, as after Ctrl-S
		return
	}
	v.drawnAt = now
	v.draw(nil, now)
}

// draw replaces the block that is on the screen by lines that stay and the
// block below them.
func (v *view) draw(lines []byte, now time.Time) {
	var b bytes.Buffer
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", v.drawn) // up to its first line, and clear from there
	}
	b.Write(lines)
	block := v.block(v.width(), now)
	for _, l := range block {
		b.WriteString(l)
		b.WriteByte('\n')
	}
	v.drawn = len(block)
	v.out.Write(b.Bytes())
}
