package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
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
	Split       string   `yaml:"split,omitempty"`            // of the data set, or parts of splits: train[:90%]
	Camera      string   `yaml:"camera,omitempty"`           // image feature, e.g. image_0
	Action      []string `yaml:"action,omitempty"`           // the features that the action is made of, in order; nil: steps/action
	Instruction []string `yaml:"instruction,omitempty,flow"` // features with the instruction, and with other wordings of it; nil: the first that is known
	FrameKeys   `yaml:",inline"`
	WordKeys    `yaml:",inline"`
	FileKeys    `yaml:",inline"`
	ActionKeys  `yaml:",inline"`
	AugmentKeys `yaml:",inline"`
}

func rldsKind() job.Kind {
	return job.Kind{Name: "rlds", About: "a TFDS data set of robot episodes", Options: RLDS{Split: "train", ActionKeys: ActionKeys{Normalize: Scaling{Mode: MeanStd}}}}
}

// Gives is job.DataOptions'.
func (k RLDS) Gives() []string { return k.gives() }

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
	k.FrameKeys.check(c, k.Camera)
	if c.Unused("data.instruction", len(k.Instruction) == 0 || WantsOf(c.Job.Model.Options).Has(models.Instruction), "model.kind "+c.Job.Model.Kind); len(k.Instruction) > maxTexts {
		c.Bad("data.instruction", "has %d features; want at most %d", len(k.Instruction), maxTexts)
	}
	k.WordKeys.check(c)
	k.FileKeys.check(c)
	k.ActionKeys.check(c)
	k.AugmentKeys.check(c)
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
		return keyError("data.holdout.split", "data.holdout.split: %w", err)
	}
	if _, _, err := info.choose(dir, k.Split+"+"+held); err != nil {
		return keyError("data.holdout.split", "data.split and data.holdout.split together: %w", err)
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
	s := &rldsScan{o: o, fields: fields, table: table{}, pictures: make([][]picture, len(fields.cameras))}
	for _, v := range fields.vectors {
		c := s.table.float(v.name)
		c.dim, c.labels.Names = v.dim(), v.labels()
		o.calls(v.name, v.called())
	}
	o.callsViews(fields.cameras)
	o.calls(models.Instruction, strings.Join(fields.said()[:min(len(fields.texts), 1)], ""))
	for _, sh := range shards {
		s.total += int64(sh.episodes)
	}
	fp := NewFingerprint("rlds").Add("camera", strings.Join(fields.cameras, " ")).Add("split", split).Add("holdout", o.Division())
	if l := fields.vector(models.Actions).label(); l != "" {
		fp.Add("action", l)
	}
	if l := fields.vector(models.State).called(); l != "" {
		fp.Add("state", l)
	}
	if len(k.Instruction) > 0 && fields.texts != nil {
		fp.Add("instruction", strings.Join(fields.said(), " "))
	}
	recipe := NewFingerprint("scan of rlds").Add("version", rldsMemoVersion).Add("fields", fmt.Sprintf("%+v", fields)).Add("split", split).Add("skip", o.skip)
	if s.scan, err = o.scanFiles(dir, recipe); err != nil {
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
	if s.table.texts = s.texts.texts; len(fields.texts) > 1 {
		s.table.texts, s.table.others = wordingsOf(s.texts.texts)
	}
	s.table.origin, s.table.place, s.table.short = s.origin, s.place, s.short
	for n, name := range fields.cameras {
		column := s.table.picture(models.View(n, 0))
		column.read = func(i int) (Image, error) { return s.image(n, i) }
		for _, p := range s.pictures[n] {
			column.sums = append(column.sums, p.crc)
		}
		if n == 0 {
			s.table.camera = name[strings.LastIndexByte(name, '/')+1:]
		}
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
	files    []string    // of the shards
	firsts   []int       // episode of each shard's first record that is chosen
	froms    []int       // that record
	pictures [][]picture // of each camera
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
	vectors := make([][]float32, len(s.fields.vectors)) // all is read before any of it is kept
	for k, v := range s.fields.vectors {
		if vectors[k], err = s.vector(ex, record, v, steps); err != nil {
			return err
		}
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
		if strings.HasPrefix(name, episodeData) && len(v) == 1 {
			return slices.Repeat(v, steps), nil
		}
		if len(v) != steps {
			return nil, fail(name, fmt.Errorf("%d values for %d steps", len(v), steps))
		}
		return v, nil
	}
	var texts []string // of each step, in all of its wordings: see wordingsOf
	for k, of := range s.fields.texts {
		var said []string
		if of.letters > 0 {
			f, err := feature(of.name)
			if err != nil {
				return err
			}
			l, err := f.Ints(record)
			if err == nil {
				said, err = spelt(l, of.letters, steps)
			}
			if err != nil {
				return fail(of.name, err)
			}
		} else {
			spans, err := list(of.name)
			if err != nil {
				return err
			}
			for _, x := range spans {
				said = append(said, string(x.Of(record)))
			}
		}
		if len(s.fields.texts) > 1 {
			for i, x := range said { // a file's texts may have anything in them
				said[i] = strings.ReplaceAll(x, between, " ")
			}
		}
		if k == 0 {
			texts = said
			continue
		}
		for i, x := range said {
			texts[i] += between + x
		}
	}
	pictures := make([][]tfrecord.Span, len(s.fields.cameras))
	for k, name := range s.fields.cameras {
		if pictures[k], err = list(name); err != nil {
			return err
		}
		for i, x := range pictures[k] {
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
				return fail(name, fmt.Errorf("step %d: %w", i, err))
			}
		}
	}
	for k, v := range s.fields.vectors {
		column := t.float(v.name)
		column.rows = append(column.rows, vectors[k]...)
	}
	for _, x := range texts {
		t.text = append(t.text, s.texts.add(x))
	}
	for k, spans := range pictures {
		for _, x := range spans {
			s.pictures[k] = append(s.pictures[k], picture{shard: int32(len(s.files) - 1), crc: octets.Sum(x.Of(record)), off: offset + int64(x.Off), len: int32(x.Len)})
		}
	}
	for i := 0; i < steps; i++ {
		t.episode = append(t.episode, int32(t.eps))
	}
	t.eps++
	return nil
}

// between stands between the wordings of a step, where several features have them.
const between = "\x00"

// wordingsOf takes texts of several wordings apart: the first that has words, and the others
// that have, each once.
func wordingsOf(joined []string) (texts []string, others [][]string) {
	for _, j := range joined {
		var said []string
		for _, s := range strings.Split(j, between) {
			if strings.TrimSpace(s) != "" && !slices.Contains(said, s) {
				said = append(said, s)
			}
		}
		if said == nil {
			said = []string{""}
		}
		texts, others = append(texts, said[0]), append(others, said[1:])
	}
	return texts, others
}

// vector is a vector of each of a record's steps, its parts side by side.
func (s *rldsScan) vector(ex tfrecord.Example, record []byte, v rldsVector, steps int) ([]float32, error) {
	dim, at := v.dim(), 0
	out := make([]float32, steps*dim)
	for _, p := range v.parts {
		fail := func(err error) ([]float32, error) { return nil, fmt.Errorf("feature %s: %w", p.name, err) }
		f, ok := ex[p.name]
		if !ok {
			return nil, fmt.Errorf("the feature %s is missing", p.name)
		}
		a, err := f.Numbers(record, p.ints)
		if err != nil {
			return fail(err)
		}
		if len(a) != steps*p.size {
			return fail(fmt.Errorf("%d values, expected %d for %d steps of %d", len(a), steps*p.size, steps, p.size))
		}
		for i, x := range a {
			if step := i / p.size; x-x != 0 && !s.o.skips(len(s.table.episode)+step) { // NaN or infinite
				return fail(fmt.Errorf("step %d has %v in dimension %d; write a finite number, or leave the step out (data.skip: [%d])", step, x, i%p.size, len(s.table.episode)+step))
			}
			out[i/p.size*dim+at+i%p.size] = x
		}
		at += p.size
	}
	return out, nil
}

// spelt are texts that are given by the numbers of their bytes, n a step, the rest
// of which is 0.
func spelt(l []int64, n, steps int) (out []string, err error) {
	if len(l) != n*steps {
		return nil, fmt.Errorf("%d values, expected %d for %d steps of %d", len(l), n*steps, steps, n)
	}
	b := make([]byte, 0, n)
	for i := range steps {
		b = b[:0]
		for _, x := range l[i*n : (i+1)*n] {
			if x < 0 || x > 255 {
				return nil, fmt.Errorf("step %d has the number %d; the bytes of a text are 0 to 255", i, x)
			}
			if x == 0 {
				break
			}
			b = append(b, byte(x))
		}
		out = append(out, string(b))
	}
	return out, nil
}

func (s *rldsScan) origin(i int) string {
	where := fmt.Sprintf("episode %d step %d", s.table.episode[i], s.table.frame(i))
	if len(s.pictures) > 0 {
		where = filepath.Base(s.files[s.pictures[0][i].shard]) + " " + where
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

// image reads a camera's picture of step i, which must be what it was at Open.
func (s *rldsScan) image(camera, i int) (Image, error) {
	p := s.pictures[camera][i]
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
