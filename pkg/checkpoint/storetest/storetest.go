// Package storetest holds implementations of checkpoint.Store to its contract.
package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// Run runs the suite; open returns an empty store for each test.
func Run(t *testing.T, open func(t *testing.T) checkpoint.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s checkpoint.Store)
	}{
		{"Empty", empty}, {"WriteRead", writeRead}, {"Unfinished", unfinished}, {"Order", order}, {"Replace", replace},
		{"Remove", remove}, {"Refusals", refusals}, {"ExpectedHashes", expectedHashes}, {"Parallel", parallel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// write stores a checkpoint of one file with the given text.
func write(t *testing.T, s checkpoint.Store, step uint64, text string) {
	t.Helper()
	w, err := s.Begin(step)
	if err != nil {
		t.Fatal(err)
	}
	put(t, w, "text", text)
	if err := w.Commit(checkpoint.Manifest{Step: step, Job: "t"}); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, w checkpoint.Writer, name, text string) {
	t.Helper()
	f, err := w.Create(name, int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s checkpoint.Store, step uint64, name string) string {
	t.Helper()
	r, err := s.Open(step)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, size, err := r.File(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// steps lists the stored steps, the last committed one marked with *.
func steps(t *testing.T, s checkpoint.Store) string {
	t.Helper()
	l, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range l {
		b.WriteString(" ")
		b.WriteString(strings.TrimLeft(strings.TrimPrefix(checkpoint.DirName(e.Step), "step-"), "0"))
		if e.Latest {
			b.WriteString("*")
		}
		if e.State != checkpoint.Complete {
			t.Errorf("step %d is %v: %s", e.Step, e.State, e.Problem)
		}
	}
	return strings.TrimSpace(b.String())
}

func empty(t *testing.T, s checkpoint.Store) {
	if got := steps(t, s); got != "" {
		t.Errorf("an empty store lists %s", got)
	}
	if _, err := s.Open(1); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("Open of nothing: %v, want ErrNone", err)
	}
	if err := s.Remove(1); err != nil {
		t.Errorf("Remove of nothing: %v", err)
	}
}

func writeRead(t *testing.T, s checkpoint.Store) {
	v, err := safetensors.NewView([]safetensors.Tensor{{Name: "w", Shape: []int{3}, Data: []float32{1, 2, 3}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Begin(7)
	if err != nil {
		t.Fatal(err)
	}
	f, err := w.Create("model.safetensors", v.Size())
	if err != nil {
		t.Fatal(err)
	}
	// Backwards, in pieces, from many goroutines, some of it twice.
	var wg sync.WaitGroup
	for off := v.Size() - 1; off >= 0; off-- {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, min(5, v.Size()-off))
			if _, err := v.ReadAt(p, off); err != nil {
				t.Error(err)
			}
			if _, err := f.WriteAt(p, off); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, w, "nothing", "")
	want := checkpoint.Manifest{Step: 7, Cursor: 448, Seed: 1<<64 - 1, Job: "j", Software: "v", World: 3,
		Config: checkpoint.Text("name: \"j\"\n# é\n"), Data: json.RawMessage(`{"vocab":["<pad>","a"]}`), Model: json.RawMessage(`{}`)}
	if err := w.Commit(want); err != nil {
		t.Fatal(err)
	}
	r, err := s.Open(7)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := r.Manifest()
	var data bytes.Buffer
	if err := json.Compact(&data, m.Data); err != nil {
		t.Fatal(err)
	}
	if m.Step != 7 || m.Cursor != 448 || m.Seed != 1<<64-1 || m.Job != "j" || m.Software != "v" || m.World != 3 ||
		string(m.Config) != string(want.Config) || data.String() != string(want.Data) || m.Created.IsZero() || len(m.Files) != 2 {
		t.Errorf("manifest came back as %+v", m)
	}
	h := sha256.New()
	if _, err := v.WriteTo(h); err != nil {
		t.Fatal(err)
	}
	if i := m.File("model.safetensors"); i.SHA256 != hex.EncodeToString(h.Sum(nil)) || i.Size != v.Size() {
		t.Errorf("file record %+v", i)
	}
	ra, size, err := r.File("model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	st, err := safetensors.Read(ra, size, "back")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := st.Float32("w"); err != nil || got[2] != 3 {
		t.Errorf("tensor came back as %v, %v", got, err)
	}
	if _, _, err := r.File("other"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is not committed is seen by nobody.
func unfinished(t *testing.T, s checkpoint.Store) {
	write(t, s, 1, "one")
	w, err := s.Begin(2)
	if err != nil {
		t.Fatal(err)
	}
	put(t, w, "text", "two")
	if got := steps(t, s); got != "1*" {
		t.Errorf("while step 2 is written the store lists %q", got)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("second Abort: %v", err)
	}
	if err := w.Commit(checkpoint.Manifest{Step: 2}); err == nil {
		t.Error("Commit after Abort succeeded")
	}
	if got := steps(t, s); got != "1*" {
		t.Errorf("after Abort the store lists %q", got)
	}
}

func order(t *testing.T, s checkpoint.Store) {
	for _, step := range []uint64{30, 4, 100000000, 200} {
		write(t, s, step, "x")
	}
	if got := steps(t, s); got != "4 30 200* 100000000" {
		t.Errorf("listed %q", got)
	}
}

func replace(t *testing.T, s checkpoint.Store) {
	write(t, s, 5, "old")
	w, err := s.Begin(5)
	if err != nil {
		t.Fatal(err)
	}
	put(t, w, "text", "new")
	if got := read(t, s, 5, "text"); got != "old" {
		t.Errorf("before the commit step 5 reads %q", got)
	}
	if err := w.Commit(checkpoint.Manifest{Step: 5}); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	if got := read(t, s, 5, "text"); got != "new" {
		t.Errorf("after the commit step 5 reads %q", got)
	}
	if got := steps(t, s); got != "5*" {
		t.Errorf("listed %q", got)
	}
}

func remove(t *testing.T, s checkpoint.Store) {
	for _, step := range []uint64{1, 2, 3} {
		write(t, s, step, "x")
	}
	for _, c := range []struct {
		step uint64
		want string
	}{{1, "2 3*"}, {3, "2*"}, {2, ""}} {
		if err := s.Remove(c.step); err != nil {
			t.Fatal(err)
		}
		if got := steps(t, s); got != c.want {
			t.Errorf("after removing %d: %q, want %q", c.step, got, c.want)
		}
	}
}

func refusals(t *testing.T, s checkpoint.Store) {
	for _, c := range []struct {
		name string
		do   func(w checkpoint.Writer) error
		want string
	}{
		{"no files", func(w checkpoint.Writer) error { return w.Commit(checkpoint.Manifest{Step: 9}) }, "has no files"},
		{"other step", func(w checkpoint.Writer) error {
			put(t, w, "a", "a")
			return w.Commit(checkpoint.Manifest{Step: 8})
		}, "manifest is of step 8, the checkpoint was begun for step 9"},
		{"open file", func(w checkpoint.Writer) error {
			if _, err := w.Create("a", 0); err != nil {
				return err
			}
			return w.Commit(checkpoint.Manifest{Step: 9})
		}, "a is not closed"},
		{"short file", func(w checkpoint.Writer) error {
			f, err := w.Create("a", 5)
			if err != nil {
				return err
			}
			io.WriteString(f, "abc")
			f.Close()
			return w.Commit(checkpoint.Manifest{Step: 9})
		}, "a has 3 of its 5 bytes"},
		{"write beyond", func(w checkpoint.Writer) error {
			f, err := w.Create("a", 5)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("abc"), 3)
			return err
		}, "write of 3 bytes at 3 is outside its 5 bytes"},
		{"twice", func(w checkpoint.Writer) error {
			put(t, w, "a", "a")
			_, err := w.Create("a", 1)
			return err
		}, "a is created twice"},
		{"negative", func(w checkpoint.Writer) error { _, err := w.Create("a", -1); return err }, "-1 bytes"},
		{"manifest", func(w checkpoint.Writer) error { _, err := w.Create("manifest.json", 1); return err }, "cannot be the name"},
		{"path", func(w checkpoint.Writer) error { _, err := w.Create("../x", 1); return err }, "cannot be the name"},
		{"hidden", func(w checkpoint.Writer) error { _, err := w.Create(".x", 1); return err }, "cannot be the name"},
		{"bad safetensors", func(w checkpoint.Writer) error {
			put(t, w, "m.safetensors", "12345678")
			return w.Commit(checkpoint.Manifest{Step: 9})
		}, "m.safetensors: not a safetensors file"},
		{"bad data", func(w checkpoint.Writer) error {
			put(t, w, "a", "a")
			return w.Commit(checkpoint.Manifest{Step: 9, Data: json.RawMessage("{")})
		}, "manifest of step 9"},
	} {
		w, err := s.Begin(9)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.do(w); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if err := w.Abort(); err != nil {
			t.Errorf("%s: Abort: %v", c.name, err)
		}
		if got := steps(t, s); got != "" {
			t.Errorf("%s: left %q", c.name, got)
		}
	}
}

// Hashes that the caller knows are checked against what was stored.
func expectedHashes(t *testing.T, s checkpoint.Store) {
	sum := sha256.Sum256([]byte("abc"))
	good := checkpoint.FileInfo{Name: "a", Size: 3, SHA256: hex.EncodeToString(sum[:])}
	for _, c := range []struct{ text, want string }{{"abd", "was stored as 3 bytes with SHA-256"}, {"abc", ""}} {
		w, err := s.Begin(1)
		if err != nil {
			t.Fatal(err)
		}
		put(t, w, "a", c.text)
		err = w.Commit(checkpoint.Manifest{Step: 1, Files: []checkpoint.FileInfo{good}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
	w, err := s.Begin(2)
	if err != nil {
		t.Fatal(err)
	}
	put(t, w, "b", "abc")
	if err := w.Commit(checkpoint.Manifest{Step: 2, Files: []checkpoint.FileInfo{good}}); err == nil || !strings.Contains(err.Error(), "has no a") {
		t.Errorf("a missing file: %v", err)
	}
}

func parallel(t *testing.T, s checkpoint.Store) {
	var wg sync.WaitGroup
	for step := uint64(1); step <= 8; step++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w, err := s.Begin(step)
			if err != nil {
				t.Error(err)
				return
			}
			f, err := w.Create("a", 1)
			if err == nil {
				_, err = f.Write([]byte("a"))
			}
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				err = w.Commit(checkpoint.Manifest{Step: step})
			}
			if err != nil {
				t.Error(err)
			}
			if _, err := s.List(); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	l, err := s.List()
	if err != nil || len(l) != 8 {
		t.Errorf("%d checkpoints, %v; want 8", len(l), err)
	}
}
