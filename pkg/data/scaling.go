package data

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Scaling is how a job file has numbers normalised: a mode, and what the
// conventions of those who publish policies differ in. docs/data.md says which
// of them is which.
type Scaling struct {
	Mode    string    `yaml:"mode,omitempty" job:"bare"` // see Modes
	Epsilon float64   `yaml:"epsilon,omitempty"`         // added to what is divided by: to std, max - min, or the quantiles' distance
	Clip    float64   `yaml:"clip,omitempty"`            // normalised values are held within ±clip; 0: they are not
	Mask    job.Names `yaml:"mask,omitempty"`            // dimensions that are left as they are, by name or by number from 0
}

// check checks what stands under key.
func (s Scaling) check(c *job.Checker, key string) {
	c.OneOf(key, s.Mode, Modes())
	s.checkRest(c, key)
}

func (s Scaling) checkRest(c *job.Checker, key string) {
	for _, x := range []struct {
		name string
		v    float64
	}{{"epsilon", s.Epsilon}, {"clip", s.Clip}} {
		if x.v < 0 {
			c.Bad(key+"."+x.name+" "+key, "is %v; want 0 or more", x.v)
		}
		c.Unused(key+"."+x.name, s.Mode != None || x.v == 0, key+".mode none")
	}
	c.Unused(key+".mask", s.Mode != None || len(s.Mask) == 0, key+".mode none")
}

// scale is how a feature of numbers is normalised: the actions by normalize, all
// else by state_normalize. Where that says neither mode nor epsilon nor clip, it is
// as for the actions, but for their mask, which names dimensions of theirs.
func (s ActionKeys) scale(name string) (x Scaling, key string) {
	if name == models.Actions {
		return s.Normalize, "data.normalize"
	}
	x = s.StateNormalize
	if x.Mode == "" && x.Epsilon == 0 && x.Clip == 0 {
		x.Epsilon, x.Clip = s.Normalize.Epsilon, s.Normalize.Clip
	}
	x.Mode = cmp.Or(x.Mode, s.Normalize.Mode)
	return x, "data.state_normalize"
}

// take makes s the statistics of a scaling, whose mask names dimensions of s.
func (s *Stats) take(x Scaling, key string) error {
	s.Epsilon, s.Clip = x.Epsilon, x.Clip
	mask, err := places(s.Names, x.Mask, key+".mask")
	s.Mask = mask
	return err
}

// places are the dimensions that names or numbers mean, ascending.
func places(dims []string, names job.Names, key string) (out []int, err error) {
	for _, name := range names {
		d := slices.Index(dims, name)
		if n, err := strconv.Atoi(name); d < 0 && err == nil && n >= 0 && n < len(dims) {
			d = n
		}
		if d < 0 {
			return nil, keyError(key, "%s: there is no dimension %q; want any of %s, or numbers from 0 to %d", key, name, few(dims), len(dims)-1)
		}
		out = append(out, d)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// asIs says that dimension d is left as it is.
func (s *Stats) asIs(d int) bool {
	return s.Mode == None || s.Mode == "" || slices.Contains(s.Mask, d)
}

// How is the normalisation in words, such as "quantile, ε 1e-08, clipped to ±1; gripper as it is".
func (s *Stats) How() string {
	text := cmp.Or(s.Mode, None)
	if s.Epsilon != 0 {
		text += fmt.Sprintf(", ε %g", s.Epsilon)
	}
	if s.Clip != 0 {
		text += fmt.Sprintf(", clipped to ±%g", s.Clip)
	}
	if len(s.Mask) > 0 {
		text += "; " + strings.Join(s.masked(), ", ") + " as it is"
	}
	if s.Relative != nil {
		text += "; relative to the state: " + s.related()
	}
	return text
}

// masked are the names of the dimensions that are left as they are though others
// are scaled.
func (s *Stats) masked() (names []string) {
	for _, d := range s.Mask {
		names = append(names, s.Names[d])
	}
	return names
}

// checkScaling refuses what no Scaling gives.
func (s *Stats) checkScaling() error {
	for _, x := range []struct {
		name string
		v    float64
	}{{"epsilon", s.Epsilon}, {"clip", s.Clip}} {
		if !(x.v >= 0) || math.IsInf(x.v, 0) {
			return fmt.Errorf("%s is %v", x.name, x.v)
		}
	}
	for i, d := range s.Mask {
		if d < 0 || d >= s.Dim() || i > 0 && d <= s.Mask[i-1] {
			return fmt.Errorf("mask is %v for %d dimensions; want their numbers, ascending", s.Mask, s.Dim())
		}
	}
	return nil
}
