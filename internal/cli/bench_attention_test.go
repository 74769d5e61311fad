package cli

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/bench"
)

// What the bench says of visible keys and growth is arithmetic; its times are
// only asked to be there.
func TestBenchAttention(t *testing.T) {
	png := filepath.Join(t.TempDir(), "times.png")
	code, out, errs := call(t, bin.coordinator, "bench", "attention", "--json", "--tokens", "40,20", "--window", "3", "--stride", "10", "--d-model", "16", "--heads", "2", "--budget", "0s", "--out", png)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, errs)
	}
	var r bench.AttentionReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	// 20 tokens, window 3: 7 keys a query but at the two edges, 7·20 - 2·(3+2+1) = 128. With keys 0 and 10 seen by all,
	// 16 queries see 0 newly (those from 4 on), 13 see 10.
	want := []struct {
		tokens  int
		kind    string
		visible float64
	}{{20, "full", 20}, {20, "local", 128.0 / 20}, {20, "strided", (128.0 + 16 + 13) / 20}, {40, "full", 40}, {40, "local", (7*40 - 12.0) / 40}, {40, "strided", (7*40 - 12.0 + 36 + 3*33) / 40}}
	if len(r.Rows) != len(want) || r.Threads < 1 || r.CPU == "" {
		t.Fatalf("%+v", r)
	}
	for i, w := range want {
		b := r.Rows[i]
		if b.Tokens != w.tokens || b.Kind != w.kind || math.Abs(b.Visible-w.visible) > 1e-9 {
			t.Errorf("row %d is %+v, want %+v", i, b, w)
		}
		if !(b.Forward > 0 && b.Backward > 0 && b.Speedup > 0) {
			t.Errorf("times of %+v", b)
		}
	}
	if len(r.Growth) != 3 {
		t.Errorf("growth %v", r.Growth)
	}
	if b := decodePNG(t, png).Bounds(); b.Dx() != 656 || b.Dy() != 532 {
		t.Errorf("the plot is %v", b)
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ args, want string }{
		"what":   {"atention", `"atention"`},
		"tokens": {"attention --tokens 0", "--tokens 0"},
		"heads":  {"attention --heads 3", "--heads 3"},
		"window": {"attention --window 0", "--window 0"},

		"threads":         {"gemm --threads 0", "--threads 0"},
		"sizes":           {"gemm --sizes 0", "--sizes 0"},
		"layers of whom":  {"gemm --model huge --sizes 1", `"huge"`},
		"budget":          {"ops --budget -1s", "--budget -1s"},
		"part":            {"ops --part 0", "--part 0"},
		"slab":            {"ops --slab 1", "--slab 1"},
		"model":           {"step --model huge", `"huge"`},
		"two models":      {"step testdata/small.yaml --model small", "--model small"},
		"two jobs":        {"step a.yaml b.yaml", "at most one"},
		"dropout":         {"step --dropout 1", "--dropout 1"},
		"scaling":         {"step --scaling=1", "--scaling 1"},
		"no such flag":    {"step --bach 8", "--bach"},
		"road":            {"ring --road tcp", `"tcp"`},
		"chunk":           {"ring --chunk-bytes 6", "--chunk-bytes 6"},
		"window of chunk": {"ring --window-bytes 1024", "--window-bytes 1024"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := call(t, bin.coordinator, append([]string{"bench"}, strings.Fields(c.args)...)...)
			if code != exitUsage || !strings.Contains(errs, c.want) {
				t.Errorf("exit code %d, want %d with %q in the message:\n%s", code, exitUsage, c.want, errs)
			}
		})
	}
}
