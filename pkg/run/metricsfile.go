package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
)

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

// ReadMetrics reads the whole lines of a run directory's metrics.jsonl, in their order.
func ReadMetrics(dir string) (steps []Metrics, err error) {
	path := filepath.Join(dir, MetricsFile)
	for at := int64(0); ; {
		more, to, err := readSteps(path, at, linesAtOnce)
		steps = append(steps, more...)
		if err != nil || to == at || len(more) < linesAtOnce {
			return steps, err
		}
		at = to
	}
}

// LastMetrics reads the last lines of it, at most so many.
func LastMetrics(dir string, most int) ([]Metrics, error) {
	path := filepath.Join(dir, MetricsFile)
	i, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	const aLine = 4 << 10 // is shorter; the first one that is read is cut off and is none
	steps, _, err := readSteps(path, max(0, i.Size()-int64(most)*aLine), most*aLine)
	return steps[max(0, len(steps)-most):], err
}
