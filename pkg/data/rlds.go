package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/pkg/data/internal/tfrecord"
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

const (
	rldsAction  = "steps/action"
	rldsIsFirst = "steps/is_first"
)

// rldsTexts are the places where data sets keep the instruction, by preference.
var rldsTexts = []string{"steps/language_instruction", "steps/observation/natural_language_instruction", "steps/natural_language_instruction"}

// rldsFields are the features that are read; empty where the model needs none.
type rldsFields struct {
	camera, text string
	dim          int // of the action; 0: not needed
}

// picture is where a step's encoded picture lies.
type picture struct {
	off   int64
	len   int32
	shard int32
	crc   uint32 // CRC-32C of its bytes
}

func openRLDS(o *opening) (*set, error) {
	if err := o.lacks("labels", "features"); err != nil {
		return nil, err
	}
	path, err := o.file()
	if err != nil {
		return nil, err
	}
	dir, err := rldsDir(path)
	if err != nil {
		return nil, err
	}
	var info rldsInfo
	if err := readJSON(filepath.Join(dir, "dataset_info.json"), &info); err != nil {
		return nil, err
	}
	featuresFile := filepath.Join(dir, "features.json")
	features, err := readFeatures(featuresFile)
	if err != nil {
		return nil, err
	}
	fields, err := o.rldsFields(features, featuresFile)
	if err != nil {
		return nil, err
	}
	name := o.cfg.Split
	if name == "" {
		name = "train"
	}
	shards, err := info.shards(dir, name, o.lenient())
	if err != nil {
		return nil, err
	}
	s := &rldsScan{o: o, fields: fields, table: table{dim: fields.dim}}
	for _, sh := range shards {
		s.total += int64(sh.episodes)
	}
	fp := newPrint("rlds").add("camera", fields.camera).add("split", name).add("holdout", o.holdoutLabel())
	for _, sh := range shards {
		first := s.table.eps
		sum, err := s.shard(sh)
		if err != nil {
			if err = o.pass(Fault{Kind: "file", File: sh.file}, err); err != nil {
				return nil, err
			}
			s.table.eps = max(s.table.eps, first+sh.episodes)
		}
		fp.add("shard", sum)
	}
	if len(s.table.episode) == 0 {
		return nil, fmt.Errorf("%s: split %s has no steps", dir, name)
	}
	s.table.texts = s.texts.texts
	s.table.image, s.table.origin, s.table.place = s.image, s.origin, s.place
	s.table.camera = fields.camera[strings.LastIndexByte(fields.camera, '/')+1:]
	for _, p := range s.pictures {
		s.table.sums = append(s.table.sums, p.crc)
	}
	return o.dataset(fp.sum(), &s.table)
}

// rldsFields chooses camera, instruction and action by features.json.
func (o *opening) rldsFields(features map[string]rldsFeature, file string) (f rldsFields, err error) {
	leaves := func(kind string) (out []string) {
		for _, name := range slices.Sorted(maps.Keys(features)) {
			if features[name].kind == kind && strings.HasPrefix(name, "steps/") {
				out = append(out, name)
			}
		}
		return out
	}
	if o.needs.Image[0] > 0 {
		cams := leaves("image")
		var short, match []string
		for _, c := range cams {
			base := c[strings.LastIndexByte(c, '/')+1:]
			short = append(short, base)
			if o.cfg.Camera == c || o.cfg.Camera == base {
				match = append(match, c)
			}
		}
		switch {
		case len(cams) == 0:
			return f, fmt.Errorf("%s: the steps have no image feature", file)
		case o.cfg.Camera == "" && len(cams) == 1:
			f.camera = cams[0]
		case o.cfg.Camera == "":
			return f, fmt.Errorf("data.camera is not set; the cameras of this data are %s", strings.Join(short, ", "))
		case len(match) == 0:
			return f, fmt.Errorf("data.camera is %q; the cameras of this data are %s", o.cfg.Camera, strings.Join(short, ", "))
		case len(match) > 1:
			return f, fmt.Errorf("data.camera %q fits several: give the whole of %s", o.cfg.Camera, strings.Join(match, " or "))
		default:
			f.camera = match[0]
		}
	}
	if o.needs.Tokens {
		for _, name := range rldsTexts {
			if features[name].kind == "text" && f.text == "" {
				f.text = name
			}
		}
		if f.text == "" {
			return f, fmt.Errorf("%s: no instruction: none of %s is a text feature; text features are: %s", file, strings.Join(rldsTexts, ", "), listOr(leaves("text"), "none"))
		}
	}
	if o.needs.Actions {
		a, ok := features[rldsAction]
		if !ok || a.kind != "tensor" {
			return f, fmt.Errorf("%s: there is no tensor %s; the tensors of a step are %s", file, rldsAction, listOr(leaves("tensor"), "none"))
		}
		if a.dtype != "float32" && a.dtype != "float64" {
			return f, fmt.Errorf("%s: %s is %s, expected float32", file, rldsAction, a.dtype)
		}
		if len(a.shape) != 1 || a.shape[0] < 1 || a.shape[0] > 4096 {
			return f, fmt.Errorf("%s: %s has the shape %v, expected [A]", file, rldsAction, a.shape)
		}
		f.dim = a.shape[0]
	}
	return f, nil
}

// rldsScan is the pass over all shards, and afterwards what reads pictures.
type rldsScan struct {
	o        *opening
	fields   rldsFields
	done     int64 // records
	total    int64
	table    table
	texts    textIndex
	files    []string // of the shards
	firsts   []int    // episode of each shard's first record
	pictures []picture
}

// shard reads one file whole and returns the SHA-256 of its content.
func (s *rldsScan) shard(sh rldsShard) (string, error) {
	f, err := os.Open(sh.file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s.files = append(s.files, sh.file)
	s.firsts = append(s.firsts, s.table.eps)
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	tee, sum := hashing(io.NewSectionReader(f, 0, info.Size()))
	r := tfrecord.NewReader(tee, info.Size(), sh.file)
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
		case err != nil:
			return "", err
		default:
			if err = s.episode(record, offset); err != nil {
				err = fmt.Errorf("%s: record %d at byte %d: %w", sh.file, n, offset-12, err)
			}
		}
		if err != nil {
			if err = s.o.pass(Fault{Kind: "record", File: sh.file, Record: ptr(n), Episode: ptr(int64(s.table.eps))}, err); err != nil {
				return "", err
			}
			s.table.eps++ // the numbers of the episodes after it stay theirs
		}
		s.done++
	}
	if n != sh.episodes {
		return "", fmt.Errorf("%s has %d episodes, dataset_info.json says %d (shardLengths)", sh.file, n, sh.episodes)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
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
		f, err := feature(rldsAction)
		if err != nil {
			return err
		}
		a, err := f.Floats(record)
		if err != nil {
			return fail(rldsAction, err)
		}
		if len(a) != steps*s.fields.dim {
			return fail(rldsAction, fmt.Errorf("%d values, expected %d for %d steps of %d", len(a), steps*s.fields.dim, steps, s.fields.dim))
		}
		for i, v := range a {
			if v-v != 0 { // NaN or infinite
				return fail(rldsAction, fmt.Errorf("step %d has %v in dimension %d", i/s.fields.dim, v, i%s.fields.dim))
			}
		}
		actions = a
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
			where := func() string {
				return fmt.Sprintf("%s episode %d step %d", filepath.Base(s.files[len(s.files)-1]), t.eps, i)
			}
			if err := s.o.picture(x.Of(record), where); err != nil {
				return fail(s.fields.camera, fmt.Errorf("step %d: %w", i, err))
			}
		}
	}
	t.actions = append(t.actions, actions...)
	for _, x := range texts {
		t.text = append(t.text, s.texts.add(string(x.Of(record))))
	}
	for _, x := range pictures {
		s.pictures = append(s.pictures, picture{shard: int32(len(s.files) - 1), crc: crc32.Checksum(x.Of(record), castagnoli), off: offset + int64(x.Off), len: int32(x.Len)})
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

func (s *rldsScan) place(i int) Fault {
	e := int(s.table.episode[i])
	f := Fault{Episode: ptr(int64(e)), Frame: ptr(s.table.frame(i))}
	for k, first := range s.firsts {
		if e >= first {
			f.File, f.Record = s.files[k], ptr(e-first)
		}
	}
	return f
}

// image reads the picture of step i, which must be what it was at Open.
func (s *rldsScan) image(i int) (Image, error) {
	p := s.pictures[i]
	f, err := os.Open(s.files[p.shard]) // not kept open: a data set may have thousands of shards
	if err != nil {
		return Image{}, err
	}
	defer f.Close()
	b := make([]byte, p.len)
	if _, err := f.ReadAt(b, p.off); err != nil {
		return Image{}, fmt.Errorf("picture of %s at byte %d: %w", s.origin(i), p.off, err)
	}
	if got := crc32.Checksum(b, castagnoli); got != p.crc {
		return Image{}, fmt.Errorf("picture of %s at byte %d has the CRC-32C %08x, it was %08x when the data was opened: the file has changed", s.origin(i), p.off, got, p.crc)
	}
	return Image{Encoded: b}, nil
}
