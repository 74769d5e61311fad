package tensorboard

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlaring/vlaring/internal/atomicfile"
	"github.com/vlaring/vlaring/internal/regular"
)

// prefix is by what TensorBoard knows an event file; it reads those of a folder in
// the order of their names.
const prefix = "events.out.tfevents."

// Log is a folder of event files that is written to. One goroutine uses it.
type Log struct {
	f interface {
		io.Writer
		io.Closer
		Truncate(size int64) error
	}
	newest map[string]uint64 // step, by tag
	added  []byte            // not written yet
	end    int64             // of what is whole in the file
}

// Open goes on in a folder from step on: what is there of later ones is taken out,
// as are torn records. Whatever else lies in the folder stays.
func Open(dir string, step uint64, now time.Time) (*Log, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	files, err := eventFiles(dir)
	if err != nil {
		return nil, err
	}
	l := &Log{newest: map[string]uint64{}}
	second := now.Unix()
	for _, name := range files {
		if err := l.keepUpTo(filepath.Join(dir, name), step); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		digits, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), ".")
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			second = max(second, n+1) // a file of a clock that has been set back would not be read
		}
	}
	host, _ := os.Hostname()
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s%010d.%s.%d.vlaring", prefix, second, cmp.Or(host, "unknown"), os.Getpid())), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	l.f = f
	l.record(event(now).text(eventVersion, "brain.Event:2"))
	if len(files) > 0 {
		l.record(event(now).uint(eventStep, step+1).bytes(eventSession, message(nil).uint(sessionStatus, sessionStart)))
	}
	if err := l.Flush(); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return l, nil
}

func eventFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// keepUpTo takes what is of later steps out of a file, and notes what is there. A file that
// nothing goes from is left as it is; one of which no point stays goes.
func (l *Log) keepUpTo(path string, step uint64) error {
	gone, points := false, false
	err := records(path, func(_, e []byte, torn bool) error {
		if torn {
			gone = true
			return nil
		}
		of, tags, err := look(e)
		if err != nil {
			return err
		}
		if len(tags) > 0 && of > step {
			gone = true
			return nil
		}
		points = points || len(tags) > 0
		for _, t := range tags {
			l.newest[t] = max(l.newest[t], of)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !points:
		return os.Remove(path)
	case !gone:
		return nil
	}
	return atomicfile.WriteFrom(path, 0o644, func(w io.Writer) error {
		return records(path, func(record, e []byte, torn bool) error {
			if torn {
				return nil
			}
			if of, tags, err := look(e); err != nil || len(tags) > 0 && of > step {
				return err
			}
			_, err := w.Write(record)
			return err
		})
	})
}

// records passes on each record of a file, and where it ends within one, that.
func records(path string, each func(record, event []byte, torn bool) error) error {
	f, _, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var buf []byte
	for r := bufio.NewReaderSize(f, 1<<16); ; {
		record, event, err := nextRecord(r, buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errRecord):
			return each(nil, nil, true)
		case err != nil:
			return err
		}
		if err := each(record, event, false); err != nil {
			return fmt.Errorf("%w: it is no event file; move it away", err)
		}
		buf = record
	}
}

// look is the step of an event and the tags of its values.
func look(e []byte) (step uint64, tags []string, err error) {
	err = fields(e, func(f field) error {
		switch {
		case f.number == eventStep && f.kind == varint:
			step = f.value
		case f.number == eventSummary && f.kind == sized:
			return fields(f.bytes, func(f field) error {
				if f.number != summaryValue || f.kind != sized {
					return nil
				}
				return fields(f.bytes, func(f field) error {
					if f.number == valueTag && f.kind == sized {
						tags = append(tags, string(f.bytes))
					}
					return nil
				})
			})
		}
		return nil
	})
	return step, tags, err
}

// Newest is the newest step of which the folder has a value under tag.
func (l *Log) Newest(tag string) (step uint64, found bool) {
	step, found = l.newest[tag]
	return step, found
}

func (l *Log) record(e message) { l.added = appendRecord(l.added, e) }

// Add takes the values of a step, for the next Flush.
func (l *Log) Add(at time.Time, step uint64, values ...Value) {
	if len(values) > 0 {
		l.record(valuesEvent(at, step, values))
	}
}

// Flush writes all that was added, or none of it: then it is forgotten, and whoever
// has added it does so again.
func (l *Log) Flush() error {
	b := l.added
	l.added = l.added[:0]
	if len(b) == 0 {
		return nil
	}
	if _, err := l.f.Write(b); err != nil {
		return errors.Join(err, l.f.Truncate(l.end))
	}
	l.end += int64(len(b))
	return nil
}

// Close closes the file. What was not flushed is forgotten.
func (l *Log) Close() error { return l.f.Close() }
