package data

import (
	"bufio"
	"bytes"
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

// manifestKey is the key of a line that holds a feature; empty: none does.
func manifestKey(name string) string {
	return map[string]string{models.Images: "image", models.Instruction: "instruction", models.Actions: "action"}[name]
}

// manifestWants are all features that a manifest can have.
func manifestWants() models.Spec {
	return models.Spec{models.Known(models.Images, 3, unresized, unresized), models.Known(models.Instruction, 0), models.Known(models.Actions, 0)}
}

// manifestLine is what a model needs of one line of a manifest; what it does
// not need is not looked at.
type manifestLine struct {
	image       string
	instruction string
	action      []float32
	episode     *int64 // nil: the line has none
}

// parseManifestLine reads one line for a model of those wants.
func parseManifestLine(line []byte, wants models.Spec) (l manifestLine, err error) {
	members, err := parseJSONLine(line)
	if err != nil {
		return l, err
	}
	known := map[string]bool{"image": wants.Has(models.Images), "instruction": wants.Has(models.Instruction), "action": wants.Has(models.Actions), "episode": true}
	have := map[string]bool{}
	for _, m := range members {
		needed, isKnown := known[m.key]
		if low := strings.ToLower(m.key); !isKnown && known[low] {
			return l, fmt.Errorf("the key %q is not known; write %q", clipped(m.key), low)
		}
		if have[m.key] = true; !needed {
			continue
		}
		if string(m.value) == "null" {
			return l, fmt.Errorf("%s is null; %s", m.key, map[string]string{"image": "name a picture, or leave the line out", "instruction": `write "" for none`,
				"action": "give its numbers, or leave the line out", "episode": "give a whole number, or leave the key out of all lines"}[m.key])
		}
		switch m.key {
		case "image":
			l.image, err = jsonText(m.value)
		case "instruction":
			l.instruction, err = jsonText(m.value)
		case "action":
			if l.action, err = manifestAction(m.value); err != nil {
				return l, err
			}
		case "episode":
			l.episode, err = manifestEpisode(m.value)
		}
		if err != nil {
			return l, fmt.Errorf("%s: %w", m.key, err)
		}
	}
	for _, k := range []string{"image", "instruction", "action"} {
		if known[k] && (!have[k] || k == "action" && len(l.action) == 0) {
			return l, fmt.Errorf("the key %s is missing%s%s", k, orEmpty(have[k]), instead(members, known, k))
		}
	}
	if !have["episode"] {
		if near := instead(members, known, "episode"); near != "" {
			return l, fmt.Errorf("the key episode is missing%s", near)
		}
	}
	return l, nil
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

func manifestAction(v []byte) ([]float32, error) {
	list, err := jsonList(v)
	if err != nil {
		return nil, fmt.Errorf("action: %w of numbers, such as [0.1, 0]", err)
	}
	out := make([]float32, len(list))
	for i, x := range list {
		bad := func(what string) error { return fmt.Errorf("action value %d %s", i, what) }
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

func (k Folder) recognise(path string, folder bool) ([]Recognised, error) {
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
	w, err := keysOfManifest(manifest)
	return []Recognised{{job.Data{Path: path, Options: k}, w}}, err
}

// keysOfManifest are the keys that the first line of a manifest has.
func keysOfManifest(path string) (w models.Spec, err error) {
	f, _, err := regular.Open(path)
	if err != nil {
		return w, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, maxManifestLine)
	for sc.Scan() {
		members, err := parseJSONLine(bytes.TrimPrefix(sc.Bytes(), []byte("\ufeff")))
		if err != nil {
			continue // a fault that Check tells of
		}
		return slices.DeleteFunc(manifestWants(), func(f models.Feature) bool {
			return !slices.ContainsFunc(members, func(m jsonMember) bool { return m.key == manifestKey(f.Name) })
		}), nil
	}
	return manifestWants(), sc.Err()
}
