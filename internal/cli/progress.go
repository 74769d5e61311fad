package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/train"
)

// view shows a run to whoever watches: a block that is redrawn in place on a
// terminal, plain lines elsewhere, one JSON object a line for scripts. Its
// log method is where the logger writes, so that lines and block do not mix.
type view struct {
	mu      sync.Mutex
	out     io.Writer
	kind    viewKind
	name    string
	steps   uint64
	start   time.Time
	first   uint64 // committed steps when the run began
	begun   uint64 // first step that was shown, at start; 0: none
	last    train.Metrics
	losses  []float64 // one point a drawn column, by merging pairs as it grows
	per     int       // steps a point
	acc     float64
	accN    int
	members []cluster.Member
	phase   cluster.Phase
	stored  uint64
	drawn   int // lines of the block now on the screen
	drawnAt time.Time
	said    time.Time
}

type viewKind int

const (
	viewPlain viewKind = iota
	viewTerminal
	viewJSON
)

func newView(out io.Writer, asJSON bool, name string, first, steps uint64) *view {
	v := &view{out: out, name: name, first: first, steps: steps, start: time.Now(), per: 1}
	v.last.Step = first
	if f := file(out); asJSON {
		v.kind = viewJSON
	} else if f != nil && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		v.kind = viewTerminal
	}
	return v
}

// event prints one object in JSON mode, and a line otherwise.
func (v *view) event(kind, text string, fields map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kind != viewJSON {
		v.above([]byte(text + "\n"))
		return
	}
	v.object(kind, fields)
}

// script prints one object in JSON mode, and nothing otherwise.
func (v *view) script(kind string, fields map[string]any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kind == viewJSON {
		v.object(kind, fields)
	}
}

func (v *view) object(kind string, fields map[string]any) {
	m := map[string]any{"event": kind}
	for k, x := range fields {
		m[k] = x
	}
	b, err := json.Marshal(m) // keys come out sorted
	if err != nil {
		panic(fmt.Sprintf("cli: event %s: %v", kind, err))
	}
	b = append(b, '\n')
	if o, ok := v.out.(*outlet); ok { // scripts wait for these
		o.keep(b)
		return
	}
	v.out.Write(b)
}

// step shows a committed step.
func (v *view) step(m train.Metrics) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.begun == 0 {
		v.start, v.begun = time.Now(), m.Step
	}
	v.last = m
	if m.Refused == "" {
		v.acc, v.accN = v.acc+m.Loss, v.accN+1
	}
	if v.accN == v.per {
		v.losses = append(v.losses, v.acc/float64(v.accN))
		v.acc, v.accN = 0, 0
		if len(v.losses) == 2*sparkWidth {
			for i := range sparkWidth {
				v.losses[i] = (v.losses[2*i] + v.losses[2*i+1]) / 2
			}
			v.losses, v.per = v.losses[:sparkWidth], 2*v.per
		}
	}
	now := time.Now()
	switch v.kind {
	case viewJSON:
		b, _ := json.Marshal(struct {
			Event string `json:"event"`
			train.Metrics
		}{"step", m})
		v.out.Write(append(b, '\n'))
	case viewTerminal:
		v.redraw(now, m.Step == v.steps)
	default:
		if m.Step == v.first+1 || m.Step == v.steps || now.Sub(v.said) >= 5*time.Second {
			v.said = now
			learned := fmt.Sprintf("loss %.5f  lr %.2e  grad norm %.3f", m.Loss, m.LR, m.GradNorm)
			if m.Refused != "" {
				learned = "no update"
			}
			fmt.Fprintf(v.out, "step %d/%d  %s  %.1f samples/s  %d workers  eta %s\n", m.Step, v.steps, learned, m.SamplesSec, m.World, v.eta(now))
		}
	}
}

func (v *view) update(phase cluster.Phase, members []cluster.Member) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := phase != v.phase || len(members) != len(v.members)
	v.phase, v.members = phase, members
	if v.kind == viewTerminal {
		v.redraw(time.Now(), changed)
	}
}

func (v *view) saved(step uint64) {
	v.mu.Lock()
	v.stored = step
	v.mu.Unlock()
}

// standing is the newest stored step and the time that is left.
func (v *view) standing() (stored uint64, eta string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stored, v.eta(time.Now())
}

// Write passes log lines through, above the block.
func (v *view) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.above(p)
	return len(p), nil
}

// close leaves the last block on the screen.
func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kind == viewTerminal {
		v.redraw(time.Now(), true)
		v.kind = viewPlain
	}
}

func (v *view) above(p []byte) {
	if v.kind != viewTerminal || v.drawn == 0 {
		v.out.Write(p)
		return
	}
	var b bytes.Buffer
	v.erase(&b)
	b.Write(p)
	v.block(&b, time.Now())
	v.out.Write(b.Bytes())
}

func (v *view) redraw(now time.Time, force bool) {
	if !force && now.Sub(v.drawnAt) < 100*time.Millisecond {
		return
	}
	if o, ok := v.out.(*outlet); ok && o.behind() { // a terminal that has not taken the last one yet, as after Ctrl-S
		return
	}
	v.drawnAt = now
	var b bytes.Buffer
	v.erase(&b)
	v.block(&b, now)
	v.out.Write(b.Bytes())
}

func (v *view) erase(b *bytes.Buffer) {
	if v.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", v.drawn)
	}
	v.drawn = 0
}

const (
	barWidth   = 30
	sparkWidth = 40

	shownMembers = 16 // more would not fit a screen, which is drawn in place
)

func (v *view) block(b *bytes.Buffer, now time.Time) {
	width := 100
	if f := file(v.out); f != nil {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			width = w
		}
	}
	line := func(f string, args ...any) {
		r := []rune(fmt.Sprintf(f, args...))
		if len(r) >= width {
			r = r[:width-1]
		}
		b.WriteString(string(r))
		b.WriteByte('\n')
		v.drawn++
	}
	m := v.last
	share := float64(m.Step) / math.Max(float64(v.steps), 1)
	full := int(share * barWidth)
	line("%s  %s  step %d/%d  %s%s %3.0f%%  eta %s", v.name, v.phase, m.Step, v.steps,
		strings.Repeat("█", full), strings.Repeat("░", barWidth-full), 100*share, v.eta(now))
	if m.Step > v.first {
		stored := "no checkpoint yet"
		if v.stored > 0 {
			stored = fmt.Sprintf("checkpoint at step %d", v.stored)
		}
		if m.Refused == "" {
			line("loss %.5f %s  grad norm %.3f  lr %.2e  %.1f samples/s  %s", m.Loss, spark(v.losses), m.GradNorm, m.LR, m.SamplesSec, stored)
		} else {
			line("no update %s  %.1f samples/s  %s", spark(v.losses), m.SamplesSec, stored)
		}
		t := m.Time
		line("slowest rank, ms: data %.1f  forward %.1f  backward %.1f  ring (not hidden) %.1f  optimizer %.1f",
			1e3*t.Data, 1e3*t.Forward, 1e3*t.Backward, 1e3*t.Ring, 1e3*t.Optimizer)
	}
	for i, w := range v.members {
		if i == shownMembers {
			line("  … and %d more", len(v.members)-i)
			break
		}
		rank := "-"
		if w.Rank >= 0 {
			rank = fmt.Sprint(w.Rank)
		}
		state := w.Phase
		if w.Spare {
			state += ", spare"
		}
		if w.Slowdown > 1.5 {
			state += fmt.Sprintf(", %.1f× slower", w.Slowdown)
		}
		line("  rank %-2s %-12s %s, pid %d, %d thread(s), %s  step %d  %s", rank, w.Worker, w.Host, w.PID, w.Threads, w.CPU, w.Step, state)
	}
}

// eta extrapolates from the pace of this run, since its first step: what came
// before, loading and waiting for workers, does not come again.
func (v *view) eta(now time.Time) string {
	if v.last.Step <= v.begun {
		return "-"
	}
	done := v.last.Step - v.begun
	left := now.Sub(v.start).Seconds() / float64(done) * float64(v.steps-v.last.Step)
	return (time.Duration(left) * time.Second).String()
}

// spark draws the losses as a line of blocks between their least and largest.
func spark(l []float64) string {
	if len(l) > sparkWidth {
		l = l[len(l)-sparkWidth:]
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, x := range l {
		lo, hi = min(lo, x), max(hi, x)
	}
	var b strings.Builder
	for _, x := range l {
		i := 0
		if hi > lo {
			i = int((x - lo) / (hi - lo) * 7.999)
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[i])
	}
	return b.String()
}
