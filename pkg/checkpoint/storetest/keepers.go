package storetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlaring/vlaring/pkg/checkpoint"
)

// Keepers holds an implementation of checkpoint.Keeper to its contract; open returns
// an empty one for each test.
func Keepers(t *testing.T, open func(t *testing.T) checkpoint.Keeper) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, k checkpoint.Keeper)
	}{
		{"Empty", keepNothing}, {"PutOpen", putOpen}, {"Order", keepOrder}, {"Again", putAgain}, {"OtherBytes", putOther}, {"Cancelled", putCancelled}, {"ThereAndBack", thereAndBack},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Made is a checkpoint on the disk with a file of some text.
func Made(t *testing.T, step uint64, text string) (r checkpoint.Reader, dir string) {
	t.Helper()
	d, err := checkpoint.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, d, step, text)
	if r, err = d.Open(step); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, filepath.Join(d.Dir(), checkpoint.DirName(step))
}

// keep puts a checkpoint with a file of some text.
func keep(t *testing.T, k checkpoint.Keeper, step uint64, text string) {
	t.Helper()
	r, _ := Made(t, step, text)
	var moved int64
	if err := k.Put(t.Context(), r, func(n int64) { moved = n }); err != nil {
		t.Fatal(err)
	}
	if moved != r.Manifest().Bytes() {
		t.Errorf("step %d: %d of %d bytes are said to be stored", step, moved, r.Manifest().Bytes())
	}
}

// kept is the text of a kept checkpoint.
func kept(t *testing.T, k checkpoint.Keeper, step uint64) string {
	t.Helper()
	return read(t, onlyKeeper{k}, step, "text")
}

// onlyKeeper is a Keeper where a Store is looked at.
type onlyKeeper struct{ checkpoint.Keeper }

func (onlyKeeper) Begin(uint64) (checkpoint.Writer, error) { panic("a Keeper begins nothing") }

func keepNothing(t *testing.T, k checkpoint.Keeper) { empty(t, onlyKeeper{k}) }

func putOpen(t *testing.T, k checkpoint.Keeper) {
	keep(t, k, 7, "some text")
	if got := kept(t, k, 7); got != "some text" {
		t.Errorf("got %q", got)
	}
	r, err := k.Open(7)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := r.File("nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := k.Open(8); !errors.Is(err, checkpoint.ErrNone) {
		t.Errorf("a step that is not there: %v", err)
	}
}

func keepOrder(t *testing.T, k checkpoint.Keeper) {
	for _, step := range []uint64{100, 20, 3} {
		keep(t, k, step, "x")
	}
	if got := steps(t, onlyKeeper{k}); got != "3* 20 100" {
		t.Errorf("listed %s", got)
	}
	for _, step := range []uint64{3, 3, 100} {
		if err := k.Remove(step); err != nil {
			t.Fatal(err)
		}
	}
	if got := steps(t, onlyKeeper{k}); got != "20*" {
		t.Errorf("after removals: %s", got)
	}
	if err := k.Remove(20); err != nil {
		t.Fatal(err)
	}
	if got := steps(t, onlyKeeper{k}); got != "" {
		t.Errorf("after all are removed: %s", got)
	}
}

func putAgain(t *testing.T, k checkpoint.Keeper) {
	keep(t, k, 5, "first")
	keep(t, k, 5, "second, of another length")
	if got := kept(t, k, 5); got != "second, of another length" {
		t.Errorf("got %q", got)
	}
	if got := steps(t, onlyKeeper{k}); got != "5*" {
		t.Errorf("listed %s", got)
	}
}

// Bytes that changed under their manifest are refused, and what was there stays.
func putOther(t *testing.T, k checkpoint.Keeper) {
	keep(t, k, 4, "good")
	for _, c := range []string{"GooD and bad", "shorter"} {
		r, dir := Made(t, 9, "good and bad")
		if err := os.WriteFile(filepath.Join(dir, "text"), []byte(c), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := k.Put(t.Context(), r, nil); !errors.Is(err, checkpoint.ErrCorrupt) {
			t.Errorf("%q in place of what the manifest says: %v, want ErrCorrupt", c, err)
		}
		if got := steps(t, onlyKeeper{k}); got != "4*" {
			t.Errorf("listed %s", got)
		}
	}
}

func putCancelled(t *testing.T, k checkpoint.Keeper) {
	r, _ := Made(t, 6, "text")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Put(ctx, r, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := steps(t, onlyKeeper{k}); got != "" {
		t.Errorf("listed %s", got)
	}
	if err := k.Put(t.Context(), r, nil); err != nil {
		t.Error(err)
	}
	if got := kept(t, k, 6); got != "text" {
		t.Errorf("got %q", got)
	}
}

// What went from a disk to the keeper and back is the same, manifest and all.
func thereAndBack(t *testing.T, k checkpoint.Keeper) {
	from, dir := Made(t, 12, "there and back")
	if err := k.Put(t.Context(), from, nil); err != nil {
		t.Fatal(err)
	}
	r, err := k.Open(12)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := checkpoint.OpenDisk(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{checkpoint.ManifestFile, "text"} {
		a, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(d.Dir(), checkpoint.DirName(12), name))
		if err != nil || string(a) != string(b) {
			t.Errorf("%s: %v, or other bytes", name, err)
		}
	}
	if err := checkpoint.Verify(filepath.Join(d.Dir(), checkpoint.DirName(12))).Err(); err != nil {
		t.Error(err)
	}
}
