package checkpoint

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// Memory is the Store for tests: checkpoints as byte slices.
type Memory struct {
	mu     sync.Mutex
	steps  map[uint64]*memoryCheckpoint
	latest uint64
}

type memoryCheckpoint struct {
	m     Manifest
	files map[string][]byte
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{steps: map[uint64]*memoryCheckpoint{}} }

// Begin implements Store.
func (s *Memory) Begin(step uint64) (Writer, error) {
	return &memoryWriter{s: s, step: step, files: map[string]*memoryFile{}}, nil
}

type memoryWriter struct {
	s     *Memory
	step  uint64
	files map[string]*memoryFile
	done  bool
}

type memoryFile struct {
	window
	mu     sync.Mutex
	b      []byte
	closed bool
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.check(len(p), off); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	if end := int(off) + len(p); end > len(f.b) { // as a disk: no longer than what was written
		f.b = append(f.b, make([]byte, end-len(f.b))...)
	}
	return copy(f.b[off:], p), nil
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func (f *memoryFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *memoryFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (w *memoryWriter) Create(name string, size int64) (File, error) {
	switch err := checkName(name); {
	case err != nil:
		return nil, err
	case w.done:
		return nil, fmt.Errorf("checkpoint of step %d: it is over, and %s cannot be added", w.step, name)
	case w.files[name] != nil:
		return nil, fmt.Errorf("checkpoint of step %d: %s is created twice", w.step, name)
	case size < 0:
		return nil, fmt.Errorf("checkpoint of step %d: %s of %d bytes", w.step, name, size)
	}
	f := &memoryFile{window: window{name: name, size: size}}
	w.files[name] = f
	return f, nil
}

func (w *memoryWriter) Commit(m Manifest) error {
	if w.done {
		return fmt.Errorf("checkpoint of step %d: it is over already", w.step)
	}
	w.done = true
	c := &memoryCheckpoint{files: map[string][]byte{}}
	var infos []FileInfo
	for name, f := range w.files {
		if !f.closed {
			return fmt.Errorf("checkpoint of step %d: %s is not closed", w.step, name)
		}
		if int64(len(f.b)) != f.size {
			return fmt.Errorf("checkpoint of step %d: %s has %d of its %d bytes", w.step, name, len(f.b), f.size)
		}
		r := bytes.NewReader(f.b)
		if strings.HasSuffix(name, ".safetensors") {
			if _, err := safetensors.Read(r, f.size, name); err != nil {
				return fmt.Errorf("checkpoint of step %d: %w", w.step, err)
			}
		}
		sum, err := hashOf(r, f.size)
		if err != nil {
			return err
		}
		infos = append(infos, FileInfo{name, f.size, sum})
		c.files[name] = f.b
	}
	m, err := m.seal(w.step, infos)
	if err != nil {
		return err
	}
	b, err := m.encode() // through its bytes, as every reader gets it
	if err != nil {
		return err
	}
	if c.m, err = decodeManifest(b); err != nil {
		return err
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.steps[w.step], w.s.latest = c, w.step
	return nil
}

func (w *memoryWriter) Abort() error {
	w.done = true
	return nil
}

// List implements Store.
func (s *Memory) List() ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Entry
	for step, c := range s.steps {
		out = append(out, Entry{Step: step, Size: c.m.Bytes(), Created: c.m.Created, Training: c.m.Training, Latest: step == s.latest})
	}
	slices.SortFunc(out, func(a, b Entry) int {
		if a.Step < b.Step {
			return -1
		}
		return 1
	})
	return out, nil
}

// Open implements Store.
func (s *Memory) Open(step uint64) (Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.steps[step]
	if !ok {
		return nil, fmt.Errorf("%w of step %d", ErrNone, step)
	}
	return c, nil
}

func (c *memoryCheckpoint) Manifest() Manifest { return c.m }
func (c *memoryCheckpoint) Close() error       { return nil }

func (c *memoryCheckpoint) File(name string) (io.ReaderAt, int64, error) {
	b, ok := c.files[name]
	if !ok {
		return nil, 0, fmt.Errorf("the checkpoint of step %d has no file %s: %w", c.m.Step, name, os.ErrNotExist)
	}
	return bytes.NewReader(b), int64(len(b)), nil
}

// Remove implements Store.
func (s *Memory) Remove(step uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.steps, step)
	if step == s.latest {
		s.latest = 0
		for other := range s.steps {
			s.latest = max(s.latest, other)
		}
	}
	return nil
}
