package run

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// smallDisk is a file on a disk with room for so many bytes of it.
type smallDisk struct {
	*os.File
	room int64
}

func (d *smallDisk) Write(p []byte) (int, error) {
	at, err := d.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if left := d.room - at; int64(len(p)) > left {
		n, err := d.File.Write(p[:max(left, 0)])
		if err == nil {
			err = syscall.ENOSPC
		}
		return n, err
	}
	return d.File.Write(p)
}

// A disk that is full for a while leaves no torn line, and no line out.
func TestLinesOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := newLines(f)
	if err != nil {
		t.Fatal(err)
	}
	disk := &smallDisk{f, 6}
	l.f = disk
	look := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("the file holds %q, want %q (%v)", b, want, err)
		}
	}
	say := func(line string, full bool) {
		t.Helper()
		if _, err := l.Write([]byte(line)); (err != nil) != full {
			t.Errorf("writing %q: %v", line, err)
		}
	}
	say("one\n", false)
	say("two\n", true)
	look("one\n")
	say("three\n", true)
	look("one\n")
	disk.room = 100
	say("four\n", false)
	look("one\ntwo\nthree\nfour\n")

	disk.room = 0 // full again, for long: nothing is lost
	want := []byte("one\ntwo\nthree\nfour\n")
	for i := range 3000 {
		line := fmt.Sprintf("%1022d\n", i)
		want = append(want, line...)
		say(line, true)
	}
	disk.room = 1 << 30
	say("five\n", false)
	look(string(want) + "five\n")
}
