package data

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// A file of tensors gives whatever a model wants of it by name: a second camera,
// the robot's state, chunks of actions and which of them count.
func TestTensorsOfAnyName(t *testing.T) {
	wants := models.Spec{pictures(3, 2, 2),
		{Name: "wrist", Type: models.Image, Role: models.Input, Shape: []int{1, 3, 3}},
		{Name: "state", Type: models.Float, Role: models.Input, Shape: []int{0}, Normalise: true, Axes: "S"},
		{Name: "chunk", Type: models.Float, Role: models.Target, Shape: []int{2, 0}, Normalise: true},
		{Name: "counts", Type: models.Float, Role: models.Target, Shape: []int{2}}}
	tensors := []safetensors.Tensor{
		{Name: "images", Shape: []int{4, 3, 2, 2}, Data: ramp(48)},
		{Name: "wrist", Shape: []int{4, 3, 3, 1}, Data: ramp(36)},
		{Name: "state", Shape: []int{4, 2}, Data: []float32{0, 5, 2, 5, 4, 5, 6, 5}},
		{Name: "chunk", Shape: []int{4, 2, 1}, Data: []float32{1, 3, 3, 1, 1, 3, 3, 1}},
		{Name: "counts", Shape: []int{4, 2}, Data: []float32{1, 1, 1, 0, 1, 1, 1, 0}},
	}
	path := writeTensors(t, tensors...)
	cfg := of(job.Data{Kind: "tensors", Path: path}, "Normalize", MinMax)
	d, err := Open(cfg, wants, 1, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	meta := d.Meta()
	if got := meta.Spec.String(); got != "images 3×2×2, wrist 1×3×3, state 2, chunk 2×1, counts 2" {
		t.Errorf("the data has %s", got)
	}
	if s := meta.StatsOf("chunk"); meta.Actions != nil || s.Count != 8 || s.Dim() != 1 || meta.StatsOf("state").Max[0] != 6 || meta.StatsOf("counts") != nil {
		t.Errorf("statistics %+v", meta.Stats)
	}
	collateAll(t, d)
	s, err := d.Train().Sample(1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCollator(meta)
	if err != nil {
		t.Fatal(err)
	}
	b := models.NewBatch(1, meta.Spec)
	if err := c.Collate([]Sample{s}, b); err != nil {
		t.Fatal(err)
	}
	third := float32(2.0/3 - 1)
	if got := b.Floats("state"); got[0]-third > 1e-6 || third-got[0] > 1e-6 || got[1] != 0 { // the second never moves
		t.Errorf("state %v", got)
	}
	if !slices.Equal(b.Floats("chunk"), []float32{1, -1}) || !slices.Equal(b.Floats("counts"), []float32{1, 0}) || !slices.Equal(b.Floats("wrist"), ramp(36)[9:18]) {
		t.Errorf("chunk %v, counts %v, wrist %v", b.Floats("chunk"), b.Floats("counts"), b.Floats("wrist"))
	}
	in, _, err := ReadInputs(context.Background(), path, wants, nil, meta)
	if err != nil || in.N != 4 || !slices.Equal(in.Floats("state")[2:4], b.Floats("state")) || len(in.Floats("chunk")) != 0 && in.Floats("chunk")[0] != 0 {
		t.Errorf("predict reads %+v, %v", in, err)
	}
	if x, err := d.Index(context.Background()); err != nil || x.Entries[0].Picture == x.Entries[1].Picture || x.Entries[0].Rest == x.Entries[1].Rest || x.Entries[0].Rest != x.Entries[2].Rest {
		t.Errorf("index %+v, %v", x, err)
	}
	sum, err := d.Survey(context.Background(), Survey{})
	if err != nil || len(sum.Cameras) != 1 || sum.Cameras[0].Name != "wrist" || sum.Cameras[0].Range[1] != ramp(36)[35] || sum.Camera.Range[1] != ramp(48)[47] {
		t.Errorf("summary %+v, %v", sum, err)
	}
	if text := sum.Text(true); len(sum.Numbers) != 2 || !strings.Contains(text, "  state         2 dimensions, normalised by min_max: a0, a1; never varying: a1\n  chunk         1 dimension, normalised by min_max: a0\n") {
		t.Errorf("in words:\n%s", text)
	}

	wants[2].Shape = []int{3}
	if _, err := Open(cfg, wants, 1, "", nil); err == nil || !strings.Contains(err.Error(), "state has the shape [2], the model takes state 3") {
		t.Error(err)
	}
	wants[2].Shape = []int{0}
	if _, err := Open(of(job.Data{Kind: "tensors", Path: writeTensors(t, tensors[:4]...)}), wants, 1, "", nil); err == nil || !strings.Contains(err.Error(), "the model needs the tensor counts [N, D1], which the file does not have") {
		t.Error(err)
	}
}
