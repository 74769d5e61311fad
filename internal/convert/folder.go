package convert

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// folder writes pictures and a manifest.jsonl, a line a sample, as data.kind
// folder reads it.
type folder struct {
	dir      string
	file     *os.File
	out      *bufio.Writer
	n        int
	size     int64 // of the manifest
	episodes map[string]int

	each    int // samples of a part
	keep    func(any) error
	written []string // pictures of the part that is being written
	fresh   []string // episodes of it
	resumed int      // samples
}

// folderPart is what a folder is after a part.
type folderPart struct {
	N        int
	Size     int64
	Episodes []string // new ones
}

// partSamples are the samples of a part.
const partSamples = 2000

func newFolder(dir string, o Options, keep func(any) error) *folder {
	return &folder{dir: dir, episodes: map[string]int{}, each: cmp.Or(o.partSamples, partSamples), keep: keep}
}

func (d *folder) start(frame) error { return nil }

// resume goes on behind the last of the parts: the manifest is cut there.
func (d *folder) resume(parts [][]byte) (err error) {
	var p folderPart
	for _, b := range parts {
		p = folderPart{}
		if err := decoded(b, &p); err != nil {
			return err
		}
		for _, e := range p.Episodes {
			d.episodes[e] = len(d.episodes)
		}
	}
	d.n, d.resumed, d.size = p.N, p.N, p.Size
	if d.file, err = os.OpenFile(filepath.Join(d.dir, "manifest.jsonl"), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return err
	}
	if info, err := d.file.Stat(); err != nil || info.Size() < p.Size {
		return fmt.Errorf("%s is shorter than it was (%w); --afresh begins anew", d.file.Name(), err)
	}
	if err = d.file.Truncate(p.Size); err == nil {
		_, err = d.file.Seek(p.Size, io.SeekStart)
	}
	d.out = bufio.NewWriter(d.file)
	return err
}

// own is sink's: the manifest, which is cut, and pictures by their numbers.
func (d *folder) own(rel string) bool {
	name, _, _ := strings.Cut(rel[strings.LastIndexByte(rel, '/')+1:], ".")
	n, err := strconv.Atoi(name)
	return rel == "manifest.jsonl" || err == nil && n < d.resumed
}

// part brings what there is to the disk.
func (d *folder) part() error {
	err := d.out.Flush()
	if err == nil {
		err = d.file.Sync()
	}
	dirs := map[string]bool{d.dir: true}
	for _, path := range d.written {
		if err == nil {
			err = syncFile(path)
		}
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		if err == nil {
			err = syncUp(dir, d.dir)
		}
	}
	d.written = nil
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d *folder) add(f frame) (err error) {
	if d.n > d.resumed && d.n%d.each == 0 {
		if err := d.part(); err != nil {
			return err
		}
		if err := d.keep(folderPart{d.n, d.size, d.fresh}); err != nil {
			return err
		}
		d.fresh = nil
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
		d.written = append(d.written, path)
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
			d.episodes[f.episode], d.fresh = e, append(d.fresh, f.episode)
		}
		line["episode"] = e
	}
	d.n++
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	n, err := d.out.Write(append(b, '\n'))
	d.size += int64(n)
	return err
}

func (d *folder) finish() error {
	err := d.part()
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
