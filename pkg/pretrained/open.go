package pretrained

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/models"
)

// Found is an encoder in a file. Whoever opened it closes it.
type Found struct {
	Path     string
	Backbone models.Backbone
	Side     int      // of the pictures that it was trained on; 0: it reads words
	Dropped  []string // tensors of the file that are no part of it, such as heads
	Assumed  []string // what nothing in the file says

	about string
	s     *sight
}

// Close closes the file.
func (f *Found) Close() error { return f.s.file.Close() }

// String is one line for people.
func (f *Found) String() string {
	b := f.Backbone
	s := fmt.Sprintf("%s, %d blocks of width %d, %d heads", f.about, b.Layers, b.Width, b.Heads)
	if b.Patch > 0 {
		s += fmt.Sprintf(", patches of %d, pictures of %d", b.Patch, f.Side)
	} else {
		s += fmt.Sprintf(", %d words", b.Vocab)
	}
	return s
}

// Open recognises the encoder that reads role in the weights at path: a safetensors
// file, the index of a sharded one, or a folder with either. What stands beside them
// in config.json is read too.
func Open(path string, role Role) (*Found, error) {
	file, err := safetensors.OpenModel(path)
	if err != nil {
		return nil, err
	}
	found, err := recognise(file, path, role)
	if err != nil {
		file.Close()
		return nil, err
	}
	return found, nil
}

func recognise(file *safetensors.File, path string, role Role) (*Found, error) {
	c, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	var near []guess
	for _, f := range families() {
		if f.role != role {
			continue
		}
		for _, prefix := range prefixes(file, f.mark) {
			s := &sight{family: &f, file: file, prefix: prefix, config: c.of(f.part)}
			s.look()
			used, strange := s.all()
			g := guess{s: s, used: len(used), strange: strange, missing: s.missing()}
			if kind := c.kind(); kind != "" && f.types != nil && !slices.Contains(f.types, kind) {
				g.other = kind
			}
			near = append(near, g)
			if len(strange)+len(g.missing) > 0 || g.other != "" {
				continue
			}
			if err := s.read(); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			x := &Found{Path: path, Backbone: s.b, Side: s.side, Assumed: s.assumed, about: f.about, s: s}
			for _, name := range file.Names() {
				if !used[name] {
					x.Dropped = append(x.Dropped, name)
				}
			}
			return x, nil
		}
	}
	return nil, unknown(file, path, role, near)
}

// prefixes are what stands before mark in the file's names, the shortest first.
func prefixes(file *safetensors.File, mark string) (out []string) {
	for _, name := range file.Names() {
		if p, ok := strings.CutSuffix(name, mark); ok && (p == "" || strings.HasSuffix(p, ".")) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	return out
}

// guess is a family that a file might be of.
type guess struct {
	s                *sight
	used             int
	strange, missing []string
	other            string // model_type of config.json, which is not the family's
}

// unknown says which family is the nearest, and what differs.
func unknown(file *safetensors.File, path string, role Role, near []guess) error {
	var all []string
	for _, f := range families() {
		if f.role == role {
			all = append(all, f.about)
		}
	}
	known := strings.Join(all, ", ")
	if len(near) == 0 {
		first := ""
		if n := file.Names(); len(n) > 0 {
			first = fmt.Sprintf("; its first tensor is %s", n[0])
		}
		return fmt.Errorf("%s: none of its %d tensors is of an encoder of %s that is known here%s\nknown are %s; init.map takes other weights into the model's own encoders", path, len(file.Names()), role, first, known)
	}
	g := slices.MinFunc(near, func(a, b guess) int {
		return cmp.Compare(len(a.strange)+len(a.missing)-a.used, len(b.strange)+len(b.missing)-b.used)
	})
	var differs []string
	if g.other != "" {
		differs = append(differs, fmt.Sprintf("%s says model_type %q, want %s", filepath.Base(g.s.config.path), g.other, strings.Join(g.s.types, " or ")))
	}
	if n := len(g.missing); n > 0 {
		differs = append(differs, fmt.Sprintf("%d tensors are not there: %s", n, few(g.missing)))
	}
	if n := len(g.strange); n > 0 {
		differs = append(differs, fmt.Sprintf("it has %d that such an encoder has no place for: %s", n, few(g.strange)))
	}
	return fmt.Errorf("%s: an encoder of %s that is not known here; the nearest is %s, of which %d tensors are there, and this differs: %s\nknown are %s", path, role, g.s.about, g.used, strings.Join(differs, "; "), known)
}

// few lists some of many names.
func few(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
