package data

import (
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// frameNeeds is what a model wants that sees two cameras, the state, two times and
// a chunk of four.
func frameNeeds(size int) models.Spec {
	var s models.Spec
	for _, name := range (models.Observation{Cameras: 2, History: 2, Chunk: 4, State: true}).Names() {
		switch name {
		case models.Instruction:
			s = append(s, words(32))
		case models.State:
			s = append(s, models.Known(name, 2, 0))
		case models.Past:
			s = append(s, models.Known(name, 2))
		case models.Valid:
			s = append(s, models.Known(name, 4))
		case models.Actions:
			s = append(s, models.Known(name, 4, 0))
		default:
			s = append(s, models.Known(name, 3, size, size))
		}
	}
	return s
}

// frameKeys are the options of a source for such a model.
func frameKeys(state string, cameras ...string) []any {
	return []any{"Cameras", cameras, "State", []string{state}, "History", 2, "Chunk", 4}
}

// valueOf is the value of a feature of a sample.
func valueOf(t *testing.T, d Dataset, s Sample, name string) Value {
	t.Helper()
	i := d.Meta().Spec.Index(name)
	if i < 0 {
		t.Fatalf("there is no %s among %s", name, d.Meta().Spec)
	}
	return s.Values[i]
}

// shade is the colour of the middle of a picture of a sample.
func shade(t *testing.T, d Dataset, s Sample, name string) [3]byte {
	t.Helper()
	v := valueOf(t, d, s, name).Image
	if v.RGB == nil {
		var err error
		if v, err = decodeImage(v.Encoded); err != nil {
			t.Fatal(err)
		}
	}
	return [3]byte(v.RGB[3*(v.H/2*v.W+v.W/2):])
}

// Both cameras, the state and windows of each stand where they belong, also where
// the shards are known and not read again.
func TestRLDSFrames(t *testing.T) {
	cfg := of(job.Data{Kind: "rlds", Path: aged(t, copyDir(t, tinyRLDS(t)))}, frameKeys("observation/state", "wrist", "observation/image_0")...)
	scans := &ScanDir{Dir: t.TempDir(), Least: 1}
	for pass := range 2 {
		if l, _ := os.ReadDir(scans.Dir); len(l) != pass {
			t.Fatalf("pass %d finds %d scans", pass, len(l))
		}
		d, err := OpenContext(t.Context(), cfg, frameNeeds(8), 1, ".", nil, Watch{Scans: scans})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		m := d.Meta()
		if m.Train != 17 || m.StatsOf(models.State).Count != 17 || !reflect.DeepEqual(m.StatsOf(models.State).Names, []string{"state[0]", "state[1]"}) {
			t.Fatalf("pass %d: %d samples, %+v", pass, m.Train, m.StatsOf(models.State))
		}
		if got := m.Spec.Find(models.View(0, 1)).Called(); got != "steps/observation/wrist" {
			t.Errorf("the first camera is called %s", got)
		}
		i := 0
		for e := range 5 {
			steps := 3 + e%2
			for step := range steps {
				s, err := d.Train().Sample(i)
				if err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprintf("episode %d step %d", e, step); !strings.HasSuffix(s.Origin, want) {
					t.Errorf("sample %d is %s, want %s", i, s.Origin, want)
				}
				for past := range 2 {
					f := max(step-past, 0)
					if got, want := shade(t, d, s, models.View(0, past)), [3]byte{byte(20 * e), byte(40 * f), 0}; got != want {
						t.Errorf("sample %d, wrist %d before: %v, want %v", i, past, got, want)
					}
					if got := shade(t, d, s, models.View(1, past)); math.Abs(float64(got[1])-float64(40*f)) > 26 || got[2] < 100 { // JPEG of a pattern
						t.Errorf("sample %d, image_0 %d before: %v", i, past, got)
					}
				}
				if got := valueOf(t, d, s, models.State).Floats; !reflect.DeepEqual(got, []float32{1, 2, 1, 2}) {
					t.Errorf("sample %d: state %v", i, got)
				}
				for k := range 4 {
					f := min(step+k, steps-1)
					if got, want := valueOf(t, d, s, models.Actions).Floats[7*k], float32(e)*0.1+float32(f)*0.01; got != want {
						t.Errorf("sample %d: action %d is %v, want %v", i, k, got, want)
					}
				}
				i++
			}
		}
	}
}

func TestRLDSFramesRefused(t *testing.T) {
	for _, c := range []struct {
		options []any
		want    string
	}{
		{frameKeys("observation/state", "image_0", "top"), `data.cameras[1] is "top"; the cameras of this data are image_0, wrist`},
		{frameKeys("observation/state", "image_0", "steps/observation/image_0"), "data.cameras[1] is steps/observation/image_0 again; want each camera once"},
		{frameKeys("proprio", "image_0", "wrist"), `data.state has "proprio"; the numbers of a step are action, is_first, is_last, state`},
		{frameKeys("language_instruction", "image_0", "wrist"), `data.state has "language_instruction", which is a text`},
		{append(frameKeys("state", "image_0", "wrist"), "Camera", "wrist"), "data.cameras: is given beside data.camera wrist"},
	} {
		_, err := Open(of(job.Data{Kind: "rlds", Path: tinyRLDS(t)}, c.options...), frameNeeds(8), 1, ".", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v\nwant %s", c.options, err, c.want)
		}
		ofKey(t, err, c.want)
	}
}

// oddRLDS is a data set of one record, of one step for each state.
func oddRLDS(t *testing.T, state []float32, features string, more func(b *tfrecord.Builder)) string {
	t.Helper()
	dir := t.TempDir()
	var b tfrecord.Builder
	first := make([]int64, len(state))
	b.Ints("steps/is_first", first...)
	b.Floats("steps/action", make([]float32, 2*len(state))...)
	b.Floats("steps/observation/state", state...)
	more(&b)
	write(t, dir, "dataset_info.json", []byte(`{"name": "d", "fileFormat": "tfrecord", "splits": [{"name": "train", "shardLengths": ["1"]}]}`))
	write(t, dir, "d-train.tfrecord-00000-of-00001", tfrecord.Append(nil, b.Record()))
	write(t, dir, "features.json", []byte(features))
	return dir
}

// A number of the state that is none is named, and its frame can be left out.
func TestRLDSStateNotFinite(t *testing.T) {
	features := `{"featuresDict": {"features": {"steps": {"sequence": {"feature": {"featuresDict": {"features": {
	"is_first": {"tensor": {"shape": {}, "dtype": "bool"}}, "action": ` + plainAction + `, "observation": {"featuresDict": {"features": {"state": ` + fmt.Sprintf(formTensor, "", "float32") + `}}}}}}}}}}}`
	dir := oddRLDS(t, []float32{1, 2, float32(math.NaN()), 4}, features, func(*tfrecord.Builder) {})
	needs := models.Spec{models.Known(models.State, 1), acts(2)}
	cfg := of(job.Data{Kind: "rlds", Path: dir}, "State", []string{"state"})
	_, err := Open(cfg, needs, 1, ".", nil)
	if want := "record 0 at byte 0: feature steps/observation/state: step 2 has NaN in dimension 0; write a finite number, or leave the step out (data.skip: [2])"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	d, err := Open(of(cfg, "Skip", []int{2}), needs, 1, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if s := m.StatsOf(models.State); s.Count != 3 || s.Max[0] != 4 || s.Min[0] != 1 {
		t.Errorf("%+v", s)
	}
}

// Instructions stand in many places: as the bytes of a text, in a tensor of one
// string, or once for the episode.
func TestRLDSInstructionForms(t *testing.T) {
	const steps = 3
	form := func(step, episode string) string {
		return `{"featuresDict": {"features": {"steps": {"sequence": {"feature": {"featuresDict": {"features": {
		"is_first": {"tensor": {"shape": {}, "dtype": "bool"}}, "action": ` + plainAction + step + `}}}}}` + episode + `}}}`
	}
	for name, c := range map[string]struct {
		features string
		add      func(b *tfrecord.Builder)
		want     string // of an error; empty: none
	}{
		"bytes": {form(`, "observation": {"featuresDict": {"features": {"instruction": `+fmt.Sprintf(formTensor, `"16"`, "int32")+`}}}`, ""), func(b *tfrecord.Builder) {
			var l []int64
			for range steps {
				row := make([]int64, 16)
				for i, c := range []byte("push the lamp") {
					row[i] = int64(c)
				}
				l = append(l, row...)
			}
			b.Ints("steps/observation/instruction", l...)
		}, ""},
		"no bytes": {form(`, "instruction": `+fmt.Sprintf(formTensor, `"2"`, "int32"), ""), func(b *tfrecord.Builder) { b.Ints("steps/instruction", 1, 2, 3, 4, 5, 256) }, "step 2 has the number 256"},
		"one string": {form(`, "natural_language_instruction": {"tensor": {"shape": {"dimensions": ["1"]}, "dtype": "string"}}`, ""), func(b *tfrecord.Builder) {
			b.Strings("steps/natural_language_instruction", []byte("push the lamp"), []byte("push the lamp"), []byte("push the lamp"))
		}, ""},
		"of the episode": {form("", `, "episode_metadata": {"featuresDict": {"features": {"language_instruction": {"text": {}}}}}`), func(b *tfrecord.Builder) {
			b.Strings("episode_metadata/language_instruction", []byte("push the lamp"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := oddRLDS(t, make([]float32, steps), c.features, c.add)
			d, err := Open(job.Data{Kind: "rlds", Path: dir, Options: RLDS{Split: "train", ActionKeys: ActionKeys{Normalize: Scaling{Mode: None}}}}, models.Spec{words(8), acts(2)}, 1, ".", nil)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v\nwant %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got, want := d.Meta().Vocab[2:], []string{"lamp", "push", "the"}; !reflect.DeepEqual(got, want) || d.Meta().Train != steps {
				t.Errorf("%d samples, words %q", d.Meta().Train, got)
			}
		})
	}
}
