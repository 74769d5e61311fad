package train

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/vlaring/vlaring/pkg/allreduce"
	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// A source and a feature of a test's own: all that the program needs to know of
// them is in this file. reach is a model that moves an arm by its joints' angles,
// the feature joint_state; arm is data that has it.

const jointState = "joint_state"

// arm is the options of a source: made episodes of four steps.
type arm struct {
	Episodes        int `yaml:"episodes,omitempty"`
	Joints          int `yaml:"joints,omitempty"`
	data.ActionKeys `yaml:",inline"`
}

func (arm) Gives() []string                                           { return []string{jointState, models.Actions} }
func (arm) Padding() int                                              { return -1 }
func (a arm) Resolve(_ *job.Job, _ func(key string) bool) job.Options { return a }
func (a arm) Check(c *job.Checker) {
	c.Within("data.episodes", a.Episodes, 2, 1<<20)
	c.Within("data.joints", a.Joints, 1, 8)
}

func (a arm) Open(o *data.Opening) (*data.Set, error) {
	held, err := o.HeldOut(a.Episodes, nil)
	if err != nil {
		return nil, err
	}
	meta, err := o.Meta(data.NewFingerprint("arm").Add("seed", o.Seed).Add("episodes", a.Episodes).Add("joints", a.Joints).Add("held out", o.Division()).Sum())
	if err != nil {
		return nil, err
	}
	n, episode := 4*a.Episodes, func(i int) int { return i / 4 }
	angles := func(i int) []float32 { // in degrees
		v := make([]float32, a.Joints)
		for k := range v {
			v[k] = float32((i*37+k*61+int(o.Seed))%181) - 90
		}
		return v
	}
	action := func(i int) []float32 { // towards straight, the first joints first
		v := angles(i)
		return []float32{-v[0] / 10, (v[len(v)-1] - v[0]) / 20}
	}
	rows := func(of func(i int) []float32) func() (train, rest data.Rows) {
		return func() (data.Rows, data.Rows) {
			var index []int
			for i := range n {
				if !slices.Contains(held, episode(i)) {
					index = append(index, i)
				}
			}
			return data.Rows{N: len(index), At: func(i int) []float32 { return of(index[i]) }, Place: func(i int) string { return fmt.Sprint("step ", index[i]) }}, data.Rows{}
		}
	}
	if err := o.Numbers(&meta, jointState, []int{a.Joints}, data.Labels{}, rows(angles)); err != nil {
		return nil, err
	}
	if err := o.Numbers(&meta, models.Actions, []int{2}, data.Labels{Names: []string{"shoulder", "elbow"}, Units: []string{"deg", "deg"}}, rows(action)); err != nil {
		return nil, err
	}
	return data.NewSet(meta, data.Samples{N: n, Episodes: a.Episodes, Held: held, Episode: episode, Get: func(i int) (data.Sample, error) {
		s := data.Sample{ID: uint64(i), Origin: fmt.Sprint("step ", i), Values: make([]data.Value, len(meta.Spec))}
		for k, f := range meta.Spec {
			if s.Values[k].Floats = action(i); f.Name == jointState {
				s.Values[k].Floats = angles(i)
			}
		}
		return s, nil
	}})
}

// reach is the options of a model: one hidden layer.
type reach struct {
	Width  int `yaml:"width"`
	Joints int `yaml:"joints"`
}

var _ models.Options = reach{}

func (reach) Name() string                                          { return "reach" }
func (r reach) Resolve(*job.Job, func(key string) bool) job.Options { return r }
func (r reach) Check(c *job.Checker)                                { c.Within("model.width", r.Width, 1, 1<<12) }
func (r reach) Takes() []string                                     { return r.Wants().Names() }
func (reach) Answers() string                                       { return models.Actions }
func (reach) Padding() int                                          { return -1 }
func (r reach) Sized(int, models.Spec) models.Options               { return r }
func (r reach) Complete() models.Options                            { return r }
func (r reach) Wants() models.Spec {
	return models.Spec{{Name: jointState, Type: models.Float, Role: models.Input, Shape: []int{r.Joints}, Normalise: true, Axes: "J"}, models.Known(models.Actions, 2)}
}

func (r reach) Network(b *models.Builder) (models.Network, error) {
	n := &reachNet{}
	n.w1, n.b1 = b.Linear("hidden", r.Width, r.Joints)
	n.w2, n.b2 = b.Linear("out", 2, r.Width)
	return n, nil
}

type reachNet struct{ w1, b1, w2, b2 *tensor.Param }

func (n *reachNet) Record(p *models.Pass, in models.Inputs) models.Outputs {
	h := p.Tape.Linear(in.Floats(jointState), n.w1, n.b1, tensor.ReLU)
	return models.Outputs{Answer: p.Tape.Linear(h, n.w2, n.b2, tensor.None)}
}

func (n *reachNet) Cost(models.Spec) models.Cost { return models.Cost{} }

// A job of both trains: from its file through statistics, the wire, collation
// and the ring to the same bits on one worker and three, and its description
// opens the data again.
func TestFeatureOfATest(t *testing.T) {
	kinds := Kinds()
	kinds.Data = append(kinds.Data, job.Kind{Name: "arm", About: "an arm", Options: arm{Episodes: 30, Joints: 3, ActionKeys: data.ActionKeys{Normalize: data.Scaling{Mode: data.MeanStd}}}})
	kinds.Models = append(kinds.Models, job.Kind{Name: "reach", About: "joints to actions", Options: reach{Width: 16, Joints: 3}})
	j, err := kinds.Parse("reach.yaml", []byte("name: reach\nmodel: {kind: reach}\ndata: {kind: arm}\nbatch: {global: 8, micro: 1}\noptimizer: {lr: 0.02}\ntrain: {steps: 60}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	run := func(bounds ...int) (loss []float64, digest string) {
		set, err := OpenData(j, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		s := &squad{t: t, job: j, net: allreduce.NewMemNetwork(allreduce.Faults{}), set: set}
		var ranks []*rank
		for i := range bounds[1:] {
			ranks = append(ranks, s.rank(fmt.Sprint("w", i)))
		}
		s.form(bounds, ranks...)
		for range j.Train.Steps {
			loss = append(loss, s.step(bounds, ranks...)[0].Loss)
		}
		return loss, ranks[0].Digest()
	}
	losses, want := run(0, 8)
	if first, last := losses[0], losses[len(losses)-1]; !(last < first/10) {
		t.Errorf("the loss went from %v to %v", first, last)
	}
	if _, got := run(0, 3, 6, 8); got != want {
		t.Errorf("three workers have %s, one %s", got, want)
	}

	set, err := OpenData(j, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	b, err := json.Marshal(set.Meta())
	var meta data.Meta
	if err == nil {
		err = json.Unmarshal(b, &meta)
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenData(j, "", &meta)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	collator, err := data.NewCollator(meta)
	if err != nil {
		t.Fatal(err)
	}
	s, err := again.Train().Sample(5)
	if err != nil {
		t.Fatal(err)
	}
	_, _, wire, err := data.DecodeSamples(data.EncodeSamples(nil, 0, 0, []data.Sample{s}))
	if err != nil {
		t.Fatal(err)
	}
	batch := models.NewBatch(1, meta.Spec)
	if err := collator.Collate(wire, batch); err != nil {
		t.Fatal(err)
	}
	stats := meta.StatsOf(jointState)
	for k, v := range batch.Floats(jointState) {
		if want := float32((float64(s.Values[0].Floats[k]) - stats.Mean[k]) / stats.Std[k]); v != want || stats.Names[k] != fmt.Sprint("a", k) {
			t.Errorf("joint %d (%s) is %v in a batch, want %v", k, stats.Names[k], v, want)
		}
	}
}
