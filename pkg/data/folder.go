package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// ManifestName is the file that lists a folder's samples, one JSON object a line:
//
//	{"image": "img/0001.png", "instruction": "pick up the red cube", "action": [0.01, 0, 0, 0, 0, 0, 1], "episode": 3}
//
// image is a PNG or JPEG file, relative to the folder; action is in physical
// units; episode groups the lines of one episode for the held-out split, and
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
	TextKeys   `yaml:",inline"`
	FileKeys   `yaml:",inline"`
	ActionKeys `yaml:",inline"`
}

func folderKind() job.Kind {
	return job.Kind{Name: "folder", About: "pictures and a manifest.jsonl", Options: Folder{ActionKeys: ActionKeys{Normalize: Scaling{Mode: MeanStd}}}}
}

// Gives is job.DataOptions'.
func (Folder) Gives() []string { return robotFeatures() }

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
	k.TextKeys.check(c)
	k.FileKeys.check(c)
	k.ActionKeys.check(c)
	checkChannels(c)
}

// Open is Options'.
func (k Folder) Open(o *Opening) (*Set, error) {
	for _, f := range manifestWants() {
		o.calls(f.Name, manifestKey(f.Name))
	}
	dir, err := o.file()
	if err != nil {
		return nil, err
	}
	root, err := openFolderRoot(dir)
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
func (o *Opening) readManifest(root *folderRoot, path string) (*table, string, error) {
	scan, err := o.scanFiles(root.dir, NewFingerprint("scan of folder").Add("features", o.wanted()).Add("holdout", o.Division()))
	if err != nil {
		return nil, "", err
	}
	defer scan.keep()
	t, sum, err := o.readLines(root, path, scan, true)
	if errors.Is(err, errStale) {
		t, sum, err = o.readLines(root, path, scan, false)
	}
	return t, sum, err
}

// readLines is readManifest; again says that pictures need not be read that the
// Scan knows. If that does not hold, its error is errStale.
func (o *Opening) readLines(root *folderRoot, path string, scan *scanning, again bool) (*table, string, error) {
	f, err := root.manifest()
	if err != nil {
		return nil, "", fmt.Errorf("the folder's list of samples, %s: %w", path, err)
	}
	defer f.Close()
	fp := NewFingerprint("folder").Add("holdout", o.Division())
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
	s := &manifestScan{o: o, root: root, scan: scan, fp: fp, table: &table{}, index: map[int64]int32{}}
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
	t, images, lines := s.table, s.images, s.lines
	if len(t.episode) == 0 {
		return nil, "", fmt.Errorf("%s has no samples%s", path, emptyFile(f))
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
		return fmt.Sprintf("%s:%d, image %q", path, lines[i], clipped(images[i]))
	}
	t.place = func(i int) Fault {
		f := Fault{File: path, Line: lines[i]}
		if t.numbers != nil {
			f.Episode, f.Frame = ptr(t.numbers[t.episode[i]]), ptr(t.frame(i))
		}
		return f
	}
	t.short = func(i, frame int) string {
		s := fmt.Sprintf("%s:%d", ManifestName, lines[i])
		if images != nil {
			s += " (" + clipped(images[i]) + ")"
		}
		return s
	}
	t.picture(models.Images).read = func(i int) (Image, error) {
		file, err := root.read(images[i])
		if err == nil {
			_, _, err = checkImage(file)
		}
		if err == nil {
			err = s.unchanged(i, file)
		}
		if err != nil {
			return Image{}, fmt.Errorf("%s:%d: image %q: %w", path, lines[i], clipped(images[i]), err)
		}
		return Image{Encoded: file}, nil
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
	known       *folderKnown    // of the Scan, nil where all is to be read
	own         []folderPicture // of each sample
	fp          Fingerprint
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
	l, err := parseManifestLine(text, o.Wants)
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
	if n := t.float(models.Actions).dim; o.Wants.Has(models.Actions) && i > 0 && len(l.action) != n {
		return fmt.Errorf("action has %d values, the first line's has %d", len(l.action), n)
	}
	if o.Wants.Has(models.Images) {
		p := t.picture(models.Images)
		switch {
		case o.lenient():
			s.own = append(s.own, s.expected(l.image, i))
		case o.skips(i):
			p.sums, s.own = append(p.sums, 0), append(s.own, folderPicture{})
		default:
			sum, err := s.picture(l.image, i)
			if err != nil {
				return fmt.Errorf("image %q: %w", clipped(l.image), err)
			}
			p.sums = append(p.sums, sum)
		}
		s.images = append(s.images, l.image)
	}

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
	if o.Wants.Has(models.Actions) {
		a := t.float(models.Actions)
		a.dim, a.rows = len(l.action), append(a.rows, l.action...)
	}
	return nil
}
