package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/internal/sniff"
)

// CorruptError names a checkpoint that must not be used, and what is wrong with
// it. It is ErrCorrupt to errors.Is.
type CorruptError struct {
	Dir      string
	Problems []string // each names the file it is about
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint %s is corrupt: %s", e.Dir, strings.Join(e.Problems, "; "))
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func wrongSize(name string, got, want int64) string {
	return fmt.Sprintf("%s: has %d bytes, the manifest says %d", name, got, want)
}

func wrongStep(step uint64) string {
	return fmt.Sprintf("%s: is of step %d, which is not the step of its directory", ManifestFile, step)
}

// Report is what Verify found.
type Report struct {
	Dir      string       `json:"dir"`
	Step     uint64       `json:"step"`
	Bytes    int64        `json:"bytes"` // read and hashed
	OK       bool         `json:"ok"`
	Files    []FileReport `json:"files"`
	Problems []string     `json:"problems,omitempty"` // of all files, each naming its file
}

// FileReport is what Verify found about one file.
type FileReport struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"`
}

// Err is nil for a good checkpoint and a *CorruptError for any other.
func (r Report) Err() error {
	if r.OK {
		return nil
	}
	return &CorruptError{Dir: r.Dir, Problems: r.Problems}
}

// Verify reads every byte of the checkpoint in dir: the manifest against its
// own checksum, each file against the manifest's size and SHA-256, and the
// headers of the safetensors files. It goes on after a problem, to name all.
func Verify(dir string) Report { return Local(dir).Verify() }

func verify(fs Tree, dir string) Report {
	r := Report{Dir: dir}
	if _, err := fs.ReadDir(dir); err != nil {
		r.Problems = []string{"the directory " + reason(err)}
		return r
	}
	m, err := readManifest(fs, dir)
	if err != nil {
		var bad *CorruptError
		if errors.As(err, &bad) {
			r.Problems = bad.Problems
		} else {
			r.Problems = []string{err.Error()}
		}
		r.Files = []FileReport{{Name: ManifestFile, Problem: strings.Join(r.Problems, "; ")}}
		return r
	}
	r.Step = m.Step
	r.Files = append(r.Files, FileReport{Name: ManifestFile, OK: true})
	if step, ok := StepOf(filepath.Base(dir)); ok && step != m.Step {
		r.Problems = append(r.Problems, wrongStep(m.Step))
		r.Files[0].OK, r.Files[0].Problem = false, wrongStep(m.Step)
	}
	for _, info := range m.Files {
		n, problem := verifyFile(fs, dir, info)
		r.Bytes += n
		r.Files = append(r.Files, FileReport{Name: info.Name, Size: info.Size, OK: problem == "", Problem: problem})
		if problem != "" {
			r.Problems = append(r.Problems, problem)
		}
	}
	r.OK = len(r.Problems) == 0
	return r
}

// verifyFile returns the bytes read and what is wrong, if anything is.
func verifyFile(fs Tree, dir string, info FileInfo) (int64, string) {
	f, err := fs.Open(fs.Join(dir, info.Name))
	if err != nil {
		return 0, fmt.Sprintf("%s: %s", info.Name, reason(err))
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, fmt.Sprintf("%s: %v", info.Name, err)
	}
	if size != info.Size {
		problem := wrongSize(info.Name, size, info.Size)
		if what := sniff.Instead(sniff.Head(f, size), sniff.Tensors); what != "" {
			problem += ": " + what
		}
		return 0, problem
	}
	sum, err := hashOf(f, size)
	if err != nil {
		return 0, fmt.Sprintf("%s: cannot be read: %v", info.Name, err)
	}
	problem := ""
	if sum != info.SHA256 {
		problem = fmt.Sprintf("%s: its SHA-256 is %s, the manifest says %s: its bytes changed after it was written", info.Name, short(sum), short(info.SHA256))
	}
	if strings.HasSuffix(info.Name, ".safetensors") {
		if _, err := safetensors.Read(f, size, info.Name); err != nil {
			if problem != "" {
				problem += "; "
			}
			problem += err.Error()
		}
	}
	return size, problem
}

// reason is a file error without the path, which the message has already.
func reason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "is missing"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// ReadManifest reads and checks the manifest of the checkpoint in dir, and not
// its files. What does not check is a *CorruptError.
func ReadManifest(dir string) (Manifest, error) { return Local(dir).ReadManifest() }

func readManifest(fsys Tree, dir string) (Manifest, error) {
	b, err := readAll(fsys, fsys.Join(dir, ManifestFile), maxManifest)
	if errors.Is(err, ErrAway) {
		return Manifest{}, err
	}
	if err != nil {
		return Manifest{}, &manifestError{&CorruptError{Dir: dir, Problems: []string{ManifestFile + ": " + reason(err)}}, err}
	}
	m, err := decodeManifest(b)
	if err != nil {
		return Manifest{}, &CorruptError{Dir: dir, Problems: []string{ManifestFile + ": " + err.Error()}}
	}
	return m, nil
}

// manifestError is a CorruptError that keeps the operating system's error.
type manifestError struct {
	corrupt *CorruptError
	cause   error
}

func (e *manifestError) Error() string   { return e.corrupt.Error() }
func (e *manifestError) Unwrap() []error { return []error{e.corrupt, e.cause} }

// List lists the checkpoints in dir, oldest step first, without a Store: it
// changes nothing and may run beside a writer. While a checkpoint is stored
// again in its place there is a moment at which it has no name. A directory that is not there
// has none.
func List(dir string) ([]Entry, error) { return Local(dir).List() }

func list(fsys Tree, dir string) ([]Entry, error) {
	out, _, err := listed(fsys, dir)
	return out, err
}

// listed also says whether one went away while it was looked at.
func listed(fsys Tree, dir string) (out []Entry, moved bool, err error) {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if errors.Is(err, ErrAway) {
		return nil, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("checkpoint directory: %w", err)
	}
	latest, _ := readLatest(fsys, dir) // it is a hint; LatestGood says what is wrong with it
	for _, name := range names {
		step, ok := StepOf(name)
		if !ok {
			continue
		}
		e, err := look(fsys, fsys.Join(dir, name), step)
		if err == nil && e.State == Damaged { // or removed, or replaced, while it was looked at
			if _, err := fsys.ReadDir(e.Dir); errors.Is(err, fs.ErrNotExist) {
				moved = true
				continue
			}
			e, err = look(fsys, e.Dir, step)
		}
		if err != nil {
			return nil, false, err
		}
		e.Latest = name == latest
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		if a.Step < b.Step {
			return -1
		}
		return 1
	})
	return out, moved, nil
}

// look is the quick check: manifest and sizes. An error says that nothing is known
// of the checkpoint.
func look(fs Tree, dir string, step uint64) (Entry, error) {
	e := Entry{Step: step, Dir: dir, State: Damaged}
	m, err := readManifest(fs, dir)
	if errors.Is(err, ErrAway) {
		return e, err
	}
	var bad *CorruptError
	if errors.As(err, &bad) {
		e.Problem = strings.Join(bad.Problems, "; ")
		return e, nil
	}
	e.Created, e.Size, e.Training = m.Created, m.Bytes(), m.Training
	if m.Step != step {
		e.Problem = wrongStep(m.Step)
		return e, nil
	}
	for _, info := range m.Files {
		f, err := fs.Open(fs.Join(dir, info.Name))
		if errors.Is(err, ErrAway) {
			return e, err
		}
		if err != nil {
			e.Problem = fmt.Sprintf("%s: %s", info.Name, reason(err))
			return e, nil
		}
		size, err := f.Size()
		f.Close()
		if err != nil || size != info.Size {
			e.Problem = wrongSize(info.Name, size, info.Size)
			return e, nil
		}
	}
	e.State = Complete
	return e, nil
}

// readLatest returns the directory's name that latest holds.
func readLatest(fs Tree, dir string) (string, error) {
	b, err := readAll(fs, fs.Join(dir, latestFile), 256)
	if err != nil {
		return "", err
	}
	name, whole := strings.CutSuffix(string(b), "\n")
	if _, ok := StepOf(name); !ok || !whole {
		return "", fmt.Errorf("does not name a checkpoint: %.40q", b)
	}
	return name, nil
}

// Found is the checkpoint to resume from.
type Found struct {
	Dir      string
	Manifest Manifest
	Passed   []Passed // what is newer, or misleading, and was not used
}

// Passed is something that LatestGood passed over.
type Passed struct {
	Dir    string
	Reason string
}

func (p Passed) String() string { return fmt.Sprintf("passed over checkpoint %s: %s", p.Dir, p.Reason) }

// LatestGood returns the newest checkpoint in dir that verifies to the last
// byte, and what it passed over on the way. The checkpoints themselves decide;
// the file latest is only compared. If there is none, the error is ErrNone;
// Passed is filled all the same.
func LatestGood(dir string) (Found, error) { return Local(dir).LatestGood() }

func latestGood(fsys Tree, dir string) (Found, error) {
	found, err := newestGood(fsys, dir)
	if err != nil {
		return found, err
	}
	if found.Dir == "" {
		return found, fmt.Errorf("%w in %s", ErrNone, dir)
	}
	name, err := readLatest(fsys, dir)
	if err == nil && name != filepath.Base(found.Dir) &&
		!slices.ContainsFunc(found.Passed, func(p Passed) bool { return name == filepath.Base(p.Dir) }) {
		err = fmt.Errorf("names %s", name)
	}
	if err != nil {
		found.Passed = append(found.Passed, Passed{fsys.Join(dir, latestFile), fmt.Sprintf("the file %s; the newest checkpoint that verifies is %s", reason(err), filepath.Base(found.Dir))})
	}
	return found, nil
}

// newestGood looks again where a checkpoint was removed or replaced while it
// was read: whoever did that has committed something newer.
func newestGood(fsys Tree, dir string) (Found, error) {
again:
	for {
		var found Found
		entries, moved, err := listed(fsys, dir)
		if err != nil {
			return found, err
		}
		for _, e := range slices.Backward(entries) {
			path := fsys.Join(e.Dir, ManifestFile)
			before, _ := readAll(fsys, path, maxManifest)
			r := verify(fsys, e.Dir)
			if r.OK {
				m, err := readManifest(fsys, e.Dir)
				if err == nil {
					found.Dir, found.Manifest = e.Dir, m
					return found, nil
				}
				r.Problems = []string{err.Error()}
			}
			after, _ := readAll(fsys, path, maxManifest)
			if _, err := fsys.ReadDir(e.Dir); errors.Is(err, fs.ErrNotExist) || !bytes.Equal(before, after) {
				continue again
			}
			found.Passed = append(found.Passed, Passed{e.Dir, strings.Join(r.Problems, "; ")})
		}
		if !moved {
			return found, nil
		}
	}
}
