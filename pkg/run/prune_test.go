package run

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// A plan says of each checkpoint whether it stays and why, and changes nothing;
// done, it leaves those that were to stay.
func TestPlanPrune(t *testing.T) {
	dir := t.TempDir()
	disk, err := checkpoint.OpenDisk(filepath.Join(dir, "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	for i, loss := range []float64{4, 1, 2, 3, 5} { // in order: the one committed last always stays
		step := uint64(i + 1)
		w, err := disk.Begin(step)
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.Create("x", 3)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte("abc"))
		f.Close()
		if err := w.Commit(checkpoint.Manifest{Step: step, Job: "j", World: 1, Config: []byte("name: j\n"), Data: json.RawMessage("{}"), Training: &checkpoint.Training{Loss: loss, Steps: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		t.Helper()
		l, err := checkpoint.List(filepath.Join(dir, "checkpoints"))
		if err != nil {
			t.Fatal(err)
		}
		var s []string
		for _, e := range l {
			s = append(s, fmt.Sprint(e.Step))
		}
		return strings.Join(s, " ")
	}
	plan, err := PlanPrune(dir, checkpoint.Policy{Keep: 1, KeepEvery: 4, Best: 1, Metric: "loss"})
	if err != nil {
		t.Fatal(err)
	}
	var says []string
	freed := int64(0)
	for _, c := range plan.Checkpoints {
		says = append(says, fmt.Sprint(c.Step, c.Keep))
		if c.Reason == "" || c.Score == nil || c.Size <= 0 {
			t.Errorf("step %d: %+v", c.Step, c)
		}
		if !c.Keep {
			freed += c.Size
		}
	}
	if got, want := strings.Join(says, ", "), "1 false, 2 true, 3 false, 4 true, 5 true"; got != want || plan.Freed != freed {
		t.Errorf("the plan is %s, want %s; it frees %d bytes, want %d", got, want, plan.Freed, freed)
	}
	if got := left(); got != "1 2 3 4 5" {
		t.Errorf("a plan left %s", got)
	}
	if err := plan.Prune(dir, func(line string) { t.Errorf("cleaned: %s", line) }); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != "2 4 5" {
		t.Errorf("left are %s", got)
	}
}
