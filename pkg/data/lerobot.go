package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/pkg/data/internal/lerobot"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The lerobot source reads a data set of robot episodes as LeRobot writes them,
// of the forms 2.0, 2.1 and 3.0. Each frame of an episode is a sample: the
// cameras' pictures, the task as the instruction, and the action. Pictures are in
// the tables, or frames of videos (framestore.go).
//
// Open reads what the data set says of itself and the columns of numbers; a
// picture is read and checked when its sample is asked for, and data check reads
// all of them. An episode's number, for data.holdout.episodes, is its
// episode_index.

// LeRobot is the options of lerobot data.
type LeRobot struct {
	Split       string   `yaml:"split,omitempty"`  // of meta/info.json
	Camera      string   `yaml:"camera,omitempty"` // feature of pictures, e.g. observation.images.front, or front
	Action      []string `yaml:"action,omitempty"` // the features that the action is made of, in order; nil: action
	FrameKeys   `yaml:",inline"`
	VideoKeys   `yaml:",inline"`
	WordKeys    `yaml:",inline"`
	FileKeys    `yaml:",inline"`
	ActionKeys  `yaml:",inline"`
	AugmentKeys `yaml:",inline"`
}

func lerobotKind() job.Kind {
	return job.Kind{Name: "lerobot", About: "a LeRobot data set (2.0, 2.1, 3.0)",
		Options: LeRobot{Split: "train", ActionKeys: ActionKeys{Normalize: Scaling{Mode: MeanStd}}}}
}

// Gives is job.DataOptions'.
func (k LeRobot) Gives() []string { return k.gives() }

// Padding is job.DataOptions'.
func (LeRobot) Padding() int { return padToken }

// Resolve is job.Options'.
func (k LeRobot) Resolve(j *job.Job, given func(string) bool) job.Options {
	k.Split = cmp.Or(k.Split, "train")
	holdout(j, given, 0.1)
	return k
}

// Check is job.Options'.
func (k LeRobot) Check(c *job.Checker) {
	k.FrameKeys.check(c, k.Camera)
	k.VideoKeys.check(c)
	k.WordKeys.check(c)
	k.FileKeys.check(c)
	k.ActionKeys.check(c)
	k.AugmentKeys.check(c)
	checkChannels(c)
}

func (k LeRobot) split() string { return k.Split }

func (k LeRobot) withSplit(name string) Options {
	k.Split = name
	return k
}

// apart refuses a held-out split that has episodes of the training split.
func (k LeRobot) apart(path, held string) error {
	set, err := lerobot.Open(path)
	if err != nil {
		return err
	}
	of := map[int64]bool{}
	train, err := set.Split(k.Split)
	if err != nil {
		return keyError("data.split", "data.split: %w", err)
	}
	for _, e := range train {
		of[e.Index] = true
	}
	rest, err := set.Split(held)
	if err != nil {
		return keyError("data.holdout.split", "data.holdout.split: %w", err)
	}
	for _, e := range rest {
		if of[e.Index] {
			return keyError("data.holdout.split", "data.split %s and data.holdout.split %s both have episode %d", k.Split, held, e.Index)
		}
	}
	return nil
}

// Open is Options'.
func (k LeRobot) Open(o *Opening) (*Set, error) {
	dir, err := o.file()
	if err != nil {
		return nil, err
	}
	set, err := lerobot.Open(dir)
	if err != nil {
		return nil, err
	}
	episodes, err := set.Split(k.Split)
	if err != nil {
		return nil, keyError("data.split", "data.split: %w", err)
	}
	fields, err := k.fields(o, set.Info)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, lerobot.InfoFile), err)
	}
	o.rate = set.Info.FPS
	o.callsViews(fields.cameras)
	o.calls(models.Instruction, "task")
	for _, v := range fields.vectors {
		o.calls(v.name, strings.Join(v.of, "+"))
	}
	s := &lerobotScan{o: o, set: set, fields: fields, videos: map[string]*videoFrames{}, table: &table{}, read: map[string]bool{}, listed: map[int64]bool{}, faulty: map[int64]bool{}}
	for _, camera := range fields.cameras {
		if set.Info.Features[camera].Video() {
			if s.videos[camera], err = k.open(o, set, camera, episodes); err != nil {
				return nil, err
			}
		}
	}
	if s.scan, err = o.scanFiles(dir, s.recipe()); err != nil {
		return nil, err
	}
	defer s.scan.keep()
	fp := NewFingerprint("lerobot").Add("camera", strings.Join(fields.cameras, " ")).Add("action", strings.Join(fields.vector(models.Actions).of, " ")).
		Add("split", k.Split).Add("holdout", o.Division())
	if v := fields.vector(models.State); v.name != "" {
		fp.Add("state", strings.Join(v.of, " "))
	}
	if err := s.all(episodes, fp); err != nil {
		return nil, err
	}
	t := s.table
	if len(t.episode) == 0 {
		return nil, fmt.Errorf("%s: split %s has no frames", dir, k.Split)
	}
	t.texts, t.camera = s.texts.texts, fields.short()
	t.origin, t.place, t.short = s.origin, s.place, s.short
	for n, camera := range fields.cameras {
		p := t.picture(models.View(n, 0))
		p.read = func(i int) (Image, error) { return s.image(camera, i) }
		if v := s.videos[camera]; v != nil {
			p.sums = v.sums()
			v.print(fp)
		}
	}
	t.close = s.close
	d, err := o.dataset(fp.Sum(), t)
	if err != nil {
		s.close()
		return nil, err
	}
	return d, nil
}

// lerobotScan is the pass over all tables, and afterwards what reads pictures.
type lerobotScan struct {
	o      *Opening
	set    *lerobot.Set
	fields lerobotFields
	scan   *scanning
	table  *table
	texts  textIndex
	read   map[string]bool // tables
	listed map[int64]bool  // episodes of table
	faulty map[int64]bool  // episodes of which a frame cannot be used
	paths  []string        // of them, in the order of reading
	file   []int32         // of each sample, among paths
	row    []int32         // of each sample, in its table
	files  lerobotFiles

	pictures lerobot.Pictures
	videos   map[string]*videoFrames // of the cameras whose pictures are not in the tables
}

func (s *lerobotScan) close() error {
	err := s.files.close()
	for _, v := range s.videos {
		err = errors.Join(err, v.files.Close())
	}
	return err
}

// shown says whether the cameras that are video have frames of an episode: what they
// lack was said when they were opened.
func (s *lerobotScan) shown(episode int64) bool {
	for _, v := range s.videos {
		if !v.has(episode) {
			return false
		}
	}
	return true
}

// all reads the tables that have the episodes, in their order.
func (s *lerobotScan) all(episodes []lerobot.Episode, fp Fingerprint) error {
	total := 0
	left := map[int64]int{} // frames that have yet to come
	for _, e := range episodes {
		left[e.Index], total = e.Length, total+e.Length
	}
	if total > maxSamples {
		return fmt.Errorf("the data has more than %d frames", maxSamples)
	}
	unread := map[string]bool{}
	for _, e := range episodes {
		if s.read[e.Path] {
			continue
		}
		s.read[e.Path] = true
		if err := s.o.tick(int64(len(s.table.episode)), int64(total), "frames"); err != nil {
			return err
		}
		err := s.one(e.Path, left, fp)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("episode %d: its table is missing: %w; bring it, or choose other episodes by data.split", e.Index, err)
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "episode") {
				err = fmt.Errorf("episodes from %d on: %w", e.Index, err)
			}
			unread[e.Path] = true
			if err = s.o.pass(Fault{Kind: "file", File: filepath.Join(s.set.Dir, e.Path)}, err); err != nil {
				return err
			}
		}
	}
	for _, e := range episodes {
		n := left[e.Index]
		if n == 0 || unread[e.Path] || s.faulty[e.Index] || !s.shown(e.Index) { // that it lacks some was told with the reason
			continue
		}
		path := filepath.Join(s.set.Dir, e.Path)
		err := fmt.Errorf("%s has %d frames of episode %d, the list of episodes says %d; get both from one place", path, e.Length-n, e.Index, e.Length)
		if err = s.o.pass(Fault{Kind: "record", File: path, Episode: ptr(e.Index)}, err); err != nil {
			return err
		}
	}
	return nil
}

// one takes the numbers of one table.
func (s *lerobotScan) one(rel string, left map[int64]int, fp Fingerprint) error {
	path := filepath.Join(s.set.Dir, rel)
	c, sum, err := s.columns(rel)
	if err != nil {
		return err
	}
	for _, v := range s.fields.vectors {
		column := s.table.float(v.name)
		column.dim, column.labels.Names = v.dim(), v.labels
	}
	s.paths = append(s.paths, path)
	at := map[int64]int32{} // places of this table's episodes
	for r, e := range c.episode {
		if _, ok := left[e]; !ok || !s.shown(e) {
			continue // of another split
		}
		if err := s.frame(c, r, at, left); err != nil {
			err = fmt.Errorf("%s: episode %d, frame %d: %w", path, e, c.frame[r], err)
			s.faulty[e] = true
			if err = s.o.pass(Fault{Kind: "record", File: path, Episode: ptr(e), Frame: ptr(int(c.frame[r]))}, err); err != nil {
				return err
			}
		}
	}
	numbers := sha256.New()
	binary.Write(numbers, binary.LittleEndian, c.episode)
	binary.Write(numbers, binary.LittleEndian, c.task)
	for _, a := range c.features {
		binary.Write(numbers, binary.LittleEndian, a)
	}
	fp.Add("table", sum).Add("numbers", hex.EncodeToString(numbers.Sum(nil)))
	return nil
}

// frame adds a row of a table as the next sample, or says why it cannot be one and
// changes nothing. at has the places of the table's episodes, left how many frames of
// each have yet to come.
func (s *lerobotScan) frame(c *lerobotColumns, r int, at map[int64]int32, left map[int64]int) error {
	t, e, n := s.table, c.episode[r], len(s.table.episode)
	k, known := at[e]
	switch {
	case !known && s.listed[e]:
		return errors.New("it stands in another table already")
	case left[e] == 0:
		return errors.New("the episode has more frames than the list of episodes says")
	case known && n > 0 && t.episode[n-1] == k && c.frame[r] != c.frame[r-1]+1:
		return fmt.Errorf("it follows frame %d; want ascending frame_index without gaps", c.frame[r-1])
	}
	text, ok := "", true
	if c.task != nil {
		if text, ok = s.set.Tasks[c.task[r]]; !ok {
			return fmt.Errorf("task_index %d is not in the list of tasks", c.task[r])
		}
	}
	zero := false // for what is no number: the check goes on
	features := c.features
	for _, v := range s.fields.vectors {
		for i := range v.of {
			for d, x := range features[i][r*v.sizes[i] : (r+1)*v.sizes[i]] {
				if x-x == 0 || s.o.skips(n) { // finite
					continue
				}
				err := fmt.Errorf("%s has %v in dimension %d; write a finite number, or leave the frame out (data.skip: [%d])", v.of[i], x, d, n)
				if !s.o.lenient() {
					return err
				}
				err = fmt.Errorf("%s: episode %d, frame %d: %w", s.paths[len(s.paths)-1], e, c.frame[r], err)
				if err = s.o.pass(Fault{Kind: "value", File: s.paths[len(s.paths)-1], Episode: ptr(e), Frame: ptr(int(c.frame[r])), Sample: ptr(n)}, err); err != nil {
					return err
				}
				zero = true
			}
		}
		features = features[len(v.of):]
	}
	for _, camera := range s.fields.cameras {
		if v := s.videos[camera]; v != nil {
			if err := v.place(e, c.seconds[r]); err != nil && !s.o.lenient() && !s.o.skips(n) {
				return err
			}
		}
	}

	if !known {
		k = int32(t.eps)
		at[e], s.listed[e], t.numbers = k, true, append(t.numbers, e)
		t.eps++
	}
	left[e]--
	if c.task != nil {
		t.text = append(t.text, s.texts.add(text))
	}
	features = c.features
	for _, v := range s.fields.vectors {
		column := t.float(v.name)
		for i := range v.of {
			row := features[i][r*v.sizes[i] : (r+1)*v.sizes[i]]
			if zero {
				row = make([]float32, len(row))
			}
			column.rows = append(column.rows, row...)
		}
		features = features[len(v.of):]
	}
	t.episode = append(t.episode, k)
	s.file, s.row = append(s.file, int32(len(s.paths)-1)), append(s.row, int32(r))
	return nil
}

// tableSum recognises a table by its length and a sample of its content: its
// pictures may be most of hundreds of gigabytes.
func tableSum(path string) (string, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum, err := sampled(f, size)
	return tableText(size, sum), err
}

func tableText(size int64, sample [32]byte) string {
	return fmt.Sprintf("%d %s", size, hex.EncodeToString(sample[:]))
}

func (s *lerobotScan) origin(i int) string {
	return fmt.Sprintf("%s episode %d frame %d", filepath.Base(s.paths[s.file[i]]), s.table.numbers[s.table.episode[i]], s.table.frame(i))
}

func (s *lerobotScan) short(i, frame int) string {
	return fmt.Sprintf("episode %d frame %d", s.table.numbers[s.table.episode[i]], frame)
}

func (s *lerobotScan) place(i int) Fault {
	return Fault{File: s.paths[s.file[i]], Episode: ptr(s.table.numbers[s.table.episode[i]]), Frame: ptr(s.table.frame(i))}
}

// image reads a camera's picture of frame i.
func (s *lerobotScan) image(camera string, i int) (Image, error) {
	fail := func(err error) (Image, error) {
		return Image{}, fmt.Errorf("episode %d, frame %d, %s: %w", s.table.numbers[s.table.episode[i]], s.table.frame(i), camera, err)
	}
	if v := s.videos[camera]; v != nil {
		p, err := v.image(i)
		if err != nil {
			return fail(err)
		}
		return p, nil
	}
	rel, err := filepath.Rel(s.set.Dir, s.paths[s.file[i]])
	if err != nil {
		return Image{}, err
	}
	tab, err := s.files.open(s.set, rel)
	if err != nil {
		return fail(err)
	}
	b, path, err := s.pictures.Picture(tab, camera, int(s.row[i]))
	s.files.give(rel, tab)
	if err == nil && b == nil {
		if !filepath.IsLocal(filepath.FromSlash(path)) {
			return fail(fmt.Errorf("%s: its picture is in the file %q, outside the data set", rel, clipped(path)))
		}
		b, err = regular.Read(filepath.Join(s.set.Dir, filepath.FromSlash(path)), maxImageFile)
	}
	if err == nil {
		err = s.fits(camera, b)
	}
	if err != nil {
		return fail(err)
	}
	return Image{Encoded: b}, nil
}

// fits checks a picture's file, and for a check of the data that it has the size that
// the data set says; training makes it the model's whatever it is.
func (s *lerobotScan) fits(camera string, b []byte) error {
	h, w, err := checkImage(b)
	if err == nil && s.o.lenient() && !s.set.Info.Features[camera].Sized(h, w) {
		err = &ImageError{fmt.Errorf("it has %d×%d pixels (width × height), %s says %v", w, h, lerobot.InfoFile, s.set.Info.Features[camera].Shape)}
	}
	return err
}

// lerobotFiles keeps tables open that nobody reads at the moment: a data set may
// have thousands.
type lerobotFiles struct {
	mu   sync.Mutex
	idle []idleTable
}

type idleTable struct {
	rel string
	t   *lerobot.Table
}

const maxIdleTables = 32

func (f *lerobotFiles) open(set *lerobot.Set, rel string) (*lerobot.Table, error) {
	f.mu.Lock()
	for i, x := range f.idle {
		if x.rel == rel {
			f.idle = slices.Delete(f.idle, i, i+1)
			f.mu.Unlock()
			return x.t, nil
		}
	}
	f.mu.Unlock()
	return set.Table(rel)
}

func (f *lerobotFiles) give(rel string, t *lerobot.Table) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = append(f.idle, idleTable{rel, t})
	if len(f.idle) > maxIdleTables {
		f.idle[0].t.Close()
		f.idle = slices.Delete(f.idle, 0, 1)
	}
}

func (f *lerobotFiles) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	for _, x := range f.idle {
		err = errors.Join(err, x.t.Close())
	}
	f.idle = nil
	return err
}
