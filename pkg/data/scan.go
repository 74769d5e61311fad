package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/vlaring/vlaring/internal/octets"
)

// Scan is what reading the files of a data set has found, kept so that a file
// need not be read again: not by this machine's next run, and not by a worker
// that sees the same files. A source puts into it what it needs of a file to
// open the data as if it had read it, so a sample's instruction and numbers come
// from the Scan, and the checksum that its picture must have when it is read.
//
// It is valid for the path and the recipe, which names what was read of the data.
type Scan struct {
	path   string
	recipe string // hex
	files  map[string]known
}

// known is what is known of one file, or of a part of it.
type known struct {
	size    int64
	beside  int64    // bytes of other files that the memo speaks of
	time    int64    // of the last change, in nanoseconds since 1970
	sample  [32]byte // see sampled; zeros: none was taken
	content [32]byte // SHA-256 of the whole file; zeros: not made
	memo    []byte   // what its source needs, in a form of its own
}

// The form on disk and on its way to workers, integers little-endian, texts with
// their length before them as u32:
//
//	"VLDS"  u16 version 1  text path  text recipe  u32 files
//	files × (text name  u64 size  u64 beside  u64 time  32 bytes sample  32 bytes content  u32 bytes, memo)   by name
//	u32 CRC-32C of all bytes before it
const (
	scanMagic   = "VLDS"
	scanVersion = 1

	// MaxScan is the most bytes of an encoded Scan.
	MaxScan = 1 << 31
)

// Name is how a Scan is asked for: by its recipe, so that workers can find it
// whose paths are others.
func (s *Scan) Name() string { return scanName(s.recipe) }

func scanName(recipe string) string { return recipe[:min(16, len(recipe))] }

// Encode is the Scan as a file.
func (s *Scan) Encode() []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint32(b, uint32(len(s))), s...) }
	b := le.AppendUint16([]byte(scanMagic), scanVersion)
	b = text(text(b, s.path), s.recipe)
	b = le.AppendUint32(b, uint32(len(s.files)))
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		k := s.files[name]
		b = text(b, name)
		for _, v := range []int64{k.size, k.beside, k.time} {
			b = le.AppendUint64(b, uint64(v))
		}
		b = append(append(b, k.sample[:]...), k.content[:]...)
		b = append(le.AppendUint32(b, uint32(len(k.memo))), k.memo...)
	}
	return le.AppendUint32(b, octets.Sum(b))
}

// DecodeScan reads what Encode wrote. Damage is an error that wraps ErrCorrupt.
func DecodeScan(b []byte) (*Scan, error) {
	bad := func(format string, a ...any) (*Scan, error) {
		return nil, fmt.Errorf("scan of the data: %w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
	}
	le := binary.LittleEndian
	if len(b) < 22 || string(b[:4]) != scanMagic {
		return bad("%d bytes that do not begin with %q", len(b), scanMagic)
	}
	if v := le.Uint16(b[4:]); v != scanVersion {
		return bad("version %d; this program reads %d", v, scanVersion)
	}
	if got, want := octets.Sum(b[:len(b)-4]), le.Uint32(b[len(b)-4:]); got != want {
		return bad("its CRC-32C is %08x, the file says %08x", got, want)
	}
	r := reader{b: b[6 : len(b)-4]}
	s := &Scan{path: string(r.bytes()), recipe: string(r.bytes()), files: map[string]known{}}
	n := r.count()
	for range n {
		name := string(r.bytes())
		k := known{size: r.int64(), beside: r.int64(), time: r.int64()}
		copy(k.sample[:], r.take(32, 1))
		copy(k.content[:], r.take(32, 1))
		k.memo = r.bytes()
		if r.short {
			return bad("it ends within file %d of %d", len(s.files), n)
		}
		s.files[name] = k
	}
	if r.short || len(r.b) > 0 || len(s.files) != n {
		return bad("%d bytes after the last of %d files", len(r.b), n)
	}
	return s, nil
}

func (r *reader) int64() int64 { return int64(binary.LittleEndian.Uint64(r.take(8, 1))) }

// with is k with another memo.
func (k known) with(memo []byte) known {
	k.memo = memo
	return k
}

// bytes is how much there is to read of the files of a Scan.
func (s *Scan) bytes() (n int64) {
	for _, k := range s.files {
		n += k.size + k.beside
	}
	return n
}

// Of a file so many blocks of so many bytes are hashed to recognise it.
const (
	sampledBlocks = 16
	sampledBytes  = 4 << 10
)

// sampled is the SHA-256 of blocks of a file, the first, the last and those
// evenly between; of all of it where it is small. It tells files apart that a
// copy has cut off, that are of another release or were written anew. What it
// does not see of a picture, the picture's checksum does when it is read.
func sampled(r io.ReaderAt, size int64) (sum [32]byte, err error) {
	h := sha256.New()
	if size <= sampledBlocks*sampledBytes {
		_, err = io.Copy(h, io.NewSectionReader(r, 0, size))
	} else {
		b := make([]byte, sampledBytes)
		for i := range int64(sampledBlocks) {
			if _, err = r.ReadAt(b, i*(size-sampledBytes)/(sampledBlocks-1)); err != nil {
				break
			}
			h.Write(b)
		}
	}
	return [32]byte(h.Sum(nil)), err
}

// differs says in what a file of this machine is not the one that the Scan of
// another knows; empty where it is.
func (k known) differs(size int64, sample [32]byte) string {
	return cmp.Or(
		when(size != k.size, "it has %d bytes, the coordinator's has %d", size, k.size),
		when(sample != k.sample, "it has the coordinator's %d bytes of length, but another content (SHA-256 of the same %d blocks %s, there %s)",
			size, sampledBlocks, hex.EncodeToString(sample[:4]), hex.EncodeToString(k.sample[:4])))
}

func when(is bool, format string, a ...any) string {
	if !is {
		return ""
	}
	return fmt.Sprintf(format, a...)
}
