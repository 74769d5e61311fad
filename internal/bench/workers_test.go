package bench

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/train"
)

// What bench scaling prepares is what it says: jobs with a micro-batch for each
// of four workers, of the models that bench step and the peer have.
func TestPreparedJobs(t *testing.T) {
	f := WorkersOptions{Models: []string{"small", "default"}, Workers: []int{1, 4}, Jobs: []string{"a.yaml"}}
	l, err := f.workloads(t.TempDir())
	if err != nil || len(l) != 3 || l[2].steps != jobSteps {
		t.Fatalf("%+v, %v", l, err)
	}
	for i, want := range []struct{ global, micro, size, d, layers, vocab int }{{128, 32, 64, 128, 4, 1000}, {32, 8, 224, 512, 6, 10000}} {
		j, err := train.Kinds().Load(l[i].file, l[i].set)
		if err != nil {
			t.Fatal(err)
		}
		m := j.Model.Options.(models.Config)
		if j.Batch.Global != want.global || j.Batch.Micro != want.micro || m.ImageSize != want.size || m.DModel != want.d || m.NLayers != want.layers || m.VocabSize != want.vocab {
			t.Errorf("%s: %+v, %+v", l[i].name, j.Batch, m)
		}
	}
}

func TestMetricsOfRuns(t *testing.T) {
	line := func(world int, step, ring string) string {
		return `{"step":1,"world":` + string(rune('0'+world)) + `,"samples_per_s":32,"time":{"step":` + step + `,"ring":` + ring + "}}\n"
	}
	var r trainedRun
	warm := line(1, "9", "9") + line(1, "9", "9") // the first fifth, of another world even
	if err := r.read(strings.NewReader(warm+strings.Repeat(line(2, "0.5", "0.1"), 7)+line(2, "4", "4")), 2); err != nil || r.steps != 8 || r.step != 0.5 || r.ring != 0.2 || r.batch != 16 || r.samples() != 32 {
		t.Errorf("%+v, %v", r, err)
	}
	for text, want := range map[string]string{
		"": "no step",
		strings.Repeat(line(2, "1", "0"), 8) + line(1, "1", "0"): "on 1 worker(s), want 2",
		line(2, "1", "0") + "{\"torn":                            "metrics.jsonl: ",
	} {
		if err := new(trainedRun).read(strings.NewReader(text), 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	rows := []WorkersRow{{Workers: 1}, {Workers: 2, Road: "nats"}}
	run := func(step float64) trainedRun { return trainedRun{steps: 8, batch: 8, step: step} }
	// the machine is slower in the second round: the ratios are of the same round
	summarize(rows, [][]trainedRun{{run(1), run(4), run(1)}, {run(0.5), run(2), run(0.5)}})
	if rows[0].OverOne != 0 || rows[1].OverOne != 2 || rows[1].Samples != 16 || rows[1].StepMS != 500 || rows[1].Runs != 3 {
		t.Errorf("%+v", rows)
	}
}
