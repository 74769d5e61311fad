package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// columns makes rows of an action from functions of the row's number.
func columns(n int, of ...func(i int) float64) [][]float32 {
	rows := make([][]float32, n)
	for i := range rows {
		for _, f := range of {
			rows[i] = append(rows[i], float32(f(i)))
		}
	}
	return rows
}

// What has a scale, in every mode: the units do not count, float32's rounding
// and quantiles that are one value do.
func TestScaleVariation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	noise := make([]float64, 1000)
	for i := range noise {
		noise[i] = r.NormFloat64()
	}
	wave := func(i int) float64 { return math.Sin(float64(i)) }
	rare := func(i int) float64 { return float64(b2i(i%200 == 7)) }
	for _, c := range []struct {
		name string
		f    func(i int) float64
		want [5]Variation // of Modes
	}{
		{"ordinary", wave, [5]Variation{}},
		{"micrometres", func(i int) float64 { return 1e-6 * wave(i) }, [5]Variation{}},
		{"1e-9, std 1e-9", func(i int) float64 { return 1e-9 * (1 + noise[i]) }, [5]Variation{}},
		{"near the smallest float32", func(i int) float64 { return 1e-40 * wave(i) }, [5]Variation{}},
		{"near the largest float32", func(i int) float64 { return 3e38 * wave(i) }, [5]Variation{}},
		{"0", func(int) float64 { return 0 }, [5]Variation{Varies, Constant, Constant, Constant, Constant}},
		{"0.1, which has no exact mean", func(int) float64 { return 0.1 }, [5]Variation{Varies, Constant, Constant, Constant, Constant}},
		{"0.5, std 1e-8", func(i int) float64 { return 0.5 + 1e-8*noise[i] }, [5]Variation{Varies, Noise, Noise, Noise, Noise}},
		{"1000, one step up or down", func(i int) float64 { return 1000 + 6.2e-5*float64(i%3-1) }, [5]Variation{Varies, Noise, Noise, Noise, Noise}},
		{"0.5, std 1e-5", func(i int) float64 { return 0.5 + 1e-5*noise[i] }, [5]Variation{}},
		{"rare event", rare, [5]Variation{Varies, Varies, Varies, Rare, Rare}},
		{"rare event in micrometres", func(i int) float64 { return 1e-6 * rare(i) }, [5]Variation{Varies, Varies, Varies, Rare, Rare}},
		{"rare absence", func(i int) float64 { return 1 - rare(i) }, [5]Variation{Varies, Varies, Varies, Rare, Rare}},
		{"rare event beside the cosine of a right angle", func(i int) float64 { return rare(i) + 6e-17*wave(i) }, [5]Variation{Varies, Varies, Varies, Rare, Rare}},
		{"a spike does not make noise of the rest", func(i int) float64 { return wave(i) + 1e9*float64(b2i(i == 500)) }, [5]Variation{}},
	} {
		rows := columns(1000, c.f)
		for m, mode := range Modes() {
			s, err := ComputeStats(mode, len(rows), 1, actionsOf(rows...))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Scale(0).Variation; got != c.want[m] {
				t.Errorf("%s, %s: %v, want %v", c.name, mode, got, c.want[m])
			}
			for i, row := range rows {
				n, back := []float32{0}, []float32{0}
				s.Normalize(n, row)
				s.Denormalize(back, n)
				size := max(math.Abs(s.Min[0]), math.Abs(s.Max[0]))
				if n[0]-n[0] != 0 || s.Learned()[0] && math.Abs(float64(back[0]-row[0])) > 1e-6*size {
					t.Fatalf("%s, %s: row %d, %v, becomes %v and comes back as %v", c.name, mode, i, row[0], n[0], back[0])
				}
				if !s.Learned()[0] && n[0] != 0 {
					t.Fatalf("%s, %s: row %d, %v, is a target of %v, though it is not learned", c.name, mode, i, row[0], n[0])
				}
			}
		}
	}
}

// Micrometres and metres of the same motion are the same numbers to a model.
func TestUnitsDoNotCount(t *testing.T) {
	metres := columns(500, func(i int) float64 { return float64(float32(math.Sin(float64(i)))) })
	small := columns(500, func(i int) float64 { return float64(metres[i][0]) * 0x1p-20 })
	for _, mode := range []string{MeanStd, MinMax, Quantile} {
		a, _ := ComputeStats(mode, 500, 1, actionsOf(metres...))
		b, _ := ComputeStats(mode, 500, 1, actionsOf(small...))
		for i := range metres {
			x, y := []float32{0}, []float32{0}
			a.Normalize(x, metres[i])
			b.Normalize(y, small[i])
			if x[0] != y[0] {
				t.Fatalf("%s: row %d is %v and %v", mode, i, x[0], y[0])
			}
		}
	}
}

// actionFolder writes a folder with an action a line and no instruction.
func actionFolder(t *testing.T, rows [][]float32, episode func(i int) int) string {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	for i, row := range rows {
		var v []string
		for _, x := range row {
			v = append(v, fmt.Sprint(x))
		}
		fmt.Fprintf(&b, `{"action": [%s], "episode": %d}`+"\n", strings.Join(v, ", "), episode(i))
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func itself(i int) int { return i }

// The faults 05, 06, 07 and 23, and their brothers: what is said when the data is opened.
func TestScaleFindings(t *testing.T) {
	wave := func(i int) float64 { return math.Sin(float64(i)) }
	rare := func(i int) float64 { return float64(b2i(i%200 == 7)) }
	half := func(int) float64 { return 0.5 }
	for _, c := range []struct {
		name, mode string
		n          int
		held       []int
		of         []func(i int) float64
		want       []string
	}{
		{"05: a rare event under quantile", Quantile, 1000, []int{7, 8, 9, 207, 407}, []func(i int) float64{wave, rare},
			[]string{"a1: varies from 0 to 1 (1 at PATH:608), but its 1 % and 99 % quantiles are both 0: under quantile it would not be learned, the answer is always 0; use data.normalize: mean_std or min_max"}},
		{"a rare event under mean_std is learned", MeanStd, 1000, nil, []func(i int) float64{wave, rare}, nil},
		{"a rare event under min_max is learned", MinMax, 1000, nil, []func(i int) float64{wave, rare}, nil},
		{"06: a spike under quantile", Quantile, 1000, nil, []func(i int) float64{func(i int) float64 {
			if i == 998 {
				return 1
			}
			return 1e-5 * float64(2*(i%2)-1)
		}}, []string{"a0: the largest value, 1 at PATH:999, becomes 100000 after normalisation (quantile); see whether it is meant, and correct or remove the sample if not"}},
		{"a spike below under quantile", Quantile, 1000, nil, []func(i int) float64{func(i int) float64 { return wave(i) - 1e6*float64(b2i(i == 41)) }},
			[]string{"a0: the smallest value, -1e+06 at PATH:42, becomes -1.00"}},
		{"a spike under mean_std", MeanStd, 1000, nil, []func(i int) float64{func(i int) float64 { return wave(i) + 1e5*float64(b2i(i == 16)) }},
			[]string{"a0: the largest value, 99999.7 at PATH:17, becomes 31.607 after normalisation (mean_std)"}},
		{"a spike of few samples under mean_std", MeanStd, 50, nil, []func(i int) float64{func(i int) float64 { return wave(i) + 1e5*float64(b2i(i == 16)) }},
			[]string{"a0: the largest value, 99999.7 at PATH:17, sets the scale: it becomes 7, while the middle 80 % of the values share "}},
		{"a spike under min_max", MinMax, 1000, nil, []func(i int) float64{func(i int) float64 { return wave(i) + 1e5*float64(b2i(i == 16)) }},
			[]string{"a0: the largest value, 99999.7 at PATH:17, sets the scale: it becomes 1, while the middle 80 % of the values share "}},
		{"a spike that is held out", MeanStd, 200, []int{60}, []func(i int) float64{func(i int) float64 { return wave(i) + 1e5*float64(b2i(i == 60)) }},
			[]string{"a0: the held-out value 99999.7 at PATH:61 becomes 141", "after normalisation (mean_std), far beyond all of training"}},
		{"a rare event under quantile that is held out", Quantile, 1000, []int{7, 207}, []func(i int) float64{rare}, []string{"a0: varies from 0 to 1 (1 at PATH:408)"}},
		{"large values under none", None, 100, nil, []func(i int) float64{func(i int) float64 { return 5000 * wave(i) }},
			[]string{"a0: the smallest value, -4999.95 at PATH:12, is learned as it is, since data.normalize is none"}},
		{"micrometres under none", None, 100, nil, []func(i int) float64{func(i int) float64 { return 1e-6 * wave(i) }},
			[]string{"a0: varies from -9.9999e-07 to 9.9", "it hardly counts in the loss"}},
		{"micrometres else", MeanStd, 100, nil, []func(i int) float64{func(i int) float64 { return 1e-6 * wave(i) }}, nil},
		{"07: constant in training alone", MeanStd, 20, []int{15, 16, 17, 18, 19}, []func(i int) float64{wave, func(i int) float64 { return 0.5 + 0.2*float64(b2i(i >= 15)) }},
			[]string{"a1: 0.5 in training, but 0.7 at PATH:16, which is held out: its error there stays; hold out other episodes", "a1: the same in all 15 training samples (0.5): not learned, the answer is always that"}},
		{"constants share a line", MinMax, 20, []int{3}, []func(i int) float64{half, wave, half},
			[]string{"a0, a2: the same in all 19 training samples (0.5, 0.5): not learned"}},
		{"a constant under none", None, 20, nil, []func(i int) float64{wave, half}, []string{"a1: the same in all 20 training samples (0.5): learned as any other, since data.normalize is none"}},
		{"noise", MeanStd, 20, nil, []func(i int) float64{wave, func(i int) float64 { return 0.5 + 6e-8*float64(i%2) }},
			[]string{"a1: varies from 0.5 to 0.500000059", "how float32 rounds there: not learned, the answer is always 0.5"}},
		{"coarse", MeanStd, 1000, nil, []func(i int) float64{func(i int) float64 { return 1000 + 1e-3*wave(i) }}, []string{"a0: varies from 999.999", "float32 has some 1"}},
		{"nothing varies", Quantile, 5, nil, []func(i int) float64{half}, []string{"a0: the same in all 5", "no dimension of the action has a scale: there is nothing to learn"}},
		{"a robot that mostly stands still", MeanStd, 1000, nil, []func(i int) float64{func(i int) float64 { return wave(i) * (1e-4 + float64(b2i(i%8 == 0))) }}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := actionFolder(t, columns(c.n, c.of...), itself)
			d, err := Open(of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Episodes: c.held}}, "Normalize", c.mode), models.Spec{acts(0)}, 1, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			var all []string
			for _, f := range d.Findings() {
				all = append(all, strings.ReplaceAll(f.String(), filepath.Join(dir, ManifestName), "PATH"))
			}
			text := strings.Join(all, "\n")
			if c.want == nil && text != "" {
				t.Errorf("it says\n%s", text)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("it says\n%s\nwant %q in it", text, want)
				}
			}
			// A resumed run hears the same.
			m := d.Meta()
			again, err := Open(of(job.Data{Kind: "folder", Path: dir, Holdout: job.Holdout{Episodes: c.held}}, "Normalize", c.mode), models.Spec{acts(0)}, 1, "", &m)
			if err != nil || !reflect.DeepEqual(again.Findings(), d.Findings()) {
				t.Errorf("opened again it says %v, %v", again.Findings(), err)
			}
		})
	}
}

// Names and units are the job's, else the data's, else a0, a1, …; seven values
// are no end effector.
func TestActionLabels(t *testing.T) {
	open := func(cfg job.Data, dim int, meta *Meta) (Dataset, error) {
		return Open(cfg, models.Spec{acts(dim)}, 1, "", meta)
	}
	joints := of(job.Data{Kind: "folder", Path: actionFolder(t, columns(4, make7()...), itself)})
	d, err := open(joints, 7, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := d.Meta()
	if want := []string{"a0", "a1", "a2", "a3", "a4", "a5", "a6"}; !reflect.DeepEqual(m.Actions.Names, want) || !reflect.DeepEqual(m.Actions.Units, make([]string, 7)) {
		t.Errorf("seven values are %q in %q", m.Actions.Names, m.Actions.Units)
	}

	path := filepath.Join(t.TempDir(), "x.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = safetensors.Write(f, []safetensors.Tensor{{Name: "actions", Shape: []int{3, 2}, Data: []float32{1, 2, 3, 4, 5, 6}}},
		map[string]string{"action_names": `["left", "right"]`, "action_units": `["rad/s", "rad/s"]`})
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	cfg := of(job.Data{Kind: "tensors", Path: path})
	for _, c := range []struct {
		cfg          func(c *job.Data)
		names, units []string
	}{
		{func(*job.Data) {}, []string{"left", "right"}, []string{"rad/s", "rad/s"}},
		{func(c *job.Data) { put(c, "ActionNames", []string{"u", "v"}) }, []string{"u", "v"}, []string{"", ""}}, // other names: the units are not known to hold
		{func(c *job.Data) { put(c, "ActionUnits", []string{"deg/s", ""}) }, []string{"left", "right"}, []string{"deg/s", ""}},
	} {
		cc := cfg
		c.cfg(&cc)
		d, err := open(cc, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := d.Meta()
		d.Close()
		if !reflect.DeepEqual(m.Actions.Names, c.names) || !reflect.DeepEqual(m.Actions.Units, c.units) {
			t.Errorf("%q in %q, want %q in %q", m.Actions.Names, m.Actions.Units, c.names, c.units)
		}
		// A checkpoint keeps its names, and a job may name them anew.
		again, err := open(cfg, 2, &m)
		if err != nil || !reflect.DeepEqual(again.Meta().Actions.Names, c.names) {
			t.Errorf("resumed: %v, %v", again.Meta().Actions.Names, err)
		}
		again.Close()
		put(&cc, "ActionNames", []string{"p", "q"})
		if again, err = open(cc, 2, &m); err != nil || !reflect.DeepEqual(again.Meta().Actions.Names, []string{"p", "q"}) || !reflect.DeepEqual(m.Actions.Names, c.names) {
			t.Errorf("named anew: %v, %v; the given ones are %v", again.Meta().Actions.Names, err, m.Actions.Names)
		}
		again.Close()
	}
	put(&cfg, "ActionNames", []string{"one"})
	if _, err := open(cfg, 2, nil); err == nil || !strings.Contains(err.Error(), "data.action_names: 1 names for actions of model.action_dim 2") {
		t.Error(err)
	}
	for text, want := range map[string]string{"x y": "expected a JSON list of texts", `["a"]`: "action_names of the data has 1 names", `["a", "a"]`: `"a" is the name of dimension 0 and of 1; data.action_names names them anew`, `["a", ""]`: "the name of dimension 1 is empty", `["a", "\u001b[2J"]`: "cannot be printed"} {
		l, err := labelsOf(map[string]string{"action_names": text}, "action")
		if err == nil {
			_, err = labelled(2, Labels{}, l)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if l, err := labelled(2, Labels{Names: []string{"p", "q"}}, Labels{Names: []string{"a", "a"}}); err != nil || l.Names[0] != "p" {
		t.Errorf("the job names them: %v, %v", l.Names, err)
	}
}

func make7() (of []func(i int) float64) {
	for d := range 7 {
		of = append(of, func(i int) float64 { return float64(i * (d + 1)) })
	}
	return of
}
