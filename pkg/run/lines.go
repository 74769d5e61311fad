package run

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// lines appends whole lines to a file. What a full disk has not taken waits
// here and goes first the next time: a line that is torn in the middle of the
// file would end it for whoever reads it.
type lines struct {
	f interface {
		io.WriteSeeker
		Truncate(size int64) error
	}
	end   int64 // of the whole lines
	late  []byte
	stuck bool // the disk takes nothing, which has been said
}

func newLines(f *os.File) (*lines, error) {
	end, err := f.Seek(0, io.SeekEnd)
	return &lines{f: f, end: end}, err
}

func (l *lines) Write(line []byte) (int, error) {
	l.late = append(l.late, line...) // a line a step: they end with the job
	if len(l.late) == 0 {
		return len(line), nil
	}
	if _, err := l.f.Write(l.late); err != nil {
		err = fmt.Errorf("%d bytes wait for the disk: %w", len(l.late), err)
		e := l.f.Truncate(l.end)
		if _, s := l.f.Seek(l.end, io.SeekStart); e == nil {
			e = s
		}
		return 0, errors.Join(err, e)
	}
	l.end += int64(len(l.late))
	l.late = nil
	return len(line), nil
}

// news turns the outcome of a Write into what is to be said of it: a state that
// lasts is said once, when it begins and when it is over.
func (l *lines) news(err error) (over string, trouble error) {
	switch {
	case err != nil && !l.stuck:
		l.stuck = true
		return "", err
	case err == nil && l.stuck:
		l.stuck = false
		over = "the disk takes lines again"
	}
	return over, nil
}
