package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/bench"
)

func TestBenchModel(t *testing.T) {
	t.Parallel()
	row := func(topology string, ranks, bytes int, ms, cpu, broker float64) bench.RingRow {
		return bench.RingRow{Road: "nats", Topology: topology, Ranks: ranks, Bytes: bytes, Chunk: 1 << 19, Runs: 5, MS: ms, CPU: cpu, Broker: broker}
	}
	ring := bench.RingReport{Host: bench.Host{CPU: "a processor", Cores: 2}, Rows: []bench.RingRow{
		{Road: "shm", Ranks: 2, Bytes: 1 << 27, MS: 40, Rate: 3.3}, {Road: "shm", Ranks: 4, Bytes: 1 << 27, MS: 80, Rate: 1.6},
		row("broker", 4, 1<<27, 900, 1.8, 0.9), row("broker", 2, 1<<27, 300, 0.5, 0.25), row("broker", 2, 4<<10, 0.2, 0.0002, 0.0001),
		row("mesh", 2, 1<<27, 280, 0.6, 0), row("mesh", 2, 4<<10, 0.3, 0.0003, 0),
		{Road: "direct", Ranks: 2, Bytes: 1 << 27, Chunk: 1 << 19, Runs: 5, MS: 100, CPU: 0.2}, {Road: "direct", Ranks: 2, Bytes: 4 << 10, Chunk: 1 << 19, Runs: 5, MS: 0.1, CPU: 0.0001},
		{Road: "direct", Reduce: "fast", Wire: "bf16", Ranks: 2, Bytes: 1 << 28, Chunk: 1 << 19, Runs: 5, MS: 1, CPU: 1}, // no plain ring: not the model's
	}}
	write := func(name string, v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("ring.json", ring)
	var r bench.ModelReport
	measured(t, &r, "model", "--ring", file, "--json")
	near(t, "latency", r.Broker.Alpha, 1e-4, 1e-6)
	near(t, "processor time of a message", r.Broker.Message, 1e-4, 1e-6)
	near(t, "of a byte", r.Broker.Byte, 0.5/(2<<27), 1e-6) // of two ranks, though four were measured first
	near(t, "of a broker", r.Broker.Broker, 0.25/(2<<27), 1e-6)
	near(t, "of a mesh", r.Mesh.Byte, 0.6/(2<<27), 1e-6)
	near(t, "of a direct connection", r.Direct.Byte, 0.2/(2<<27), 1e-6)
	near(t, "shared memory", r.Memory, 1.6e9, 1e-6)
	if r.CPU != "a processor" || r.Mesh.Broker != 0 || len(r.Rows) != 2*3*3 {
		t.Fatalf("%+v", r)
	}
	for _, b := range r.Rows {
		if b.Ring <= b.Floor || b.Broker <= b.Ring || b.Exchange < b.Floor || b.Levels < b.Floor || b.Tree <= b.Floor || b.Until < 2 {
			t.Errorf("%+v", b)
		}
	}
	measured(t, &r, "model", "--ring", file, "--check", file, "--gbps", "0", "--json")
	if len(r.Check) != 7 || !(r.Check[5].Model > 100 && r.Check[5].Model < 105) || !(r.Check[1].Model > 250 && r.Check[1].Model < 260) || r.Check[1].Bound != "cpu" || r.Check[2].Bound != "latency" {
		t.Errorf("%+v", r.Check) // half a second of processor time on two cores
	}
	broker := ring
	broker.Rows = ring.Rows[:5]
	for args, want := range map[string]string{
		"":                                       "--ring FILE is missing",
		"--ring " + file + " --hosts 1":          "--hosts 1: want 2 to",
		"--ring " + file + " --gbps 0":           "--gbps 0: want more than 0",
		"--ring " + file + " --check " + file:    "--check wants one --gbps",
		"--ring testdata/small.yaml":             "testdata/small.yaml is no report of",
		"--ring " + write("broker.json", broker): "of mesh there are not both",
	} {
		code, _, errs := call(t, bin.coordinator, append([]string{"bench", "model"}, strings.Fields(args)...)...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, errs)
		}
	}
}
