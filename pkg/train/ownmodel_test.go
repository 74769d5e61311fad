package train_test

import (
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
	"github.com/vlaring/vlaring/pkg/train"
)

// mlp is a kind of model: pictures through one hidden layer to actions.
type mlp struct {
	Size   int `yaml:"image_size"`
	Hidden int `yaml:"hidden"`
	Layers int `yaml:"layers,omitempty"` // left out: 1
}

func ownModels() job.Kinds {
	k := train.Kinds()
	k.Models = append(k.Models, job.Kind{Name: "mlp", About: "pictures to actions by hidden layers", Options: mlp{Size: 16, Hidden: 32}})
	return k
}

func (m mlp) Name() string                          { return "mlp" }
func (m mlp) Answers() string                       { return models.Actions }
func (m mlp) Takes() []string                       { return m.Wants().Names() }
func (m mlp) Padding() int                          { return -1 }
func (m mlp) Sized(int, models.Spec) models.Options { return m }
func (m mlp) Complete() models.Options              { return m }
func (m mlp) Wants() models.Spec {
	return models.Spec{models.Known(models.Images, 3, m.Size, m.Size), models.Known(models.Actions, 7)}
}
func (m mlp) Check(c *job.Checker) {
	c.Within("model.image_size", m.Size, 1, 256)
	c.Within("model.hidden", m.Hidden, 1, 1<<16)
	c.Within("model.layers", m.Layers, 1, 64)
}

func (m mlp) Resolve(_ *job.Job, given func(string) bool) job.Options {
	if !given("model.layers") {
		m.Layers = 1
	}
	return m
}

func (m mlp) Network(b *models.Builder) (models.Network, error) {
	n := &mlpNetwork{mlp: m}
	in := 3 * m.Size * m.Size
	for i := range m.Layers {
		w, bias := b.Linear("hidden."+string(rune('a'+i)), m.Hidden, in)
		n.layers = append(n.layers, [2]*tensor.Param{w, bias})
		in = m.Hidden
	}
	n.w, n.b = b.Linear("out", 7, m.Hidden)
	return n, nil
}

type mlpNetwork struct {
	mlp
	layers [][2]*tensor.Param
	w, b   *tensor.Param
}

func (n *mlpNetwork) Record(p *models.Pass, in models.Inputs) models.Outputs {
	x := in.Floats(models.Images)
	x = p.Tape.Reshape(x, x.Shape[0], x.Size()/x.Shape[0])
	for _, l := range n.layers {
		x = p.Tape.Linear(x, l[0], l[1], tensor.ReLU)
	}
	return models.Outputs{Answer: p.Tape.Linear(x, n.w, n.b, tensor.None), Features: x}
}

func (n *mlpNetwork) Cost(models.Spec) models.Cost {
	var t models.Tally
	in := int64(3 * n.Size * n.Size)
	t.First = in * int64(n.Hidden)
	for range n.Layers {
		t.Linear(1, in, int64(n.Hidden))
		in = int64(n.Hidden)
	}
	t.Linear(1, in, 7)
	return t.Cost()
}

func TestOwnModel(t *testing.T) {
	const text = "name: own\nseed: 3\nmodel: {kind: mlp, layers: 2}\ndata: {kind: tabletop, episodes: 5}\nbatch: {global: 8, micro: 4}\noptimizer: {lr: 0.003}\ntrain: {steps: 150}\n"
	o := trainOwn(t, ownModels(), text)
	if got, want := o.model.Params().Count(), (768+1)*32+(32+1)*32+(32+1)*7; got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
	if c := o.model.Cost(o.meta.Spec); c.ForwardFLOPs != 2*(768*32+32*32+32*7) {
		t.Errorf("cost %+v", c)
	}
	if a := o.report.Actions; a == nil || a.L1 >= a.MeanL1 || o.report.Loss != a.MSE {
		t.Errorf("report %+v", o.report)
	}
	if got, want := refused(t, ownModels(), strings.Replace(text, "layers: 2", "hiden: 2", 1)), "own.yaml:3:20: model.hiden: unknown key; did you mean model.hidden?"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got, want := refused(t, ownModels(), text, "model.layers=100"), "--set model.layers=100: model.layers: 100 is too large; want at most 64"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if _, err := train.Kinds().Parse("own.yaml", []byte(text), nil); err == nil {
		t.Error("the product knows the test's kind")
	}
}
