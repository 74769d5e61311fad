package checkpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// At every call that changes something the disk fails: it is full, or reports
// an error of the device (a failed fsync has then lost the pages), once or
// from then on. The error names the kind, everything stored before verifies
// now and after a power cut, and when the disk works again the store goes on.
func TestDiskFailsAtEveryCall(t *testing.T) {
	count := newSimFS()
	if _, err := openDisk(count, simDirName); err != nil {
		t.Fatal(err)
	}
	opening := count.calls
	for _, c := range []struct {
		name   string
		err    error
		sticky bool
		says   string
		least  int // places where it must have been noticed
	}{
		{"full once", syscall.ENOSPC, false, "the disk is full", 70},
		{"full from then on", syscall.ENOSPC, true, "the disk is full", 70},
		{"over quota", syscall.EDQUOT, false, "the disk is full", 70},
		{"failing once", syscall.EIO, false, "checkpoint of step", 70},
		{"dead from then on", syscall.EIO, true, "checkpoint of step", 70},
		{"read-only from then on", syscall.EROFS, true, "checkpoint of step", 70},
	} {
		t.Run(c.name, func(t *testing.T) {
			said, ops := 0, map[string]bool{}
			for failAt := opening + 1; ; failAt++ {
				s := newSimFS()
				s.failAt, s.fail, s.sticky = failAt, c.err, c.sticky
				d, err := openDisk(s, simDirName)
				if err != nil {
					t.Fatal(err)
				}
				stored, possible := []int{}, []int{}
				var at string
				var failed error
				for _, deed := range story() {
					if err := deed.do(d); err != nil {
						at, possible, failed = deed.name, deed.during, err
						break
					}
					stored = deed.after
				}
				if s.calls < failAt {
					break
				}
				point := s.points[failAt-1]
				name := fmt.Sprintf("call %d (%s) while %s", failAt, point, at)
				if failed == nil {
					continue // it hit the removal of something already replaced
				}
				said++
				op, _, _ := strings.Cut(point, " ")
				ops[op] = true
				if !errors.Is(failed, c.err) || strings.HasPrefix(at, "save") && !strings.Contains(failed.Error(), c.says) {
					t.Errorf("%s: error %q does not say %q", name, failed, c.says)
				}
				s.failAt = 0
				images := map[string]*simFS{"as it is": s, "started again": s.killed()}
				for i := range 2 {
					images[fmt.Sprintf("after power cut %d", i)] = s.power(rand.New(rand.NewPCG(uint64(failAt), uint64(i))))
				}
				for how, image := range images {
					store := d
					if image != s {
						var err error
						if store, err = openDisk(image, simDirName); err != nil {
							t.Errorf("%s, %s: the store does not open: %v", name, how, err)
							continue
						}
					}
					versions, damaged := contents(t, image)
					for _, v := range stored {
						aside := image == s && strings.Contains(image.tree(), oldPrefix+DirName(uint64(v/10))) // until the next start
						if !slices.ContainsFunc(versions, func(x int) bool { return x/10 == v/10 }) && at != fmt.Sprintf("remove %d", v/10) && !aside {
							t.Errorf("%s, %s: version %d is gone; there are %v\n%s", name, how, v, versions, image.tree())
						}
					}
					for _, v := range versions {
						if !slices.Contains(possible, v) {
							t.Errorf("%s, %s: holds version %d, want only %v", name, how, v, possible)
						}
					}
					if len(damaged) > 0 {
						t.Errorf("%s, %s: %v", name, how, damaged)
					}
					if err := stateOf(9, 0).write(store); err != nil {
						t.Errorf("%s, %s: with a disk that works again: %v", name, how, err)
					}
					if found, err := latestGood(image, simDirName); err != nil || found.Manifest.Step != 9 {
						t.Errorf("%s, %s: after the next save LatestGood gives %+v, %v", name, how, found, err)
					}
				}
			}
			if said < c.least {
				t.Errorf("noticed in %d places only, want %d", said, c.least)
			}
			for _, op := range []string{"mkdir", "create", "write", "sync", "close", "rename", "syncdir"} {
				if !ops[op] {
					t.Errorf("no %s failed", op)
				}
			}
		})
	}
}

// At every read the disk fails once. A save that could not read back what it
// wrote is no checkpoint; Verify names the file; LatestGood, where it can
// look at all, takes one that it could read whole and says what it passed over.
func TestReadFailsAtEveryCall(t *testing.T) {
	fresh := func() (*simFS, *Disk) {
		s := newSimFS()
		d, err := openDisk(s, simDirName)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []uint64{1, 2} {
			if err := stateOf(step, 0).write(d); err != nil {
				t.Fatal(err)
			}
		}
		s.reads, s.fail = 0, syscall.EIO
		return s, d
	}
	for name, try := range map[string]func(s *simFS, d *Disk) error{
		"save": func(s *simFS, d *Disk) error {
			err := stateOf(3, 0).write(d)
			s.readAt = 0
			versions, damaged := contents(t, s)
			if len(damaged) > 0 || err != nil && !slices.Equal(versions, []int{10, 20}) || err == nil && !slices.Equal(versions, []int{10, 20, 30}) {
				return fmt.Errorf("save says %v, and there are %v, damaged %v", err, versions, damaged)
			}
			return err
		},
		"Verify": func(s *simFS, d *Disk) error {
			err := verify(s, path.Join(simDirName, DirName(2))).Err()
			if err == nil || !errors.Is(err, ErrCorrupt) {
				return fmt.Errorf("Verify says %v", err)
			}
			return syscall.EIO // Verify keeps words alone
		},
		"LatestGood": func(s *simFS, d *Disk) error {
			found, err := latestGood(s, simDirName)
			s.readAt = 0
			switch {
			case err != nil:
				return err // the directory could not be listed
			case found.Manifest.Step == 1 && len(found.Passed) == 1 && strings.Contains(found.Passed[0].Reason, "input/output error"):
			case found.Manifest.Step == 2: // it failed in the quick look, or at latest
			default:
				return fmt.Errorf("LatestGood gives %+v", found)
			}
			if r := verify(s, found.Dir); !r.OK {
				return fmt.Errorf("LatestGood gives one that does not verify: %v", r.Err())
			}
			return syscall.EIO
		},
		"Open": func(s *simFS, d *Disk) error {
			r, err := d.Open(2)
			if err != nil {
				return err
			}
			defer r.Close()
			f, size, err := r.File(ModelFile)
			if err != nil {
				return err
			}
			_, err = f.ReadAt(make([]byte, size), 0)
			return err
		},
		"Remove": func(s *simFS, d *Disk) error {
			err := d.Remove(2)
			s.readAt = 0
			if versions, damaged := contents(t, s); len(damaged) > 0 || len(versions) == 0 || versions[0] != 10 {
				return fmt.Errorf("Remove says %v, and there are %v, damaged %v", err, versions, damaged)
			}
			if err == nil {
				return syscall.EIO // the list is read without what could not be
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for at := 1; ; at++ {
				s, d := fresh()
				s.readAt = at
				err := try(s, d)
				if !s.hit {
					break
				}
				failed++
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("read %d: %v", at, err)
				}
			}
			if failed < 3 {
				t.Errorf("only %d reads failed", failed)
			}
		})
	}
}
