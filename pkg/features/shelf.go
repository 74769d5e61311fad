package features

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/plain"
	"github.com/vlaring/vlaring/internal/room"
	"github.com/vlaring/vlaring/pkg/models"
)

// head begins a file.
//
//	0   "vlafeat1"
//	8   models.Part.ID
//	40  floats of a result, uint32
//	44  places, uint64
//	52  zeros
//	60  CRC-32C of these 60 bytes
type head struct {
	id     [32]byte
	floats int
	places int64
}

const (
	magic     = "vlafeat1"
	headBytes = 64
	tagBytes  = 4 + 32 // of a place: checksum and key
)

// place is how many bytes one has.
func (h head) place() int64 { return tagBytes + 4*int64(h.floats) }

// bytes is the size of a full file.
func (h head) bytes() int64 { return headBytes + h.places*h.place() }

func (h head) encode() []byte {
	b := make([]byte, headBytes)
	copy(b, magic)
	copy(b[8:], h.id[:])
	binary.LittleEndian.PutUint32(b[40:], uint32(h.floats))
	binary.LittleEndian.PutUint64(b[44:], uint64(h.places))
	binary.LittleEndian.PutUint32(b[60:], octets.AddSum(0, b[:60]))
	return b
}

// errHead says that a file is none of these.
var errHead = errors.New("its head is damaged, or of another version")

func decodeHead(r io.ReaderAt) (h head, err error) {
	var b [headBytes]byte
	if _, err := r.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return h, err
	}
	if string(b[:8]) != magic || binary.LittleEndian.Uint32(b[60:]) != octets.AddSum(0, b[:60]) {
		return h, errHead
	}
	copy(h.id[:], b[8:])
	h.floats, h.places = int(binary.LittleEndian.Uint32(b[40:])), int64(binary.LittleEndian.Uint64(b[44:]))
	if h.places < 1 || h.floats < 1 || h.places > (math.MaxInt64-headBytes)/h.place() {
		return h, errHead
	}
	return h, nil
}

// readHead is that of the file at path.
func readHead(path string) (head, error) {
	f, err := os.Open(path)
	if err != nil {
		return head{}, err
	}
	defer f.Close()
	return decodeHead(f)
}

// shelf is a models.Shelf.
type shelf struct {
	s    *Store
	part models.Part
	rows map[[32]byte][]float32
	left int64 // bytes of memory for more rows

	head    head
	file    *os.File // nil: memory alone
	stopped bool     // nothing more is written
	written int64    // bytes since the disk was looked at
	touched time.Time
	buf     []byte // a place
}

// probes is how many places a result may be in. A table is nearly full before a
// result finds none of them empty.
const probes = 16

// spare is what is left free on a disk: checkpoints need it more.
const spare = 256 << 20

// look is how many bytes are written between two looks at the disk.
const look = 64 << 20

// table is that of a part which the bound allows: no larger than all pictures need.
func (o Options) table(p models.Part) head {
	h := head{id: p.ID, floats: p.Floats}
	share := o.Bytes / wordShare
	if p.Pictures {
		share = o.Bytes - share
	}
	h.places = max(0, (share-headBytes)/h.place())
	if n := int64(o.Frames); n > 0 && p.Pictures {
		h.places = min(h.places, n+n/8+probes)
	}
	return h
}

// Fits says of how many of the data's pictures what a part makes fits into Bytes, and
// which Bytes would hold it of all.
func (o Options) Fits(p models.Part) (pictures int, all int64) {
	h := o.table(p)
	n := int64(o.Frames)
	whole := headBytes + (n+n/8+probes)*h.place()
	return int(min(n, h.places)), whole + whole/(wordShare-1) + wordShare
}

// open opens the part's file, or makes it. Where that cannot be, there is none.
func (x *shelf) open() {
	path, want := x.s.path(x.part), x.s.o.table(x.part)
	for range 3 { // another process may make or remove it at the same time
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		switch {
		case err == nil:
			h, err := decodeHead(f)
			// One that others or the disk left less room for than the bound is as good as a new
			// one that would be hardly larger; and what a process uses is not taken from it.
			if err == nil && h.id == want.id && h.floats == want.floats && (h.places >= want.places || held(path) || h.places >= x.may(path, want)*3/4) {
				hold(f)
				x.file, x.head, x.buf = f, h, make([]byte, h.place())
				x.touch()
				return
			}
			f.Close()
			if err != nil {
				x.s.say(path, "%s is made anew: %v", path, err)
			}
			os.Remove(path)
		case !errors.Is(err, fs.ErrNotExist):
			x.s.alone(err)
			return
		}
		if want.places < 1 {
			return
		}
		h := want
		if h.places = x.may(path, want); h.places < max(1, want.places/16) { // a tiny file would only stand in the way of a whole one
			x.s.alone(fmt.Errorf("there is no room in %s for more files (train.cache %s, and half of what the disk has free)", x.s.dir, plain.Bytes(x.s.o.Bytes)))
			return
		}
		want.places = h.places
		if err := create(path, h); err != nil && !errors.Is(err, fs.ErrExist) {
			x.s.alone(err)
			return
		}
	}
	x.s.alone(fmt.Errorf("%s is removed as often as it is made", path))
}

// may is how many places a new table may have: those that are wanted, or fewer where other
// tables that are in use, or the disk, leave less room.
func (x *shelf) may(path string, want head) int64 {
	most := x.s.room(path, want.bytes())
	if r, err := room.Free(x.s.dir); err == nil && r.Known {
		most = min(most, r.Bytes/2)
	}
	return min(want.places, (most-headBytes)/want.place())
}

// create makes a file with that head, whole or not at all: fs.ErrExist where another
// process was faster.
func create(path string, h head) error {
	f, err := os.CreateTemp(filepath.Dir(path), "*"+temp)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(h.encode())
	if e := errors.Join(f.Chmod(0o644), f.Close()); err == nil { // whoever may write to it may change what is trained
		err = e
	}
	if err == nil {
		if err = os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
			err = os.Rename(f.Name(), path) // a file system without links; the last to come wins
		}
	}
	return err
}

// at is where in the file the first place of a key is, by number.
func (x *shelf) at(key [32]byte) int64 {
	return int64(binary.LittleEndian.Uint64(key[:]) % uint64(x.head.places))
}

// offset is where the n-th place after the first one is.
func (x *shelf) offset(first int64, n int) int64 {
	return headBytes + (first+int64(n))%x.head.places*x.head.place()
}

// sum is the checksum of a place.
func sum(place []byte) uint32 { return octets.AddSum(0, place[4:]) }

// tag reads the tag of a place into the buffer: false, there is none yet.
func (x *shelf) tag(at int64) bool {
	b := x.buf[:tagBytes]
	if n, _ := x.file.ReadAt(b, at); n < tagBytes {
		return false
	}
	for _, v := range b {
		if v != 0 {
			return true
		}
	}
	return false
}

// Get is models.Shelf's.
func (x *shelf) Get(key [32]byte, to []float32) bool {
	x.s.Asked++
	if row, ok := x.rows[key]; ok {
		copy(to, row)
		x.s.Found++
		return true
	}
	if x.file == nil {
		return false
	}
	first := x.at(key)
	for n := range min(probes, int(x.head.places)) {
		at := x.offset(first, n)
		if !x.tag(at) {
			return false
		}
		if [32]byte(x.buf[4:tagBytes]) != key {
			continue
		}
		if k, _ := x.file.ReadAt(x.buf, at); k < len(x.buf) || [32]byte(x.buf[4:tagBytes]) != key || binary.LittleEndian.Uint32(x.buf) != sum(x.buf) {
			return false // damaged, or being written: Put writes it anew
		}
		octets.Get(to, x.buf[tagBytes:])
		x.remember(key, to)
		x.s.Found++
		x.touch()
		return true
	}
	return false
}

// remember keeps a row in memory, where there is room. Pictures that have a file are in
// the system's memory already, for all processes.
func (x *shelf) remember(key [32]byte, row []float32) {
	if x.file != nil && x.part.Pictures {
		return
	}
	if n := int64(4*len(row) + 64); n <= x.left {
		x.left -= n
		x.rows[key] = append([]float32(nil), row...)
	}
}

// Put is models.Shelf's.
func (x *shelf) Put(key [32]byte, made []float32) {
	x.remember(key, made)
	if x.file == nil || x.stopped || !x.spare() {
		return
	}
	first := x.at(key)
	for n := range min(probes, int(x.head.places)) {
		at := x.offset(first, n)
		if x.tag(at) && [32]byte(x.buf[4:tagBytes]) != key {
			continue
		}
		copy(x.buf[4:], key[:])
		octets.Put(x.buf[tagBytes:], made)
		binary.LittleEndian.PutUint32(x.buf, sum(x.buf))
		if _, err := x.file.WriteAt(x.buf, at); err != nil { // what stands there now has no valid checksum
			x.stop(err)
		}
		x.written += x.head.place()
		x.touch()
		return
	}
}

// spare says whether the disk has room left for others.
func (x *shelf) spare() bool {
	if x.written != 0 && x.written < look {
		return true
	}
	x.written = 0
	if r, err := room.Free(x.s.dir); err == nil && r.Known && r.Bytes < spare {
		x.stop(fmt.Errorf("the disk has %s free, which are left for others", plain.Bytes(r.Bytes)))
		return false
	}
	return true
}

// stop ends the writing.
func (x *shelf) stop(why error) {
	x.stopped = true
	x.s.say("stop", "%s takes no more of what frozen encoders make: %v", x.s.dir, why)
}

// touch says that the file is in use, now and then.
func (x *shelf) touch() {
	if now := time.Now(); now.Sub(x.touched) > touched {
		x.touched = now
		os.Chtimes(x.file.Name(), now, now)
	}
}

// Drop is models.Shelf's: for all processes that have the file.
func (x *shelf) Drop() {
	clear(x.rows)
	x.left = x.s.o.memory / 2
	if x.file != nil {
		x.s.say("drop", "the weights of %s have changed in memory: what was kept of them in %s is dropped", x.part, x.file.Name())
		if err := x.file.Truncate(headBytes); err != nil {
			x.close()
		}
	}
}

func (x *shelf) close() {
	if x.file != nil {
		x.file.Close()
		x.file = nil
	}
}
