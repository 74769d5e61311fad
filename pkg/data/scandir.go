package data

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
)

// ScanDir is a directory that keeps Scans, one file for each data set and what is
// read of it. Several processes may use it at once. Nothing in it is needed: a
// Scan that is missing, damaged or of another version is made again.
type ScanDir struct {
	Dir string

	// Least is how many bytes of files a Scan must spare to be kept.
	Least int64
}

// LeastScan is the ScanDir.Least of a program: less is read in a moment.
const LeastScan = 16 << 20

// keptScans is how many Scans a directory keeps, the newest.
const keptScans = 64

func (d *ScanDir) file(path, recipe string) string {
	sum := sha256.Sum256([]byte(path + "\x00" + recipe))
	return filepath.Join(d.Dir, hex.EncodeToString(sum[:16])+".scan")
}

// load returns the Scan of the data at path; nil where there is none to use.
func (d *ScanDir) load(path, recipe string) *Scan {
	b, err := regular.Read(d.file(path, recipe), MaxScan)
	if err != nil {
		return nil
	}
	s, err := DecodeScan(b)
	if err != nil || s.path != path || s.recipe != recipe {
		return nil
	}
	return s
}

// store keeps s, and fewer of the oldest where there are many.
func (d *ScanDir) store(s *Scan) error {
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return err
	}
	b := s.Encode()
	if len(b) > MaxScan {
		return nil
	}
	if err := atomicfile.Write(d.file(s.path, s.recipe), b, 0o644); err != nil {
		return err
	}
	all, err := filepath.Glob(filepath.Join(d.Dir, "*.scan"))
	if err != nil || len(all) <= keptScans {
		return err
	}
	age := map[string]int64{}
	for _, p := range all {
		if i, err := os.Stat(p); err == nil {
			age[p] = i.ModTime().UnixNano()
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		if age[a] < age[b] {
			return -1
		}
		return 1
	})
	for _, p := range all[:len(all)-keptScans] {
		os.Remove(p)
	}
	return nil
}

// forget removes the Scan of the data at path.
func (d *ScanDir) forget(path, recipe string) { os.Remove(d.file(path, recipe)) }
