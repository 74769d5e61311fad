package cli

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/bench"
)

func TestBenchWorkers(t *testing.T) {
	t.Parallel()
	var r bench.WorkersReport
	measured(t, &r, "scaling", "--models", "small", "testdata/small.yaml", "--roads", "auto,nats", "--rounds", "1", "--steps", "8", "--json")
	if r.CPU == "" || r.Threads != 1 || r.Rounds != 1 || len(r.Rows) != 6 {
		t.Fatalf("%+v", r)
	}
	for i, w := range r.Rows {
		name, batch := "small", 64
		if i > 2 {
			name, batch = "testdata/small.yaml", 12
		}
		workers, road := []int{1, 2, 2}[i%3], []string{"", "auto", "nats"}[i%3]
		if w.Job != name || w.Batch != batch || w.Workers != workers || w.Road != road || w.Runs != 1 || w.Steps != 6 {
			t.Errorf("row %d: %+v", i, w)
		}
		if !(w.StepMS > 0 && w.Samples > 0 && w.Ring >= 0 && w.Ring < 1) || (w.OverOne > 0) != (workers > 1) {
			t.Errorf("row %d: %+v", i, w)
		}
	}
	for args, want := range map[string]string{
		"--models big":                 "--models \"big\": want small or default",
		"--models=":                    "nothing to measure",
		"--roads direct":               "--roads \"direct\": want auto, nats or shm",
		"--steps 3":                    "--steps 3: want 8 to",
		"--workers 0":                  "--workers 0: want 1 to 64",
		"--models= testdata/none.yaml": "none.yaml",
	} {
		code, _, errs := call(t, bin.coordinator, append([]string{"bench", "scaling"}, strings.Fields(args)...)...)
		if code == 0 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, errs)
		}
	}
}
