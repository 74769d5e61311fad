package checkpoint

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

// What a disk that takes nothing says names the kind, the numbers and what
// helps; one lasting state is one, whatever the step.
func TestDiskErrorSaysWhatToDo(t *testing.T) {
	const mib = 1 << 20
	seen := map[string]string{}
	for _, c := range []struct {
		name  string
		err   error
		space Space
		says  []string
	}{
		{"full", syscall.ENOSPC, Space{2 * mib, 1000, true, true}, []string{"the disk is full", "10.0 MiB are needed", "2.0 MiB are free", "make room for 8.0 MiB"}},
		{"no inodes", syscall.ENOSPC, Space{62 * mib, 0, true, true}, []string{"no inodes left", "62.0 MiB", "df -i", "remove files"}},
		{"no inodes counted", syscall.ENOSPC, Space{mib, 0, true, false}, []string{"the disk is full", "1.0 MiB are free"}},
		{"full, no numbers", syscall.ENOSPC, Space{}, []string{"the disk is full", "10.0 MiB are needed"}},
		{"quota", syscall.EDQUOT, Space{900 * mib, 1000, true, true}, []string{"quota", "10.0 MiB are needed"}},
		{"read-only", syscall.EROFS, Space{900 * mib, 1000, true, true}, []string{"read-only", "mounted for writing"}},
		{"device", syscall.EIO, Space{900 * mib, 1000, true, true}, []string{"input/output error"}},
	} {
		e := &DiskError{7, "/r/checkpoints", 10 * mib, c.space, c.err}
		for _, want := range append(c.says, "step 7") {
			if !strings.Contains(e.Error(), want) {
				t.Errorf("%s: %q lacks %q", c.name, e, want)
			}
		}
		if !errors.Is(e, c.err) {
			t.Errorf("%s: %v is not %v", c.name, e, c.err)
		}
		again := &DiskError{9, "/r/checkpoints", 11 * mib, Space{c.space.Bytes + 1, c.space.Inodes, c.space.Known, c.space.Counts}, c.err}
		if (e.Lasting() == "") != (c.name == "device") || e.Lasting() != again.Lasting() {
			t.Errorf("%s: the states are %q and %q", c.name, e.Lasting(), again.Lasting())
		}
		if other := seen[e.Lasting()]; other != "" && !strings.HasPrefix(other, "full") && c.name != "no inodes counted" && !strings.HasPrefix(c.name, "full") {
			t.Errorf("%s and %s are one state", c.name, other)
		}
		seen[e.Lasting()] = c.name
	}
}

// Room is asked before a byte is fetched, and believes only a disk that counts.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		space Space
		fits  bool
	}{
		{Space{100, 5, true, true}, true},
		{Space{99, 5, true, true}, false},
		{Space{1000, 4, true, true}, false},
		{Space{1000, 0, true, false}, true},
		{Space{}, true},
	} {
		s := newSimFS()
		d, err := openDisk(s, simDirName)
		if err != nil {
			t.Fatal(err)
		}
		s.space = c.space
		err = d.Room(3, 100)
		var full *DiskError
		if (err == nil) != c.fits || err != nil && (!errors.As(err, &full) || !errors.Is(err, syscall.ENOSPC) || full.Need != 100) {
			t.Errorf("%+v: %v", c.space, err)
		}
	}
	s, err := FreeSpace(t.TempDir())
	if err != nil || s.Known && s.Bytes <= 0 {
		t.Errorf("this disk has %+v, %v", s, err)
	}
}
