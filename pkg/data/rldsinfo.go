package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// What an RLDS data set says of itself in dataset_info.json.

const maxInfoFile = 16 << 20

type rldsInfo struct {
	file   string
	Name   string      `json:"name"`
	Format string      `json:"fileFormat"`
	Splits []rldsSplit `json:"splits"`
}

type rldsSplit struct {
	Name     string       `json:"name"`
	Lengths  []wireNumber `json:"shardLengths"`
	Template string       `json:"filepathTemplate"`
}

// wireNumber is a number as it is written: TFDS writes 64-bit numbers as texts,
// other writers as numbers.
type wireNumber string

func (l *wireNumber) UnmarshalJSON(b []byte) error {
	*l = wireNumber(bytes.Trim(b, `"`))
	return nil
}

// readRLDSInfo reads dataset_info.json.
func readRLDSInfo(dir string) (*rldsInfo, error) {
	in := &rldsInfo{file: filepath.Join(dir, "dataset_info.json")}
	if err := readJSON(in.file, in); err != nil {
		return nil, err
	}
	if in.Name == "" || len(in.Splits) == 0 {
		return nil, fmt.Errorf("%s: name or splits are missing", in.file)
	}
	if in.Format != "" && in.Format != "tfrecord" {
		return nil, fmt.Errorf("%s: fileFormat is %q; only tfrecord can be read", in.file, in.Format)
	}
	return in, nil
}

func readJSON(path string, v any) error {
	b, err := regular.Read(path, maxInfoFile)
	if err != nil {
		return err
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if err := json.Unmarshal(b, v); err != nil {
		if what := sniff.Instead(b, sniff.Text); what != "" {
			return fmt.Errorf("%s: %s", path, what)
		}
		return fmt.Errorf("%s: %s", path, plainJSON(err))
	}
	return nil
}

// plainJSON says in words what the decoder found wrong with a file's JSON.
func plainJSON(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax) && syntax.Error() == "unexpected end of JSON input":
		return "its JSON ends in the middle: the file is cut off; copy or download it again"
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON: byte %d: %s", syntax.Offset, syntax)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Sprintf("it holds a JSON %s, expected an object: it is not a file that TFDS wrote", kind.Value)
	case errors.As(err, &kind):
		return fmt.Sprintf("the key %.200q holds a JSON %s, where TFDS writes something else", kind.Field, kind.Value)
	}
	return err.Error()
}

func listOr(s []string, none string) string {
	if len(s) == 0 {
		return none
	}
	return strings.Join(s, ", ")
}

func (RLDS) form() string { return "an RLDS folder with dataset_info.json" }

func (k RLDS) recognise(path string, folder bool) (*Recognised, error) {
	if !folder {
		return nil, nil
	}
	dir, err := rldsDir(path)
	if err != nil {
		if _, e := os.Stat(filepath.Join(path, "features.json")); e == nil {
			return nil, fmt.Errorf("%s has features.json but no dataset_info.json, which an RLDS data set needs", path)
		}
		return nil, nil
	}
	features, err := readFeatures(filepath.Join(dir, "features.json"))
	if err != nil {
		return nil, err
	}
	steps := rldsSteps(features)
	for _, name := range steps.leaves("image") {
		if len(k.Cameras) < maxCameras {
			k.Cameras = append(k.Cameras, name)
		}
	}
	w := ofCameras(len(k.Cameras))
	if k.State = steps.state(); k.State != nil {
		w = append(w, models.Known(models.State, 0))
	}
	if slices.ContainsFunc(rldsTexts, func(name string) bool { return features[name].is("text") }) {
		w = append(w, models.Known(models.Instruction, 0))
	}
	if slices.ContainsFunc(steps.leaves("numbers"), func(name string) bool { return name == rldsAction || strings.HasPrefix(name, rldsAction+"/") }) {
		w = append(w, models.Known(models.Actions, 0))
	}
	return &Recognised{job.Data{Path: path, Options: k}, w}, nil
}

// state are the numbers of an observation, but for embeddings of words and pictures,
// and texts that are given as their bytes.
func (all rldsSteps) state() (l []string) {
	n := 0
	for _, name := range all.leaves("numbers") {
		if size := all[name].size(); strings.HasPrefix(name, "steps/observation/") && !strings.Contains(name, "embedding") && !slices.Contains(rldsTexts, name) && n+size <= maxAction {
			l, n = append(l, name), n+size
		}
	}
	return l
}
