package safetensors

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
)

// IndexSuffix ends the name of a sharded file's index, which is a JSON object
// with one member that counts:
//
//	{"weight_map": {"encoder.weight": "model-00001-of-00002.safetensors", …}}
const IndexSuffix = ".safetensors.index.json"

// maxIndex bounds the index that OpenModel reads, in bytes, like a header.
const maxIndex = maxHeader

// shardName is how the parts of a sharded file are called.
var shardName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.safetensors$`)

// Shard says that path is named as one part of a sharded file, and which.
func Shard(path string) (stem string, part, of string, ok bool) {
	m := shardName.FindStringSubmatch(filepath.Base(path))
	if m == nil || m[3] == "00001" {
		return "", "", "", false
	}
	return m[1], strings.TrimLeft(m[2], "0"), strings.TrimLeft(m[3], "0"), true
}

// OpenModel opens weights: a safetensors file; the index of a sharded one, whose
// parts stand beside it and become one File; or a folder that holds either.
func OpenModel(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		if path, err = inFolder(path); err != nil {
			return nil, err
		}
	}
	if isIndex(path) {
		return openSharded(path)
	}
	return Open(path)
}

// isIndex tells an index by its name, or by its content where it is called otherwise.
func isIndex(path string) bool {
	if strings.HasSuffix(path, ".index.json") {
		return true
	}
	f, size, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return indexed(f, size)
}

// inFolder finds the one file of weights, or the one index, of a folder.
func inFolder(dir string) (string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var index, whole, shards, others []string
	for _, e := range list {
		name := e.Name()
		_, _, _, shard := Shard(name)
		switch {
		case strings.HasSuffix(name, IndexSuffix):
			index = append(index, name)
		case shard:
			shards = append(shards, name)
		case strings.HasSuffix(name, ".safetensors") && name != "optimizer.safetensors":
			whole = append(whole, name)
		case strings.HasSuffix(name, ".bin.index.json"), strings.HasSuffix(name, ".bin"), strings.HasSuffix(name, ".pt"), strings.HasSuffix(name, ".pth"):
			others = append(others, name)
		}
	}
	switch {
	case len(index) == 1:
		return filepath.Join(dir, index[0]), nil
	case len(index) > 1:
		return "", fmt.Errorf("%s is a folder with %s: name the one that is meant", dir, few(index))
	case len(shards) > 0:
		return "", fmt.Errorf("%s is a folder with the parts of a sharded file, %s, and without their index, *%s: download it too", dir, few(shards), IndexSuffix)
	case len(whole) == 1:
		return filepath.Join(dir, whole[0]), nil
	case len(whole) > 1:
		return "", fmt.Errorf("%s is a folder with %s: name the one that is meant", dir, few(whole))
	case len(others) > 0:
		return "", fmt.Errorf("%s is a folder with PyTorch files, %s: %s", dir, few(others), "convert them in Python with safetensors.torch.save_file(state_dict, \"model.safetensors\")")
	}
	return "", fmt.Errorf("%s is a folder without a .safetensors file", dir)
}

// few lists some of many names.
func few(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// openSharded opens all parts that an index names and holds them to it: each
// tensor lies in the part that the index says, and the parts have no others.
func openSharded(path string) (_ *File, err error) {
	where, err := readIndex(path)
	if err != nil {
		return nil, err
	}
	parts := slices.Sorted(maps.Values(where))
	parts = slices.Compact(parts)
	var missing []string
	for _, name := range parts {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), name)); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s is the index of a sharded file with %d parts, of which %d are not there: %s; put them into %s", path, len(parts), len(missing), few(missing), filepath.Dir(path))
	}
	f := &File{name: path, in: map[string]int{}, h: &header{tensors: map[string]Info{}}}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	for i, name := range parts {
		p, err := Open(filepath.Join(filepath.Dir(path), name))
		if err != nil {
			return nil, fmt.Errorf("part %d of %d of the sharded file %s: %w", i+1, len(parts), path, err)
		}
		f.parts = append(f.parts, p.parts[0])
		f.size += p.size
		for _, t := range p.Names() {
			if w, ok := where[t]; !ok || w != name {
				said := "not at all"
				if ok {
					said = "in " + w
				}
				return nil, fmt.Errorf("%s: the tensor %q lies in %s, and the index has it %s: index and parts are not of one download", path, t, name, said)
			}
			f.in[t], f.h.tensors[t] = i, p.h.tensors[t]
		}
	}
	var lost []string
	for t, name := range where {
		if _, ok := f.in[t]; !ok {
			lost = append(lost, fmt.Sprintf("%q of %s", t, name))
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		return nil, fmt.Errorf("%s: %d of the index's %d tensors are not in their parts: %s: index and parts are not of one download", path, len(lost), len(where), few(lost))
	}
	f.h.names = slices.Sorted(maps.Keys(f.in))
	return f, nil
}

// readIndex returns the index's part of each tensor. A part is a file beside it.
func readIndex(path string) (map[string]string, error) {
	b, err := regular.Read(path, maxIndex)
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		if what := sniff.Instead(b, sniff.Text); what != "" {
			return nil, fmt.Errorf("%s is not the index of a sharded file: %s", path, what)
		}
		return nil, fmt.Errorf("%s: the index of a sharded file: %w", path, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("%s: it has no weight_map, as the index of a sharded file has", path)
	}
	for _, t := range slices.Sorted(maps.Keys(index.WeightMap)) {
		name := index.WeightMap[t]
		switch {
		case name == "" || name != filepath.Base(name) || name == "." || name == "..":
			return nil, fmt.Errorf("%s: the part %q of the tensor %q is not the name of a file beside the index", path, name, t)
		case !strings.HasSuffix(name, ".safetensors"):
			return nil, fmt.Errorf("%s: its parts are no safetensors files (%s): convert them in Python with safetensors.torch.save_file", path, name)
		}
	}
	return index.WeightMap, nil
}
