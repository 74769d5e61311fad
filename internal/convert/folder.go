package convert

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// folder writes pictures and a manifest.jsonl, a line a sample, as data.kind
// folder reads it.
type folder struct {
	dir      string
	file     *os.File
	out      *bufio.Writer
	n        int
	episodes map[string]int
}

func newFolder(dir string) sink { return &folder{dir: dir, episodes: map[string]int{}} }

func (d *folder) add(f frame) (err error) {
	if d.file == nil {
		if d.file, err = os.Create(filepath.Join(d.dir, "manifest.jsonl")); err != nil {
			return err
		}
		d.out = bufio.NewWriter(d.file)
	}
	line := map[string]any{"instruction": f.task}
	pictures := map[string]string{}
	for name, p := range f.pictures {
		short := strings.TrimPrefix(name, "observation.images.")
		rel := filepath.Join(short, fmt.Sprintf("%03d", d.n/1000), fmt.Sprintf("%06d%s", d.n, p.ext()))
		path := filepath.Join(d.dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path, p.file, 0o666); err != nil {
			return err
		}
		pictures[short] = filepath.ToSlash(rel)
	}
	switch len(pictures) {
	case 0:
	case 1:
		for _, rel := range pictures {
			line["image"] = rel
		}
	default:
		line["images"] = pictures
	}
	for name, n := range f.numbers {
		key := map[string]string{actionName: "action", stateName: "state"}[name]
		if key == "" {
			return fmt.Errorf("it has %s, for which a folder has no place: --form lerobot keeps it", name)
		}
		if line[key] = n.floats; n.whole != nil {
			line[key] = n.whole
		}
	}
	if f.episode != "" {
		e, ok := d.episodes[f.episode]
		if !ok {
			e = len(d.episodes)
			d.episodes[f.episode] = e
		}
		line["episode"] = e
	}
	d.n++
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = d.out.Write(append(b, '\n'))
	return err
}

func (d *folder) finish() error {
	err := d.out.Flush()
	if err == nil {
		err = d.file.Sync()
	}
	if cerr := d.file.Close(); err == nil {
		err = cerr
	}
	d.file = nil
	return err
}

func (d *folder) abandon() {
	if d.file != nil {
		d.file.Close()
	}
}
