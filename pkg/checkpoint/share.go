package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/octets"
	"github.com/vlaring/vlaring/internal/regular"
)

// A share is what one worker holds of a state that workers share out, kept where
// nobody was left to put it together: a directory share-NNNNNNNN beside the
// checkpoints of a store,
//
//	share.json               the manifest, and which runs of bytes of each file are here; written last
//	model.safetensors        files of the checkpoint, of their whole length,
//	optimizer.safetensors    with holes where others have the bytes
//
// Shares that cover every byte make the checkpoint: Merge puts them together.
type Share struct {
	Dir      string               `json:"-"`
	Manifest Manifest             `json:"manifest"`
	Files    map[string]ShareFile `json:"files"`
}

// ShareFile is one file of a share.
type ShareFile struct {
	Size int64      `json:"size"` // of the whole file
	Runs []ShareRun `json:"runs"` // that are here, ascending
}

// ShareRun is a run of bytes.
type ShareRun struct {
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	CRC    uint32 `json:"crc32c"`
}

const (
	shareFile = "share.json"
	maxShare  = 64 << 20
)

func shareName(step uint64) string { return fmt.Sprintf("share-%08d", step) }

// WriteShare keeps a share in dir. files has for each file its content, of which
// no more than the runs is read. It returns where the share is.
func WriteShare(dir string, s Share, files map[string]io.ReaderAt) (string, error) {
	s.Dir = filepath.Join(dir, shareName(s.Manifest.Step))
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", err
	}
	for name, f := range s.Files {
		if err := s.write(name, f, files[name]); err != nil {
			return "", err
		}
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", err
	}
	if err := atomicfile.Write(filepath.Join(s.Dir, shareFile), b, 0o644); err != nil {
		return "", err
	}
	return s.Dir, atomicfile.SyncDir(dir)
}

func (s *Share) write(name string, f ShareFile, r io.ReaderAt) error {
	out, err := os.Create(filepath.Join(s.Dir, name))
	if err != nil {
		return err
	}
	defer out.Close()
	if err := out.Truncate(f.Size); err != nil {
		return err
	}
	for i, run := range f.Runs {
		h := octets.NewSum()
		to := io.NewOffsetWriter(out, run.Offset)
		if n, err := io.Copy(io.MultiWriter(to, h), io.NewSectionReader(r, run.Offset, run.Size)); err != nil || n < run.Size {
			return fmt.Errorf("%s: %d bytes of %d at %d: %w", name, n, run.Size, run.Offset, errors.Join(err, io.ErrUnexpectedEOF))
		}
		f.Runs[i].CRC = h.Sum32()
	}
	return out.Sync()
}

// Shares are those in dirs, by their step. A directory in which a share was
// begun and not finished holds none.
func Shares(dirs []string) map[uint64][]Share {
	out := map[uint64][]Share{}
	for _, dir := range dirs {
		found, _ := filepath.Glob(filepath.Join(dir, "share-*", shareFile))
		for _, path := range found {
			b, err := regular.Read(path, maxShare)
			if err != nil {
				continue
			}
			s := Share{Dir: filepath.Dir(path)}
			if json.Unmarshal(b, &s) == nil && filepath.Base(s.Dir) == shareName(s.Manifest.Step) {
				out[s.Manifest.Step] = append(out[s.Manifest.Step], s)
			}
		}
	}
	return out
}

// holeError says that shares do not cover a file.
type holeError struct {
	File   string
	Lo, Hi int64 // bytes that no share has
	Size   int64
}

func (e *holeError) Error() string {
	return fmt.Sprintf("bytes %d to %d of the %d of %s are in no share: those of other workers are missing", e.Lo, e.Hi, e.Size, e.File)
}

// Merge makes a checkpoint in the store of shares of one step, which together
// have every byte of its files: else the error is a *holeError, and nothing is
// stored. Each run is checked as it is copied.
func (d *Disk) Merge(shares []Share) (err error) {
	if len(shares) == 0 {
		return errors.New("no shares")
	}
	first := shares[0]
	type source struct {
		dir string
		ShareRun
	}
	sources := map[string][]source{}
	for name, f := range first.Files {
		var all []source
		for _, s := range shares {
			if s.Files[name].Size != f.Size {
				return fmt.Errorf("%s has %d bytes in %s and %d in %s: they are shares of different states", name, f.Size, first.Dir, s.Files[name].Size, s.Dir)
			}
			for _, r := range s.Files[name].Runs {
				all = append(all, source{s.Dir, r})
			}
		}
		slices.SortFunc(all, func(a, b source) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
		end := int64(0)
		for _, r := range all {
			if r.Size < 0 || r.Offset < 0 || r.Offset+r.Size > f.Size {
				return fmt.Errorf("%s: a run of %d bytes at %d of %d", filepath.Join(r.dir, shareFile), r.Size, r.Offset, f.Size)
			}
			if r.Offset > end {
				return &holeError{name, end, r.Offset, f.Size}
			}
			end = max(end, r.Offset+r.Size)
		}
		if end < f.Size {
			return &holeError{name, end, f.Size, f.Size}
		}
		sources[name] = all
	}
	w, err := d.Begin(first.Manifest.Step)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		out, err := w.Create(name, first.Files[name].Size)
		if err != nil {
			return err
		}
		for _, r := range sources[name] {
			if err := copyRun(out, filepath.Join(r.dir, name), r.ShareRun); err != nil {
				return err
			}
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
	return w.Commit(first.Manifest)
}

// copyRun copies a run of a share's file to its place, if it is what was kept.
func copyRun(out io.WriterAt, path string, r ShareRun) error {
	f, _, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := octets.NewSum()
	n, err := io.Copy(io.MultiWriter(io.NewOffsetWriter(out, r.Offset), h), io.NewSectionReader(f, r.Offset, r.Size))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if n != r.Size || h.Sum32() != r.CRC {
		return fmt.Errorf("%s: bytes %d to %d are not what was kept there", path, r.Offset, r.Offset+r.Size)
	}
	return nil
}
