package page

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	maxLine  = 1 << 20 // a longer one is passed over
	markSize = 512     // bytes before a tail's place by which it knows the file again
	chunk    = 256 << 10
)

// tail reads the whole lines that a file has got since it was last read.
type tail struct {
	name string
	off  int64  // of the next line
	mark []byte // what stands before off
	size int64  // of the file, when it was last looked at
	skip bool   // within a line that is too long
}

// read passes on at most about budget bytes of whole lines, with their places. Where
// the file is not the one that was read so far, anew is called first and all of it
// is read again. A file that is not there is empty.
func (t *tail) read(root *os.Root, budget int64, anew func(), line func(off int64, b []byte)) error {
	f, size, err := openIn(root, t.name)
	if errors.Is(err, fs.ErrNotExist) {
		if t.off > 0 {
			*t = tail{name: t.name}
			anew()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if t.off > 0 && (size < t.off || !t.same(f)) {
		*t = tail{name: t.name}
		anew()
	}
	t.size = size
	buf, have := make([]byte, min(chunk, size-t.off)), 0
	for read := int64(0); read < budget; {
		n, err := f.ReadAt(buf[have:], t.off+int64(have))
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			return nil // what is there is the beginning of a line
		}
		have += n
		done := 0
		for {
			i := bytes.IndexByte(buf[done:have], '\n')
			if i < 0 {
				break
			}
			if !t.skip && i > 0 && i <= maxLine {
				line(t.off+int64(done), buf[done:done+i])
			}
			t.skip = false
			done += i + 1
		}
		if done == 0 && have == len(buf) {
			if len(buf) < maxLine {
				buf = append(buf, make([]byte, len(buf)+chunk)...)
				continue
			}
			t.skip, done = true, have
		}
		t.remember(buf[:done])
		t.off += int64(done)
		read += int64(done)
		have = copy(buf, buf[done:have])
	}
	return nil
}

// remember keeps the last bytes of what was read.
func (t *tail) remember(b []byte) {
	t.mark = append(t.mark, b[max(0, len(b)-markSize):]...)
	t.mark = bytes.Clone(t.mark[max(0, len(t.mark)-markSize):])
}

// same says whether the file still has before t.off what was read there.
func (t *tail) same(f io.ReaderAt) bool {
	b := make([]byte, len(t.mark))
	_, err := f.ReadAt(b, t.off-int64(len(b)))
	return err == nil && bytes.Equal(b, t.mark)
}

// share is how much of the file has been read.
func (t *tail) share() float64 {
	if t.size == 0 {
		return 1
	}
	return float64(t.off) / float64(t.size)
}

// openIn opens a regular file below root. A pipe would wait for a writer, and a device
// may never end: neither is opened.
func openIn(root *os.Root, name string) (*os.File, int64, error) {
	i, err := root.Stat(name)
	if err == nil && !i.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	if i, err = f.Stat(); err == nil && !i.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, i.Size(), nil
}

// readIn is all of a small file below root.
func readIn(root *os.Root, name string, most int64) ([]byte, error) {
	f, size, err := openIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > most {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", name, size, most)
	}
	return io.ReadAll(io.LimitReader(f, most))
}
