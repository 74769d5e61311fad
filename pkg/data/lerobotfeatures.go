package data

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/data/internal/lerobot"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// lerobotFields are the features that are read; empty where the model needs none.
type lerobotFields struct {
	cameras []string // in the order of the model's
	vectors []lerobotVector
}

// lerobotVector is a feature of ours that is made of one or several of the data set.
type lerobotVector struct {
	name   string // models.Actions or models.State
	of     []string
	sizes  []int
	labels []string // of its dimensions; nil: the data set has none that are usable
}

// dim is the number of values.
func (v lerobotVector) dim() (n int) {
	for _, s := range v.sizes {
		n += s
	}
	return n
}

// vector is that of the name; a zero one where the model needs none.
func (f lerobotFields) vector(name string) lerobotVector {
	for _, v := range f.vectors {
		if v.name == name {
			return v
		}
	}
	return lerobotVector{}
}

// short is the first camera's name as people say it.
func (f lerobotFields) short() string {
	if len(f.cameras) == 0 {
		return ""
	}
	return f.cameras[0][strings.LastIndexByte(f.cameras[0], '.')+1:]
}

// fields chooses cameras, state and action by meta/info.json.
func (k LeRobot) fields(o *Opening, in *lerobot.Info) (f lerobotFields, err error) {
	names := slices.Sorted(maps.Keys(in.Features))
	if o.Wants.Has(models.Images) {
		for _, c := range views(k.Camera, k.Cameras) {
			name, err := chooseCamera(c, in, names)
			if err != nil {
				return f, err
			}
			if slices.Contains(f.cameras, name) {
				return f, keyError(c.key, "%s is %s again; want each camera once", c.key, name)
			}
			f.cameras = append(f.cameras, name)
		}
	}
	if o.Wants.Has(models.State) {
		v, err := vectorOf(in, names, models.State, "data.state", k.State)
		if err != nil {
			return f, err
		}
		f.vectors = append(f.vectors, v)
	}
	if o.Wants.Has(models.Actions) {
		want := k.Action
		if len(want) == 0 {
			want = []string{"action"}
		}
		v, err := vectorOf(in, names, models.Actions, "data.action", want)
		if err != nil {
			return f, err
		}
		f.vectors = append(f.vectors, v)
	}
	return f, nil
}

// vectorOf is a feature of ours made of those that the key names.
func vectorOf(in *lerobot.Info, names []string, name, key string, want []string) (lerobotVector, error) {
	v := lerobotVector{name: name}
	var numbers []string
	for _, n := range names {
		if in.Features[n].Numeric() {
			numbers = append(numbers, n)
		}
	}
	if len(want) == 0 {
		return v, keyError(key, "%s is not set; the numbers of a frame are %s", key, listOr(numbers, "none"))
	}
	for _, n := range want {
		x, ok := in.Features[n]
		switch {
		case !ok:
			return v, keyError(key, "%s: there is no feature %q; the numbers of a frame are %s", key, n, listOr(numbers, "none"))
		case !x.Numeric():
			return v, keyError(key, "%s has %s, which is %s; it can be numbers: %s", key, n, x.DType, listOr(numbers, "none"))
		case slices.Contains(v.of, n):
			return v, keyError(key, "%s has %s twice", key, n)
		case len(x.Shape) > 1 || x.Size() < 1 || v.dim()+x.Size() > maxAction:
			return v, keyError(key, "%s has %s, of shape %v; want one dimension, and at most %d values in all", key, n, x.Shape, maxAction)
		}
		v.of, v.sizes = append(v.of, n), append(v.sizes, x.Size())
		v.labels = append(v.labels, dimensions(n, x, len(want) > 1)...)
	}
	if !usable(v.labels) {
		v.labels = nil
	}
	return v, nil
}

// dimensions are what the data set calls the values of a feature, and of several
// features with the feature's name before it.
func dimensions(feature string, x lerobot.Feature, several bool) (l []string) {
	for i := range x.Size() {
		name := fmt.Sprintf("%s[%d]", feature, i)
		if len(x.Names) == x.Size() {
			if name = x.Names[i]; several {
				name = feature + "." + name
			}
		}
		l = append(l, name)
	}
	return l
}

// usable says whether names can head lines of tables.
func usable(names []string) bool {
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" || seen[n] || len([]rune(n)) > maxActionName || !printable(n) {
			return false
		}
		seen[n] = true
	}
	return true
}

// chooseCamera is the feature of pictures that the job means.
func chooseCamera(c view, in *lerobot.Info, names []string) (string, error) {
	var all, match []string
	for _, n := range names {
		if !in.Features[n].Camera() {
			continue
		}
		all = append(all, n)
		if n == c.name || c.name != "" && strings.HasSuffix(n, "."+c.name) {
			match = append(match, n)
		}
	}
	switch {
	case len(all) == 0:
		return "", errors.New("the frames have no pictures")
	case c.name == "" && len(all) == 1:
		match = all
	case c.name == "":
		return "", keyError(c.key, "%s is not set; the cameras of this data are %s", c.key, strings.Join(all, ", "))
	case len(match) == 0:
		return "", keyError(c.key, "%s is %q; the cameras of this data are %s", c.key, c.name, strings.Join(all, ", "))
	case len(match) > 1:
		return "", keyError(c.key, "%s %q fits several: give the whole of %s", c.key, c.name, strings.Join(match, " or "))
	}
	return match[0], nil
}

func (k LeRobot) recognise(path string, folder bool) (*Recognised, error) {
	if !folder || !lerobot.Has(path) {
		return nil, nil
	}
	set, err := lerobot.Open(path)
	if err != nil {
		return nil, err
	}
	k.anySize = true
	names := slices.Sorted(maps.Keys(set.Info.Features))
	for _, name := range names {
		if set.Info.Features[name].Camera() && len(k.Cameras) < maxCameras {
			k.Cameras = append(k.Cameras, name)
		}
	}
	w := ofCameras(len(k.Cameras))
	if k.State = vectors(set.Info, names, "observation."); k.State != nil {
		w = append(w, models.Known(models.State, 0))
	}
	w = append(w, models.Known(models.Instruction, 0))
	if f, whole := set.Info.Features["action"]; whole && f.Numeric() {
		w = append(w, models.Known(models.Actions, 0))
	} else if k.Action = vectors(set.Info, names, "action."); k.Action != nil {
		w = append(w, models.Known(models.Actions, 0))
	}
	return &Recognised{job.Data{Path: path, Options: k}, w}, nil
}

// vectors are the features of numbers that can be a state or an action together, by
// what their names begin with.
func vectors(in *lerobot.Info, names []string, before string) (l []string) {
	n := 0
	for _, name := range names {
		if x := in.Features[name]; strings.HasPrefix(name, before) && x.Numeric() && len(x.Shape) <= 1 && x.Size() >= 1 && n+x.Size() <= maxAction {
			l, n = append(l, name), n+x.Size()
		}
	}
	return l
}

func (LeRobot) form() string { return "a LeRobot data set (meta/info.json)" }
