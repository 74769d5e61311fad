package data

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vlaring/vlaring/pkg/models"
)

// What a file of tensors shows of its episodes: a row is a frame.

// sign adds to a fingerprint which tensors are read, where a job names them.
func (k Tensors) sign(p Fingerprint) {
	if k.Cameras != nil {
		p.Add("cameras", fmt.Sprintf("%q", k.Cameras))
	}
	if k.State != nil {
		p.Add("state", fmt.Sprintf("%q", k.State))
	}
}

// tensors are those that a feature is made of.
func (k Tensors) tensors(f models.Feature) []string {
	camera, _, view := models.ViewOf(f.Name)
	switch {
	case view && camera < len(k.Cameras):
		return k.Cameras[camera : camera+1]
	case f.Name == models.State && k.State != nil:
		return k.State
	}
	return []string{f.Name}
}

// tensorNumbers reads a feature of numbers that are normalised, from one tensor or
// from several, side by side. One of several times is made of the rows of its
// episode, unless the tensor has them all.
func (o *Opening) tensorNumbers(t *tensorFile, f models.Feature, names []string, own map[string]Labels, c *tensorColumn, bad map[int]bool) error {
	var parts []*tensorRows
	for _, name := range names {
		any := make([]int, 1+len(f.Shape))
		for i := range any {
			any[i] = -1
		}
		says := axes(f)
		if info, ok := t.f.Tensor(name); ok && len(f.Shape) == 2 {
			if c.window = len(info.Shape) == 2; c.window {
				any, says = any[:2], "[N, "+says[len(says)-2:]
			} else {
				any[1] = f.Shape[0]
			}
		}
		x, err := t.values(name, says, any...)
		if err != nil {
			return err
		}
		if len(names) > 1 && len(x.info.Shape) != 2 {
			return fmt.Errorf("%s: %s is %v; of several tensors each is [N, %s", t.path, name, x.info.Shape, says[len(says)-2:])
		}
		parts = append(parts, x)
		c.size += x.size
	}
	c.shape = slices.Clone(parts[0].info.Shape[1:])
	last := len(c.shape) - 1
	if len(parts) > 1 {
		c.shape[last] = c.size
	}
	dim := c.shape[last]
	jobs, called := Labels{}, own[f.Name]
	switch n := f.Shape[len(f.Shape)-1]; {
	case f.Name == models.Actions && n > 0 && dim != n:
		return keyError("model.action_dim", "%s: actions is %s %v, that is %d dimensions, and model.action_dim is %d", t.path, parts[0].info.DType, parts[0].info.Shape, dim, n)
	case f.Name == models.Actions:
		jobs = o.labels()
	case f.Name == models.State && o.State != nil && called.Names == nil:
		for _, x := range parts {
			for i := range x.info.Shape[len(x.info.Shape)-1] {
				called.Names = append(called.Names, fmt.Sprintf("%s[%d]", x.info.Name, i))
			}
		}
		own[f.Name] = called
	}
	labels, err := labelled(dim, jobs, called)
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, named(f.Name, err))
	}
	c.floats = make([]float32, t.n*c.size)
	at := 0
	for _, x := range parts {
		dims := labels.Names
		switch {
		case len(x.info.Shape) != 2:
			dims = nil
		case len(parts) > 1:
			dims = dims[at : at+x.size]
		}
		r, err := o.scan(x, dims)
		if err != nil {
			return err
		}
		maps.Copy(bad, r.bad)
		if len(parts) == 1 {
			return t.f.Values(x.info.Name, 0, c.floats)
		}
		values := make([]float32, t.n*x.size)
		if err := t.f.Values(x.info.Name, 0, values); err != nil {
			return err
		}
		for i := range t.n {
			copy(c.floats[i*c.size+at:], values[i*x.size:(i+1)*x.size])
		}
		at += x.size
	}
	return nil
}

// tensorValid reads which actions of chunks that are given whole count.
func (o *Opening) tensorValid(t *tensorFile, f models.Feature, actions tensorColumn, c *tensorColumn) error {
	if actions.window {
		return fmt.Errorf("%s: %s is there, and actions are [N, A]: give chunks of them, [N, %d, A], or leave %s out", t.path, f.Name, f.Shape[0], f.Name)
	}
	x, err := t.values(f.Name, axes(f), -1, f.Shape[0])
	if err != nil {
		return err
	}
	c.shape, c.size, c.floats = f.Shape, x.size, make([]float32, t.n*x.size)
	if err := t.f.Values(f.Name, 0, c.floats); err != nil {
		return err
	}
	for i, v := range c.floats {
		if v != 0 && v != 1 {
			return fmt.Errorf("%s: %s: row %d has %v at %d; want 1 for an action that counts, 0 for one that does not", t.path, f.Name, i/x.size, v, i%x.size)
		}
	}
	return nil
}

// chunks are the actions of some rows that count; valid says which.
func (c *tensorColumn) chunks(rows []int32, bad map[int]bool, valid *tensorColumn, place func(i int) string) Rows {
	var at []int // of each action among all
	for _, i := range rows {
		for l, v := range valid.float(int(i)) {
			if v != 0 && !bad[int(i)] {
				at = append(at, int(i)*valid.size+l)
			}
		}
	}
	d := c.size / valid.size
	return Rows{len(at), func(i int) []float32 { return c.floats[at[i]*d:][:d] }, func(i int) string { return place(at[i] / valid.size) }}
}

// tensorWindows is the table of what is made of several rows of an episode.
func (o *Opening) tensorWindows(t *tensorFile, columns []tensorColumn, episodes int, of []int32) (*table, error) {
	w := &table{episode: of, eps: episodes}
	if !slices.ContainsFunc(columns, func(c tensorColumn) bool { return c.window || c.past > 0 }) {
		return w, nil
	}
	if !t.has("episode") {
		return nil, fmt.Errorf("%s: data.history and data.chunk need the tensor episode [N], which says which rows are the frames of one episode, in order", t.path)
	}
	w.link(o.skips)
	for i, f := range o.Wants {
		if c := columns[i]; c.window && c.floats != nil {
			x := w.float(f.Name)
			x.dim, x.rows = c.size, c.floats
		}
	}
	return w, nil
}
