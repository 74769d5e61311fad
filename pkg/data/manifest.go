package data

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// lineForm says what a model needs of a line, and by which keys.
type lineForm struct {
	image, instruction, action bool
	cameras                    []string // keys of images, in the order of the model's; nil: the one picture of image
	state                      []string // keys of the state's numbers, in order; nil: it is not needed
}

// lines is the form of the lines for a model of those wants.
func (k Folder) lines(wants models.Spec) lineForm {
	f := lineForm{image: wants.Has(models.Images), instruction: wants.Has(models.Instruction), action: wants.Has(models.Actions)}
	if f.image {
		f.cameras = k.Cameras
	}
	if wants.Has(models.State) {
		f.state = k.State
	}
	return f
}

// pictures is how many a line has.
func (f lineForm) pictures() int {
	if !f.image {
		return 0
	}
	return max(len(f.cameras), 1)
}

// keys are those of a line, and whether each is needed.
func (f lineForm) keys() map[string]bool {
	known := map[string]bool{"image": f.image && f.cameras == nil, "images": f.image && f.cameras != nil, "instruction": f.instruction, "action": f.action, "episode": true,
		actionNames: f.action, stateNames: f.state != nil}
	for _, k := range f.state {
		known[k] = true
	}
	return known
}

// The keys of the names of dimensions, which any line may have.
const actionNames, stateNames = "action_names", "state_names"

// manifestLine is what a model needs of one line of a manifest; what it does
// not need is not looked at.
type manifestLine struct {
	images      []string
	instruction string
	action      []float32
	state       []float32
	episode     *int64              // nil: the line has none
	names       map[string][]string // by the key of the names; nil: the line has none
}

// parseManifestLine reads one line.
func parseManifestLine(line []byte, form lineForm) (l manifestLine, err error) {
	members, err := parseJSONLine(line)
	if err != nil {
		return l, err
	}
	known := form.keys()
	have := map[string]bool{}
	state := map[string][]float32{}
	for _, m := range members {
		needed, isKnown := known[m.key]
		if low := strings.ToLower(m.key); !isKnown && known[low] {
			return l, fmt.Errorf("the key %q is not known; write %q", clipped(m.key), low)
		}
		if have[m.key] = true; !needed {
			continue
		}
		if string(m.value) == "null" {
			advice := map[string]string{"image": "name a picture, or leave the line out", "images": "name the pictures, or leave the line out", "instruction": `write "" for none`,
				"episode": "give a whole number, or leave the key out of all lines", actionNames: "leave the key out", stateNames: "leave the key out"}[m.key]
			return l, fmt.Errorf("%s is null; %s", m.key, cmp.Or(advice, "give its numbers, or leave the line out"))
		}
		switch key := m.key; {
		case key == "image":
			l.images = make([]string, 1)
			l.images[0], err = jsonText(m.value)
		case key == "images":
			l.images, err = form.views(m.value)
		case key == "instruction":
			l.instruction, err = jsonText(m.value)
		case key == "episode":
			l.episode, err = manifestEpisode(m.value)
		case key == actionNames || key == stateNames:
			if l.names == nil {
				l.names = map[string][]string{}
			}
			l.names[key], err = manifestNames(m.value)
		default: // the action or a part of the state
			v, err := manifestNumbers(key, m.value)
			if err != nil {
				return l, err
			}
			if key == "action" && form.action {
				l.action = v
			}
			state[key] = v
		}
		if err != nil {
			return l, fmt.Errorf("%s: %w", m.key, err)
		}
	}
	for _, k := range slices.Concat([]string{"image", "images", "instruction", "action"}, form.state) {
		switch numbers := k == "action" || slices.Contains(form.state, k); {
		case !known[k]:
		case have[k] && !(numbers && len(state[k]) == 0):
		case k == "image" && have["images"]:
			return l, errors.New("the key image is missing; the line has images: name its cameras by data.cameras")
		case k == "images" && have["image"]:
			return l, errors.New("the key images is missing; the line has one image: leave data.cameras out")
		default:
			return l, fmt.Errorf("the key %s is missing%s%s", clipped(k), orEmpty(have[k]), instead(members, known, k))
		}
	}
	for _, k := range form.state {
		l.state = append(l.state, state[k]...)
	}
	if !have["episode"] {
		if near := instead(members, known, "episode"); near != "" {
			return l, fmt.Errorf("the key episode is missing%s", near)
		}
	}
	return l, nil
}

// views are the pictures of the cameras that the model sees.
func (f lineForm) views(v []byte) (images []string, err error) {
	if v[0] != '{' {
		return nil, fmt.Errorf(`it is %s, expected an object: {"front": "a.png", "wrist": "b.png"}`, jsonKind(v))
	}
	members, err := parseJSONLine(v)
	if err != nil {
		return nil, err
	}
	var there []string
	for _, m := range members {
		there = append(there, clipped(m.key))
	}
	for _, camera := range f.cameras {
		k := slices.IndexFunc(members, func(m jsonMember) bool { return m.key == camera })
		if k < 0 {
			return nil, fmt.Errorf("there is no camera %s (data.cameras); the line has %s", clipped(camera), listOr(there, "none"))
		}
		name, err := jsonText(members[k].value)
		if err != nil {
			return nil, fmt.Errorf("camera %s: %w", clipped(camera), err)
		}
		images = append(images, name)
	}
	return images, nil
}

// manifestNames are the names of dimensions.
func manifestNames(v []byte) (names []string, err error) {
	list, err := jsonList(v)
	if err != nil {
		return nil, fmt.Errorf("%w of texts, such as [\"x\", \"y\"]", err)
	}
	for _, x := range list {
		s, err := jsonText(x)
		if err != nil {
			return nil, err
		}
		names = append(names, s)
	}
	if !usable(names) {
		return nil, fmt.Errorf("each name stands once, has 1 to %d characters and can be printed", maxActionName)
	}
	return names, nil
}

func orEmpty(there bool) string {
	if there {
		return " or empty"
	}
	return ""
}

// instead ends a message about a missing key with a key of the line that looks
// like it.
func instead(members []jsonMember, known map[string]bool, key string) string {
	for _, m := range members {
		if _, ok := known[m.key]; !ok && resembles(strings.ToLower(m.key), key) {
			return fmt.Sprintf("; the line has %q: write %q if that is meant", clipped(m.key), key)
		}
	}
	return ""
}

// resembles says that a is b with one letter more, less or other, or with two
// neighbours swapped.
func resembles(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	x, y := a[i:], b[i:]
	switch {
	case len(x) == len(y)+1:
		return x[1:] == y
	case len(x)+1 == len(y):
		return x == y[1:]
	case len(x) != len(y) || x == "":
		return false
	}
	return x[1:] == y[1:] || len(x) > 1 && x[0] == y[1] && x[1] == y[0] && x[2:] == y[2:]
}

// manifestNumbers are the numbers of a key.
func manifestNumbers(key string, v []byte) ([]float32, error) {
	list, err := jsonList(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w of numbers, such as [0.1, 0]", clipped(key), err)
	}
	out := make([]float32, len(list))
	for i, x := range list {
		bad := func(what string) error { return fmt.Errorf("%s value %d %s", clipped(key), i, what) }
		if kind := jsonKind(x); kind != "a number" {
			if notFinite(x) != "" {
				kind = kind + ", and NaN and infinity are not allowed"
			}
			return nil, bad("is " + kind + "; write a finite number, or leave the line out")
		}
		f, err := strconv.ParseFloat(string(x), 64)
		if err != nil || math.Abs(f) > math.MaxFloat32 {
			return nil, bad(fmt.Sprintf("is %.40s, which does not fit float32", x))
		}
		out[i] = float32(f)
	}
	return out, nil
}

func manifestEpisode(v []byte) (*int64, error) {
	if kind := jsonKind(v); kind != "a number" {
		return nil, fmt.Errorf("it is %s, expected a whole number", kind)
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil { // some writers give 3.0
		f, ferr := strconv.ParseFloat(string(v), 64)
		if n = int64(f); ferr != nil || float64(n) != f || math.Abs(f) > 1<<53 {
			return nil, fmt.Errorf("it is %.40s, expected a whole number", v)
		}
	}
	return &n, nil
}

// manifestLines calls f for each line of a manifest that has more than blanks,
// with its number from 1; the bytes are valid until f returns. A byte order
// mark before the first is passed over. tick is called before each line, and
// ends the reading with its error. What is wrong with a line goes to fault,
// file and line before it, whose error ends the reading too.
func manifestLines(r io.Reader, path string, tick func(number int) error, f func(number int, line []byte) error, fault func(number int, err error) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxManifestLine)
	number := 0
	at := func(number int, err error, advice string) error {
		if err == nil {
			return nil
		}
		return fault(number, fmt.Errorf("%s:%d: %w%s", path, number, err, advice))
	}
	var open error // of the newest line with something in it, which ends inside its object
	openLine := 0
	for sc.Scan() {
		number++
		if err := tick(number); err != nil {
			return err
		}
		line := sc.Bytes()
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if line = bytes.TrimRight(line, " \t\r"); len(line) == 0 {
			continue
		}
		if err := at(openLine, open, "; write each object on one line of its own, as \"jq -c .\" does"); err != nil {
			return err
		}
		open = nil
		if err := f(number, line); errors.Is(err, errOpenLine) {
			open, openLine = err, number
		} else if err := at(number, err, ""); err != nil {
			return err
		}
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: the line is longer than the %d bytes that are read; write each object on one line of its own", path, number+1, maxManifestLine)
	} else if err != nil {
		return fmt.Errorf("%s: after line %d: %w", path, number, err)
	}
	return at(openLine, open, "; it is the last line: the file is cut off; copy, download or write it again")
}

func (Folder) form() string { return "a folder with " + ManifestName }

func (k Folder) recognise(path string, folder bool) (*Recognised, error) {
	if !folder {
		if filepath.Base(path) != ManifestName {
			return nil, nil
		}
		path = filepath.Dir(path)
	}
	manifest := filepath.Join(path, ManifestName)
	if _, err := os.Stat(manifest); err != nil {
		return nil, nil
	}
	w, err := k.keysOf(manifest)
	return &Recognised{job.Data{Path: path, Options: k}, w}, err
}

// keysOf is what the first line of a manifest has; the options take its cameras
// and its state.
func (k *Folder) keysOf(path string) (w models.Spec, err error) {
	all := models.Spec{models.Known(models.Images, 3, unresized, unresized), models.Known(models.Instruction, 0), models.Known(models.Actions, 0)}
	f, _, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, maxManifestLine)
	for sc.Scan() {
		members, err := parseJSONLine(bytes.TrimPrefix(sc.Bytes(), []byte("\ufeff")))
		if err != nil {
			continue // a fault that Check tells of
		}
		has := func(key string) *jsonMember {
			if i := slices.IndexFunc(members, func(m jsonMember) bool { return m.key == key }); i >= 0 {
				return &members[i]
			}
			return nil
		}
		if m := has("images"); m != nil && has("image") == nil && m.value[0] == '{' {
			views, _ := parseJSONLine(m.value)
			for n, v := range views[:min(len(views), maxCameras)] {
				k.Cameras, w = append(k.Cameras, v.key), append(w, models.Known(models.View(n, 0), 3, unresized, unresized))
			}
		}
		if m := has("state"); m != nil && m.value[0] == '[' {
			k.State, w = []string{"state"}, append(w, models.Known(models.State, 0))
		}
		for i, key := range []string{"image", "instruction", "action"} {
			if has(key) != nil {
				w = append(w, all[i])
			}
		}
		return w, nil
	}
	return all, sc.Err()
}
