package data

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Actions relative to the state: what a model predicts of such a dimension is the
// action less the state of the sample's own time, for all of a chunk. Samples hold
// absolute actions; the difference is made before they are normalised, and undone
// after a prediction is in physical units again:
//
//	sample ──Relate──> difference ──Normalize──> target
//	answer <──Absolute── difference <──Denormalize── output
//
// Statistics are those of the differences, over the windows of the training split.

// all is the word for every dimension that normalize.mask does not leave as it is.
const allDimensions = "all"

// maxDifferences is how many actions the statistics of differences are taken over,
// at most: of more, evenly spread ones.
const maxDifferences = 1 << 20

// relativeTo says of each dimension of actions which one of the state is taken off
// it, -1: none; nil: none of any.
func (o *Opening) relativeTo(m *Meta, actions *floatColumn) ([]int, error) {
	const key = "data.relative"
	if g := o.given; g != nil {
		if s := g.StatsOf(models.Actions); s != nil {
			return s.Relative, nil
		}
		return nil, nil
	}
	if len(o.Relative) == 0 {
		return nil, nil
	}
	state := m.StatsOf(models.State)
	if state == nil {
		return nil, keyError(key, "%s: actions are taken relative to the state, which the model does not see: name its features with data.state", key)
	}
	l, err := labelled(actions.dim, o.labels(), actions.labels)
	if err != nil {
		return nil, err
	}
	of, err := places(l.Names, o.Normalize.Mask, "data.normalize.mask")
	if err == nil && slices.Equal(o.Relative, job.Names{allDimensions}) {
		masked := of
		of = nil
		for d := range l.Names {
			if !slices.Contains(masked, d) {
				of = append(of, d)
			}
		}
	} else if err == nil {
		of, err = places(l.Names, o.Relative, key)
	}
	if err != nil {
		return nil, err
	}
	rel := slices.Repeat([]int{-1}, actions.dim)
	var strange []string
	for _, d := range of {
		if rel[d] = slices.Index(state.Names, l.Names[d]); rel[d] < 0 {
			strange = append(strange, l.Names[d])
		}
	}
	switch {
	case strange == nil:
	case actions.dim == state.Dim():
		for _, d := range of {
			rel[d] = d
		}
		o.find("relative_by_order", few(strange), "give both the same names if the order differs (data.action_names)", "the state has no dimension of that name: actions and state, %d of each, are matched in order (%s less %s)",
			actions.dim, few(l.Names), few(state.Names))
	default:
		return nil, keyError(key, "%s: the state (%s) has no dimension %s, and there are %d of it for %d of the actions, so that their order says nothing: name the dimensions as the state's with data.action_names, or leave them out of %s",
			key, few(state.Names), few(strange), state.Dim(), actions.dim, key)
	}
	return rel, nil
}

// differences are the actions that count of the samples' chunks, less the state of
// the sample's own frame.
func (t *table) differences(chunk int, rel []int, samples []int32) Rows {
	actions, state := t.floats[models.Actions], t.floats[models.State]
	total := 0
	for _, i := range samples {
		_, valid := window(int(i), chunk, t.after)
		total += valid
	}
	every := max(1, (total+maxDifferences-1)/maxDifferences)
	s := Stats{Relative: rel}
	var rows []float32
	var of []int32
	n := 0
	for _, i := range samples {
		frames, valid := window(int(i), chunk, t.after)
		for _, k := range frames[:valid] {
			if n++; (n-1)%every != 0 {
				continue
			}
			rows = append(rows, actions.row(k)...)
			s.Relate(rows[len(rows)-actions.dim:], rows[len(rows)-actions.dim:], state.row(int(i)))
			of = append(of, i)
		}
	}
	return Rows{len(of), func(i int) []float32 { return rows[i*actions.dim : (i+1)*actions.dim] }, func(i int) string { return t.origin(int(of[i])) }}
}

// Now is the state of x's own time in physical units; nil where samples have none.
func (m *Meta) Now(x *Sample) []float32 {
	k, s := m.Spec.Index(models.State), m.StatsOf(models.State)
	if k < 0 || s == nil || k >= len(x.Values) || len(x.Values[k].Floats) < s.Dim() {
		return nil
	}
	v := x.Values[k].Floats
	return v[len(v)-s.Dim():]
}

// Relate writes actions x, [n, A] in physical units, to dst, those of relative
// dimensions less the state of now. dst may be x.
func (s *Stats) Relate(dst, x, now []float32) { s.shift(dst, x, now, -1) }

// Absolute is the inverse of Relate, but for a rounding.
func (s *Stats) Absolute(dst, x, now []float32) { s.shift(dst, x, now, 1) }

func (s *Stats) shift(dst, x, now []float32, sign float32) {
	copy(dst, x)
	for a := 0; a < len(dst) && s.Relative != nil; a += len(s.Relative) {
		for d, k := range s.Relative {
			if k >= 0 {
				dst[a+d] += float32(sign * now[k])
			}
		}
	}
}

// related are the names of the relative dimensions.
func (s *Stats) related() string {
	var names []string
	for d, k := range s.Relative {
		if k >= 0 {
			names = append(names, s.Names[d])
		}
	}
	return strings.Join(names, ", ")
}

// checkRelative refuses what relativeTo could not have made.
func (m *Meta) checkRelative() error {
	s, state := m.StatsOf(models.Actions), m.StatsOf(models.State)
	if s == nil || s.Relative == nil {
		return nil
	}
	if state == nil || len(s.Relative) != s.Dim() {
		return fmt.Errorf("relative is %v, for %d actions", s.Relative, s.Dim())
	}
	for _, k := range s.Relative {
		if k < -1 || k >= state.Dim() {
			return fmt.Errorf("relative is %v, for a state of %d", s.Relative, state.Dim())
		}
	}
	return nil
}
