package data

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// ManifestName is the file that lists a folder's samples, one JSON object a line:
//
//	{"image": "img/0001.png", "instruction": "pick up the red cube", "action": [0.01, 0, 0, 0, 0, 0, 1], "episode": 3}
//
// image is a PNG or JPEG file, relative to the folder; action is in physical
// units; episode groups the lines of one episode for the held-out split, and
// either all lines have it or none, and then each line is an episode of its
// own. Empty lines are passed over, other keys ignored.
const ManifestName = "manifest.jsonl"

const (
	maxManifestLine = 1 << 20
	maxImageFile    = 1 << 28
)

type manifestLine struct {
	Image       *string   `json:"image"`
	Instruction *string   `json:"instruction"`
	Action      []float64 `json:"action"`
	Episode     *int64    `json:"episode"`
}

func openFolder(o *opening) (*set, error) {
	if err := o.lacks("labels", "features"); err != nil {
		return nil, err
	}
	dir, err := o.file()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir) // resolves names inside dir only, symbolic links too
	if err != nil {
		return nil, err
	}
	t, sum, err := o.readManifest(root, filepath.Join(dir, ManifestName))
	if err != nil {
		root.Close()
		return nil, err
	}
	t.close = root.Close
	d, err := o.dataset(sum, t)
	if err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

// readManifest reads all lines and checks every picture's header on the way.
// The fingerprint is over the manifest and the pictures' bytes.
func (o *opening) readManifest(root *os.Root, path string) (*table, string, error) {
	f, err := root.Open(ManifestName)
	if err != nil {
		return nil, "", fmt.Errorf("the folder's list of samples: %w", err)
	}
	defer f.Close()
	fp := newPrint("folder").add("holdout", o.holdoutLabel())
	var total int64
	if o.watch.Progress != nil {
		total = countLines(f)
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, "", err
		}
	}
	r, manifest := hashing(f)
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxManifestLine)
	s := &manifestScan{o: o, root: root, fp: fp, table: &table{}, index: map[int64]int32{}}
	for line := 1; sc.Scan(); line++ {
		if err := o.tick(int64(line-1), total, "lines"); err != nil {
			return nil, "", err
		}
		if len(sc.Bytes()) == 0 {
			continue
		}
		if err := s.line(line, sc.Bytes()); err != nil {
			if err = o.pass(Fault{Kind: "line", File: path, Line: line}, fmt.Errorf("%s:%d: %w", path, line, err)); err != nil {
				return nil, "", err
			}
		}
	}
	t, images, lines := s.table, s.images, s.lines
	if err := sc.Err(); err != nil {
		return nil, "", fmt.Errorf("%s: after line %d: %w", path, max(1, len(lines)), err)
	}
	if len(t.episode) == 0 {
		return nil, "", fmt.Errorf("%s has no samples", path)
	}
	t.texts = s.texts.texts
	t.eps = len(t.numbers)
	if s.withEpisode == 0 {
		t.eps = len(t.episode)
	}
	t.origin = func(i int) string {
		if images == nil {
			return fmt.Sprintf("%s:%d", path, lines[i])
		}
		return fmt.Sprintf("%s:%d, image %q", path, lines[i], images[i])
	}
	t.image = func(i int) (Image, error) {
		file, err := readImageFile(root, images[i])
		if err == nil {
			_, _, err = CheckImage(file)
		}
		if err != nil {
			return Image{}, fmt.Errorf("%s:%d: image %q: %w", path, lines[i], images[i], err)
		}
		return Image{Encoded: file}, nil
	}
	fp.add("manifest", hex.EncodeToString(manifest.Sum(nil)))
	return t, fp.sum(), nil
}

// manifestScan is what the lines so far have given.
type manifestScan struct {
	o           *opening
	root        *os.Root
	fp          print
	table       *table
	texts       textIndex
	images      []string
	lines       []int           // of each sample
	index       map[int64]int32 // episode number → index
	withEpisode int             // samples that have one
}

// line adds the sample of a line. All of it is read before any of it is kept.
func (s *manifestScan) line(line int, text []byte) error {
	o, t := s.o, s.table
	var l manifestLine
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("not the JSON object expected: %w", err)
	}
	i := len(t.episode)
	if i > 0 && (l.Episode != nil) != (s.withEpisode > 0) {
		return errors.New("some lines have an episode and some do not; give it on all or none")
	}
	if i >= maxSamples {
		return fmt.Errorf("more than %d samples", maxSamples)
	}
	if o.needs.Tokens && l.Instruction == nil {
		return errors.New("the key instruction is missing")
	}
	if o.needs.Actions {
		if len(l.Action) == 0 {
			return errors.New("the key action is missing or empty")
		}
		if i > 0 && len(l.Action) != t.dim {
			return fmt.Errorf("action has %d values, the first line's has %d", len(l.Action), t.dim)
		}
		for _, a := range l.Action {
			if math.Abs(a) > math.MaxFloat32 {
				return fmt.Errorf("action value %v does not fit float32", a)
			}
		}
	}
	if o.needs.Image[0] > 0 {
		if l.Image == nil {
			return errors.New("the key image is missing")
		}
		if !o.lenient() {
			file, err := readImageFile(s.root, *l.Image)
			if err == nil {
				_, _, err = CheckImage(file)
			}
			if err != nil {
				return fmt.Errorf("image %q: %w", *l.Image, err)
			}
			s.fp.h.Write(file)
			s.fp.add("size", len(file))
		}
		s.images = append(s.images, *l.Image)
	}

	ep := int32(i)
	if l.Episode != nil {
		s.withEpisode++
		e, ok := s.index[*l.Episode]
		if !ok {
			e = int32(len(t.numbers))
			s.index[*l.Episode] = e
			t.numbers = append(t.numbers, *l.Episode)
		}
		ep = e
	}
	t.episode = append(t.episode, ep)
	s.lines = append(s.lines, line)
	if o.needs.Tokens {
		t.text = append(t.text, s.texts.add(*l.Instruction))
	}
	if o.needs.Actions {
		t.dim = len(l.Action)
		for _, a := range l.Action {
			t.actions = append(t.actions, float32(a))
		}
	}
	return nil
}

// readImageFile reads a regular file of bounded size from inside root. Names
// that lead outside are refused, by the name or by a symbolic link.
func readImageFile(root *os.Root, name string) ([]byte, error) {
	if !filepath.IsLocal(name) {
		return nil, errors.New("the path leads outside the folder; it must be relative and stay inside")
	}
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxImageFile {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", maxImageFile)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxImageFile))
}
