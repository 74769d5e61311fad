package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/sniff"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Recognised is a data set that a path was found to hold, as a job would name
// it, with all that it has as what is wanted. An RLDS data set has one for each
// camera.
type Recognised struct {
	Data  job.Data
	Wants models.Spec
}

// unresized stands where pictures are looked at and no model sets their size.
const unresized = 224

// Recognise finds out which kind of data set lies at path, by its files.
func Recognise(path string) ([]Recognised, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingFile{fmt.Sprintf("there is no %s", path)}
	}
	if err != nil {
		return nil, err
	}
	image := models.Known(models.Images, 3, unresized, unresized)
	switch {
	case !info.IsDir() && filepath.Base(path) == ManifestName:
		return Recognise(filepath.Dir(path))
	case !info.IsDir() && (strings.HasSuffix(path, ".safetensors") || isTensors(path)):
		w, err := tensorWants(path)
		return []Recognised{{job.Data{Kind: "tensors", Path: path, Options: Defaults("tensors")}, w}}, err
	case !info.IsDir():
		s := fmt.Sprintf("%s: not a data set that is known: it can be a folder with %s, an RLDS folder with dataset_info.json, or a safetensors file", path, ManifestName)
		if what := sniff.Instead(headOf(path), sniff.Tensors); what != "" {
			s += "; " + what
		}
		return nil, errors.New(s)
	}
	if _, err := os.Stat(filepath.Join(path, ManifestName)); err == nil {
		w, err := keysOfManifest(filepath.Join(path, ManifestName))
		return []Recognised{{job.Data{Kind: "folder", Path: path, Options: Defaults("folder")}, w}}, err
	}
	dir, err := rldsDir(path)
	if err != nil {
		if _, e := os.Stat(filepath.Join(path, "features.json")); e == nil {
			return nil, fmt.Errorf("%s has features.json but no dataset_info.json, which an RLDS data set needs", path)
		}
		return nil, missingFile{fmt.Sprintf("%s: not a data set that is known: it has neither %s (a folder of pictures) nor dataset_info.json (RLDS)", path, ManifestName)}
	}
	file := filepath.Join(dir, "features.json")
	features, err := readFeatures(file)
	if err != nil {
		return nil, err
	}
	var rest models.Spec
	if slices.ContainsFunc(rldsTexts, func(name string) bool { return features[name].is("text") }) {
		rest = append(rest, models.Known(models.Instruction, 0))
	}
	for name, f := range features {
		if f.is("numbers") && (name == rldsAction || strings.HasPrefix(name, rldsAction+"/")) {
			rest = append(rest, models.Known(models.Actions, 0))
			break
		}
	}
	var out []Recognised
	k := Defaults("rlds").(RLDS)
	for _, name := range slices.Sorted(maps.Keys(features)) {
		if features[name].kind == "image" && strings.HasPrefix(name, "steps/") {
			k.Camera = name
			out = append(out, Recognised{job.Data{Kind: "rlds", Path: path, Options: k}, append(models.Spec{image}, rest...)})
		}
	}
	if len(out) == 0 {
		out = []Recognised{{job.Data{Kind: "rlds", Path: path, Options: k}, rest}}
	}
	return out, nil
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

// isTensors tells a safetensors file by its content, whatever its name.
func isTensors(path string) bool { return sniff.Of(headOf(path)) == sniff.Safetensors }

// headOf is the beginning of a regular file, as sniff looks at it; nil of others.
func headOf(path string) []byte {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil // which may never begin
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return sniff.Head(f, sniff.HeadSize)
}

// tensorWants are the tensors that a file has.
func tensorWants(path string) (w models.Spec, err error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return w, err
	}
	defer f.Close()
	if t, ok := f.Tensor(models.Images); ok {
		if len(t.Shape) != 4 {
			return w, fmt.Errorf("%s: images has the shape %v, expected [N, C, H, W] or [N, H, W, C]", path, t.Shape)
		}
		image := models.Known(models.Images, slices.Clone(t.Shape[1:])...)
		if c := t.Shape[3]; c < t.Shape[1] && c < t.Shape[2] { // no model says how many channels there are: fewer than rows and columns
			image.Shape = []int{c, t.Shape[1], t.Shape[2]}
		}
		w = append(w, image)
	}
	for _, x := range []models.Feature{models.Known(models.Instruction, 0), models.Known(models.VisionFeatures, 0, 0), models.Known(models.LanguageFeatures, 0, 0),
		models.Known(models.Labels, 0), models.Known(models.Actions, 0)} {
		if _, ok := f.Tensor(x.Name); ok {
			w = append(w, x)
		}
	}
	return w, nil
}
