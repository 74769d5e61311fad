package data

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// What LeRobot, openpi, Octo and OpenVLA make of the same actions, by
// tools/make_scaling.py. They compute in float32, so a few roundings of the
// values' size, 3, apart is equal. LeRobot's min_max and quantiles make -1 of a
// dimension that never varies; here it has no scale and is 0.
func TestScalingOfOthers(t *testing.T) {
	b, err := os.ReadFile("testdata/scaling.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Names []string
		Rows  [][]float32
		Cases []struct {
			Name             string
			Mode             string
			Epsilon, Clip    float64
			Mask             job.Names
			Normalised, Back [][]float32
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	const near = 2e-6
	for _, c := range file.Cases {
		s, err := ComputeStats(c.Mode, len(file.Rows), 4, actionsOf(file.Rows...))
		if err != nil {
			t.Fatal(err)
		}
		s.Names = file.Names
		if err := s.take(Scaling{c.Mode, c.Epsilon, c.Clip, c.Mask}, "data.normalize"); err != nil {
			t.Fatal(err)
		}
		for i, row := range file.Rows {
			got, back := make([]float32, 4), make([]float32, 4)
			s.Normalize(got, row)
			s.Denormalize(back, got)
			for d := range got {
				if want := c.Normalised[i][d]; d == 2 {
					if got[d] != 0 || back[d] != 0.7 {
						t.Fatalf("%s: row %d, a value that never varies became %v and came back as %v", c.Name, i, got[d], back[d])
					}
				} else if math.Abs(float64(got[d]-want)) > near {
					t.Fatalf("%s: row %d, %s: %v becomes %v, want %v", c.Name, i, file.Names[d], row[d], got[d], want)
				}
				if c.Back != nil && math.Abs(float64(back[d]-c.Back[i][d])) > near {
					t.Fatalf("%s: row %d, %s: %v comes back as %v, want %v", c.Name, i, file.Names[d], row[d], back[d], c.Back[i][d])
				}
			}
		}
	}
}

// What comes back from any scaling is what went in, unless it was clipped: to a
// float32 step of the values' size and one of what was taken off them.
func TestScalingComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for trial := range 400 {
		rows, size := make([][]float32, 20), math.Ldexp(1, r.IntN(40)-20)
		for i := range rows {
			rows[i] = []float32{float32(size * (r.NormFloat64() + 5*float64(trial%3))), float32(r.NormFloat64())}
		}
		x := Scaling{Mode: Modes()[r.IntN(5)], Epsilon: []float64{0, 1e-8, 1e-6, 0.1}[r.IntN(4)], Clip: []float64{0, 0, 1, 1.5}[r.IntN(4)]}
		if r.IntN(2) == 0 {
			x.Mask = job.Names{"1"}
		}
		s, err := ComputeStats(x.Mode, len(rows), 2, actionsOf(rows...))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.take(x, ""); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			n, back := make([]float32, 2), make([]float32, 2)
			s.Normalize(n, row)
			s.Denormalize(back, n)
			if len(x.Mask) > 0 && (n[1] != row[1] || back[1] != row[1]) {
				t.Fatalf("%s: %v was to be left as it is, became %v and came back as %v", s.How(), row[1], n[1], back[1])
			}
			for d, v := range row {
				c := s.Scale(d)
				inside := s.asIs(d) || x.Clip == 0 || math.Abs(float64(v)-c.Offset) < float64(float32(x.Clip))*c.By*(1-1e-7)
				if x.Clip > 0 && !s.asIs(d) && math.Abs(float64(n[d])) > x.Clip {
					t.Fatalf("%s: %v becomes %v", s.How(), v, n[d])
				}
				if inside && math.Abs(float64(back[d])-float64(v)) > 0x1p-23*(math.Abs(float64(v))+math.Abs(float64(v)-c.Offset)) {
					t.Fatalf("%s: %v becomes %v and comes back as %v", s.How(), v, n[d], back[d])
				}
			}
		}
	}
}

// State is scaled as the actions are, without their mask, unless the job says more.
func TestScalingOfState(t *testing.T) {
	actions := Scaling{Quantile, 1e-6, 1, job.Names{"gripper"}}
	for _, c := range []struct{ given, want Scaling }{
		{Scaling{}, Scaling{Quantile, 1e-6, 1, nil}},
		{Scaling{Mask: job.Names{"3"}}, Scaling{Quantile, 1e-6, 1, job.Names{"3"}}},
		{Scaling{Clip: 5}, Scaling{Quantile, 0, 5, nil}},
		{Scaling{Mode: MeanStd}, Scaling{Mode: MeanStd}},
		{Scaling{Mode: None}, Scaling{Mode: None}},
	} {
		got, key := ActionKeys{Normalize: actions, StateNormalize: c.given}.scale("state")
		if got.Mode != c.want.Mode || got.Epsilon != c.want.Epsilon || got.Clip != c.want.Clip || len(got.Mask) != len(c.want.Mask) || key != "data.state_normalize" {
			t.Errorf("%+v: %+v of %s, want %+v", c.given, got, key, c.want)
		}
	}
	if got, key := (ActionKeys{Normalize: actions}).scale(models.Actions); got.Clip != 1 || len(got.Mask) != 1 || key != "data.normalize" {
		t.Errorf("actions: %+v of %s", got, key)
	}
}

// Masks of dimensions that there are not, and statistics that no scaling made.
func TestScalingRefused(t *testing.T) {
	s, err := ComputeStats(MeanStd, 2, 2, actionsOf([]float32{0, 1}, []float32{1, 1}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gripper", "2", "-1", ""} {
		if err := s.take(Scaling{Mask: job.Names{name}}, "data.normalize"); err == nil || !strings.Contains(err.Error(), `data.normalize.mask: there is no dimension "`+name+`"; want any of a0, a1, or numbers from 0 to 1`) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for what, broken := range map[string]func(s *Stats){
		"epsilon": func(s *Stats) { s.Epsilon = -1 }, "clip": func(s *Stats) { s.Clip = math.Inf(1) }, "mask": func(s *Stats) { s.Mask = []int{1, 1} },
		"q10": func(s *Stats) { s.Mode, s.Q10 = Quantile10, nil },
	} {
		x := *s
		x.Mask = nil
		broken(&x)
		if err := x.check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s.Q10, s.Q90, s.Mask = nil, nil, nil; s.check() != nil {
		t.Error("statistics of a release that knew no q10 are refused:", s.check())
	}
}
