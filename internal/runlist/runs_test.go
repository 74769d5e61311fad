package runlist

import (
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/usage"
	"github.com/vlaring/vlaring/pkg/train"
)

// aRun makes the directory of a run of so many steps, with losses scaled by scale, whose
// weights differ from others' from step differ on.
func aRun(t *testing.T, dir, state string, lr float64, steps, differ int, scale float64) {
	t.Helper()
	text := fmt.Sprintf("name: small\nmodel: {kind: vla, image_size: 32, patch_size: 8, d_model: 32, n_heads: 4, n_layers: 2, action_dim: 7}\ndata: {kind: tabletop, episodes: 40, holdout: {fraction: 0.1}}\n"+
		"batch: {global: 12, micro: 2}\noptimizer: {lr: %g}\ntrain: {steps: 100}\n", lr)
	j, err := train.Kinds().Parse("job.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var m, e strings.Builder
	for s := 1; s <= steps; s++ {
		w := "00000001"
		if s >= differ {
			w = fmt.Sprintf("%08x", int(scale*100))
		}
		loss := 1 / float64(s)
		if s > differ {
			loss *= scale
		}
		if s == 3 {
			fmt.Fprintf(&m, `{"step":3,"loss":0,"refused":"not finite","samples_per_s":10,"world":2}`+"\n")
			continue
		}
		fmt.Fprintf(&m, `{"step":%d,"loss":%v,"samples_per_s":10,"world":2,"weights":%q,"at":"2026-01-01T00:00:%02dZ"}`+"\n", s, loss, w, s%60)
		if s%10 == 0 {
			fmt.Fprintf(&e, `{"step":%d,"samples":4,"loss":%v,"l1":%v,"dof":[{"name":"x","unit":"m","mae":%v,"mean_mae":1}],"seconds":1}`+"\n", s, scale/float64(s), scale*float64(s), scale)
		}
	}
	for name, text := range map[string]string{"job.yaml": string(j.YAML()), "metrics.jsonl": m.String(), "eval.jsonl": e.String(),
		"run.json": fmt.Sprintf(`{"job_file":"job.yaml","base_dir":"/","state":%q,"step":%d,"data":"d"}`, state, steps)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var now = time.Date(2026, 1, 1, 2, 0, 40, 0, time.UTC)

// A list has every run below a directory, also one that cannot be read and one whose
// coordinator has died.
func TestList(t *testing.T) {
	top := t.TempDir()
	aRun(t, filepath.Join(top, "a"), "done", 0.001, 40, 99, 1)
	aRun(t, filepath.Join(top, "sweep", "b"), "running", 0.001, 5, 99, 1)
	aRun(t, filepath.Join(top, "a", "checkpoints", "hidden"), "done", 0.001, 5, 99, 1)
	odd := filepath.Join(top, "odd")
	aRun(t, odd, "done", 0.001, 1, 99, 1)
	if err := os.WriteFile(filepath.Join(odd, "job.yaml"), []byte("nonsense: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := List(top, train.Kinds(), now)
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v (%v)", list, err)
	}
	a := list[0]
	mean := 0.0
	for s := 21; s <= 40; s++ {
		mean += 1 / float64(s)
	}
	if a.State != "done" || a.Step != 40 || a.Steps != 100 || *a.Loss-mean/20 > 1e-12 || *a.Heldout != 1.0/40 || a.Best.Step != 40 || *a.Seconds != 7200 || a.SamplesSec < 9.99 {
		t.Errorf("%+v", a)
	}
	if b := list[2]; b.State != "died" || b.Step != 5 || b.Best != nil || *b.Loss != (1+0.5+0.25+0.2)/4 {
		t.Errorf("%+v, loss %v", b, *b.Loss)
	}
	if o := list[1]; o.Problem == "" || o.State != "done" || o.Step != 1 {
		t.Errorf("%+v", o)
	}
	text := Table(list)
	for _, want := range []string{"died", "40 of 100", "2 h ago", "loss 0.025 @40", "odd: "} {
		if !strings.Contains(text, want) {
			t.Errorf("the table has no %q\n%s", want, text)
		}
	}
	if _, err := List(filepath.Join(top, "none"), train.Kinds(), now); err == nil || !strings.Contains(err.Error(), "give a directory of runs") {
		t.Errorf("%v", err)
	}
}

func TestCompare(t *testing.T) {
	top := t.TempDir()
	a, b := filepath.Join(top, "a"), filepath.Join(top, "b")
	aRun(t, a, "done", 0.001, 40, 20, 1)
	aRun(t, b, "stopped", 0.002, 30, 20, 2)
	d, err := Compare(a, b, train.Kinds(), now)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Job) != 1 || d.Job[0].Key != "optimizer.lr" || d.Job[0].A != "0.001" || d.Job[0].B != "0.002" || !d.Data {
		t.Errorf("%+v", d.Job)
	}
	if want := (Bits{30, 20, "weights"}); d.Bits != want {
		t.Errorf("%+v, want %+v", d.Bits, want)
	}
	var names []string
	for _, c := range d.Curves {
		names = append(names, c.Name)
	}
	if got := fmt.Sprint(names); got != "[loss heldout_loss heldout_l1]" {
		t.Error(got)
	}
	if c := d.Curves[0]; len(c.A.Step) != 39 || len(c.B.Step) != 29 || c.B.Value[28] != 2/float64(30) {
		t.Errorf("%+v", c)
	}
	text := d.Text()
	for _, want := range []string{"optimizer.lr  0.001  0.002", "not the same from step 20 on (weights); both have 30 steps", "x [m]", "200 %", "█"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	same, err := Compare(a, a, train.Kinds(), now)
	if err != nil || same.Bits != (Bits{Compared: 40}) || !strings.Contains(same.Text(), "no key differs") {
		t.Errorf("%+v (%v)", same, err)
	}
	out := filepath.Join(top, "curves.png")
	if err := d.Draw(out); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m, err := png.Decode(f); err != nil || m.Bounds().Dy() < 3*300 {
		t.Errorf("the picture: %v", err)
	}
	if _, err := Compare(a, top, train.Kinds(), now); !errors.As(err, new(usage.Error)) {
		t.Errorf("%v", err)
	}
}

// A curve of many steps is told in means, and none of it is lost.
func TestLongCurves(t *testing.T) {
	dir := t.TempDir()
	aRun(t, dir, "done", 0.001, 5000, 9999, 1)
	d, err := Compare(dir, dir, train.Kinds(), now)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.Curves[0].A.Step); n != mostPoints {
		t.Errorf("%d points", n)
	}
	if first := d.Curves[0].A.Value[0]; first != (1+0.5+0.25+0.2)/4 {
		t.Errorf("the first is %v: the mean of five steps without the one that was refused", first)
	}
}
