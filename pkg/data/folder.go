package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// ManifestName is the file that lists a folder's samples, one JSON object a line:
//
//	{"image": "img/0001.png", "instruction": "pick up the red cube", "action": [0.01, 0, 0, 0, 0, 0, 1], "episode": 3}
//
// or, with several cameras, which data.cameras names, and a state, of which
// data.state names the keys:
//
//	{"images": {"front": "f/0001.png", "wrist": "w/0001.png"}, "state": [0.1, 0.4], "action": [0.01, 0], "instruction": "pick", "episode": 3}
//
// A picture is a PNG or JPEG file, relative to the folder; action and state are in
// physical units, and action_names and state_names, lists of texts, may name their
// dimensions in any line; the lines of an episode stand in the order of its frames;
// episode groups the lines of one episode for the held-out split, and
// either all lines have it or none, and then each line is an episode of its
// own. Blank lines are passed over and other keys ignored; a byte order mark and
// CRLF are accepted. See parseManifestLine for what is refused.
const ManifestName = "manifest.jsonl"

const (
	maxManifestLine = 1 << 20
	maxImageFile    = 1 << 28
)

// Folder is the options of folder data.
type Folder struct {
	FrameKeys   `yaml:",inline"`
	WordKeys    `yaml:",inline"`
	FileKeys    `yaml:",inline"`
	ActionKeys  `yaml:",inline"`
	AugmentKeys `yaml:",inline"`
}

func folderKind() job.Kind {
	return job.Kind{Name: "folder", About: "pictures and a manifest.jsonl", Options: Folder{ActionKeys: ActionKeys{Normalize: Scaling{Mode: MeanStd}}}}
}

// Gives is job.DataOptions'.
func (k Folder) Gives() []string { return k.gives() }

// Padding is job.DataOptions'.
func (Folder) Padding() int { return padToken }

// Resolve is job.Options'.
func (k Folder) Resolve(j *job.Job, given func(string) bool) job.Options {
	holdout(j, given, 0.1)
	return k
}

// Check is job.Options'.
func (k Folder) Check(c *job.Checker) {
	checkNoSplits(c)
	k.FrameKeys.check(c, "")
	for i, key := range k.State {
		if given := (lineForm{}).keys(); key != "action" && slices.Contains(slices.Collect(maps.Keys(given)), key) {
			c.Bad(fmt.Sprintf("data.state[%d] data.state", i), "%s is no key of numbers; want those of a line that are the state, such as state", key)
		}
	}
	k.WordKeys.check(c)
	k.FileKeys.check(c)
	k.ActionKeys.check(c)
	k.AugmentKeys.check(c)
	checkChannels(c)
}

// Open is Options'.
func (k Folder) Open(o *Opening) (*Set, error) {
	o.callsViews(slices.Concat(k.Cameras, []string{"image"})[:max(len(k.Cameras), 1)])
	o.calls(models.Instruction, "instruction")
	o.calls(models.Actions, "action")
	o.calls(models.State, strings.Join(k.State, "+"))
	dir, err := o.file()
	if err != nil {
		return nil, err
	}
	root, err := openFolderRoot(dir)
	if err != nil {
		return nil, err
	}
	t, sum, err := o.readManifest(root, filepath.Join(dir, ManifestName), k.lines(o.Wants))
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
func (o *Opening) readManifest(root *folderRoot, path string, form lineForm) (*table, string, error) {
	recipe := NewFingerprint("scan of folder").Add("features", o.wanted()).Add("holdout", o.Division())
	form.sign(recipe)
	scan, err := o.scanFiles(root.dir, recipe)
	if err != nil {
		return nil, "", err
	}
	defer scan.keep()
	t, sum, err := o.readLines(root, path, form, scan, true)
	if errors.Is(err, errStale) {
		t, sum, err = o.readLines(root, path, form, scan, false)
	}
	return t, sum, err
}

// sign adds to a fingerprint what a form has beside the one picture and the action.
func (f lineForm) sign(p Fingerprint) {
	if f.cameras != nil {
		p.Add("cameras", fmt.Sprintf("%q", f.cameras))
	}
	if f.state != nil {
		p.Add("state", fmt.Sprintf("%q", f.state))
	}
}

// readLines is readManifest; again says that pictures need not be read that the
// Scan knows. If that does not hold, its error is errStale.
func (o *Opening) readLines(root *folderRoot, path string, form lineForm, scan *scanning, again bool) (*table, string, error) {
	f, err := root.manifest()
	if err != nil {
		return nil, "", fmt.Errorf("the folder's list of samples, %s: %w", path, err)
	}
	defer f.Close()
	fp := NewFingerprint("folder").Add("holdout", o.Division())
	form.sign(fp)
	var total int64
	if o.watch.Progress != nil {
		total = countLines(f)
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, "", err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	r, manifest := hashing(f)
	o.pictures = pictureTally{}
	s := &manifestScan{o: o, root: root, form: form, scan: scan, fp: fp, table: &table{}, index: map[int64]int32{}}
	var was *known
	if again {
		if was, err = s.recall(); err != nil {
			return nil, "", err
		}
	}
	err = manifestLines(r, path, func(line int) error { return o.tick(int64(line-1), total, "lines") }, s.line, func(line int, err error) error {
		if len(s.lines) == 0 { // nothing could be read so far: is it such a file at all?
			if what := insteadOfText(f); what != "" {
				return fmt.Errorf("%s has no samples: %s", path, what)
			}
		}
		if errors.Is(err, errStale) {
			return err
		}
		return o.pass(Fault{Kind: "line", File: path, Line: line}, err)
	})
	if err != nil {
		return nil, "", err
	}
	t, lines := s.table, s.lines
	if len(t.episode) == 0 {
		return nil, "", fmt.Errorf("%s has no samples%s", path, emptyFile(f))
	}
	t.texts = s.texts.texts
	t.eps = len(t.numbers)
	if s.withEpisode == 0 {
		t.eps = len(t.episode)
	}
	t.origin = func(i int) string {
		if form.pictures() != 1 {
			return fmt.Sprintf("%s:%d", path, lines[i])
		}
		return fmt.Sprintf("%s:%d, image %q", path, lines[i], clipped(s.image(0, i)))
	}
	t.place = func(i int) Fault {
		f := Fault{File: path, Line: lines[i]}
		if t.numbers != nil {
			f.Episode, f.Frame = ptr(t.numbers[t.episode[i]]), ptr(t.frame(i))
		}
		return f
	}
	t.short = func(i, frame int) string {
		short := fmt.Sprintf("%s:%d", ManifestName, lines[i])
		if form.pictures() == 1 {
			short += " (" + clipped(s.image(0, i)) + ")"
		}
		return short
	}
	if form.cameras != nil {
		t.camera = form.cameras[0]
	}
	for n := range form.pictures() {
		t.picture(models.View(n, 0)).read = func(i int) (Image, error) {
			file, err := root.read(s.image(n, i))
			if err == nil {
				_, _, err = checkImage(file)
			}
			if err == nil {
				err = s.unchanged(i*form.pictures()+n, file)
			}
			if err != nil {
				return Image{}, fmt.Errorf("%s:%d: image %q: %w", path, lines[i], clipped(s.image(n, i)), err)
			}
			return Image{Encoded: file}, nil
		}
	}
	content := hex.EncodeToString(manifest.Sum(nil))
	if was != nil {
		if content != hex.EncodeToString(was.content[:]) || len(s.own) != len(s.known.pictures) {
			return nil, "", errStale
		}
		o.pictures = s.known.tally
		scan.now.files[ManifestName] = was.with(folderKnown{s.known.fingerprint, s.known.tally, s.own}.memo())
		return t, s.known.fingerprint, nil
	}
	sum := fp.Add("manifest", content).Sum()
	if len(s.own) == 0 {
		return t, sum, nil
	}
	k := folderKnown{sum, o.pictures, s.own}
	return t, sum, scan.remember(s.manifest(), "", stampOf(info), content, k.memo(), k.bytes())
}

// manifestScan is what the lines so far have given.
type manifestScan struct {
	o           *Opening
	root        *folderRoot
	scan        *scanning
	form        lineForm
	known       *folderKnown    // of the Scan, nil where all is to be read
	own         []folderPicture // of each sample, one of each camera
	fp          Fingerprint
	table       *table
	texts       textIndex
	images      []string        // likewise
	lines       []int           // of each sample
	index       map[int64]int32 // episode number → index
	withEpisode int             // samples that have one
}

// line adds the sample of a line. All of it is read before any of it is kept.
func (s *manifestScan) line(line int, text []byte) error {
	o, t := s.o, s.table
	l, err := parseManifestLine(text, s.form)
	if err != nil {
		return err
	}
	i := len(t.episode)
	if i > 0 && (l.episode != nil) != (s.withEpisode > 0) {
		return errors.New("some lines have an episode and some do not; give it on all or none")
	}
	if i >= maxSamples {
		return fmt.Errorf("more than %d samples", maxSamples)
	}
	vectors := []struct {
		name, key, names string
		values           []float32
	}{{models.State, strings.Join(s.form.state, "+"), stateNames, l.state}, {models.Actions, "action", actionNames, l.action}}
	for _, v := range vectors {
		if !o.Wants.Has(v.name) {
			continue
		}
		c, names := t.float(v.name), l.names[v.names]
		switch {
		case i > 0 && len(v.values) != c.dim:
			return fmt.Errorf("%s has %d values, the first line's has %d", v.key, len(v.values), c.dim)
		case names == nil:
		case len(names) != len(v.values):
			return fmt.Errorf("%s has %d names, and %s %d values", v.names, len(names), v.key, len(v.values))
		case c.labels.Names != nil && !slices.Equal(names, c.labels.Names):
			return fmt.Errorf("%s differ from those of a line before it; give them once", v.names)
		}
	}
	columns := make([]*pictureColumn, s.form.pictures())
	own := len(s.own)
	sums := make([]uint32, len(columns))
	for n := range columns {
		columns[n] = t.picture(models.View(n, 0))
		switch {
		case o.lenient():
			s.own = append(s.own, s.expected(l.images[n], own+n))
		case o.skips(i):
			s.own = append(s.own, folderPicture{})
		default:
			if sums[n], err = s.picture(l.images[n], own+n); err != nil {
				s.own = s.own[:own]
				return fmt.Errorf("image %q: %w", clipped(l.images[n]), err)
			}
		}
	}
	for n, c := range columns {
		if !o.lenient() {
			c.sums = append(c.sums, sums[n])
		}
	}
	s.images = append(s.images, l.images...)

	ep := int32(i)
	if l.episode != nil {
		s.withEpisode++
		e, ok := s.index[*l.episode]
		if !ok {
			e = int32(len(t.numbers))
			s.index[*l.episode] = e
			t.numbers = append(t.numbers, *l.episode)
		}
		ep = e
	}
	t.episode = append(t.episode, ep)
	s.lines = append(s.lines, line)
	if o.Wants.Has(models.Instruction) {
		t.text = append(t.text, s.texts.add(l.instruction))
	}
	for _, v := range vectors {
		if o.Wants.Has(v.name) {
			c := t.float(v.name)
			c.dim, c.rows = len(v.values), append(c.rows, v.values...)
			if names := l.names[v.names]; names != nil {
				c.labels.Names = names
			}
		}
	}
	return nil
}

// image is the name of a camera's picture of sample i.
func (s *manifestScan) image(camera, i int) string { return s.images[i*s.form.pictures()+camera] }
