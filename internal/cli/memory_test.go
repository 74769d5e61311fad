//go:build linux

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// resident is this process's memory, without what the collector could free.
func resident(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(string(bytes.Fields(b)[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// A coordinator measures checkpoints for as long as its job runs: what a
// measurement takes it gives back.
func TestMeasuringKeepsNoMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	trainDone(t, "testdata/small.yaml", "--run-dir", dir, "--set", "model.d_model=256", "--set", "model.n_layers=4", "--set", "batch.global=4",
		"--set", "train.steps=1", "--set", "schedule.warmup_steps=0", "--set", "checkpoint.every=1", "--set", "cluster.workers=1")
	measure := func() {
		m, err := openToMeasure(filepath.Join(dir, "checkpoints", checkpoint.DirName(1)), "", "heldout", "")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		src, split, err := m.Source("heldout")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Evaluate(t.Context(), src, split, 1); err != nil {
			t.Fatal(err)
		}
	}
	measure()
	measure()
	two := resident(t)
	for range 8 {
		measure()
	}
	ten := resident(t)
	t.Logf("%d MiB after two measurements, %d MiB after ten", two>>20, ten>>20)
	const noise = 4 << 20 // the collector's, up and down; a model that stays is 19 MiB each time
	if ten > two+two/10+noise {
		t.Errorf("%d bytes are resident after two measurements, %d after ten", two, ten)
	}
}
