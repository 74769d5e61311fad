package checkpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlaring/vlaring/internal/safetensors"
)

const simDirName = "/run/checkpoints"

// small is a checkpoint of one parameter.
type small struct {
	manifest Manifest
	value    []float32
}

// stateOf is a small checkpoint whose values tell step and version.
func stateOf(step uint64, version float32) small {
	return small{Manifest{Step: step, Cursor: 8 * step, Job: "crash", Created: time.Unix(int64(step), 0).UTC()}, []float32{float32(step), version, 3}}
}

// write stores it as a run does.
func (c small) write(s Store) error {
	w, err := s.Begin(c.manifest.Step)
	if err != nil {
		return err
	}
	defer w.Abort()
	tensor := func(name string) safetensors.Tensor {
		return safetensors.Tensor{Name: name, Shape: []int{len(c.value)}, Data: c.value}
	}
	for _, f := range []struct {
		name    string
		tensors []safetensors.Tensor
	}{{ModelFile, []safetensors.Tensor{tensor("w")}}, {OptimizerFile, []safetensors.Tensor{tensor("exp_avg.w"), tensor("exp_avg_sq.w")}}} {
		v, err := safetensors.NewView(f.tensors, nil)
		if err != nil {
			return err
		}
		dst, err := w.Create(f.name, v.Size())
		if err != nil {
			return err
		}
		if _, err := v.WriteTo(dst); err != nil {
			return err
		}
		if err := dst.Close(); err != nil {
			return err
		}
	}
	return w.Commit(c.manifest)
}

// step of the story that the crash tests interrupt.
type deed struct {
	name string
	do   func(d *Disk) error
	// The versions (step·10 + version) that are there for certain once the deed
	// is done, and those that may be there while it is in progress.
	after, during []int
}

func save(step uint64, version float32) func(*Disk) error {
	return func(d *Disk) error { return stateOf(step, version).write(d) }
}

// story saves, saves again in place, retains and removes: all that a run does.
func story() []deed {
	return []deed{
		{"save 1", save(1, 0), []int{10}, []int{10}},
		{"save 2", save(2, 0), []int{10, 20}, []int{10, 20}},
		{"save 2 again", save(2, 1), []int{10, 21}, []int{10, 20, 21}},
		{"save 3", save(3, 0), []int{10, 21, 30}, []int{10, 21, 30}},
		{"remove 1", func(d *Disk) error { return d.Remove(1) }, []int{21, 30}, []int{10, 21, 30}},
		{"remove 3", func(d *Disk) error { return d.Remove(3) }, []int{21}, []int{21, 30}},
		{"save 4", save(4, 0), []int{21, 40}, []int{21, 40}},
	}
}

// contents verifies every checkpoint of an image and returns its versions.
func contents(t *testing.T, s *simFS) (versions []int, damaged []string) {
	t.Helper()
	entries, err := list(s, simDirName)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if r := verify(s, e.Dir); !r.OK {
			damaged = append(damaged, r.Err().Error())
			continue
		}
		versions = append(versions, versionIn(t, s, e.Dir))
	}
	return versions, damaged
}

func versionIn(t *testing.T, s *simFS, dir string) int {
	t.Helper()
	d := &Disk{dir: filepath.Dir(dir), fs: s}
	step, _ := StepOf(filepath.Base(dir))
	r, err := d.Open(step)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, size, err := r.File(ModelFile)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	for version := range 2 {
		if want := stateBytes(t, step, float32(version)); string(b) == want {
			return int(step)*10 + version
		}
	}
	t.Fatalf("%s verifies, but holds what nobody wrote", dir)
	return 0
}

func stateBytes(t *testing.T, step uint64, version float32) string {
	t.Helper()
	m := NewMemory()
	if err := stateOf(step, version).write(m); err != nil {
		t.Fatal(err)
	}
	return string(m.steps[step].files[ModelFile])
}

// At every call to the operating system the process is killed, or the machine
// loses power in several ways. What is left is only whole checkpoints; those
// committed before are among them; the store opens, clears up, and goes on.
func TestCrashAtEveryCall(t *testing.T) {
	const powerCuts = 12
	total := 0
	for crashAt := 1; ; crashAt++ {
		s := newSimFS()
		s.crashAt = crashAt
		// What is certain and what is possible when it crashes.
		certain, possible := []int{}, []int{}
		at := "opening"
		d, err := openDisk(s, simDirName)
		if err == nil {
			for _, deed := range story() {
				at, possible = deed.name, deed.during
				if err = deed.do(d); err != nil {
					break
				}
				certain = deed.after
			}
		}
		if err == nil {
			break // the story ended before the crash
		}
		if !errors.Is(err, errCrashed) {
			t.Fatalf("call %d: error %v, want the crash", crashAt, err)
		}
		total++
		images := map[string]*simFS{"killed": s.killed()}
		for i := range powerCuts {
			images[fmt.Sprintf("power cut %d", i)] = s.power(rand.New(rand.NewPCG(uint64(crashAt), uint64(i))))
		}
		for how, image := range images {
			name := fmt.Sprintf("%s at call %d (%s) while %s", how, crashAt, s.points[len(s.points)-1], at)
			before := image.tree()
			// Nobody who only looks is ever given damaged or unknown bytes.
			versions, damaged := contents(t, image)
			if len(damaged) > 0 {
				t.Errorf("%s: damaged checkpoints under a proper name: %v\n%s", name, damaged, before)
			}
			for _, v := range versions {
				if !slices.Contains(possible, v) {
					t.Errorf("%s: holds version %d, want only %v\n%s", name, v, possible, before)
				}
			}
			// And after opening, nothing certain is missing.
			d, err := openDisk(image, simDirName)
			if err != nil {
				t.Errorf("%s: the store does not open: %v\n%s", name, err, before)
				continue
			}
			versions, damaged = contents(t, image)
			for _, v := range certain {
				replaced := slices.ContainsFunc(versions, func(x int) bool { return x/10 == v/10 && slices.Contains(possible, x) })
				removed := at == fmt.Sprintf("remove %d", v/10)
				if !replaced && !removed {
					t.Errorf("%s: version %d was committed and is gone; there are %v\n%s", name, v, versions, before)
				}
			}
			if len(damaged) > 0 || strings.Contains(image.tree(), tempPrefix) || strings.Contains(image.tree(), oldPrefix) {
				t.Errorf("%s: after opening %v is damaged, left are\n%s", name, damaged, image.tree())
			}
			if image.tree() != before && len(d.Cleaned()) == 0 && at != "opening" {
				t.Errorf("%s: it cleared up without a word\n%s\n%s", name, before, image.tree())
			}
			found, err := latestGood(image, simDirName)
			if len(versions) == 0 {
				if !errors.Is(err, ErrNone) {
					t.Errorf("%s: nothing is there, and LatestGood says %v", name, err)
				}
			} else if err != nil || versionIn(t, image, found.Dir) != versions[len(versions)-1] {
				t.Errorf("%s: LatestGood gives %s, %v, and there are %v", name, found.Dir, err, versions)
			}
			if err := stateOf(9, 0).write(d); err != nil {
				t.Errorf("%s: the next save fails: %v", name, err)
			}
			if found, err := latestGood(image, simDirName); err != nil || found.Manifest.Step != 9 || len(found.Passed) > 0 {
				t.Errorf("%s: after the next save LatestGood gives %+v, %v", name, found, err)
			}
		}
	}
	if total < 60 {
		t.Errorf("only %d calls were crashed at; the story has shrunk", total)
	}
	t.Logf("%d crash points, %d images each", total, powerCuts+1)
}
