package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/regular"
	"github.com/vlaring/vlaring/internal/sniff"
	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
	"github.com/vlaring/vlaring/pkg/job"
	"github.com/vlaring/vlaring/pkg/models"
)

// The rlds source reads a data set of robot episodes as TFDS writes them
// (Open X-Embodiment, BridgeData V2, Octo's fixtures): TFRecord shards of
// tf.train.Example messages, one an episode, beside dataset_info.json and
// features.json. Each step of an episode is a sample: the camera's picture,
// the language instruction and the action.
//
// Open reads every shard once, checks both checksums of each record, keeps
// actions and instructions, and remembers where each picture lies; a sample
// then costs one read of its picture. An episode's number, for
// data.holdout.episodes, is its place in the split, from 0 through all shards.

// picture is where a step's encoded picture lies.
type picture struct {
	off   int64
	len   int32
	shard int32
	crc   uint32 // CRC-32C of its bytes
}

// RLDS is the options of rlds data.
type RLDS struct {
	Split      string   `yaml:"split,omitempty"`  // of the data set, or parts of splits: train[:90%]
	Camera     string   `yaml:"camera,omitempty"` // image feature, e.g. image_0
	Action     []string `yaml:"action,omitempty"` // the features that the action is made of, in order; nil: steps/action
	TextKeys   `yaml:",inline"`
	FileKeys   `yaml:",inline"`
	ActionKeys `yaml:",inline"`
}

func rldsKind() job.Kind {
	return job.Kind{Name: "rlds", About: "a TFDS data set of robot episodes", Options: RLDS{Split: "train", ActionKeys: ActionKeys{Normalize: Scaling{Mode: MeanStd}}}}
}

// Gives is job.DataOptions'.
func (RLDS) Gives() []string { return robotFeatures() }

// Padding is job.DataOptions'.
func (RLDS) Padding() int { return padToken }

// Resolve is job.Options'.
func (k RLDS) Resolve(j *job.Job, given func(string) bool) job.Options {
	if k.Split == "" { // as it is said in old jobs
		k.Split = rldsKind().Options.(RLDS).Split
	}
	holdout(j, given, 0.1)
	return k
}

// Check is job.Options'.
func (k RLDS) Check(c *job.Checker) {
	if k.Split == "" {
		c.Bad("data.split", "is missing; want a split of the data set, such as train")
	}
	k.TextKeys.check(c)
	k.FileKeys.check(c)
	k.ActionKeys.check(c)
	checkChannels(c)
}

func (k RLDS) split() string { return k.Split }

func (k RLDS) withSplit(name string) Options {
	k.Split = name
	return k
}

// apart refuses a held-out split that has episodes of the training split.
func (k RLDS) apart(path, held string) error {
	dir, err := rldsDir(path)
	if err != nil {
		return err
	}
	info, err := readRLDSInfo(dir)
	if err != nil {
		return err
	}
	if _, _, err := info.choose(dir, held); err != nil {
		return fmt.Errorf("data.holdout.split: %w", err)
	}
	if _, _, err := info.choose(dir, k.Split+"+"+held); err != nil {
		return fmt.Errorf("data.split and data.holdout.split together: %w", err)
	}
	return nil
}

// Open is Options'.
func (k RLDS) Open(o *Opening) (*Set, error) {
	path, err := o.file()
	if err != nil {
		return nil, err
	}
	dir, err := rldsDir(path)
	if err != nil {
		return nil, err
	}
	info, err := readRLDSInfo(dir)
	if err != nil {
		return nil, err
	}
	featuresFile := filepath.Join(dir, "features.json")
	features, err := readFeatures(featuresFile)
	if err != nil {
		return nil, err
	}
	fields, err := k.fields(o, features, featuresFile)
	if err != nil {
		return nil, err
	}
	parts, split, err := info.choose(dir, k.Split)
	if err != nil {
		return nil, err
	}
	if err := o.inFolder(info, dir, parts, o.lenient()); err != nil {
		return nil, err
	}
	var shards []rldsShard
	for _, p := range parts {
		shards = append(shards, p.files()...)
	}
	s := &rldsScan{o: o, fields: fields, table: table{}}
	actions := s.table.float(models.Actions)
	actions.dim, actions.labels.Names = fields.dim, fields.names()
	o.calls(models.Images, fields.camera)
	o.calls(models.Instruction, fields.text)
	o.calls(models.Actions, fields.actionName())
	for _, sh := range shards {
		s.total += int64(sh.episodes)
	}
	fp := NewFingerprint("rlds").Add("camera", fields.camera).Add("split", split).Add("holdout", o.Division())
	if l := fields.label(); l != "" {
		fp.Add("action", l)
	}
	if s.scan, err = o.scanFiles(dir, NewFingerprint("scan of rlds").Add("fields", fmt.Sprintf("%+v", fields)).Add("split", split)); err != nil {
		return nil, err
	}
	defer s.scan.keep()
	for _, sh := range shards {
		first := s.table.eps
		sum, err := s.shard(sh)
		if err != nil {
			if err = o.pass(Fault{Kind: "file", File: sh.file}, err); err != nil {
				return nil, err
			}
			s.table.eps = max(s.table.eps, first+sh.to-sh.from)
		}
		fp.Add("shard", sum)
	}
	if len(s.table.episode) == 0 {
		return nil, fmt.Errorf("%s: split %s has no steps", dir, k.Split)
	}
	s.table.texts = s.texts.texts
	s.table.origin, s.table.place, s.table.short = s.origin, s.place, s.short
	camera := s.table.picture(models.Images)
	camera.read = s.image
	s.table.camera = fields.camera[strings.LastIndexByte(fields.camera, '/')+1:]
	for _, p := range s.pictures {
		camera.sums = append(camera.sums, p.crc)
	}
	return o.dataset(fp.Sum(), &s.table)
}

// rldsScan is the pass over all shards, and afterwards what reads pictures.
type rldsScan struct {
	o        *Opening
	scan     *scanning
	fields   rldsFields
	done     int64 // records
	total    int64
	table    table
	texts    textIndex
	files    []string // of the shards
	firsts   []int    // episode of each shard's first record that is chosen
	froms    []int    // that record
	pictures []picture
}

// shard reads one file whole, unless it is known, and returns the SHA-256 of its content.
func (s *rldsScan) shard(sh rldsShard) (string, error) {
	if sum, ok, err := s.recall(sh); ok || err != nil {
		return sum, err
	}
	f, size, err := regular.Open(sh.file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	begin, err := s.mark(f)
	if err != nil {
		return "", err
	}
	s.files = append(s.files, sh.file)
	s.firsts, s.froms = append(s.firsts, s.table.eps), append(s.froms, sh.from)
	tee, sum := hashing(io.NewSectionReader(f, 0, size))
	r := tfrecord.NewReader(tee, size, sh.file)
	n := 0
	for ; ; n++ {
		if err := s.o.tick(s.done, s.total, "records"); err != nil {
			return "", err
		}
		record, offset, err := r.Next()
		if err == io.EOF {
			break
		}
		var damaged *tfrecord.RecordError
		switch {
		case errors.As(err, &damaged) && damaged.Passed:
			err = fmt.Errorf("%w: the file was damaged; download or copy it again", err)
		case err != nil:
			return "", insteadOfRecords(f, size, err)
		case n < sh.from || n >= sh.to: // not of the chosen part
		default:
			if err = s.episode(record, offset); err != nil {
				err = fmt.Errorf("%s: record %d at byte %d: %w", sh.file, n, offset-12, err)
			}
		}
		if err != nil {
			if err = s.o.pass(Fault{Kind: "record", File: sh.file, Record: ptr(n), Episode: ptr(int64(s.table.eps))}, err); err != nil {
				return "", err
			}
			if n >= sh.from && n < sh.to {
				s.table.eps++ // the numbers of the episodes after it stay theirs
			}
		}
		s.done++
	}
	if n != sh.episodes && size == 0 {
		return "", fmt.Errorf("%s is empty, dataset_info.json says that it has %d episodes (shardLengths); download or copy it again", sh.file, sh.episodes)
	}
	if n != sh.episodes {
		return "", fmt.Errorf("%s has %d episodes, dataset_info.json says %d (shardLengths); get both from one place, or correct shardLengths", sh.file, n, sh.episodes)
	}
	content := hex.EncodeToString(sum.Sum(nil))
	return content, s.scan.remember(sh.file, part(sh), begin.stamp, content, s.memo(begin, n), 0)
}

// insteadOfRecords words the error of a damaged shard by what stands there in
// place of records: another kind of file, or the zeros of a broken copy.
func insteadOfRecords(f io.ReaderAt, size int64, err error) error {
	var damaged *tfrecord.RecordError
	if !errors.As(err, &damaged) {
		return err
	}
	rest := io.NewSectionReader(f, damaged.Offset, size-damaged.Offset)
	what := sniff.Instead(sniff.Head(rest, rest.Size()), sniff.Records)
	switch {
	case what == "" && rest.Size() < size:
		return fmt.Errorf("%w; download or copy it again", err)
	case what == "":
		return fmt.Errorf("%w; it is no TFRecord file, or one that was damaged: download or copy it again", err)
	case damaged.Offset == 0:
		return fmt.Errorf("%s: %s", damaged.File, what)
	}
	return fmt.Errorf("%w (from there on %s)", err, what)
}

// episode adds the steps of one record.
func (s *rldsScan) episode(record []byte, offset int64) error {
	ex, err := tfrecord.Parse(record)
	if err != nil {
		return err
	}
	feature := func(name string) (tfrecord.Feature, error) {
		f, ok := ex[name]
		if !ok {
			return f, fmt.Errorf("the feature %s is missing", name)
		}
		return f, nil
	}
	fail := func(name string, err error) error { return fmt.Errorf("feature %s: %w", name, err) }

	first, err := feature(rldsIsFirst)
	if err != nil {
		return err
	}
	marks, err := first.Ints(record)
	if err != nil {
		return fail(rldsIsFirst, err)
	}
	steps, t := len(marks), &s.table
	if len(t.episode)+steps > maxSamples {
		return fmt.Errorf("the data has more than %d steps", maxSamples)
	}
	var actions []float32 // all is read before any of it is kept
	var texts, pictures []tfrecord.Span
	if s.fields.dim > 0 {
		actions = make([]float32, steps*s.fields.dim)
	}
	at := 0 // of the vector in the action
	for _, v := range s.fields.action {
		f, err := feature(v.name)
		if err != nil {
			return err
		}
		a, err := f.Numbers(record, v.ints)
		if err != nil {
			return fail(v.name, err)
		}
		if len(a) != steps*v.size {
			return fail(v.name, fmt.Errorf("%d values, expected %d for %d steps of %d", len(a), steps*v.size, steps, v.size))
		}
		for i, x := range a {
			if x-x != 0 { // NaN or infinite
				return fail(v.name, fmt.Errorf("step %d has %v in dimension %d; write a finite number, or leave the step out", i/v.size, x, i%v.size))
			}
			actions[i/v.size*s.fields.dim+at+i%v.size] = x
		}
		at += v.size
	}
	list := func(name string) ([]tfrecord.Span, error) {
		f, err := feature(name)
		if err != nil {
			return nil, err
		}
		v, err := f.Strings(record)
		if err != nil {
			return nil, fail(name, err)
		}
		if len(v) != steps {
			return nil, fail(name, fmt.Errorf("%d values for %d steps", len(v), steps))
		}
		return v, nil
	}
	if s.fields.text != "" {
		if texts, err = list(s.fields.text); err != nil {
			return err
		}
	}
	if s.fields.camera != "" {
		if pictures, err = list(s.fields.camera); err != nil {
			return err
		}
		for i, x := range pictures {
			if s.o.lenient() {
				break
			}
			if s.o.skips(len(t.episode) + i) {
				continue
			}
			where := func() string {
				return fmt.Sprintf("%s episode %d step %d", filepath.Base(s.files[len(s.files)-1]), t.eps, i)
			}
			if err := s.o.picture(x.Of(record), where); err != nil {
				return fail(s.fields.camera, fmt.Errorf("step %d: %w", i, err))
			}
		}
	}
	column := t.float(models.Actions)
	column.rows = append(column.rows, actions...)
	for _, x := range texts {
		t.text = append(t.text, s.texts.add(string(x.Of(record))))
	}
	for _, x := range pictures {
		s.pictures = append(s.pictures, picture{shard: int32(len(s.files) - 1), crc: octets.Sum(x.Of(record)), off: offset + int64(x.Off), len: int32(x.Len)})
	}
	for i := 0; i < steps; i++ {
		t.episode = append(t.episode, int32(t.eps))
	}
	t.eps++
	return nil
}

func (s *rldsScan) origin(i int) string {
	e, step := s.table.episode[i], 0
	for step < i && s.table.episode[i-step-1] == e {
		step++
	}
	where := fmt.Sprintf("episode %d step %d", e, step)
	if i < len(s.pictures) {
		where = filepath.Base(s.files[s.pictures[i].shard]) + " " + where
	}
	return where
}

func (s *rldsScan) short(i, frame int) string {
	e, k := int(s.table.episode[i]), len(s.firsts)-1
	for k > 0 && s.firsts[k] > e {
		k--
	}
	return fmt.Sprintf("%s record %d, episode %d step %d", filepath.Base(s.files[k]), e-s.firsts[k], e, frame)
}

func (s *rldsScan) place(i int) Fault {
	e := int(s.table.episode[i])
	f := Fault{Episode: ptr(int64(e)), Frame: ptr(s.table.frame(i))}
	for k, first := range s.firsts {
		if e >= first {
			f.File, f.Record = s.files[k], ptr(s.froms[k]+e-first)
		}
	}
	return f
}

// image reads the picture of step i, which must be what it was at Open.
func (s *rldsScan) image(i int) (Image, error) {
	p := s.pictures[i]
	f, _, err := regular.Open(s.files[p.shard]) // not kept open: a data set may have thousands of shards
	if err != nil {
		return Image{}, err
	}
	defer f.Close()
	b := make([]byte, p.len)
	if _, err := f.ReadAt(b, p.off); err != nil {
		return Image{}, fmt.Errorf("picture of %s at byte %d: %w", s.origin(i), p.off, err)
	}
	if got := octets.Sum(b); got != p.crc {
		return Image{}, fmt.Errorf("picture of %s at byte %d has the CRC-32C %08x, it was %08x when the data was opened: the file has changed", s.origin(i), p.off, got, p.crc)
	}
	return Image{Encoded: b}, nil
}
