package checkpoint

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
)

// shareOf keeps runs of two files, as worker id has them.
func shareOf(t *testing.T, dir, id string, step uint64, model, optimizer []byte, runs ...ShareRun) string {
	t.Helper()
	s := Share{Manifest: Manifest{Step: step, Job: "j", World: 3}, Files: map[string]ShareFile{
		ModelFile:     {Size: int64(len(model)), Runs: []ShareRun{{Size: int64(len(model))}}},
		OptimizerFile: {Size: int64(len(optimizer)), Runs: runs}}}
	at, err := WriteShare(filepath.Join(dir, id), s, map[string]io.ReaderAt{ModelFile: bytes.NewReader(model), OptimizerFile: bytes.NewReader(optimizer)})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// fileOfSize is a file of so many bytes, of one tensor or of two.
func fileOfSize(t *testing.T, prefix string, size int) []byte {
	t.Helper()
	for n := 1; n < size; n++ {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i)
		}
		l := []safetensors.Tensor{{Name: prefix + "w", Shape: []int{n}, Data: x}}
		if prefix != "" {
			l = append(l, safetensors.Tensor{Name: "exp_avg_sq.w", Shape: []int{n}, Data: x})
		}
		var b bytes.Buffer
		if err := safetensors.Write(&b, l, nil); err != nil {
			t.Fatal(err)
		}
		if b.Len() == size {
			return b.Bytes()
		}
	}
	t.Fatalf("no file of %d bytes", size)
	return nil
}

// Shares that overlap and together have every byte make the checkpoint.
func TestSharesMakeACheckpoint(t *testing.T) {
	model, optimizer := fileOfSize(t, "", 300), fileOfSize(t, "exp_avg.", 1000)
	for name, c := range map[string]struct {
		shares [][]ShareRun
		spoil  func(t *testing.T, dir string)
		hole   bool
		want   string
	}{
		"each has two of three": {shares: [][]ShareRun{{{Size: 700}}, {{Offset: 300, Size: 700}}, {{Size: 310}, {Offset: 640, Size: 360}}}},
		"two of them":           {shares: [][]ShareRun{{{Size: 700}}, {{Offset: 300, Size: 700}}}},
		"a hole":                {shares: [][]ShareRun{{{Size: 300}}, {{Offset: 301, Size: 699}}}, hole: true, want: "bytes 300 to 301 of the 1000 of optimizer.safetensors are in no share: those of other workers are missing"},
		"no end":                {shares: [][]ShareRun{{{Size: 300}}, {{Offset: 200, Size: 700}}}, hole: true, want: "bytes 900 to 1000 of the 1000"},
		"a byte is another": {shares: [][]ShareRun{{{Size: 500}}, {{Offset: 500, Size: 500}}}, spoil: func(t *testing.T, dir string) {
			path := filepath.Join(dir, "w1", "share-00000007", OptimizerFile)
			b, _ := os.ReadFile(path)
			b[600] ^= 1
			os.WriteFile(path, b, 0o644)
		}, want: "bytes 500 to 1000 are not what was kept there"},
		"one is cut off": {shares: [][]ShareRun{{{Size: 500}}, {{Offset: 500, Size: 500}}}, spoil: func(t *testing.T, dir string) {
			os.Truncate(filepath.Join(dir, "w1", "share-00000007", OptimizerFile), 800)
		}, want: "are not what was kept there"},
		"one is not finished": {shares: [][]ShareRun{{{Size: 500}}, {{Offset: 500, Size: 500}}}, spoil: func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "w1", "share-00000007", "share.json"))
		}, hole: true, want: "bytes 500 to 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var dirs []string
			for i, runs := range c.shares {
				id := string(rune('w')) + string(rune('0'+i))
				shareOf(t, dir, id, 7, model, optimizer, runs...)
				dirs = append(dirs, filepath.Join(dir, id))
			}
			if c.spoil != nil {
				c.spoil(t, dir)
			}
			store, err := OpenDisk(filepath.Join(dir, "merged"))
			if err != nil {
				t.Fatal(err)
			}
			err = store.Merge(Shares(dirs)[7])
			var hole *holeError
			if errors.As(err, &hole) != c.hole || (err == nil) != (c.want == "") || err != nil && !bytes.Contains([]byte(err.Error()), []byte(c.want)) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			found, lerr := LatestGood(filepath.Join(dir, "merged"))
			if err != nil {
				if !errors.Is(lerr, ErrNone) {
					t.Errorf("something is stored: %v", lerr)
				}
				return
			}
			if lerr != nil || found.Manifest.Step != 7 || found.Manifest.World != 3 {
				t.Fatalf("%+v, %v", found, lerr)
			}
			for file, want := range map[string][]byte{ModelFile: model, OptimizerFile: optimizer} {
				if got, err := os.ReadFile(filepath.Join(found.Dir, file)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s is another, %v", file, err)
				}
			}
		})
	}
}

// Shares of states that cannot be one are refused.
func TestSharesOfDifferentStates(t *testing.T) {
	dir := t.TempDir()
	shareOf(t, dir, "a", 3, []byte("model"), make([]byte, 100), ShareRun{Size: 50})
	shareOf(t, dir, "b", 3, []byte("model"), make([]byte, 120), ShareRun{Offset: 50, Size: 70})
	store, err := OpenDisk(filepath.Join(dir, "merged"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Merge(Shares([]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")})[3]); err == nil || !bytes.Contains([]byte(err.Error()), []byte("shares of different states")) {
		t.Errorf("got %v", err)
	}
}
