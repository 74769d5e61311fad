package lerobot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
)

// InfoFile is the file by which a data set is known, below its folder.
const InfoFile = "meta/info.json"

// MaxInfo bounds each of the files that describe a data set, in bytes.
const MaxInfo = 256 << 20

// Info is meta/info.json.
type Info struct {
	Version   string             `json:"codebase_version"`
	FPS       float64            `json:"fps"`
	ChunkSize int                `json:"chunks_size"` // episodes in a folder, or files (3.0)
	Data      string             `json:"data_path"`   // template of a table's path
	Video     string             `json:"video_path"`  // and of a video's; empty: there are none
	Splits    map[string]string  `json:"splits"`      // name → "from:to", of episodes
	Features  map[string]Feature `json:"features"`
}

// Feature is what the data set says of one column, or of one camera.
type Feature struct {
	DType string `json:"dtype"` // of numpy, or string, image, video
	Shape []int  `json:"shape"`
	Names Names  `json:"names"`
	Info  depth  `json:"info"`
	Older depth  `json:"video_info"` // of older writers
}

// depth is what tells pictures of distances from those of colours.
type depth struct {
	Image bool `json:"is_depth_map"`
	Video bool `json:"video.is_depth_map"`
}

// Camera says that a feature is pictures in colour, within tables or as video.
func (f Feature) Camera() bool {
	return (f.DType == "image" || f.Video()) && !f.Info.Image && !f.Info.Video && !f.Older.Image && !f.Older.Video
}

// Sized says whether pictures of h×w pixels are what the feature's shape says, with
// channels last or first; also where that says nothing.
func (f Feature) Sized(h, w int) bool {
	s := f.Shape
	return len(s) != 3 || s[0] == h && s[1] == w || s[1] == h && s[2] == w
}

// Video says that a feature's pictures are frames of videos.
func (f Feature) Video() bool { return f.DType == "video" }

// Size is the number of values of a row.
func (f Feature) Size() int {
	n := 1
	for _, d := range f.Shape {
		n *= d
	}
	return n
}

// Numeric says that a feature is numbers, or truth values.
func (f Feature) Numeric() bool {
	return strings.HasPrefix(f.DType, "float") || strings.HasPrefix(f.DType, "int") || strings.HasPrefix(f.DType, "uint") || f.DType == "bool"
}

// Names are what a feature's values are called. Public data sets have lists,
// lists in lists, lists by a heading, and numbers by name.
type Names []string

// UnmarshalJSON takes any of the forms; what is none of them is no names.
func (n *Names) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*n = flat(v)
	return nil
}

func flat(v any) (l []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, x := range v {
			l = append(l, flat(x)...)
		}
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) > 0 {
			if _, ok := v[keys[0]].(float64); ok { // places by name
				slices.SortStableFunc(keys, func(a, b string) int {
					x, _ := v[a].(float64)
					y, _ := v[b].(float64)
					return cmp.Compare(x, y)
				})
				return keys
			}
		}
		for _, k := range keys {
			l = append(l, flat(v[k])...)
		}
	}
	return l
}

// v3 says that the form is 3.0 or a later one.
func (i *Info) v3() bool { return strings.HasPrefix(i.Version, "v3.") }

// Has says whether a folder looks like a data set of this kind.
func Has(dir string) bool {
	b, err := regular.Read(filepath.Join(dir, InfoFile), MaxInfo)
	return err == nil && bytes.Contains(b, []byte(`"codebase_version"`))
}

func readInfo(dir string) (*Info, error) {
	path := filepath.Join(dir, InfoFile)
	b, err := regular.Read(path, MaxInfo)
	if err != nil {
		return nil, err
	}
	in := &Info{}
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\ufeff")), in); err != nil {
		if what := sniff.Instead(b, sniff.Text); what != "" {
			return nil, fmt.Errorf("%s: %s", path, what)
		}
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return nil, fmt.Errorf("%s: the key %.200q holds a JSON %s, where LeRobot writes something else", path, kind.Field, kind.Value)
		}
		return nil, fmt.Errorf("%s: %v", path, err)
	}
	switch {
	case in.Version == "":
		return nil, fmt.Errorf("%s has no codebase_version; it is no LeRobot data set, or one from before version 2.0", path)
	case !in.v3() && !strings.HasPrefix(in.Version, "v2."):
		return nil, fmt.Errorf("%s: codebase_version is %q; v2.0, v2.1 and v3.0 are read; convert the data set with LeRobot's own scripts", path, in.Version)
	case in.FPS <= 0 || math.IsInf(in.FPS, 0):
		return nil, fmt.Errorf("%s: fps is %v; want frames a second", path, in.FPS)
	case in.Data == "":
		return nil, fmt.Errorf("%s has no data_path", path)
	case len(in.Features) == 0:
		return nil, fmt.Errorf("%s has no features", path)
	}
	for name, f := range in.Features {
		for _, d := range f.Shape {
			if d < 0 || d > 1<<20 {
				return nil, fmt.Errorf("%s: feature %s has shape %v", path, name, f.Shape)
			}
		}
	}
	return in, nil
}

// expand fills a template of a path in, such as
// data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet.
func expand(template string, values map[string]any) (string, error) {
	var out strings.Builder
	rest := template
	for {
		before, after, ok := strings.Cut(rest, "{")
		out.WriteString(before)
		if !ok {
			break
		}
		field, tail, ok := strings.Cut(after, "}")
		if !ok {
			return "", fmt.Errorf("the path %q has a { without a }", template)
		}
		name, form, _ := strings.Cut(field, ":")
		v, ok := values[name]
		if !ok {
			return "", fmt.Errorf("the path %q has {%s}; it can have %s", template, name, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
		}
		width, err := strconv.Atoi(strings.TrimSuffix(form, "d"))
		if form != "" && (err != nil || width > 20) {
			return "", fmt.Errorf("the path %q has the form %q of a number", template, form)
		}
		if n, ok := v.(int); ok {
			fmt.Fprintf(&out, "%0*d", max(width, 1), n)
		} else {
			fmt.Fprint(&out, v)
		}
		rest = tail
	}
	path := filepath.FromSlash(out.String())
	if !filepath.IsLocal(path) {
		return "", fmt.Errorf("the path %q leads out of the data set", template)
	}
	return path, nil
}
