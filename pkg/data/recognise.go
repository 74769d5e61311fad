package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/sniff"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// Recognised is a data set that a path was found to hold, as a job would name
// it, with all that it has as what is wanted: every camera, and every number of a
// frame that is no action as the state.
type Recognised struct {
	Data  job.Data
	Wants models.Spec
}

// recogniser is a kind of data that is known by its files.
type recogniser interface {
	// recognise returns the data set at path, a folder or a file; nil where
	// another kind may know it. The options are the kind's defaults.
	recognise(path string, folder bool) (*Recognised, error)
	// form is what such data is, for a message: a file of some kind.
	form() string
}

// unresized stands where pictures are looked at and no model sets their size.
const unresized = 224

// Recognise finds out which kind of data set lies at path, by its files. Kinds
// that stand later in Kinds are asked first.
func Recognise(path string) (*Recognised, error) {
	path, err := Watch{}.local(context.Background(), path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingFile{fmt.Sprintf("there is no %s", path)}
	}
	if err != nil {
		return nil, err
	}
	var forms []string
	for _, k := range slices.Backward(Kinds()) {
		r, ok := k.Options.(recogniser)
		if !ok {
			continue
		}
		found, err := r.recognise(path, info.IsDir())
		if err != nil || found != nil {
			if err == nil {
				found.Data.Kind = k.Name
			}
			return found, err
		}
		forms = append(forms, r.form())
	}
	last := len(forms) - 1
	s := fmt.Sprintf("%s: not a data set that is known: it can be %s, or %s", path, strings.Join(forms[:last], ", "), forms[last])
	if info.IsDir() {
		return nil, missingFile{s}
	}
	if what := sniff.Instead(headOf(path), sniff.Tensors); what != "" {
		s += "; " + what
	}
	return nil, errors.New(s)
}

// ofCameras are the features of so many cameras of a path, at most as many as a sample
// may have.
func ofCameras(cameras int) (w models.Spec) {
	for n := range min(cameras, maxCameras) {
		w = append(w, models.Known(models.View(n, 0), 3, unresized, unresized))
	}
	return w
}

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
