package data

import (
	"context"
	"errors"
	"io"
	"strings"
)

// Watch is how a long opening is watched, and how it may go on over faults.
// The zero Watch watches nothing, and the first fault ends the opening.
type Watch struct {
	// Progress is told how far the scan of a file source is, after each record
	// (which may be often), on the goroutine that opens.
	Progress func(Progress)

	// Fault takes what is wrong with a record, which is then left out, as if it
	// were not there; the opening goes on with the next. Pictures are not
	// looked at then, not even their headers: Check decodes them.
	Fault func(Fault)

	// Other has data of other content than the given Meta's opened too: then
	// Dataset.Change says how it differs, and the held-out split stays what it
	// was. Former is the index of the data of Meta, nil where there is none.
	Other  bool
	Former *Index

	// Scans keeps what was found in files, so that files that have not changed
	// since are not read again; nil: all files are read. Theirs gives a worker
	// the coordinator's Scan of a name, nil where it has none, and is asked where
	// this machine has none itself; its error ends the opening.
	Scans  *ScanDir
	Theirs func(ctx context.Context, name string) (*Scan, error)

	// Here has data of an object store taken from a whole copy on this machine, and
	// nothing fetched: without one it is not there. Note is told of what was fetched.
	Here bool
	Note func(line string)

	part bool // of a mixture, which says what its sets have not
}

// Progress is how far a scan of a data set is.
type Progress struct {
	Path  string
	Done  int64
	Total int64  // 0: not known
	Unit  string // of Done and Total, in the plural: records, bytes, samples
}

// Fault is one thing that is wrong with a data set, and where.
type Fault struct {
	Set     string `json:"set,omitempty"` // of a mixture, by name
	Kind    string `json:"kind"`          // line | record | file | picture | value
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`    // of a manifest, from 1
	Record  *int   `json:"record,omitempty"`  // of the file, from 0
	Episode *int64 `json:"episode,omitempty"` // as the data numbers it
	Frame   *int   `json:"frame,omitempty"`   // of the episode, from 0
	Sample  *int   `json:"sample,omitempty"`  // of the whole data set, from 0, as data.skip takes it
	What    string `json:"what"`              // one line, which names the place
}

func (f Fault) String() string {
	if f.Set != "" {
		return "set " + f.Set + ": " + f.What
	}
	return f.What
}

// tick says how far the scan is, and hears that it shall end.
func (o *Opening) tick(done, total int64, unit string) error {
	if err := o.Context.Err(); err != nil {
		return stopped(o.Context)
	}
	if o.watch.Progress != nil {
		o.watch.Progress(Progress{Path: o.Path, Done: done, Total: total, Unit: unit})
	}
	return nil
}

// stopped is why ctx has ended.
func stopped(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != ctx.Err() {
		return errors.Join(ctx.Err(), cause)
	}
	return ctx.Err()
}

// lenient reports whether the opening goes on over faults.
func (o *Opening) lenient() bool { return o.watch.Fault != nil }

// pass hands err to whoever collects faults, with its place f, and returns nil;
// where nobody does, it returns err.
func (o *Opening) pass(f Fault, err error) error {
	if !o.lenient() || errors.Is(err, context.Canceled) {
		return err
	}
	f.What = strings.ReplaceAll(err.Error(), "\n", " ")
	o.watch.Fault(f)
	return nil
}

// ticking is a reader of a file that tells how many of total bytes were read.
type ticking struct {
	o           *Opening
	r           io.Reader
	done, total int64
}

func (t *ticking) Read(p []byte) (int, error) {
	if err := t.o.tick(t.done, t.total, "bytes"); err != nil {
		return 0, err
	}
	n, err := t.r.Read(p)
	t.done += int64(n)
	return n, err
}

// countLines is the number of lines of a file, for progress; 0 where it cannot be read.
func countLines(r io.Reader) (n int64) {
	b := make([]byte, 1<<16)
	for {
		k, err := r.Read(b)
		n += int64(strings.Count(string(b[:k]), "\n"))
		if err != nil {
			return n
		}
	}
}

func ptr[T any](v T) *T { return &v }
