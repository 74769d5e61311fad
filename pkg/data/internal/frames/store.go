package frames

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"slices"
	"sort"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/regular"
)

// The form of a store file, integers little-endian. A frame's place is a
// multiplication; what speaks of all frames stands behind them, because their
// number is known at the end.
//
//	n × H·W·3 bytes of RGB              frame k begins at k·H·W·3
//	n × (f64 seconds, u32 CRC-32C of the frame's bytes)
//	"VLFR"  u16 version 1  u16 0  u32 n  u32 H  u32 W          \
//	32 bytes SHA-256 of all before it, in this order            | footer
//	u32 and u32: height and width of the video                  | of 104 bytes
//	u64 bytes of the video  32 bytes sample of its content      |
//	u32 CRC-32C of index and footer before it                 /
const (
	magic      = "VLFR"
	version    = 1
	indexEntry = 12
	footerSize = 104

	// maxFrames and maxSide bound what a file may say of itself.
	maxFrames = 1 << 28
	maxSide   = 1 << 14
)

// errDamaged is wrapped by errors about bytes that are not what was written.
var errDamaged = errors.New("damaged")

// Source is the video that a store was made of.
type Source struct {
	H, W   int      // of its pictures
	Bytes  int64    // of its file
	Sample [32]byte // SHA-256 of parts of the file
}

// Writer writes a store file. Frames come in the order of their times.
type Writer struct {
	w      io.Writer
	h, wid int
	sum    hash.Hash
	index  []byte
	last   float64
	n      int
}

// NewWriter writes frames of h×w pixels to w, which it does not close.
func NewWriter(w io.Writer, h, width int) *Writer {
	return &Writer{w: w, h: h, wid: width, sum: sha256.New()}
}

// Add writes the frame that is shown from a time on: H·W·3 bytes of RGB.
func (w *Writer) Add(seconds float64, rgb []byte) error {
	switch {
	case len(rgb) != 3*w.h*w.wid:
		return fmt.Errorf("frame %d: %d bytes for %d×%d pixels", w.n, len(rgb), w.wid, w.h)
	case math.IsNaN(seconds) || math.IsInf(seconds, 0) || w.n > 0 && seconds <= w.last:
		return fmt.Errorf("frame %d is at %v s, the one before it at %v s; want ascending times", w.n, seconds, w.last)
	case w.n >= maxFrames:
		return fmt.Errorf("more than %d frames", maxFrames)
	}
	w.n, w.last = w.n+1, seconds
	w.index = binary.LittleEndian.AppendUint64(w.index, math.Float64bits(seconds))
	w.index = binary.LittleEndian.AppendUint32(w.index, octets.Sum(rgb))
	w.sum.Write(rgb)
	_, err := w.w.Write(rgb)
	return err
}

// Close writes what stands behind the frames.
func (w *Writer) Close(s Source) error {
	if w.n == 0 {
		return errors.New("no frame")
	}
	le := binary.LittleEndian
	b := le.AppendUint16(append(w.index, magic...), version)
	b = le.AppendUint16(b, 0)
	for _, v := range []int{w.n, w.h, w.wid} {
		b = le.AppendUint32(b, uint32(v))
	}
	w.sum.Write(b)
	b = w.sum.Sum(b)
	b = le.AppendUint32(le.AppendUint32(b, uint32(s.H)), uint32(s.W))
	b = append(le.AppendUint64(b, uint64(s.Bytes)), s.Sample[:]...)
	_, err := w.w.Write(le.AppendUint32(b, octets.Sum(b)))
	return err
}

// Store is what a store file says of itself: its index, and no frame. It is safe
// for concurrent use.
type Store struct {
	Path    string
	H, W    int       // of a frame
	Times   []float64 // [n] seconds, ascending
	Sums    []uint32  // [n] CRC-32C of each frame's bytes
	Content [32]byte  // SHA-256 of pixels and times
	Source  Source
}

// Size is the length in bytes of a store file of n frames of h×w pixels.
func Size(n, h, w int) int64 { return int64(n)*(3*int64(h)*int64(w)+indexEntry) + footerSize }

// Open reads the index of the store file at path.
func Open(path string) (*Store, error) {
	f, size, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bad := func(format string, a ...any) (*Store, error) {
		return nil, fmt.Errorf("%s: %w: %s", path, errDamaged, fmt.Sprintf(format, a...))
	}
	if size < footerSize {
		return bad("%d bytes are no frame store", size)
	}
	foot := make([]byte, footerSize)
	if _, err := f.ReadAt(foot, size-footerSize); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(foot[:4]) != magic {
		return bad("its end is not that of a frame store; it was cut, or is something else")
	}
	if v := le.Uint16(foot[4:]); v != version {
		return nil, fmt.Errorf("%s: frame store of version %d; this program reads %d", path, v, version)
	}
	n, h, w := int(le.Uint32(foot[8:])), int(le.Uint32(foot[12:])), int(le.Uint32(foot[16:]))
	if n < 1 || n > maxFrames || h < 1 || h > maxSide || w < 1 || w > maxSide || size != Size(n, h, w) {
		return bad("%d bytes for %d frames of %d×%d", size, n, w, h)
	}
	b := make([]byte, n*indexEntry, n*indexEntry+footerSize)
	if _, err := f.ReadAt(b, int64(n)*int64(3*h*w)); err != nil {
		return nil, err
	}
	b = append(b, foot...)
	if got, want := octets.Sum(b[:len(b)-4]), le.Uint32(b[len(b)-4:]); got != want {
		return bad("the CRC-32C of its index is %08x, the file says %08x", got, want)
	}
	s := &Store{Path: path, H: h, W: w, Times: make([]float64, n), Sums: make([]uint32, n)}
	for k := range n {
		s.Times[k] = math.Float64frombits(le.Uint64(b[k*indexEntry:]))
		s.Sums[k] = le.Uint32(b[k*indexEntry+8:])
	}
	s.Content = [32]byte(foot[20:52])
	s.Source = Source{H: int(le.Uint32(foot[52:])), W: int(le.Uint32(foot[56:])), Bytes: int64(le.Uint64(foot[60:])), Sample: [32]byte(foot[68:100])}
	if !slices.IsSorted(s.Times) {
		return bad("its times do not ascend")
	}
	return s, nil
}

// Nearest is the frame whose time is nearest to t, and how many seconds t is after it.
func (s *Store) Nearest(t float64) (k int, off float64) {
	k = sort.SearchFloat64s(s.Times, t)
	if k == len(s.Times) || k > 0 && t-s.Times[k-1] < s.Times[k]-t {
		k--
	}
	return k, t - s.Times[k]
}

// read reads frame k from f, the store's file.
func (s *Store) read(f *os.File, k int) ([]byte, error) {
	b := make([]byte, 3*s.H*s.W)
	if _, err := f.ReadAt(b, int64(k)*int64(len(b))); err != nil {
		return nil, fmt.Errorf("%s: frame %d: %w", s.Path, k, err)
	}
	if got := octets.Sum(b); got != s.Sums[k] {
		return nil, fmt.Errorf("%s: frame %d: %w: its CRC-32C is %08x, it was written as %08x; remove the file and import again", s.Path, k, errDamaged, got, s.Sums[k])
	}
	return b, nil
}
