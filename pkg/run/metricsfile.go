package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
)

// MetricsFile holds a line a committed step.
const MetricsFile = "metrics.jsonl"

// tally counts a run's steps, those of earlier coordinators too.
type tally struct {
	steps   int
	refused int    // that made no update
	why     string // the newest of them, in words
}

func (t *tally) add(step uint64, refused string) {
	t.steps++
	if refused != "" {
		t.refused++
		at := fmt.Sprintf("step %d: ", step) // which most reasons begin with
		t.why = at + strings.TrimPrefix(refused, at)
	}
}

// history is what metrics.jsonl held when a run began.
type history struct {
	newest uint64 // step
	tally
	torn  int    // lines that are none, left out
	lacks uint64 // steps before the one that the run goes on from have no lines
}

// metricsLine is what of a line matters here.
type metricsLine struct {
	Step    uint64  `json:"step"`
	Loss    float64 `json:"loss"`
	Targets int     `json:"targets"`
	Refused string  `json:"refused"`
}

// openMetrics opens metrics.jsonl for appending after step. Lines of later
// steps, which a resumed run commits again, are cut off, unless the run goes on
// where it was: then the same bits come again. Torn lines are left out, at the
// end and within. The losses that stay go to recent.
func openMetrics(path string, step uint64, goesOn bool, recent *losses) (f *os.File, h history, err error) {
	if f, err = regular.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, h, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	whole, gone, middle := int64(0), false, false // bytes up to the first line that goes; one has; and one behind it stays
	h, err = scanMetrics(f, step, goesOn, func(line []byte, m *metricsLine) {
		switch {
		case m == nil:
			gone = true
			return
		case gone:
			middle = true
		default:
			whole += int64(len(line))
		}
		recent.add(m.Step, m.Loss, m.Targets, m.Refused != "")
	})
	if err != nil {
		return nil, h, err
	}
	if middle { // the file is written anew
		var b bytes.Buffer
		if _, err := scanMetrics(f, step, goesOn, func(line []byte, m *metricsLine) {
			if m != nil {
				b.Write(line)
			}
		}); err != nil {
			return nil, h, err
		}
		if err := atomicfile.Write(path, b.Bytes(), 0o644); err != nil {
			return nil, h, err
		}
		f.Close()
		if f, err = regular.OpenFile(path, os.O_RDWR, 0o644); err != nil {
			return nil, h, err
		}
		whole = int64(b.Len())
	}
	if err := f.Truncate(whole); err != nil {
		return nil, h, err
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return nil, h, err
	}
	if h.newest < step {
		h.lacks = step - h.newest
	}
	h.newest = max(h.newest, step)
	return f, h, nil
}

// scanMetrics passes each line on: with what it says, or with nil if it goes.
func scanMetrics(f io.ReadSeeker, step uint64, goesOn bool, line func(line []byte, m *metricsLine)) (h history, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return h, err
	}
	for rd := bufio.NewReader(f); ; {
		b, err := rd.ReadBytes('\n')
		if len(b) == 0 && errors.Is(err, io.EOF) {
			return h, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return h, err
		}
		var m metricsLine
		switch {
		case err != nil || json.Unmarshal(b, &m) != nil || m.Step == 0:
			h.torn++
			line(b, nil)
		case m.Step > step && !goesOn:
			line(b, nil)
		default:
			h.newest = m.Step
			h.add(m.Step, m.Refused)
			line(b, &m)
		}
	}
}

// setAside renames a file of a run directory that holds something, to a name
// with a number that is free, and returns that; empty where there is nothing.
func setAside(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	i, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && i.Mode().IsRegular() && i.Size() == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	ext := filepath.Ext(name)
	for n := 1; ; n++ {
		to := fmt.Sprintf("%s-%d%s", name[:len(name)-len(ext)], n, ext)
		if _, err := os.Lstat(filepath.Join(dir, to)); errors.Is(err, os.ErrNotExist) {
			if err := os.Rename(path, filepath.Join(dir, to)); err != nil {
				return "", err
			}
			return to, atomicfile.SyncDir(dir)
		} else if err != nil {
			return "", err
		}
	}
}

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
