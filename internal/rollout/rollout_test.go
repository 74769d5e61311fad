package rollout

import (
	"bytes"
	"context"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/train"
	"github.com/vlaring/vlaring/pkg/trained"
)

// untrained is a checkpoint whose model has its first weights.
func untrained(t *testing.T, job string) *trained.Checkpoint {
	t.Helper()
	j, err := train.Kinds().Parse("job.yaml", []byte(job), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &trained.Checkpoint{Dir: "runs/here", Step: 7, Job: j}
	t.Cleanup(c.Close)
	if c.Set, err = train.OpenDataContext(context.Background(), j, ".", nil, data.Watch{}); err != nil {
		t.Fatal(err)
	}
	c.Meta = c.Set.Meta()
	if c.Model, _, err = train.Build(j, c.Meta); err != nil {
		t.Fatal(err)
	}
	c.Model.Init(3)
	return c
}

const (
	plainTable   = "name: plain\nmodel: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2}\ndata: {kind: tabletop, scene: simple, episodes: 40}\ntrain: {steps: 1}\n"
	chunkedTable = "name: chunked\nloss: l1\nmodel: {kind: vla, image_size: 16, patch_size: 8, d_model: 16, n_heads: 2, n_layers: 2, fusion: cross}\n" +
		"data: {kind: tabletop, episodes: 40, cameras: [side, front], state: [gripper], history: 3, chunk: 4}\ntrain: {steps: 1}\n"
)

func rolled(t *testing.T, c *trained.Checkpoint, o Options) Report {
	t.Helper()
	r, err := Run(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The expert does everything, and nobody and the mean action nothing, in both scenes;
// the report's figures are those of its trials.
func TestExpertAndFloor(t *testing.T) {
	for _, job := range []string{plainTable, chunkedTable} {
		c := untrained(t, job)
		for policy, want := range map[string]float64{"expert": 1, "still": 0, "mean": 0} {
			r := rolled(t, c, Options{Episodes: 300, Seed: 1, Policy: policy, Threads: 1})
			if r.Success != want || r.Successes != int(300*want) || r.Episodes != 300 || len(r.Trials) != 300 {
				t.Errorf("%s, %s: %d of %d succeed, want %v", c.Job.Name, policy, r.Successes, r.Episodes, want)
			}
			all := 0
			for _, task := range r.Tasks {
				all += task.Episodes
				if task.Episodes == 0 || task.Success != want || (task.MeanSteps > 0) != (want > 0) {
					t.Errorf("%s, %s: %+v", c.Job.Name, policy, task)
				}
			}
			if all != 300 {
				t.Errorf("%s: the tasks have %d trials in all", c.Job.Name, all)
			}
			for i, x := range r.Trials {
				if x.Episode != i || x.Instruction == "" || x.Success != (want == 1) || !x.Success && x.Steps != r.Steps || x.Steps < 1 {
					t.Fatalf("%+v", x)
				}
			}
			if text := r.Text(); !strings.Contains(text, policy+" in "+r.Scene) || !strings.Contains(text, "300") {
				t.Error(text)
			}
		}
	}
}

// A model's trials are the same bits with any number of threads, and whichever others
// go on beside them; and the same bits as when this was written, on any machine.
func TestSameBits(t *testing.T) {
	for job, golden := range map[string]string{
		plainTable:   "267c12064ffd970e2d8c494753c5cb416088778c77ef6bb084e2309746446364",
		chunkedTable: "685296969ae7432dfdeb80e9cd4ff3590531b658c561fa21ddb47c6002460961",
	} {
		c := untrained(t, job)
		const n = 34 // more than go on at a time
		o := Options{Episodes: n, Seed: 5, Threads: 1}
		all := rolled(t, c, o)
		if all.Trace != golden {
			t.Errorf("%s: the trace is %s, want %s", c.Job.Name, all.Trace, golden)
		}
		for _, o.Threads = range []int{3} {
			if r := rolled(t, c, o); !reflect.DeepEqual(r, all) {
				t.Errorf("%s: %d threads: %s, one: %s", c.Job.Name, o.Threads, r.Trace, all.Trace)
			}
		}
		for _, o.Episodes = range []int{1, 7} {
			if r := rolled(t, c, o); !reflect.DeepEqual(r.Trials, all.Trials[:o.Episodes]) {
				t.Errorf("%s: the first %d alone are others than among %d", c.Job.Name, o.Episodes, n)
			}
		}
		o.Episodes, o.Seed = 7, 6
		if r := rolled(t, c, o); r.Trials[0].trace == all.Trials[0].trace {
			t.Error("another seed has the same trials")
		}
		if c.Job.Name == "chunked" {
			o.Seed, o.Execute = 5, 4
			if r := rolled(t, c, o); all.Execute != 2 || r.Execute != 4 || r.Trials[0].trace == all.Trials[0].trace {
				t.Errorf("half of a chunk of 4 is %d; done whole the trials are the same", all.Execute)
			}
		}
	}
}

// The model is shown what the data's samples show: each camera under its own name, the
// state, as many times as there were, and words.
func TestWhatIsShown(t *testing.T) {
	c := untrained(t, chunkedTable)
	w, card, err := worldOf(c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newModel(c, card, w, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	trial := w.Trial(1, 2)
	for moments := 1; moments <= 5; moments++ {
		given := map[string]trained.Given{}
		for i, show := range m.shows {
			given[m.names[i]] = show(trial)
		}
		n := min(moments, 3)
		if len(given) != 4 {
			t.Fatal(m.names)
		}
		for _, camera := range []string{"front", "side"} {
			g, newest := given[camera], trial.Picture(camera, 16, moments-1)
			if g.Shape[0] != n || len(g.Bytes) != n*len(newest) || !bytes.HasSuffix(g.Bytes, newest) || !bytes.HasPrefix(g.Bytes, trial.Picture(camera, 16, moments-n)) {
				t.Errorf("%d moments: %s has the shape %v", moments, camera, g.Shape)
			}
		}
		if g := given["gripper"]; g.Shape[0] != n || g.Floats[8*(n-1)] != trial.State(moments - 1)[0] {
			t.Errorf("%d moments: gripper is %v of shape %v", moments, g.Floats, g.Shape)
		}
		if err := trial.Act(trial.Expert()); err != nil {
			t.Fatal(err)
		}
	}
	text := false
	for i, show := range m.shows {
		text = text || show(trial).Text == trial.Text && card.Observation[i].Kind == trained.Words
	}
	if !text {
		t.Error("the instruction is not shown")
	}
}

// What cannot be rolled out is named, with what to do.
func TestRefused(t *testing.T) {
	tensors := "name: other\nmodel: {kind: encoder, vocab_size: 20, d_model: 16, n_heads: 2, n_layers: 1}\ndata: {kind: copy, episodes: 10}\ntrain: {steps: 1}\n"
	words := untrained(t, tensors)
	table := untrained(t, plainTable)
	elsewhere := untrained(t, plainTable)
	elsewhere.Job.Data.Kind, elsewhere.Job.Data.Options = "lerobot", data.Defaults("lerobot")
	for _, x := range []struct {
		c    *trained.Checkpoint
		o    Options
		want []string
	}{
		{words, Options{Episodes: 1}, []string{"answers with"}},
		{elsewhere, Options{Episodes: 1}, []string{"lerobot", "tools/rollout", "coordinator serve --checkpoint runs/here"}},
		{table, Options{}, []string{"--episodes 0", "1 to"}},
		{table, Options{Episodes: 1, Execute: 2}, []string{"--execute 2", "1 to 1"}},
		{table, Options{Episodes: 1, Execute: -1}, []string{"--execute -1"}},
		{table, Options{Episodes: 1, Policy: "nobody"}, []string{`"nobody"`, "model, expert, still, mean"}},
	} {
		_, err := Run(t.Context(), x.c, x.o)
		for _, want := range x.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v; want %q in it", x.o, err, want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, table, Options{Episodes: 1}); err != context.Canceled {
		t.Error(err)
	}
}

// An answer that is not finite ends it, and is named.
func TestAnswerThatIsNotFinite(t *testing.T) {
	w, _, err := worldOf(untrained(t, plainTable))
	if err != nil {
		t.Fatal(err)
	}
	bad := scripted(func(trial *data.Trial) []float32 {
		a := trial.Still()
		if trial.Moments() == 3 {
			a[2] = float32(math.NaN())
		}
		return a
	})
	err = loop(t.Context(), w, bad, Options{Execute: 1}, make([]Outcome, 2), (&video{}).ended)
	if err == nil || !strings.Contains(err.Error(), "episode 0, step 3: value 2 of an action is NaN") {
		t.Error(err)
	}
}

// Wilson's interval, by Newcombe (Statistics in Medicine 17, 1998, table I) and at both ends.
func TestRateOf(t *testing.T) {
	for _, x := range []struct {
		wins, n   int
		low, high float64
	}{{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}, {20, 20, 0.8389, 1}} {
		r := rateOf(x.wins, x.n)
		if math.Abs(r.Low-x.low) > 5e-5 || math.Abs(r.High-x.high) > 5e-5 || r.Success != float64(x.wins)/float64(x.n) {
			t.Errorf("%d of %d: %+v, want %v to %v", x.wins, x.n, r, x.low, x.high)
		}
	}
	if r := rateOf(0, 0); r.Low != 0 || r.High != 1 {
		t.Error(r)
	}
}
