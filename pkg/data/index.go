package data

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/pkg/models"
)

// Index is what a run keeps of the samples that it is trained on, so that a
// later look can say which of them differ: for each sample two checksums, the
// split that it is in and its place in words.
type Index struct {
	Fingerprint string
	Entries     []Entry
}

// Entry is one sample of an Index.
type Entry struct {
	Picture uint32 // CRC-32C of the picture's file or values, and of given features
	Rest    uint32 // of instruction, action, labels and episode number
	Side    Side
	Place   string // file and line, or record and frame; "" where the data is too large to keep it
}

// Side is the split that a sample is in.
type Side uint8

const (
	InTrain Side = iota
	InHeldout
	Skipped // by data.skip
)

// The form on disk, integers little-endian:
//
//	"VLDX"  u16 version 1  u16 flags (1: with places)  u16 n, n bytes of fingerprint  u32 count
//	count × (u32 picture, u32 rest, u8 side)
//	count × (u8 bytes shared with the place before, u8 n, n bytes)   where flags say so
//	u32 CRC-32C of all bytes before it
const (
	indexMagic   = "VLDX"
	indexVersion = 1
	indexPlaces  = 1

	// MaxIndexed is the most samples that an Index holds; data of more has none.
	MaxIndexed = 1 << 26
	// MaxPlaces is the most samples up to which it names their places.
	MaxPlaces = 1 << 22
	maxPlace  = 200
)

// Encode is the index as a file.
func (x *Index) Encode() []byte {
	le := binary.LittleEndian
	flags := uint16(0)
	if len(x.Entries) <= MaxPlaces {
		flags = indexPlaces
	}
	b := le.AppendUint16(append([]byte(nil), indexMagic...), indexVersion)
	b = le.AppendUint16(b, flags)
	b = append(le.AppendUint16(b, uint16(len(x.Fingerprint))), x.Fingerprint...)
	b = le.AppendUint32(b, uint32(len(x.Entries)))
	for _, e := range x.Entries {
		b = append(le.AppendUint32(le.AppendUint32(b, e.Picture), e.Rest), byte(e.Side))
	}
	if flags == indexPlaces {
		last := ""
		for _, e := range x.Entries {
			p := e.Place[:min(len(e.Place), maxPlace)]
			same := 0
			for same < min(len(p), len(last)) && p[same] == last[same] {
				same++
			}
			b = append(append(b, byte(same), byte(len(p)-same)), p[same:]...)
			last = p
		}
	}
	return le.AppendUint32(b, octets.Sum(b))
}

// DecodeIndex reads what Encode wrote. Damage is an error that wraps ErrCorrupt.
func DecodeIndex(b []byte) (*Index, error) {
	bad := func(format string, a ...any) (*Index, error) {
		return nil, fmt.Errorf("index of the data: %w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
	}
	le := binary.LittleEndian
	if len(b) < 18 || string(b[:4]) != indexMagic {
		return bad("%d bytes that do not begin with %q", len(b), indexMagic)
	}
	if v := le.Uint16(b[4:]); v != indexVersion {
		return bad("version %d; this program reads %d", v, indexVersion)
	}
	if got, want := octets.Sum(b[:len(b)-4]), le.Uint32(b[len(b)-4:]); got != want {
		return bad("its CRC-32C is %08x, the file says %08x", got, want)
	}
	r := reader{b: b[6 : len(b)-4]}
	flags := le.Uint16(r.take(2, 1))
	x := &Index{Fingerprint: string(r.take(int(le.Uint16(r.take(2, 1))), 1))}
	n := int(le.Uint32(r.take(4, 1)))
	if r.short || n > MaxIndexed || 9*n > len(r.b) {
		return bad("%d samples in %d bytes", n, len(b))
	}
	x.Entries = make([]Entry, n)
	for i := range x.Entries {
		p := r.take(9, 1)
		x.Entries[i] = Entry{Picture: le.Uint32(p), Rest: le.Uint32(p[4:]), Side: Side(p[8])}
		if x.Entries[i].Side > Skipped {
			return bad("sample %d is in split %d", i, p[8])
		}
	}
	if flags&indexPlaces != 0 {
		last := ""
		for i := range x.Entries {
			head := r.take(2, 1)
			same, more := int(head[0]), r.take(int(head[1]), 1)
			if r.short || same > len(last) {
				return bad("the place of sample %d runs past the end", i)
			}
			last = last[:same] + string(more)
			x.Entries[i].Place = last
		}
	}
	if r.short || len(r.b) > 0 {
		return bad("%d bytes after the last sample", len(r.b))
	}
	return x, nil
}

// ErrNoIndex says that data has no index: it is made on the fly, or too large.
var ErrNoIndex = errors.New("this data has no index of its samples")

// Index makes the index of a file source. What was not seen when the data was
// opened is read for it, and it hears ctx then.
func (d *Set) Index(ctx context.Context) (*Index, error) {
	n := d.about.n
	if d.about.path == "" || n > MaxIndexed {
		return nil, ErrNoIndex
	}
	x := &Index{Fingerprint: d.meta.Fingerprint, Entries: make([]Entry, n)}
	for i := range x.Entries {
		x.Entries[i].Side = Skipped
	}
	for side, s := range [...]subset{InTrain: d.train, InHeldout: d.heldout} {
		for i := range s.n {
			x.Entries[s.id(i)].Side = Side(side)
		}
	}
	if d.parts != nil {
		return x, d.indexParts(ctx, x)
	}
	if d.about.table == nil {
		return x, d.indexRows(ctx, x)
	}
	t := d.about.table
	var b []byte
	for i := range x.Entries {
		e := &x.Entries[i]
		first := true
		for _, f := range d.meta.Spec {
			p := t.pictures[f.Name]
			switch {
			case p == nil || p.sums == nil:
			case first:
				e.Picture, first = p.sums[i], false
			default:
				e.Picture = octets.AddSum(e.Picture, binary.LittleEndian.AppendUint32(nil, p.sums[i]))
			}
		}
		b = b[:0]
		if t.text != nil {
			b = append(b, t.texts[t.text[i]]...)
			if t.others != nil {
				for _, s := range t.others[t.text[i]] {
					b = append(append(b, 0), s...)
				}
			}
		}
		if t.numbers != nil {
			b = binary.LittleEndian.AppendUint64(append(b, 0), uint64(t.numbers[t.episode[i]]))
		}
		for _, f := range d.meta.Spec {
			if c := t.floats[f.Name]; c != nil {
				b = putFloats(b, c.row(i))
			}
		}
		e.Rest = octets.Sum(b)
		e.Place = t.short(i, t.frame(i))
	}
	return x, nil
}

// indexRows reads every sample of a source without a table.
func (d *Set) indexRows(ctx context.Context, x *Index) error {
	name := filepath.Base(d.about.path)
	pictures := []string{models.Images, models.VisionFeatures, models.LanguageFeatures}
	rest := []string{models.Actions, models.Instruction, models.Labels}
	for _, f := range d.meta.Spec {
		switch {
		case slices.Contains(pictures, f.Name) || slices.Contains(rest, f.Name):
		case f.Role == models.Input && f.Type != models.Token:
			pictures = append(pictures, f.Name)
		default:
			rest = append(rest, f.Name)
		}
	}
	var b []byte
	for i := range x.Entries {
		if ctx.Err() != nil {
			return stopped(ctx)
		}
		s, err := d.train.get(i)
		if err != nil {
			return err
		}
		e := &x.Entries[i]
		b = putFeatures(b[:0], d.meta.Spec, s, pictures)
		e.Picture = octets.Sum(b)
		b = putFeatures(b[:0], d.meta.Spec, s, rest)
		e.Rest = octets.Sum(b)
		e.Place = fmt.Sprintf("%s row %d", name, i)
	}
	return nil
}

// putFeatures adds the values of features to b, and an empty list of those that
// the data does not have.
func putFeatures(b []byte, spec models.Spec, s Sample, names []string) []byte {
	for _, name := range names {
		var v Value
		if i := spec.Index(name); i >= 0 {
			v = s.Values[i]
		}
		if v.Ints != nil {
			b = putInts(b, v.Ints)
		} else {
			b = putFloats(b, v.Floats)
		}
	}
	return b
}
