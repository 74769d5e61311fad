package checkpoint_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlaring/vlaring/internal/safetensors"
	"github.com/vlaring/vlaring/pkg/checkpoint"
	"github.com/vlaring/vlaring/pkg/checkpoint/storetest"
)

func TestDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T) checkpoint.Store {
		d, err := checkpoint.OpenDisk(filepath.Join(t.TempDir(), "checkpoints"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // nothing of the store's own is left in any test
			names, err := filepath.Glob(filepath.Join(d.Dir(), ".*"))
			if err != nil || len(names) > 0 {
				t.Errorf("left behind: %v, %v", names, err)
			}
		})
		return d
	})
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) checkpoint.Store { return checkpoint.NewMemory() })
}

func state(step uint64) *storetest.State {
	w, b := []float32{1, 2, 3, 4, 5, 6}, []float32{float32(step)}
	list := func() []storetest.Tensor {
		return []storetest.Tensor{{Name: "a.bias", Shape: []int{1}, Data: b}, {Name: "a.weight", Shape: []int{2, 3}, Data: w}}
	}
	return &storetest.State{Manifest: checkpoint.Manifest{Step: step, Seed: 3, Job: "t"}, Model: list(), First: list(), Second: list()}
}

func open(t *testing.T) *checkpoint.Disk {
	t.Helper()
	d, err := checkpoint.OpenDisk(filepath.Join(t.TempDir(), "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStateRoundTrip(t *testing.T) {
	d := open(t)
	want := state(5)
	if err := storetest.Write(d, want); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(d.Dir(), checkpoint.DirName(5))
	got, err := storetest.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Model, want.Model) || !reflect.DeepEqual(got.First, want.First) || !reflect.DeepEqual(got.Second, want.Second) ||
		got.Manifest.Seed != 3 || got.Manifest.Job != "t" {
		t.Errorf("came back as %+v", got)
	}
	b, err := os.ReadFile(filepath.Join(d.Dir(), "latest"))
	if err != nil || string(b) != "step-00000005\n" {
		t.Errorf("latest holds %q, %v", b, err)
	}
	if r := checkpoint.Verify(dir); !r.OK || r.Err() != nil || r.Step != 5 || r.Bytes != got.Manifest.Bytes() || len(r.Files) != 3 {
		t.Errorf("Verify = %+v", r)
	}
}

// The newest is flipped, the one before truncated, the one before that has lost
// a file: each is named with its reason and the next is used.
func TestLatestGoodPassesOver(t *testing.T) {
	d := open(t)
	for _, step := range []uint64{1, 2, 3, 4, 5} {
		if err := storetest.Write(d, state(step)); err != nil {
			t.Fatal(err)
		}
	}
	file := func(step uint64, name string) string { return filepath.Join(d.Dir(), checkpoint.DirName(step), name) }
	b, err := os.ReadFile(file(5, checkpoint.ModelFile))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	for _, err := range []error{
		os.WriteFile(file(5, checkpoint.ModelFile), b, 0o644),
		os.WriteFile(file(4, checkpoint.OptimizerFile), []byte("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"), 0o644),
		os.Remove(file(3, checkpoint.ModelFile)),
		os.Remove(file(2, checkpoint.ManifestFile)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	found, err := checkpoint.LatestGood(d.Dir())
	if err != nil || found.Manifest.Step != 1 || filepath.Base(found.Dir) != "step-00000001" {
		t.Fatalf("LatestGood = %+v, %v", found, err)
	}
	want := []string{
		"model.safetensors: its SHA-256 is ",
		"optimizer.safetensors: has 65 bytes, the manifest says 352: it is a Git LFS pointer, not the file itself: run \"git lfs pull\"",
		"model.safetensors: is missing",
		"manifest.json: is missing",
	}
	if len(found.Passed) != len(want) {
		t.Fatalf("passed over %+v", found.Passed)
	}
	for i, p := range found.Passed {
		if filepath.Base(p.Dir) != checkpoint.DirName(uint64(5-i)) || !strings.HasPrefix(p.Reason, want[i]) {
			t.Errorf("passed over %s because %q, want %q", p.Dir, p.Reason, want[i])
		}
	}
	l, err := checkpoint.List(d.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, e := range l {
		states = append(states, e.State.String())
	}
	if got := strings.Join(states, " "); got != "complete damaged damaged damaged complete" { // a flipped byte needs Verify
		t.Errorf("states %s", got)
	}
	if _, err := storetest.Read(found.Passed[0].Dir); !errors.Is(err, checkpoint.ErrCorrupt) || !strings.Contains(err.Error(), "model.safetensors") {
		t.Errorf("Read of a flipped one: %v", err)
	}
	// A damaged one is replaced when its step comes again.
	if err := storetest.Write(d, state(5)); err != nil {
		t.Fatal(err)
	}
	if found, err := checkpoint.LatestGood(d.Dir()); err != nil || found.Manifest.Step != 5 || len(found.Passed) > 0 {
		t.Errorf("LatestGood = %+v, %v", found, err)
	}
}

func TestNothingThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if l, err := checkpoint.List(dir); err != nil || len(l) > 0 {
		t.Errorf("List = %v, %v", l, err)
	}
	if _, err := checkpoint.LatestGood(dir); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("LatestGood: %v", err)
	}
	if r := checkpoint.Verify(dir); r.OK || r.Err() == nil || !strings.Contains(r.Err().Error(), "the directory is missing") {
		t.Errorf("Verify: %v", r.Err())
	}
	if _, err := checkpoint.ReadManifest(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadManifest: %v", err)
	}
}

// A checkpoint that was copied under another step's name is not believed; under
// a name of one's own it is.
func TestRenamed(t *testing.T) {
	d := open(t)
	if err := storetest.Write(d, state(5)); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(d.Dir(), checkpoint.DirName(5))
	best := filepath.Join(t.TempDir(), "best")
	if err := os.CopyFS(best, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if r := checkpoint.Verify(best); !r.OK {
		t.Errorf("a copy called best: %v", r.Err())
	}
	wrong := filepath.Join(d.Dir(), checkpoint.DirName(9))
	if err := os.CopyFS(wrong, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if r := checkpoint.Verify(wrong); r.OK || !strings.Contains(r.Err().Error(), "manifest.json: is of step 5") {
		t.Errorf("a copy called step 9: %v", r.Err())
	}
	if _, err := d.Open(9); !errors.Is(err, checkpoint.ErrCorrupt) {
		t.Errorf("Open of it: %v", err)
	}
	if found, err := checkpoint.LatestGood(d.Dir()); err != nil || found.Manifest.Step != 5 || len(found.Passed) != 1 {
		t.Errorf("LatestGood = %+v, %v", found, err)
	}
}

func TestMatch(t *testing.T) {
	v, err := safetensors.NewView([]safetensors.Tensor{
		{Name: "good", Shape: []int{2}, Data: []float32{1, 2}},
		{Name: "bent", Shape: []int{2, 1}, Data: []float32{1, 2}},
		{Name: "whole", Shape: []int{1}, Data: []int64{1}},
		{Name: "z.extra", Shape: []int{1}, Data: []float32{1}},
		{Name: "a.extra", Shape: nil, Data: []float32{1}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Read(v, v.Size(), "init.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	err = checkpoint.Match(f, []checkpoint.Want{{"z.gone", []int{4}}, {"good", []int{2}}, {"whole", []int{1}}, {"bent", []int{1, 2}}, {"a.gone", nil}})
	const want = `init.safetensors does not fit the model: 2 tensors missing, 2 extra, 2 misshapen
  missing   a.gone []
  missing   z.gone [4]
  extra     a.extra []
  extra     z.extra [1]
  misshapen bent is [2 1], want [1 2]
  misshapen whole is of type I64; save it as float32`
	var bad *checkpoint.MismatchError
	if !errors.As(err, &bad) || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
	if err := checkpoint.Match(f, []checkpoint.Want{{"good", []int{2}}, {"bent", []int{2, 1}}, {"a.extra", nil}, {"z.extra", []int{1}}}); err == nil {
		t.Error("an extra integer tensor was accepted")
	}
}

// A million names, and names as long as a header allows, still make a message
// that fits a screen.
func TestMismatchFitsAScreen(t *testing.T) {
	var e checkpoint.MismatchError
	e.File = "x.safetensors"
	for i := range 1_000_000 {
		e.Missing = append(e.Missing, fmt.Sprint("missing.", i))
	}
	e.Extra = []string{strings.Repeat("é", 1_000_000)}
	e.Misshapen = e.Missing[:6]
	text := e.Error()
	if lines := strings.Count(text, "\n") + 1; lines > 20 || len(text) > 2000 {
		t.Errorf("the message has %d lines and %d bytes", lines, len(text))
	}
	for _, s := range []string{"1000000 tensors missing, 1 extra, 6 misshapen", "\n  missing   missing.4\n  … and 999995 more missing\n", "\n  … and 1 more misshapen"} {
		if !strings.Contains(text, s) {
			t.Errorf("it lacks %q:\n%s", s, text)
		}
	}
}
