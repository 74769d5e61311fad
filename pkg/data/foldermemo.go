package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/octets"
)

// What a Scan keeps of a folder, under its manifest: the fingerprint, which is
// over all pictures in one, and for each sample its pictures' stamps and checksums.
//
//	uvarint length, fingerprint  tally  uvarint pictures
//	pictures × (uvarint size, varint time, u32 CRC-32C)   zeros where data.skip leaves it out
//
// A picture is opened by no one then: its size and time tell that it is what it
// was, and its checksum when it is read for a batch. If one has changed, all are
// read again.

// folderPicture is what is kept of a picture.
type folderPicture struct {
	stamp stamp
	crc   uint32
}

// folderKnown is the memo of a folder.
type folderKnown struct {
	fingerprint string
	tally       pictureTally
	pictures    []folderPicture
}

func (k folderKnown) memo() []byte {
	put := binary.AppendUvarint
	b := append(put(nil, uint64(len(k.fingerprint))), k.fingerprint...)
	b = put(k.tally.append(b), uint64(len(k.pictures)))
	for _, p := range k.pictures {
		b = binary.AppendVarint(put(b, uint64(p.stamp.size)), p.stamp.time)
		b = binary.LittleEndian.AppendUint32(b, p.crc)
	}
	return b
}

// folderKnownOf reads a memo; ok is false where it is none.
func folderKnownOf(memo []byte) (k folderKnown, ok bool) {
	r := &memoReader{b: memo}
	k.fingerprint = string(r.take(r.int()))
	k.tally = r.tally()
	n := r.int()
	if n > len(r.b) {
		return k, false
	}
	k.pictures = make([]folderPicture, n)
	for i := range k.pictures {
		k.pictures[i] = folderPicture{stamp{int64(r.uint()), r.signed()}, r.uint32()}
	}
	return k, !r.short && len(r.b) == 0
}

// bytes is how much reading of pictures the memo spares.
func (k folderKnown) bytes() (n int64) {
	for _, p := range k.pictures {
		n += p.stamp.size
	}
	return n
}

// errStale says that the Scan of a folder does not hold, so that all is to be read.
var errStale = errors.New("the folder has changed since it was scanned")

// picture returns the CRC-32C of picture i: as the Scan knows it, or of
// its file, whose head is checked and which enters the fingerprint.
func (s *manifestScan) picture(name string, i int) (uint32, error) {
	if s.known != nil { // not of a lenient opening, which does not come here
		at, err := s.root.stamp(name)
		switch {
		case err != nil || i >= len(s.known.pictures):
			return 0, errStale
		case s.scan.theirs && at.size != s.known.pictures[i].stamp.size:
			return 0, fmt.Errorf("%w: it has %d bytes, the coordinator's has %d", ErrOtherData, at.size, s.known.pictures[i].stamp.size)
		case !s.scan.theirs && at != s.known.pictures[i].stamp:
			return 0, errStale
		}
		s.own = append(s.own, folderPicture{at, s.known.pictures[i].crc})
		return s.known.pictures[i].crc, nil
	}
	at, err := s.root.stamp(name)
	if err != nil {
		return 0, err
	}
	file, err := s.root.read(name)
	if err == nil {
		err = s.o.picture(file, func() string { return fmt.Sprintf("%q", clipped(name)) })
	}
	if err != nil {
		return 0, err
	}
	s.fp.h.Write(file)
	s.fp.Add("size", len(file))
	crc := octets.Sum(file)
	s.own = append(s.own, folderPicture{at, crc})
	return crc, nil
}

// expected is what a picture must be that is read for a full look, by a Scan of
// it as it is now; zeros where there is none.
func (s *manifestScan) expected(name string, i int) (p folderPicture) {
	if s.known == nil || i >= len(s.known.pictures) {
		return p
	}
	if at, err := s.root.stamp(name); err != nil || at != s.known.pictures[i].stamp {
		return p
	}
	return s.known.pictures[i]
}

// unchanged compares a picture's file with what it was when it was scanned.
func (s *manifestScan) unchanged(i int, file []byte) error {
	want := s.own[i]
	if got := octets.Sum(file); want != (folderPicture{}) && got != want.crc {
		return fmt.Errorf("it has the CRC-32C %08x, it was %08x when the data was scanned: the file has changed", got, want.crc)
	}
	return nil
}

func (s *manifestScan) manifest() string { return filepath.Join(s.root.dir, ManifestName) }

// recall finds the folder in the Scan; nil where all is to be read.
func (s *manifestScan) recall() (*known, error) {
	k, err := s.scan.recall(s.manifest(), "", false)
	if s.o.lenient() && s.scan.was != nil { // it reads everything, and compares
		if was, ok := s.scan.was.files[ManifestName]; ok {
			if p, ok := folderKnownOf(was.memo); ok {
				s.known = &p
			}
		}
	}
	if k == nil || err != nil {
		return nil, err
	}
	p, ok := folderKnownOf(k.memo)
	if !ok {
		return nil, nil
	}
	s.known = &p
	return k, nil
}

// stamp is that of the file that name leads to.
func (r *folderRoot) stamp(name string) (stamp, error) {
	p, err := r.find(name)
	if err != nil {
		return stamp{}, err
	}
	info, err := p.root.Stat(p.name)
	if err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}
