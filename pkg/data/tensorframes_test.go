package data

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// frameTensors are five rows, three frames of episode 4 and two of episode 9: of
// camera c, row i, all values are i + c/10; the state is [i, -i] and [i·10], the
// action [i, 100+i].
func frameTensors() []safetensors.Tensor {
	const n = 5
	var front, wrist, joints, grip, actions []float32
	for i := range n {
		for range 3 * 4 * 4 {
			front, wrist = append(front, float32(i)), append(wrist, float32(i)+0.1)
		}
		joints, grip = append(joints, float32(i), -float32(i)), append(grip, 10*float32(i))
		actions = append(actions, float32(i), 100+float32(i))
	}
	return []safetensors.Tensor{
		{Name: "front", Shape: []int{n, 3, 4, 4}, Data: front}, {Name: "wrist", Shape: []int{n, 3, 4, 4}, Data: wrist},
		{Name: "joints", Shape: []int{n, 2}, Data: joints}, {Name: "grip", Shape: []int{n, 1}, Data: grip},
		{Name: models.Actions, Shape: []int{n, 2}, Data: actions}, {Name: "instruction_tokens", Shape: []int{n, 2}, Data: make([]int64, 2*n)},
		{Name: "episode", Shape: []int{n}, Data: []int64{4, 4, 4, 9, 9}},
	}
}

// exchanged is tensors with some put in the place of those of their names, or left out.
func exchanged(l []safetensors.Tensor, drop string, by ...safetensors.Tensor) (out []safetensors.Tensor) {
	for _, x := range l {
		if x.Name != drop {
			out = append(out, x)
		}
	}
	return append(out, by...)
}

var tensorKeys = []any{"Cameras", []string{"front", "wrist"}, "State", []string{"joints", "grip"}, "History", 2, "Chunk", 4}

func TestTensorFrames(t *testing.T) {
	d, err := Open(of(job.Data{Kind: "tensors", Path: writeTensors(t, frameTensors()...)}, tensorKeys...), frameNeeds(4), 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if got, want := m.Spec.String(), "images_past_1 3×4×4, images_1_past_1 3×4×4, images 3×4×4, images_1 3×4×4, state 2×3, past_valid 2, instruction_tokens 2, actions 4×2, actions_valid 4"; got != want {
		t.Errorf("the features are %s\nwant %s", got, want)
	}
	s := m.StatsOf(models.State)
	if !reflect.DeepEqual(s.Names, []string{"joints[0]", "joints[1]", "grip[0]"}) || s.Count != 5 || s.Max[2] != 40 || m.Actions.Count != 5 {
		t.Errorf("statistics %+v", s)
	}
	for i := range 5 {
		before, last := max(i-1, 0), 2
		if i >= 3 {
			before, last = 3, 4
		}
		sample, err := d.Train().Sample(i)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]float32{"images": float32(i), "images_1": float32(i) + 0.1, "images_past_1": float32(before), "images_1_past_1": float32(before) + 0.1} {
			if got := valueOf(t, d, sample, name); got.Floats[7] != want || got.H != 4 {
				t.Errorf("row %d: %s is %v, want %v", i, name, got.Floats[7], want)
			}
		}
		b, x := float32(before), float32(i)
		if got, want := valueOf(t, d, sample, models.State).Floats, []float32{b, -b, 10 * b, x, -x, 10 * x}; !reflect.DeepEqual(got, want) {
			t.Errorf("row %d: state %v, want %v", i, got, want)
		}
		if got, want := valueOf(t, d, sample, models.Valid).Floats, marks(4, last-i+1); !reflect.DeepEqual(got, want) {
			t.Errorf("row %d: valid %v, want %v", i, got, want)
		}
		for k := range 4 {
			if got, want := valueOf(t, d, sample, models.Actions).Floats[2*k+1], float32(100+min(i+k, last)); got != want {
				t.Errorf("row %d: action %d is %v, want %v", i, k, got, want)
			}
		}
	}
}

// Chunks that are given whole are taken as they are; what does not count is in no
// statistics.
func TestTensorChunks(t *testing.T) {
	const n, l = 2, 4
	actions, valid := ramp(n*l*2), []float32{1, 1, 1, 1, 1, 0, 0, 0}
	for i := 2 * 5; i < len(actions); i++ {
		actions[i] = 1000
	}
	chunks := safetensors.Tensor{Name: models.Actions, Shape: []int{n, l, 2}, Data: actions}
	needs := models.Spec{models.Known(models.State, 0), models.Known(models.Actions, l, 0), models.Known(models.Valid, l)}
	state := safetensors.Tensor{Name: models.State, Shape: []int{n, 1}, Data: ramp(n)}
	cfg := of(job.Data{Kind: "tensors", Path: writeTensors(t, chunks, state, safetensors.Tensor{Name: models.Valid, Shape: []int{n, l}, Data: valid})}, "State", []string{"state"}, "Chunk", l)
	d, err := Open(cfg, needs, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if m.Actions.Count != 5 || m.Actions.Max[0] == 1000 {
		t.Errorf("statistics %+v", m.Actions)
	}
	s, err := d.Train().Sample(1)
	if err != nil || !reflect.DeepEqual(valueOf(t, d, s, models.Actions).Floats, actions[8:]) || !reflect.DeepEqual(valueOf(t, d, s, models.Valid).Floats, valid[4:]) {
		t.Errorf("%v, %v", s.Values, err)
	}
	cfg.Path = writeTensors(t, chunks, state) // all count
	d, err = Open(cfg, needs, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m = d.Meta()
	s, err = d.Train().Sample(1)
	if err != nil || m.Actions.Count != 8 || !reflect.DeepEqual(valueOf(t, d, s, models.Valid).Floats, marks(l, l)) {
		t.Errorf("%+v, %v, %v", m.Actions, s.Values, err)
	}
}

func TestTensorFramesRefused(t *testing.T) {
	bad := []float32{0, 0, 1, -1, float32(math.NaN()), -2, 3, -3, 4, -4}
	for name, c := range map[string]struct {
		tensors []safetensors.Tensor
		want    string
	}{
		"no camera":       {exchanged(frameTensors(), "wrist"), "the model needs the tensor wrist [N, C, H, W] or [N, H, W, C], which the file does not have; it has actions, episode, front"},
		"no state":        {exchanged(frameTensors(), "grip"), "the model needs the tensor grip [N, "},
		"no episode":      {exchanged(frameTensors(), "episode"), "data.history and data.chunk need the tensor episode [N]"},
		"NaN":             {exchanged(frameTensors(), "joints", safetensors.Tensor{Name: "joints", Shape: []int{5, 2}, Data: bad}), "joints: row 2: dimension 0 (joints[0]) is NaN"},
		"fewer rows":      {exchanged(frameTensors(), "grip", safetensors.Tensor{Name: "grip", Shape: []int{4, 1}, Data: make([]float32, 4)}), "grip has 4 rows, the tensors before it 5"},
		"another length":  {exchanged(frameTensors(), "actions", safetensors.Tensor{Name: "actions", Shape: []int{5, 3, 2}, Data: make([]float32, 30)}), "actions is F32 [5 3 2], expected [N, L, A] with [any, 4, any]"},
		"valid of no use": {exchanged(frameTensors(), "", safetensors.Tensor{Name: models.Valid, Shape: []int{5, 4}, Data: make([]float32, 20)}), "actions_valid is there, and actions are [N, A]"},
	} {
		_, err := Open(of(job.Data{Kind: "tensors", Path: writeTensors(t, c.tensors...)}, tensorKeys...), frameNeeds(4), 1, ".", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}
