package board

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/pkg/cluster"
	"github.com/vlaring/vlaring/pkg/eval"
	"github.com/vlaring/vlaring/pkg/run"
	"github.com/vlaring/vlaring/pkg/train"
)

// testJob is a small job.
const testJob = `
name: small
model: {kind: vla, image_size: 32, patch_size: 8, d_model: 32, n_heads: 4, n_layers: 2, action_dim: 7}
data: {kind: tabletop, episodes: 40, holdout: {fraction: 0.1}}
batch: {global: 12, micro: 2}
train: {steps: 12}
`

func about(t *testing.T, dir string, step uint64) run.About {
	t.Helper()
	j, err := train.Kinds().Parse("job.yaml", []byte(testJob), nil)
	if err != nil {
		t.Fatal(err)
	}
	return run.About{Dir: dir, Job: j, Step: step, Parameters: 7, Version: "test"}
}

// records are those of steps from to to, with a measurement every fifth.
func records(from, to uint64) (r run.Records) {
	for s := from; s <= to; s++ {
		m := run.Metrics{Step: s, Loss: 1 / float64(s), GradNorm: float64(s), LR: 0.5, SamplesSec: 100, World: 2, Time: cluster.Times{Data: 1, Forward: 2, Backward: 3, Ring: 4, Optimizer: 5, Step: 6, Hash: 7},
			At: time.Unix(1_700_000_000+int64(s), 0), Sets: map[string]cluster.SetLoss{"a": {Loss: 3, Targets: 1}, "b": {}}}
		if s == 3 {
			m.Loss, m.GradNorm, m.Sets, m.Refused = 0, 0, nil, "it is not finite"
		}
		r.Steps = append(r.Steps, m)
		if s%5 == 0 {
			h := run.Heldout{Step: s, Samples: 9, Loss: 2, Metrics: []run.HeldoutMetric{{Name: "l1", Value: float64(s)}}, At: time.Unix(1_700_000_000+int64(s), 0),
				DoF: []eval.DoFReport{{Name: "x", Unit: "m", MAE: 0.25}, {Name: "n", MAE: 0.5}}, Sets: map[string]map[string]float64{"a": {"samples": 9, "loss": 7}}}
			r.Measured = append(r.Measured, run.Measured{Heldout: h, Best: map[string]float64{"loss": 2, "l1": 5}})
		}
	}
	return r
}

// wantNumbers are the figures of records, as "step tag value".
func wantNumbers(r run.Records) (out []string) {
	add := func(step uint64, tag string, v float64) {
		out = append(out, fmt.Sprint(step, " ", tag, " ", float32(v)))
	}
	for _, m := range r.Steps {
		if m.Refused == "" {
			add(m.Step, "train/loss", m.Loss)
			add(m.Step, "train/grad_norm", m.GradNorm)
			add(m.Step, "train/sets/a/loss", 3)
		}
		for i, part := range []string{"data", "forward", "backward", "ring_exposed", "optimizer", "step", "hash"} {
			add(m.Step, "time/"+part, float64(i+1))
		}
		add(m.Step, "train/learning_rate", 0.5)
		add(m.Step, "speed/samples_per_s", 100)
		add(m.Step, "speed/workers", 2)
	}
	for _, m := range r.Measured {
		for tag, v := range map[string]float64{"heldout/loss": 2, "heldout/l1": float64(m.Step), "heldout/dimensions/x [m]": 0.25, "heldout/dimensions/n": 0.5, "heldout/sets/a/loss": 7, "best/loss": 2, "best/l1": 5} {
			add(m.Step, tag, v)
		}
	}
	slices.Sort(out)
	return out
}

// numbersIn reads the numbers of all event files of a folder, by the specification.
func numbersIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	var step uint64
	var tag string
	var each func(m []byte, path string)
	each = func(m []byte, path string) {
		for len(m) > 0 {
			k, n := binary.Uvarint(m)
			m = m[n:]
			at := fmt.Sprint(path, ".", k>>3)
			switch k & 7 {
			case 0:
				v, n := binary.Uvarint(m)
				if m = m[n:]; at == ".2" {
					step = v
				}
			case 1:
				m = m[8:]
			case 5:
				if at == ".5.1.2" {
					out = append(out, fmt.Sprint(step, " ", tag, " ", math.Float32frombits(binary.LittleEndian.Uint32(m))))
				}
				m = m[4:]
			case 2:
				v, n := binary.Uvarint(m)
				b := m[n : n+int(v)]
				m = m[n+int(v):]
				switch at {
				case ".5", ".5.1":
					each(b, at)
				case ".5.1.1":
					tag = string(b)
				}
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n := binary.LittleEndian.Uint64(b)
			each(b[12:12+n], "")
			b = b[16+n:]
		}
	}
	slices.Sort(out)
	return out
}

// A run that is resumed from an earlier step, twice, has each number once; one that was
// followed in the middle alone gets what it lacks.
func TestTensorBoardHasEachNumberOnce(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ resume, to, measured uint64 }{{0, 14, 10}, {7, 12, 10}, {7, 7, 5}, {7, 20, 20}} {
		s := newTensorBoard()
		has, err := s.Open(t.Context(), about(t, dir, c.resume))
		if err != nil {
			t.Fatal(err)
		}
		if has.Step > c.resume || has.Measured > c.resume {
			t.Fatalf("it has %+v of a run that goes on from %d", has, c.resume)
		}
		r := records(has.Step+1, c.to)
		if len(r.Steps) > 0 {
			if err := s.Put(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	got, want := numbersIn(t, filepath.Join(dir, tensorBoardDir)), wantNumbers(records(1, 20))
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
