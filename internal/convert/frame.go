package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // its header
	"image/png"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// frame is one moment of an episode, or one sample that stands by itself.
type frame struct {
	episode  string // what the source calls the episode; empty: none
	number   *int64 // place in it, where the source says so
	fps      float64
	task     string
	pictures map[string]photo
	numbers  map[string]numbers
}

// photo is a PNG or JPEG file.
type photo struct {
	file    []byte
	w, h    int
	decoded image.Image // where it was no file; else nil
}

// numbers are a feature's values, of one dimension; one of both is nil.
type numbers struct {
	floats []float32
	whole  []int64
	names  []string
}

func (n numbers) len() int { return len(n.floats) + len(n.whole) }

// The features of LeRobot by which models know state and action, and the words
// for them and for others that data sets have.
const (
	actionName = "action"
	stateName  = "observation.state"
)

var called = map[string]string{
	"action": actionName, "actions": actionName,
	"state": stateName, "states": stateName, "proprio": stateName,
	"reward": "next.reward", "rewards": "next.reward", "done": "next.done", "dones": "next.done",
	"cls": "cls", "cls2": "cls2", "index": "cls_index", "inx": "cls_index", "id": "cls_id", // whole numbers of WebDataset
}

// featureName is the feature that the member name.npy becomes.
func featureName(name string) string {
	if f := called[name]; f != "" {
		return f
	}
	for _, own := range []string{"observation.", "action.", "next."} {
		if strings.HasPrefix(name, own) {
			return name
		}
	}
	return "observation." + name
}

// cameraName is the feature that the member name.png becomes.
func cameraName(name string) string {
	switch {
	case name == "":
		name = "image"
	case strings.HasPrefix(name, "observation."):
		return name
	}
	return "observation.images." + name
}

// textKeys are the keys of a sample's JSON that hold the instruction; the first counts.
var textKeys = []string{"instruction", "language_instruction", "task", "prompt", "text", "caption"}

// decode makes a frame of a sample. passed is told of members and keys that are
// not read.
func (s sample) decode(passed func(what string)) (f frame, err error) {
	f = frame{pictures: map[string]photo{}, numbers: map[string]numbers{}}
	texts, text, names := 0, "", map[string][]string{}
	if dir := path.Dir(s.key); dir != "." {
		f.episode = dir
	}
	for _, p := range s.parts {
		i := strings.LastIndexByte(p.ext, '.')
		name, kind := p.ext[:max(i, 0)], p.ext[i+1:]
		fail := func(err error) (frame, error) { return frame{}, s.errorf("member .%s: %w", p.ext, err) }
		switch kind {
		case "png", "jpg", "jpeg":
			c, form, err := image.DecodeConfig(bytes.NewReader(p.body))
			if err != nil || form != "png" && form != "jpeg" {
				return fail(fmt.Errorf("it is no PNG or JPEG picture (%v)", err))
			}
			if err := f.picture(cameraName(name), photo{file: p.body, w: c.Width, h: c.Height}); err != nil {
				return fail(err)
			}
		case "npy":
			a, err := parseNPY(p.body)
			if err == nil {
				err = f.array(name, a)
			}
			if err != nil {
				return fail(err)
			}
		case "json", "jsn":
			if err := f.json(p.body, names, func(key string) { passed("key " + key + " of ." + p.ext) }); err != nil {
				return fail(err)
			}
		case "txt", "text", "transcript":
			if texts++; texts > 1 {
				return fail(errors.New("the sample has two texts; which is the instruction?"))
			}
			text = strings.TrimSpace(string(p.body))
		case "cls", "cls2", "index", "inx", "id":
			n, err := strconv.ParseInt(strings.TrimSpace(string(p.body)), 10, 64)
			if err == nil {
				err = f.add(featureName(kind), numbers{whole: []int64{n}})
			}
			if err != nil {
				return fail(err)
			}
		default:
			passed("members ." + p.ext)
		}
	}
	if texts > 0 {
		f.task = text
	}
	for k, l := range names {
		n, ok := f.numbers[featureName(k)]
		if ok && n.len() != len(l) {
			return frame{}, s.errorf("names: %d of %s, which has %d values", len(l), k, n.len())
		}
		if n.names = l; ok {
			f.numbers[featureName(k)] = n
		}
	}
	return f, nil
}

func (f *frame) picture(name string, p photo) error {
	if _, again := f.pictures[name]; again || strings.Contains(name, "/") {
		return fmt.Errorf("%s is no name for a picture, or that of two", name)
	}
	if p.w < 1 || p.h < 1 || p.w > 1<<14 || p.h > 1<<14 {
		return fmt.Errorf("a picture of %d×%d", p.w, p.h)
	}
	f.pictures[name] = p
	return nil
}

func (f *frame) add(name string, n numbers) error {
	if _, again := f.numbers[name]; again || strings.Contains(name, "/") {
		return fmt.Errorf("%s is no name for numbers, or that of two", name)
	}
	for i, v := range n.floats {
		if v-v != 0 {
			return fmt.Errorf("value %d of %s is %v; write a finite number, or leave the frame out", i, name, v)
		}
	}
	f.numbers[name] = n
	return nil
}

// array adds the .npy of a name: a picture, or numbers.
func (f *frame) array(name string, a array) error {
	if a.picture() {
		p := photo{w: a.shape[1], h: a.shape[0]}
		if a.shape[2] == 1 {
			p.decoded = &image.Gray{Pix: a.body, Stride: p.w, Rect: image.Rect(0, 0, p.w, p.h)}
		} else {
			m := image.NewNRGBA(image.Rect(0, 0, p.w, p.h))
			for i := range p.w * p.h {
				m.SetNRGBA(i%p.w, i/p.w, color.NRGBA{R: a.body[3*i], G: a.body[3*i+1], B: a.body[3*i+2], A: 255})
			}
			p.decoded = m
		}
		var b bytes.Buffer
		if err := png.Encode(&b, p.decoded); err != nil {
			return err
		}
		p.file = b.Bytes()
		return f.picture(cameraName(name), p)
	}
	if len(a.shape) > 1 {
		return fmt.Errorf("it has the shape %v; a sample is one frame: want numbers [n], or a picture of bytes [height, width, 3]", a.shape)
	}
	if name == "" {
		return errors.New("an array without a name; call it action.npy, state.npy or by the camera's name")
	}
	v, err := a.values()
	if err == nil && v.len() == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return err
	}
	return f.add(featureName(name), v)
}

// json adds what a sample's object says, and to names what it calls dimensions.
// Keys that are not read are told.
func (f *frame) json(b []byte, names map[string][]string, passed func(key string)) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("%v; want one JSON object", err)
	}
	if raw, ok := m["names"]; ok {
		if err := json.Unmarshal(raw, &names); err != nil {
			return fmt.Errorf(`names: %v; want lists by feature: {"action": ["x", …]}`, err)
		}
	}
	said := false
	for _, k := range textKeys {
		var s string
		if raw, ok := m[k]; ok && !said && json.Unmarshal(raw, &s) == nil {
			f.task, said = strings.TrimSpace(s), true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		raw := m[k]
		var err error
		switch k {
		case "names":
		case "episode", "episode_index", "episode_id":
			if f.episode = strings.Trim(string(raw), `"`); strings.ContainsAny(f.episode, "[{") || f.episode == "null" {
				err = errors.New("want a number or a string")
			}
		case "frame", "frame_index", "step":
			f.number = new(int64)
			err = json.Unmarshal(raw, f.number)
		case "fps":
			err = json.Unmarshal(raw, &f.fps)
		default:
			var l []*float32
			switch {
			case slices.Contains(textKeys, k):
			case json.Unmarshal(raw, &l) == nil && len(l) > 0:
				n := numbers{}
				for _, v := range l {
					if v == nil {
						return fmt.Errorf("key %s: it has null; write a number, or leave the frame out", k)
					}
					n.floats = append(n.floats, *v)
				}
				err = f.add(featureName(k), n)
			default:
				passed(k)
			}
		}
		if err != nil {
			return fmt.Errorf("key %s: %w", k, err)
		}
	}
	return nil
}
