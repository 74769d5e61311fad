package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/sniff"
)

// Names of the files of a checkpoint.
const (
	ModelFile     = "model.safetensors"
	OptimizerFile = "optimizer.safetensors"
	ManifestFile  = "manifest.json"
	latestFile    = "latest"
)

// Format and Version identify a manifest. A reader refuses a version above its own.
const (
	Format  = "vlaring-checkpoint"
	Version = 1
)

// maxManifest bounds the manifest: it holds a vocabulary at most.
const maxManifest = 64 << 20

// Manifest says what a checkpoint is. The writer gives what the run knows; a
// Store fills Format, Version and Files, and Created where it is zero.
type Manifest struct {
	Format   string          `json:"format"`
	Version  int             `json:"version"`
	Step     uint64          `json:"step"`   // committed steps
	Cursor   uint64          `json:"cursor"` // next position in the endless stream of samples: step · global batch
	Seed     uint64          `json:"seed"`
	Job      string          `json:"job"`      // the job's name
	Software string          `json:"software"` // version that wrote it
	World    int             `json:"world"`    // workers at the time; any number may resume
	Created  time.Time       `json:"created"`
	Model    json.RawMessage `json:"model,omitempty"`  // the model's configuration
	Config   Text            `json:"config,omitempty"` // the resolved job file
	Data     json.RawMessage `json:"data,omitempty"`   // vocabulary, normalisation, shapes: data.Meta
	Training *Training       `json:"training,omitempty"`
	Files    []FileInfo      `json:"files"` // sorted by name
}

// Training is what was known of a checkpoint's quality when it was stored. It
// is a function of the job and the step alone.
type Training struct {
	Loss  float64 `json:"loss"`  // mean training loss of the last Steps steps
	Steps int     `json:"steps"` // fewer at the start of a run
}

// FileInfo is a file of a checkpoint as the manifest records it.
type FileInfo struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// Text is bytes that the manifest's JSON holds as a string.
type Text []byte

// MarshalJSON writes the bytes as a JSON string.
func (t Text) MarshalJSON() ([]byte, error) { return plainJSON(string(t), "") }

// plainJSON is json.Marshal that leaves <, > and & as they are, for people.
func plainJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON reads a JSON string.
func (t *Text) UnmarshalJSON(b []byte) error {
	var s string
	err := json.Unmarshal(b, &s)
	*t = Text(s)
	return err
}

// File returns the record of a file; its Name is empty if there is none.
func (m Manifest) File(name string) FileInfo {
	for _, f := range m.Files {
		if f.Name == name {
			return f
		}
	}
	return FileInfo{}
}

// Bytes is the size of all files together, the manifest aside.
func (m Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// The last line but one of a manifest is the SHA-256 of all before that line,
// so that no byte of it can change unnoticed.
const (
	sealStart = "  \"checksum\": \"sha256:"
	sealEnd   = "\"\n}\n"
	sealSize  = len(sealStart) + 2*sha256.Size + len(sealEnd)
)

// Sealed is the bytes of manifest.json, of a manifest that a store has completed.
func (m Manifest) Sealed() ([]byte, error) { return m.encode() }

// encode returns the bytes of manifest.json.
func (m Manifest) encode() ([]byte, error) {
	b, err := plainJSON(m, "  ")
	if err != nil {
		return nil, fmt.Errorf("manifest of step %d: %w", m.Step, err)
	}
	b = append(bytes.TrimSuffix(b, []byte("\n}")), ",\n"...)
	sum := sha256.Sum256(b)
	b = append(b, sealStart...)
	b = append(b, hex.EncodeToString(sum[:])...)
	b = append(b, sealEnd...)
	if len(b) > maxManifest {
		return nil, fmt.Errorf("manifest of step %d takes %d bytes; at most %d are read back", m.Step, len(b), maxManifest)
	}
	return b, nil
}

// decodeManifest checks and reads manifest.json. Whatever byte of it changed,
// it returns an error.
func decodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) < sealSize || !bytes.HasSuffix(b, []byte(sealEnd)) || string(b[len(b)-sealSize:][:len(sealStart)]) != sealStart {
		if what := sniff.Instead(b, sniff.Text); what != "" {
			return m, errors.New("it is no manifest: " + what)
		}
		return m, errors.New("it does not end in its checksum: cut off, or not a checkpoint's manifest")
	}
	body, seal := b[:len(b)-sealSize], b[len(b)-sealSize:]
	sum := sha256.Sum256(body)
	if want := string(seal[len(sealStart) : len(seal)-len(sealEnd)]); want != hex.EncodeToString(sum[:]) {
		return m, fmt.Errorf("its SHA-256 is %s, its own record says %q: its bytes changed after it was written", short(hex.EncodeToString(sum[:])), short(want))
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}
	switch {
	case m.Format != Format:
		return m, fmt.Errorf("its format is %q, want %q", m.Format, Format)
	case m.Version < 1 || m.Version > Version:
		return m, fmt.Errorf("its format version is %d, and this program reads up to %d: use a newer one", m.Version, Version)
	}
	return m, m.checkFiles()
}

// checkFiles holds the file list to plain, different names and full hashes.
func (m Manifest) checkFiles() error {
	seen := map[string]bool{}
	for _, f := range m.Files {
		if err := checkName(f.Name); err != nil {
			return err
		}
		if seen[f.Name] {
			return fmt.Errorf("file %s is listed twice", f.Name)
		}
		seen[f.Name] = true
		if h, err := hex.DecodeString(f.SHA256); err != nil || len(h) != sha256.Size || f.SHA256 != strings.ToLower(f.SHA256) || f.Size < 0 {
			return fmt.Errorf("file %s has no proper size and SHA-256", f.Name)
		}
	}
	return nil
}

// checkName refuses names that are no plain file names of a checkpoint.
func checkName(name string) error {
	if name == "" || name == ManifestFile || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\:\x00") || filepath.Base(name) != name {
		return fmt.Errorf("%q cannot be the name of a checkpoint's file", name)
	}
	return nil
}

// seal completes the manifest of a checkpoint whose files are written: files is
// what the store has. Files that m lists already must be those: a caller that
// knows the hashes has them checked against what was stored.
func (m Manifest) seal(step uint64, files []FileInfo) (Manifest, error) {
	if m.Step != step {
		return m, fmt.Errorf("the manifest is of step %d, the checkpoint was begun for step %d", m.Step, step)
	}
	slices.SortFunc(files, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	if len(files) == 0 {
		return m, fmt.Errorf("the checkpoint of step %d has no files", step)
	}
	expected := m.Files
	m.Files = files
	for _, want := range expected {
		got := m.File(want.Name)
		switch {
		case got.Name == "":
			return m, fmt.Errorf("the checkpoint of step %d has no %s", step, want.Name)
		case got != want:
			return m, otherBytes(fmt.Sprintf("the checkpoint of step %d: %s was stored as %d bytes with SHA-256 %s, and should be %d with %s", step, want.Name, got.Size, short(got.SHA256), want.Size, short(want.SHA256)))
		}
	}
	m.Format, m.Version = Format, Version
	if m.Created.IsZero() {
		m.Created = time.Now().UTC().Truncate(time.Millisecond)
	}
	return m, m.checkFiles()
}

// otherBytes is an error of files that are not what their manifest says: ErrCorrupt.
type otherBytes string

func (e otherBytes) Error() string { return string(e) }

// Is makes errors.Is(err, ErrCorrupt) true.
func (e otherBytes) Is(target error) bool { return target == ErrCorrupt }

// short is the start of a hash, enough for people to compare.
func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12] + "…"
	}
	return hash
}

// hashOf reads size bytes of r and returns their SHA-256 in hexadecimal.
func hashOf(r io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(h, io.NewSectionReader(r, 0, size), make([]byte, min(1<<20, max(size, 1))))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// DirName is the name of the directory that holds step's checkpoint.
func DirName(step uint64) string { return fmt.Sprintf("step-%08d", step) }

// StepOf is DirName's inverse; false for any other name.
func StepOf(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, "step-")
	step, err := strconv.ParseUint(digits, 10, 64)
	return step, ok && err == nil && DirName(step) == name
}
