package data

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/models"
)

// Survey says how Dataset.Survey looks at the samples.
type Survey struct {
	Samples  int            // at most so many, evenly spread over the data; 0: all
	Threads  int            // at least 1
	AnySize  bool           // no model says what size pictures become
	Progress func(Progress) // told now and then, from one goroutine at a time; may be nil
	Fault    func(Fault)    // told of each fault, in order of the samples; may be nil
}

// surveyChunk is how many samples are looked at between two reports.
const surveyChunk = 256

// look reads, decodes and checks samples, and keeps what they have in common.
// It ends with ctx's error when ctx ends; faults are no errors.
func (d *Set) look(ctx context.Context, s Survey) (cameras, error) {
	ids := d.all()
	if s.Samples > 0 && s.Samples < len(ids) {
		some := make([]int32, s.Samples)
		for k := range some { // the first, the last and those between
			some[k] = ids[k*(len(ids)-1)/max(s.Samples-1, 1)]
		}
		ids = some
	}
	threads := max(s.Threads, 1)
	all := make(cameras, len(d.meta.Spec))
	for start := 0; start < len(ids); start += surveyChunk {
		if ctx.Err() != nil {
			return all, stopped(ctx)
		}
		if s.Progress != nil {
			s.Progress(Progress{Path: d.about.path, Done: int64(start), Total: int64(len(ids)), Unit: "samples"})
		}
		part := ids[start:min(start+surveyChunk, len(ids))]
		faults := make([]error, len(part))
		facts := make([]cameras, threads)
		for t := range facts {
			facts[t] = make(cameras, len(d.meta.Spec))
		}
		var next atomic.Int64
		var wg sync.WaitGroup
		for t := range threads {
			wg.Go(func() {
				for ctx.Err() == nil {
					k := int(next.Add(1)) - 1
					if k >= len(part) {
						return
					}
					faults[k] = d.lookAt(int(part[k]), facts[t])
				}
			})
		}
		wg.Wait()
		for k, err := range faults {
			if err != nil && s.Fault != nil {
				s.Fault(d.fault(int(part[k]), err))
			}
		}
		for _, f := range facts {
			for c := range f {
				all[c].merge(f[c])
			}
		}
	}
	if s.Progress != nil {
		s.Progress(Progress{Path: d.about.path, Done: int64(len(ids)), Total: int64(len(ids)), Unit: "samples"})
	}
	return all, nil
}

// all returns the samples of both splits in the order of the data.
func (d *Set) all() []int32 {
	var ids []int32
	for _, s := range []subset{d.train, d.heldout} {
		for i := range s.n {
			ids = append(ids, int32(s.id(i)))
		}
	}
	slices.Sort(ids)
	return ids
}

// valueError says that a number of a sample is none.
type valueError struct{ error }

// lookAt reads, decodes and checks one sample.
func (d *Set) lookAt(id int, facts cameras) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic while reading: %v\n%s", r, debug.Stack())
		}
	}()
	s, err := d.train.get(id)
	if err != nil {
		return err
	}
	for k, f := range d.meta.Spec {
		for i, v := range s.Values[k].Floats {
			if v-v != 0 { // NaN or infinite
				return valueError{fmt.Errorf("%s: %s: value %d is %v; it must be finite", s.name(), f.Called(), i, v)}
			}
		}
	}
	for k, f := range d.meta.Spec {
		if f.Type != models.Image {
			continue
		}
		if err := facts[k].add(s.Values[k]); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	return nil
}

// fault is err as a fault of a sample.
func (d *Set) fault(id int, err error) Fault {
	f := Fault{Kind: "record"}
	if d.about.place != nil {
		f = d.about.place(id)
	}
	var picture *ImageError
	var value valueError
	switch {
	case errors.As(err, &value):
		f.Kind = "value"
	case errors.As(err, &picture):
		f.Kind = "picture"
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
		f.Kind = "file"
	default:
		f.Kind = "record"
	}
	f.Sample, f.What = &id, err.Error()
	return f
}

// dark is the brightest value of a picture that counts as black, and the
// widest spread of one that counts as of one colour: JPEG moves a byte by a few.
const dark = 8

// cameras are the facts of each feature, empty but for pictures.
type cameras []pictureFacts

// pictureFacts are what the pictures of a feature that were looked at have in common.
type pictureFacts struct {
	looked, black, plain int // plain: of one colour, black among them
	first                uint32
	equal                bool
	sizes                map[[2]int]int // width, height → pictures
	lo, hi               float32        // of values given as floats
	floats               bool
}

func (p *pictureFacts) add(v Value) error {
	var sum uint32
	img := v.Image
	switch {
	case v.Floats != nil:
		lo, hi := float32(math.Inf(1)), float32(math.Inf(-1))
		for _, v := range v.Floats {
			lo, hi = min(lo, v), max(hi, v)
		}
		if !p.floats {
			p.lo, p.hi = lo, hi
		}
		p.lo, p.hi, p.floats = min(p.lo, lo), max(p.hi, hi), true
		sum = octets.Sum(octets.Bytes(v.Floats))
		if lo == hi {
			p.plain++
			if lo == 0 {
				p.black++
			}
		}
	case img.Encoded != nil || img.RGB != nil:
		sum = octets.Sum(img.Encoded)
		if img.Encoded == nil {
			sum = octets.Sum(img.RGB)
		} else {
			var err error
			if img, err = decodeImage(img.Encoded); err != nil {
				return err
			}
		}
		lo, hi := [3]byte{255, 255, 255}, [3]byte{}
		for i, v := range img.RGB {
			lo[i%3], hi[i%3] = min(lo[i%3], v), max(hi[i%3], v)
		}
		if max(hi[0]-lo[0], hi[1]-lo[1], hi[2]-lo[2]) <= dark {
			p.plain++
		}
		if max(hi[0], hi[1], hi[2]) <= dark {
			p.black++
		}
	default:
		return nil
	}
	p.merge(pictureFacts{looked: 1, first: sum, equal: true, sizes: map[[2]int]int{{img.W, img.H}: 1}})
	return nil
}

// merge adds what is known of other pictures.
func (p *pictureFacts) merge(q pictureFacts) {
	if q.floats {
		if p.floats {
			q.lo, q.hi = min(p.lo, q.lo), max(p.hi, q.hi)
		}
		p.lo, p.hi, p.floats = q.lo, q.hi, true
	}
	p.black, p.plain = p.black+q.black, p.plain+q.plain
	if q.looked == 0 {
		return
	}
	if p.looked == 0 {
		p.first, p.equal, p.sizes = q.first, true, map[[2]int]int{}
	}
	p.equal = p.equal && q.equal && p.first == q.first
	p.looked += q.looked
	for s, n := range q.sizes {
		p.sizes[s] += n
	}
}
