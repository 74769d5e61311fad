package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/bench"
)

func measured(t *testing.T, report any, args ...string) {
	t.Helper()
	code, out, errs := call(t, bin.coordinator, append([]string{"bench"}, args...)...)
	if code != 0 {
		t.Fatalf("bench %v: exit code %d\n%s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), report); err != nil {
		t.Fatalf("bench %v: %v\n%s", args, err, out)
	}
}

func sane(t *testing.T, m *bench.Machine, threads int) {
	t.Helper()
	if m.CPU == "" || m.Threads != threads || m.Cores < 1 || m.Go == "" || !(m.Peak > 0) || !(m.Bandwidth > 0) {
		t.Errorf("machine: %+v", m)
	}
}

// How fast things are is no test's business: only that each figure is there,
// that shapes are the models', and that what can be counted adds up.
func TestBenchGemm(t *testing.T) {
	t.Parallel()
	var r bench.GemmReport
	measured(t, &r, "gemm", "--sizes", "20,33", "--model", "small", "--batch", "1", "--budget", "0s", "--slab", "4096", "--json")
	sane(t, &r.Machine, 1)
	if len(r.Rows) != 3*(2+1+3*4+1) {
		t.Errorf("%d rows", len(r.Rows))
	}
	found := false
	for _, g := range r.Rows {
		if g.Runs < 3 || !(g.Rate > 0 && g.Peak > 0 && g.Share > 0 && g.ShareBest >= g.Share && g.ShareCPU > 0) {
			t.Errorf("%+v", g)
		}
		found = found || g.Name == "small vision ff1" && g.Product == "dW=dYᵀ·X" && g.M == 512 && g.N == 128 && g.K == 17
	}
	if !found {
		t.Error("the weight gradient of the small model's first feed-forward layer is missing")
	}
	code, out, _ := call(t, bin.coordinator, "bench", "gemm", "--sizes", "20", "--model", "none", "--budget", "0s", "--slab", "4096", "--threads", "2")
	if code != 0 || !strings.Contains(out, "20×20×20") || !strings.Contains(out, "2 of") {
		t.Errorf("exit code %d, text:\n%s", code, out)
	}
}

func TestBenchOps(t *testing.T) {
	t.Parallel()
	var r bench.OpsReport
	measured(t, &r, "ops", "--part", "0.01", "--parameters", "1000", "--budget", "0s", "--slab", "4096", "--json")
	sane(t, &r.Machine, 1)
	passes := map[string]int{}
	for _, o := range r.Rows {
		passes[o.Pass]++
		if o.Runs < 3 || !(o.Milliseconds > 0) || (o.GFLOPs > 0) == (o.GBs > 0) || (o.ShareOfPeak > 0) != (o.GFLOPs > 0) || (o.ShareOfBandwidth > 0) != (o.GBs > 0) {
			t.Errorf("%+v", o)
		}
	}
	if passes["kernel"] < 20 || passes["forward"] < 15 || passes["forward"] != passes["backward"] {
		t.Errorf("passes %v", passes)
	}
}

func TestBenchStep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args          string
		micro, micros int
		parameters    int
		threads       int
	}{
		"small": {"--model small --batch 2", 2, 1, 1486471, 1},
		"job":   {"testdata/small.yaml --threads 2", 2, 6, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var r bench.StepReport
			measured(t, &r, append([]string{"step", "--budget", "0s", "--slab", "4096", "--json"}, strings.Fields(c.args)...)...)
			sane(t, &r.Machine, c.threads)
			if r.Batch != c.micro*c.micros || r.Micro != c.micro || c.parameters > 0 && r.Parameters != c.parameters || r.Steps < 3 {
				t.Errorf("%+v", r)
			}
			if !(r.StepMS > 0 && r.StepBestMS > 0 && r.StepBestMS <= r.StepMS && r.Samples > 0 && r.Answers > 0 && r.Rate > 0 && r.Share > 0 && r.Nominal > 0 && r.Done > 0) {
				t.Errorf("%+v", r)
			}
			if (r.SamplesByCPU > 0) != (c.threads == 1) {
				t.Errorf("samples by CPU time on %d threads: %v", c.threads, r.SamplesByCPU)
			}
			// A thread that parks may cost Go's scheduler a note of who waits for whom, until it has enough of them.
			if most := map[int]uint64{1: 0, 2: 8}[c.threads]; r.Allocs > most {
				t.Errorf("a steady step allocates %d times, %d bytes", r.Allocs, r.AllocBytes)
			}
			p := r.Plan
			if p.Moments != 2*p.Parameters || p.Activations <= 0 || p.Total != p.Parameters+p.Gradients+p.Moments+p.Activations+p.Batch || p.Parameters < 4*int64(r.Parameters) {
				t.Errorf("plan %+v of %d parameters", p, r.Parameters)
			}
			if r.Resident != 0 && r.Resident < p.Parameters {
				t.Errorf("%d bytes resident, with %d of parameters", r.Resident, p.Parameters)
			}
			var phases float64
			names := ""
			for _, x := range r.Phases {
				phases += x.Share
				names += x.Name + " "
			}
			if phases < 0.999 || phases > 1.001 || strings.Contains(names, "fold") != (c.micros > 1) {
				t.Errorf("phases %+v", r.Phases)
			}
			kinds := ""
			for _, k := range r.Kinds {
				kinds += k.Kind + " "
				if k.Kind == "linear" && !(k.Ops > 0 && k.ForwardMS > 0 && k.BackwardMS > 0 && k.ForwardGFLOPs > 0 && k.BackwardGFLOPs > 0 && k.Share > 0) {
					t.Errorf("%+v", k)
				}
			}
			for _, want := range []string{"patches", "linear", "attention", "addnorm", "embedding", "loss"} {
				if !strings.Contains(kinds, want) {
					t.Errorf("no operation of kind %s in %s", want, kinds)
				}
			}
		})
	}
}

func TestBenchScaling(t *testing.T) {
	t.Parallel()
	var r bench.ThreadsReport
	measured(t, &r, "step", "--model", "small", "--batch", "1", "--scaling", "--rounds", "1", "--budget", "0s", "--json")
	if r.N != 2 || r.Rounds != 1 || r.Model != "small" || !(r.Alone > 0 && r.Independent > 0 && r.Threads > 0 && r.Speedup > 0 && r.Share > 0) {
		t.Errorf("%+v", r)
	}
	code, _, errs := call(t, bin.coordinator, "bench", "step", "testdata/none.yaml", "--scaling", "--budget", "0s")
	if code != exitFailed || !strings.Contains(errs, "none.yaml") {
		t.Errorf("a child that fails: exit code %d\n%s", code, errs)
	}
}

func TestBenchRing(t *testing.T) {
	t.Parallel()
	var r bench.RingReport
	measured(t, &r, "ring", "--road", "shm,nats,direct,memory", "--topology", "broker,mesh", "--ranks", "1,3", "--chunk-bytes", "64,4096", "--window-bytes", "65536", "--bucket-bytes", "3000",
		"--bytes", "2KiB", "--through", "env RANK={}", "--budget", "0s", "--json")
	if r.CPU == "" || r.Cores < 1 || len(r.Rows) != 5*2*2 {
		t.Fatalf("%d rows: %+v", len(r.Rows), r)
	}
	for _, b := range r.Rows {
		if b.Bytes != 2048 || b.Runs < 5 || !(b.MS > 0 && b.Rate > 0) || (b.CPU > 0) != (b.Road != "memory") || (b.PerGB > 0) != (b.CPU > 0) || (b.PerSent > 0) != ((b.Road == "nats" || b.Road == "direct") && b.Ranks > 1) {
			t.Errorf("%+v", b)
		}
	}
	// several micro-gradients of a rank, folded by the ring or before; and half the bytes. Each sum is compared.
	r = bench.RingReport{}
	measured(t, &r, "ring", "--road", "shm,nats,direct,memory", "--reduce", "exact,fast", "--wire", "float32,bf16", "--micro-gradients", "3", "--ranks", "3", "--chunk-bytes", "4096",
		"--window-bytes", "65536", "--bucket-bytes", "3000", "--bytes", "10000,8", "--budget", "0s", "--json")
	ways := map[string]int{}
	for _, b := range r.Rows {
		ways[b.Way()]++
		if b.Micros != 3 || !(b.MS > 0) || b.Vain > b.Repeats {
			t.Errorf("%+v", b)
		}
	}
	for _, w := range []string{"shm", "shm fast", "nats broker", "nats broker fast", "nats broker fast bf16", "direct", "direct fast", "direct fast bf16", "memory", "memory fast", "memory fast bf16"} {
		if ways[w] != 2 {
			t.Errorf("%d rows of %s: %v", ways[w], w, ways)
		}
	}
	measured(t, &r, "ring", "--bytes", "4KiB", "--budget", "0s", "--json") // the defaults fit each other
	for args, want := range map[string]string{
		"--bytes=":                               "nothing to measure",
		"--road disk":                            "--road \"disk\": want shm, nats, direct, memory",
		"--reduce sum":                           "--reduce \"sum\": want exact, fast",
		"--wire bf16":                            "give --reduce fast too",
		"--wire bf16 --reduce fast --ranks 300":  "want at most 256 in all",
		"--micro-gradients 0":                    "--micro-gradients 0: want 1 to",
		"--bytes 7":                              "--bytes 7: want a multiple of 4",
		"--bytes 1TiB":                           "--bytes 1TiB: want",
		"--ranks 0":                              "--ranks 0: want 1 to 1024",
		"--through ssh":                          "want {} in it",
		"--chunk-bytes 4096 --window-bytes 4096": "--window-bytes 4096: want 8192 to",
	} {
		code, _, errs := call(t, bin.coordinator, append([]string{"bench", "ring"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, errs)
		}
	}
	// ranks that die in the middle: the others do not wait for them
	code, _, errs := call(t, bin.coordinator, "bench", "ring", "--road", "shm,nats", "--ranks", "2", "--bytes", "64MiB", "--budget", "10m", "--through", "timeout -s KILL 0.4 env RANK={}")
	if code != exitFailed || !strings.Contains(errs, "shm, 2 ranks: ") || !strings.Contains(errs, " has ended: ") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	// ranks that another command starts, which here does not
	code, _, errs = call(t, bin.coordinator, "bench", "ring", "--road", "nats", "--ranks", "2", "--bytes", "4KiB", "--through", "false {}")
	if code != exitFailed || !strings.Contains(errs, "nats broker, 2 ranks: rank ") || !strings.Contains(errs, " has ended: ") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}
