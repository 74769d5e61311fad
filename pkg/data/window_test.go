package data

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// windowJob sees two cameras, the state, three times and a chunk of three.
func windowNeeds() models.Spec {
	var s models.Spec
	for _, name := range (models.Observation{Cameras: 2, History: 3, Chunk: 3, State: true}).Names() {
		switch name {
		case models.Instruction:
			s = append(s, words(32))
		case models.State:
			s = append(s, models.Known(name, 3, 0))
		case models.Past, models.Valid:
			s = append(s, models.Known(name, 3))
		case models.Actions:
			s = append(s, models.Known(name, 3, 0))
		default:
			s = append(s, models.Known(name, 3, 8, 8))
		}
	}
	return s
}

// A sample sees the frames before it and is to predict the actions from its own on.
// Neither leaves its episode, nor passes a frame that is left out.
func TestWindows(t *testing.T) {
	dir := filepath.Join("testdata", "lerobot", "v3")
	cfg := lerobotJob(dir, "Camera", "", "Split", "all", "Cameras", []string{"front", "wrist"}, "State", []string{"observation.state"}, "History", 3, "Chunk", 3)
	open := func(skip ...int) Dataset {
		t.Helper()
		d, err := Open(of(cfg, "Skip", skip), windowNeeds(), 1, ".", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	d := open()
	m := d.Meta()
	if got, want := m.Spec.String(), "images_past_2 3×8×8, images_1_past_2 3×8×8, images_past_1 3×8×8, images_1_past_1 3×8×8, images 3×8×8, images_1 3×8×8, "+
		"state 3×2, past_valid 3, instruction_tokens 3, actions 3×3, actions_valid 3"; got != want {
		t.Errorf("the features are %s\nwant %s", got, want)
	}
	if got := m.Spec.Find(models.View(1, 2)).Called(); got != "observation.images.wrist" {
		t.Errorf("the second camera is called %s", got)
	}
	if s := m.StatsOf(models.State); !reflect.DeepEqual(s.Names, []string{"a", "b"}) || s.Max[1] != 1.5 || s.Count != 9 {
		t.Errorf("statistics of the state: %+v", s)
	}
	if m.Actions.Count != 9 {
		t.Errorf("statistics of actions are over %d", m.Actions.Count)
	}
	// Frames that are looked at, oldest first, and those whose actions are to be
	// predicted; the flags tell repeated ones.
	type want struct {
		sample, episode int
		see             []int
		past            []float32
		act             []int
		valid           []float32
	}
	check := func(d Dataset, w want) {
		t.Helper()
		s, err := d.Train().Sample(w.sample)
		if err != nil {
			t.Fatal(err)
		}
		value := func(name string) *Value { return &s.Values[m.Spec.Index(name)] }
		for k, f := range w.see {
			for camera := range 2 {
				p, err := decodeImage(value(models.View(camera, 2-k)).Encoded)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := [2]byte(p.RGB[:2]), [2]byte{byte(40*w.episode + f), byte(100 * camera)}; got != want {
					t.Errorf("sample %d: the picture of camera %d, time %d, is %v, want %v", w.sample, camera, k, got, want)
				}
			}
			if got, want := value(models.State).Floats[2*k:2*k+2], []float32{float32(w.episode) / 2, float32(f) / 2}; !reflect.DeepEqual(got, want) {
				t.Errorf("sample %d: the state of time %d is %v, want %v", w.sample, k, got, want)
			}
		}
		for k, f := range w.act {
			want := []float32{float32(w.episode) + float32(f)/8, -float32(f) / 4, float32(f % 2)}
			if got := value(models.Actions).Floats[3*k : 3*k+3]; !reflect.DeepEqual(got, want) {
				t.Errorf("sample %d: action %d is %v, want %v", w.sample, k, got, want)
			}
		}
		if got := value(models.Past).Floats; !reflect.DeepEqual(got, w.past) {
			t.Errorf("sample %d: times that were are %v, want %v", w.sample, got, w.past)
		}
		if got := value(models.Valid).Floats; !reflect.DeepEqual(got, w.valid) {
			t.Errorf("sample %d: actions that count are %v, want %v", w.sample, got, w.valid)
		}
	}
	check(d, want{0, 0, []int{0, 0, 0}, []float32{0, 0, 1}, []int{0, 1, 2}, []float32{1, 1, 1}})
	check(d, want{2, 0, []int{0, 1, 2}, []float32{1, 1, 1}, []int{2, 2, 2}, []float32{1, 0, 0}})
	check(d, want{4, 1, []int{0, 0, 1}, []float32{0, 1, 1}, []int{1, 2, 3}, []float32{1, 1, 1}})
	check(d, want{7, 2, []int{0, 0, 0}, []float32{0, 0, 1}, []int{0, 1, 1}, []float32{1, 1, 0}})
	// Without frame 2 of episode 1, which is sample 5: frame 1 is the last of a part
	// and frame 3 the first of one.
	d = open(5)
	check(d, want{4, 1, []int{0, 0, 1}, []float32{0, 1, 1}, []int{1, 1, 1}, []float32{1, 0, 0}})
	check(d, want{5, 1, []int{3, 3, 3}, []float32{0, 0, 1}, []int{3, 3, 3}, []float32{1, 0, 0}})
}

func TestWindowsRefused(t *testing.T) {
	dir := filepath.Join("testdata", "lerobot", "v3")
	for _, c := range []struct {
		options []any
		want    string
	}{
		{[]any{"Cameras", []string{"front", "wrist"}}, "data.cameras: is given beside data.camera front"},
		{[]any{"Camera", "", "Cameras", []string{"front", "left"}, "State", []string{"observation.state"}}, `data.cameras[1] is "left"; the cameras of this data are observation.images.front, observation.images.wrist`},
		{[]any{"Camera", "", "State", []string{"observation.state"}, "Cameras", []string{"front", "observation.images.front"}}, "data.cameras[1] is observation.images.front again"},
		{[]any{"Camera", "", "Cameras", []string{"front", "front"}}, `"front" is given twice`},
		{[]any{"Camera", "", "Cameras", []string{"front", "wrist"}, "State", []string{"observation.force"}}, `data.state: there is no feature "observation.force"; the numbers of a frame are`},
		{[]any{"Chunk", -1}, "data.chunk"},
	} {
		_, err := Open(lerobotJob(dir, append([]any{"History", 3, "Chunk", 3}, c.options...)...), windowNeeds(), 1, ".", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v\nwant %s", c.options, err, c.want)
		}
		ofKey(t, err, c.want)
	}
}

// ofKey wants err to be of the key that the text begins with, so that its place in the
// job file can be said: what the job says is wrong with the data, not the data.
func ofKey(t *testing.T, err error, text string) {
	t.Helper()
	key, _, _ := strings.Cut(text, " ")
	key = strings.TrimSuffix(key, ":")
	var of *KeyError
	var misuse *job.Error
	if strings.HasPrefix(key, "data.") && !errors.As(err, &misuse) && (!errors.As(err, &of) || of.Key != key) {
		t.Errorf("%v\nis not of %s", err, key)
	}
}

// Cameras are summed up by names of one form.
func TestCamerasAreCalledAlike(t *testing.T) {
	for _, c := range []struct {
		sources, want []string
	}{{[]string{"observation.images.front", "observation.images.wrist"}, []string{"front", "wrist"}}, {[]string{"left/rgb", "right/rgb"}, []string{"left/rgb", "right/rgb"}},
		{[]string{"steps/observation/image_0", "steps/image_1"}, []string{"image_0", "image_1"}}, {[]string{"observation.images.front"}, []string{"front"}}} {
		d := &Set{}
		d.about.camera = "front"
		for k, s := range c.sources {
			d.meta.Spec = append(d.meta.Spec, models.Feature{Name: models.View(k, 0), Type: models.Image, Source: s})
		}
		for k, f := range d.meta.Spec {
			if got := d.cameraName(f); got != c.want[k] {
				t.Errorf("%v: %s, want %s", c.sources, got, c.want[k])
			}
		}
	}
}
