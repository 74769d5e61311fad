package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// AttentionRow is the time of one kind of attention at one length.
type AttentionRow struct {
	Tokens   int     `json:"tokens"`
	Kind     string  `json:"kind"` // full, local, strided
	Visible  float64 `json:"visible_keys"`
	Forward  float64 `json:"forward_ms"`
	Backward float64 `json:"backward_ms"`
	Speedup  float64 `json:"speedup"` // of forward and backward over full attention; 0 where that was not measured
}

type AttentionReport struct {
	CPU     string             `json:"cpu"`
	Threads int                `json:"threads"`
	DModel  int                `json:"d_model"`
	Heads   int                `json:"heads"`
	Window  int                `json:"window"`
	Stride  int                `json:"stride"`
	Causal  bool               `json:"causal"`
	Rows    []AttentionRow     `json:"rows"`
	Growth  map[string]float64 `json:"growth"` // time ∝ T^growth between the last two lengths
}

// AttentionOptions choose what Attention times.
type AttentionOptions struct {
	Tokens         []int // lengths of the sequence
	DModel, Heads  int
	Window, Stride int
	Threads        int
	Budget         time.Duration // for each measurement
	Causal         bool
}

// AttentionKinds are the kinds of attention that are timed, in order.
func AttentionKinds() []string { return []string{"full", "local", "strided"} }

// Attention times each kind at each length. What it refuses of its options is a
// usage.Error.
func Attention(ctx context.Context, f AttentionOptions) (*AttentionReport, error) {
	if len(f.Tokens) == 0 {
		return nil, usage.Errorf("--tokens is empty: want lengths such as 256,1024,4096")
	}
	for _, n := range f.Tokens {
		if err := usage.Within("tokens", n, 1, 1<<16); err != nil {
			return nil, err
		}
	}
	for _, x := range []struct {
		flag    string
		v, most int
	}{{"d-model", f.DModel, 1 << 14}, {"heads", f.Heads, f.DModel}, {"window", f.Window, 1 << 16}, {"stride", f.Stride, 1 << 16}, {"threads", f.Threads, 1 << 10}} {
		if err := usage.Within(x.flag, x.v, 1, x.most); err != nil {
			return nil, err
		}
	}
	if f.DModel%f.Heads != 0 {
		return nil, usage.Errorf("--heads %d does not divide --d-model %d", f.Heads, f.DModel)
	}
	f.Tokens = slices.Sorted(slices.Values(f.Tokens))
	r := AttentionReport{CPU: tensor.CPULevel(), Threads: f.Threads, DModel: f.DModel, Heads: f.Heads, Window: f.Window, Stride: f.Stride, Causal: f.Causal, Growth: map[string]float64{}}
	rt := tensor.NewRuntime(f.Threads)
	defer rt.Close()
	masks := []tensor.Mask{{}, {Window: f.Window}, {Window: f.Window, Stride: f.Stride}} // of AttentionKinds
	for _, n := range f.Tokens {
		full := 0.0
		for i, kind := range AttentionKinds() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			masks[i].Causal = f.Causal
			b := timeAttention(rt, n, f.DModel, f.Heads, masks[i], f.Budget)
			b.Kind = kind
			if kind == "full" {
				full = b.Forward + b.Backward
			}
			b.Speedup = full / (b.Forward + b.Backward)
			r.Rows = append(r.Rows, b)
		}
	}
	for _, kind := range AttentionKinds() {
		if g, ok := growth(r.Rows, kind); ok {
			r.Growth[kind] = g
		}
	}
	return &r, nil
}

// timeAttention measures forward and backward of one attention over one
// sequence: the best of as many runs as fit into budget, at least three.
func timeAttention(rt *tensor.Runtime, n, width, heads int, mask tensor.Mask, budget time.Duration) AttentionRow {
	tape := tensor.NewTape(rt, tensor.NewParams())
	defer tape.Close()
	x := tape.Input(1, n, 3*width)
	tape.NeedGrad(x)
	y := tape.Attention(x, heads, mask, 0)
	loss := tape.MSE(y, tape.Input(y.Shape...))
	tape.Seal()
	for i := range x.Data {
		x.Data[i] = float32(i*7919%1009)/1009 - 0.5
	}
	forward, backward := math.Inf(1), math.Inf(1)
	begin := time.Now()
	for i := 0; i < 4 || time.Since(begin) < budget; i++ {
		at := time.Now()
		tape.Forward()
		mid := time.Now()
		tape.Backward(loss)
		if i > 0 { // the first touches the memory
			forward, backward = min(forward, mid.Sub(at).Seconds()), min(backward, time.Since(mid).Seconds())
		}
	}
	visible := 0
	for q := range n {
		for k := range n {
			if mask.Rule(q, k) {
				visible++
			}
		}
	}
	return AttentionRow{Tokens: n, Visible: float64(visible) / float64(n), Forward: 1e3 * forward, Backward: 1e3 * backward}
}

// growth is the exponent of T with which a kind's time grows between the last
// two lengths.
func growth(rows []AttentionRow, kind string) (exponent float64, ok bool) {
	var of []AttentionRow
	for _, b := range rows {
		if b.Kind == kind {
			of = append(of, b)
		}
	}
	if len(of) < 2 {
		return 0, false
	}
	a, b := of[len(of)-2], of[len(of)-1]
	if a.Tokens == b.Tokens {
		return 0, false
	}
	return math.Log((b.Forward+b.Backward)/(a.Forward+a.Backward)) / math.Log(float64(b.Tokens)/float64(a.Tokens)), true
}

// Draw writes the times over the lengths to a PNG file.
func (r *AttentionReport) Draw(path string) error {
	lines := map[string]*picture.Line{}
	var order []*picture.Line
	for _, b := range r.Rows {
		l := lines[b.Kind]
		if l == nil {
			l = &picture.Line{Name: b.Kind}
			lines[b.Kind] = l
			order = append(order, l)
		}
		l.X, l.Y = append(l.X, float64(b.Tokens)), append(l.Y, b.Forward+b.Backward)
	}
	plot := &picture.Lines{X: "tokens", Y: "forward and backward, ms", LogX: true, LogY: true}
	for _, l := range order {
		plot.Lines = append(plot.Lines, *l)
	}
	return picture.Page{Title: fmt.Sprintf("attention, window %d, stride %d, %d wide", r.Window, r.Stride, r.DModel), Width: 640, Height: 480, Panels: [][]picture.Panel{{plot}}}.WritePNG(path)
}
