package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlaring/vlaring/internal/picture"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// attentionBench is the time of one kind of attention at one length.
type attentionBench struct {
	Tokens   int     `json:"tokens"`
	Kind     string  `json:"kind"` // full, local, strided
	Visible  float64 `json:"visible_keys"`
	Forward  float64 `json:"forward_ms"`
	Backward float64 `json:"backward_ms"`
	Speedup  float64 `json:"speedup"` // of forward and backward over full attention; 0 where that was not measured
}

type attentionBenchReport struct {
	CPU     string             `json:"cpu"`
	Threads int                `json:"threads"`
	DModel  int                `json:"d_model"`
	Heads   int                `json:"heads"`
	Window  int                `json:"window"`
	Stride  int                `json:"stride"`
	Causal  bool               `json:"causal"`
	Rows    []attentionBench   `json:"rows"`
	Growth  map[string]float64 `json:"growth"` // time ∝ T^growth between the last two lengths
}

func newBenchAttention() *cobra.Command {
	var lengths []int
	var width, heads, window, stride, threads int
	var budget time.Duration
	var causal, asJSON bool
	var out string
	c := &cobra.Command{
		Use:   "attention",
		Short: "Time full, local and strided attention against the number of tokens",
		Long: `Time forward and backward of one attention over one sequence, full, local (keys
up to --window places away) and strided (those and every --stride-th key), against
the number of tokens. Full attention grows with T², local with T·window, strided
with T·(window + T/stride). Times are the best of several: what else runs on the
machine only adds.`,
		Example: "  coordinator bench attention\n  coordinator bench attention --tokens 1024,4096,16384 --window 128 --stride 256 --out attention.png",
		Args:    exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			if len(lengths) == 0 {
				return usagef("--tokens is empty: want lengths such as 256,1024,4096")
			}
			for _, n := range lengths {
				if err := within("tokens", n, 1, 1<<16); err != nil {
					return err
				}
			}
			for _, x := range []struct {
				flag    string
				v, most int
			}{{"d-model", width, 1 << 14}, {"heads", heads, width}, {"window", window, 1 << 16}, {"stride", stride, 1 << 16}, {"threads", threads, 1 << 10}} {
				if err := within(x.flag, x.v, 1, x.most); err != nil {
					return err
				}
			}
			if width%heads != 0 {
				return usagef("--heads %d does not divide --d-model %d", heads, width)
			}
			slices.Sort(lengths)
			r := attentionBenchReport{CPU: tensor.CPULevel(), Threads: threads, DModel: width, Heads: heads, Window: window, Stride: stride, Causal: causal, Growth: map[string]float64{}}
			rt := tensor.NewRuntime(threads)
			defer rt.Close()
			kinds := []struct {
				name string
				mask tensor.Mask
			}{{"full", tensor.Mask{}}, {"local", tensor.Mask{Window: window}}, {"strided", tensor.Mask{Window: window, Stride: stride}}}
			for _, n := range lengths {
				full := 0.0
				for _, k := range kinds {
					if err := c.Context().Err(); err != nil {
						return err
					}
					k.mask.Causal = causal
					b := timeAttention(rt, n, width, heads, k.mask, budget)
					b.Kind = k.name
					if k.name == "full" {
						full = b.Forward + b.Backward
					}
					b.Speedup = full / (b.Forward + b.Backward)
					r.Rows = append(r.Rows, b)
				}
			}
			for _, k := range kinds {
				if g, ok := growth(r.Rows, k.name); ok {
					r.Growth[k.name] = g
				}
			}
			if out != "" {
				if err := r.draw(out); err != nil {
					return err
				}
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 4, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintf(w, "TOKENS\tKIND\tVISIBLE KEYS\tFORWARD MS\tBACKWARD MS\tOVER FULL\t\n")
			for _, b := range r.Rows {
				fmt.Fprintf(w, "%d\t%s\t%.0f\t%.2f\t%.2f\t%.2f×\t\n", b.Tokens, b.Kind, b.Visible, b.Forward, b.Backward, b.Speedup)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "\n%d wide, %d heads, window %d, stride %d; %s, %d thread(s)\n", width, heads, window, stride, r.CPU, threads)
			for _, k := range kinds {
				if g, ok := r.Growth[k.name]; ok {
					fmt.Fprintf(c.OutOrStdout(), "%-7s grows with T^%.2f between the last two lengths\n", k.name, g)
				}
			}
			return nil
		},
	}
	fl := c.Flags()
	fl.IntSliceVar(&lengths, "tokens", []int{256, 512, 1024, 2048, 4096}, "lengths of the sequence")
	fl.IntVar(&width, "d-model", 256, "width")
	fl.IntVar(&heads, "heads", 4, "heads")
	fl.IntVar(&window, "window", 64, "keys at most so many places away")
	fl.IntVar(&stride, "stride", 128, "and every so many-th key")
	fl.IntVar(&threads, "threads", runtime.GOMAXPROCS(0), "compute threads")
	fl.DurationVar(&budget, "budget", 500*time.Millisecond, "time for each measurement")
	fl.BoolVar(&causal, "causal", false, "keys up to the query's own alone")
	fl.StringVar(&out, "out", "", "PNG file to draw the times to")
	fl.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// timeAttention measures forward and backward of one attention over one
// sequence: the best of as many runs as fit into budget, at least three.
func timeAttention(rt *tensor.Runtime, n, width, heads int, mask tensor.Mask, budget time.Duration) attentionBench {
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
	return attentionBench{Tokens: n, Visible: float64(visible) / float64(n), Forward: 1e3 * forward, Backward: 1e3 * backward}
}

// growth is the exponent of T with which a kind's time grows between the last
// two lengths.
func growth(rows []attentionBench, kind string) (exponent float64, ok bool) {
	var of []attentionBench
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

func (r *attentionBenchReport) draw(path string) error {
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
