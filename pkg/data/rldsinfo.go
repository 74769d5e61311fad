package data

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// What an RLDS data set says of itself in dataset_info.json and features.json.

const maxInfoFile = 16 << 20

type rldsInfo struct {
	Name   string      `json:"name"`
	Format string      `json:"fileFormat"`
	Splits []rldsSplit `json:"splits"`
}

type rldsSplit struct {
	Name     string   `json:"name"`
	Lengths  []string `json:"shardLengths"`
	Template string   `json:"filepathTemplate"`
}

// rldsShard is one file and the number of episodes it must hold.
type rldsShard struct {
	file     string
	episodes int
}

// rldsDir finds dataset_info.json in dir or in its only sub-folder that has
// one, two levels down at most (data set / version).
func rldsDir(dir string) (string, error) {
	if info, err := os.Stat(dir); err != nil {
		return "", err
	} else if !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder; data.path of an RLDS data set is the one with dataset_info.json", dir)
	}
	for _, pattern := range []string{"", "*", "*/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern, "dataset_info.json"))
		if err != nil {
			return "", err
		}
		if len(found) == 1 {
			return filepath.Dir(found[0]), nil
		}
		if len(found) > 1 {
			return "", fmt.Errorf("%s has several data sets or versions; set data.path to one of %s", dir, strings.Join(found, ", "))
		}
	}
	return "", fmt.Errorf("%s has no dataset_info.json, and no folder in it has one: not an RLDS data set: %w", dir, fs.ErrNotExist)
}

func readJSON(path string, v any) error {
	if info, err := os.Stat(path); err != nil {
		return err
	} else if info.Size() > maxInfoFile {
		return fmt.Errorf("%s has %d bytes; at most %d are read", path, info.Size(), maxInfoFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// shards returns the files of a split, in order. A split may be described
// though its files are not there; then those that are there are named, unless
// the caller means to find out by itself.
func (in *rldsInfo) shards(dir, split string, absent bool) ([]rldsShard, error) {
	info := filepath.Join(dir, "dataset_info.json")
	if in.Name == "" || len(in.Splits) == 0 {
		return nil, fmt.Errorf("%s: name or splits are missing", info)
	}
	if in.Format != "" && in.Format != "tfrecord" {
		return nil, fmt.Errorf("%s: fileFormat is %q; only tfrecord can be read", info, in.Format)
	}
	var names, present []string
	var out []rldsShard
	for _, s := range in.Splits {
		names = append(names, s.Name)
		sh, err := s.shards(dir, in.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: split %s: %w", info, s.Name, err)
		}
		if len(sh) > 0 {
			if _, err := os.Stat(sh[0].file); err == nil {
				present = append(present, s.Name)
			}
		}
		if s.Name == split {
			out = sh
		}
	}
	if !slices.Contains(names, split) {
		return nil, fmt.Errorf("data.split is %q; %s names the splits %s", split, info, strings.Join(names, ", "))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: split %s has no shards", info, split)
	}
	for _, s := range out {
		if absent {
			break
		}
		if _, err := os.Stat(s.file); err != nil {
			if os.IsNotExist(err) {
				return nil, fmt.Errorf("split %s: the file %s is not there, though dataset_info.json names it; splits whose files are there: %s: %w", split, s.file, listOr(present, "none"), fs.ErrNotExist)
			}
			return nil, err
		}
	}
	return out, nil
}

func (s *rldsSplit) shards(dir, name string) ([]rldsShard, error) {
	template := s.Template
	if template == "" {
		template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
	}
	if len(s.Lengths) > 99999 {
		return nil, fmt.Errorf("%d shards", len(s.Lengths))
	}
	var out []rldsShard
	for i, l := range s.Lengths {
		n, err := strconv.Atoi(l)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("shardLengths[%d] is %q, expected a number of episodes", i, l)
		}
		index, count := fmt.Sprintf("%05d", i), fmt.Sprintf("%05d", len(s.Lengths))
		file := strings.NewReplacer("{DATASET}", name, "{SPLIT}", s.Name, "{FILEFORMAT}", "tfrecord",
			"{SHARD_X_OF_Y}", index+"-of-"+count, "{SHARD_INDEX}", index, "{NUM_SHARDS}", count).Replace(template)
		if strings.ContainsAny(file, "{}") || !filepath.IsLocal(file) || filepath.Base(file) != file {
			return nil, fmt.Errorf("filepathTemplate %q gives the file name %q, which is not a plain name", template, file)
		}
		out = append(out, rldsShard{filepath.Join(dir, file), n})
	}
	return out, nil
}

func listOr(s []string, none string) string {
	if len(s) == 0 {
		return none
	}
	return strings.Join(s, ", ")
}

// rldsFeature is a leaf of features.json.
type rldsFeature struct {
	kind  string // image | text | tensor
	dtype string // of a tensor
	shape []int
}

// featureNode is a node of features.json: one of its members is set.
type featureNode struct {
	Dict *struct {
		Features map[string]featureNode `json:"features"`
	} `json:"featuresDict"`
	Sequence *struct {
		Feature featureNode `json:"feature"`
	} `json:"sequence"`
	Tensor *struct {
		Shape tensorShape `json:"shape"`
		DType string      `json:"dtype"`
	} `json:"tensor"`
	Image *struct {
		Shape tensorShape `json:"shape"`
	} `json:"image"`
	Text *struct{} `json:"text"`
}

type tensorShape struct {
	Dimensions []string `json:"dimensions"`
}

func (s tensorShape) ints() ([]int, error) {
	var out []int
	for _, d := range s.Dimensions {
		n, err := strconv.Atoi(d)
		if err != nil || n < -1 || n > maxSamples {
			return nil, fmt.Errorf("dimension %q", d)
		}
		out = append(out, n)
	}
	return out, nil
}

// readFeatures returns the leaves of features.json by path ("steps/observation/image_0").
func readFeatures(path string) (map[string]rldsFeature, error) {
	var root featureNode
	if err := readJSON(path, &root); err != nil {
		return nil, err
	}
	out := map[string]rldsFeature{}
	var walk func(prefix string, n featureNode) error
	walk = func(prefix string, n featureNode) error {
		var f rldsFeature
		var err error
		switch {
		case n.Dict != nil:
			for name, child := range n.Dict.Features {
				if prefix != "" {
					name = prefix + "/" + name
				}
				if err := walk(name, child); err != nil {
					return err
				}
			}
			return nil
		case n.Sequence != nil:
			return walk(prefix, n.Sequence.Feature)
		case n.Image != nil:
			f.kind = "image"
			f.shape, err = n.Image.Shape.ints()
		case n.Text != nil:
			f.kind = "text"
		case n.Tensor != nil:
			f.kind, f.dtype = "tensor", n.Tensor.DType
			f.shape, err = n.Tensor.Shape.ints()
		default:
			return nil // a kind that is not needed here
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", path, prefix, err)
		}
		out[prefix] = f
		return nil
	}
	if err := walk("", root); err != nil {
		return nil, err
	}
	return out, nil
}
