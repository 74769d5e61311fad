package eval

import (
	"math"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
	"github.com/vlaring/vlaring/pkg/tensor"
)

// A mixture is measured set by set, each as it is measured alone, and as a whole over
// all samples.
func TestSetsOfAMixture(t *testing.T) {
	c := models.Config{Kind: models.ViT, ImageSize: 16, PatchSize: 8, Channels: 3, DModel: 8, NHeads: 2, NLayers: 2, ActionDim: 7}
	m, err := models.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Init(1)
	table := func(name, scene string, episodes int) job.Set {
		k := data.Defaults("tabletop").(data.Tabletop)
		k.Scene, k.Episodes = scene, episodes
		return job.Set{Name: name, Weight: 1, Kind: "tabletop", Holdout: job.Holdout{Fraction: 0.5}, Options: k}
	}
	mix := data.Mixture{Balance: "size", Sets: []job.Set{table("plain", "simple", 22), table("full", "cluttered", 6)}}
	d, err := data.Open(job.Data{Kind: "mixture", Options: mix}, c.Wants(), 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rt := tensor.NewRuntime(1)
	defer rt.Close()
	meta := d.Meta()
	for split, src := range map[string]data.Source{"heldout": d.Heldout(), "all": data.Joined(d.Train(), d.Heldout())} {
		rep, err := Subject{Runtime: rt, Model: m, Meta: meta}.Evaluate(t.Context(), src, split)
		if err != nil {
			t.Fatal(err)
		}
		sum, samples, values := 0.0, 0, 0 // values: those of dimensions that the set learns
		for i, of := range meta.SplitSets(src) {
			alone, err := Subject{Runtime: rt, Model: m, Meta: meta.In(i)}.Evaluate(t.Context(), of, split)
			if err != nil {
				t.Fatal(err)
			}
			if s := rep.Sets[i]; s.Loss != alone.Loss || s.Samples != of.Len() || s.Metrics["l1"] != alone.Actions.L1 || s.Name != mix.Sets[i].Name {
				t.Errorf("%s: set %d is %+v, alone %+v", split, i, s, alone)
			}
			n := of.Len() * (7 - len(alone.Actions.LeftOut))
			sum, samples, values = sum+float64(alone.Loss*float64(n)), samples+of.Len(), values+n
		}
		if off := rep.Loss - sum/float64(values); rep.Samples != samples || math.Abs(off) > 1e-12*rep.Loss {
			t.Errorf("%s: the loss of all is %v over %d samples, that of the sets %v over %d", split, rep.Loss, rep.Samples, sum/float64(values), samples)
		}
		if text := rep.Text(); !strings.Contains(text, "set plain:") || !strings.Contains(text, "all sets") || !strings.Contains(text, "gripper") {
			t.Error(text)
		}
	}
}
