package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlaring/vlaring/internal/atomicfile"
)

// The forms that are written.
const (
	Auto    = "auto" // LeRobot where samples say which episode they are of, else Folder
	LeRobot = "lerobot"
	Folder  = "folder"
)

// Options say what is converted.
type Options struct {
	Shards   []string                            // files, with {000..123} for several; "-" is Stdin
	Out      string                              // the new folder
	Form     string                              // Auto, LeRobot or Folder
	FPS      float64                             // frames a second; 0: as the samples say
	Robot    string                              // what info.json calls the robot; may be empty
	Stdin    io.Reader                           // of "-"
	Progress func(frames int, done, total int64) // bytes of the shards; total 0: not known. May be nil
}

// Report says what a conversion has made.
type Report struct {
	Form     string         `json:"form"`
	Episodes int            `json:"episodes"`
	Frames   int            `json:"frames"`
	Tasks    int            `json:"tasks"`
	Features []string       `json:"features"`         // with their shapes
	Passed   map[string]int `json:"passed,omitempty"` // what was not read, and in how many samples
}

// sink is a form that is written.
type sink interface {
	add(f frame) error
	finish() error
	abandon() // after an error, in place of finish
}

// Run converts. After an error, ctx's too, there is nothing at Out.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if o.Shards, err = expand(o.Shards); err != nil {
		return r, err
	}
	if o.Out == "" || len(o.Shards) == 0 {
		return r, errors.New("nothing to convert, or no folder for it")
	}
	if _, err := os.Lstat(o.Out); !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("%s is there already; name a folder that is not", o.Out)
	}
	var total int64
	for _, s := range o.Shards {
		if s == "-" {
			continue
		}
		info, err := os.Stat(s)
		if err != nil {
			return r, err
		}
		total += info.Size()
	}
	out := filepath.Clean(o.Out)
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+"-*")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) // after the renaming there is none
	c := &conversion{o: o, dir: dir, report: Report{Passed: map[string]int{}}}
	var done int64
	tell := func(n int64) {
		if done = n; o.Progress != nil {
			o.Progress(c.report.Frames, done, total)
		}
	}
	err = shards(ctx, o.Shards, o.Stdin, tell, c.sample)
	if err == nil && c.sink == nil {
		err = fmt.Errorf("%s: there are no samples", strings.Join(o.Shards, ", "))
	}
	if err == nil {
		err = c.sink.finish()
	}
	if err != nil {
		if c.sink != nil {
			c.sink.abandon()
		}
		return r, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return r, err
	}
	if err := os.Rename(dir, out); err != nil {
		return r, err
	}
	return c.done(), atomicfile.SyncDir(filepath.Dir(out))
}

// conversion is a run of Run.
type conversion struct {
	o      Options
	dir    string
	sink   sink
	first  frame
	report Report
	tasks  map[string]bool
	seen   map[string]bool // episodes
}

// sample converts one sample.
func (c *conversion) sample(s sample) error {
	f, err := s.decode(func(what string) { c.report.Passed[what]++ })
	if err != nil {
		return err
	}
	if len(f.pictures) == 0 && len(f.numbers) == 0 {
		return s.errorf("it has no picture and no numbers that are read: %s", strings.Join(slices.Sorted(maps.Keys(c.report.Passed)), ", "))
	}
	if c.sink == nil {
		c.begin(f)
	}
	if c.o.Form == LeRobot && f.episode == "" {
		return s.errorf(`it does not say which episode it is of: put the samples of each into a folder of the archive, or write "episode" into their JSON`)
	}
	if err := c.alike(f); err != nil {
		return s.errorf("%w", err)
	}
	if err := c.sink.add(f); err != nil {
		return s.errorf("%w", err)
	}
	c.report.Frames++
	c.tasks[f.task], c.seen[f.episode] = true, true
	return nil
}

// begin chooses the form by the first frame.
func (c *conversion) begin(f frame) {
	c.first, c.tasks, c.seen = f, map[string]bool{}, map[string]bool{}
	if c.o.Form = cmp.Or(c.o.Form, Auto); c.o.Form == Auto {
		if c.o.Form = Folder; f.episode != "" {
			c.o.Form = LeRobot
		}
	}
	if c.sink = newFolder(c.dir); c.o.Form == LeRobot {
		c.sink = newLeRobot(c.dir, c.o)
	}
}

// alike refuses a frame that has not the first one's features and shapes.
func (c *conversion) alike(f frame) error {
	for _, name := range slices.Sorted(maps.Keys(c.first.pictures)) {
		p, ok := f.pictures[name]
		was := c.first.pictures[name]
		switch {
		case !ok:
			return fmt.Errorf("it has no picture %s, which the first sample has", name)
		case p.w != was.w || p.h != was.h:
			return fmt.Errorf("its picture %s is %d×%d, the first sample's %d×%d", name, p.w, p.h, was.w, was.h)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.first.numbers)) {
		n, ok := f.numbers[name]
		was := c.first.numbers[name]
		switch {
		case !ok:
			return fmt.Errorf("it has no %s, which the first sample has", name)
		case n.len() != was.len() || (n.whole == nil) != (was.whole == nil):
			return fmt.Errorf("its %s has %s, the first sample's %s", name, n, was)
		}
	}
	for name := range f.pictures {
		if _, ok := c.first.pictures[name]; !ok {
			return fmt.Errorf("it has a picture %s, which the first sample lacks", name)
		}
	}
	for name := range f.numbers {
		if _, ok := c.first.numbers[name]; !ok {
			return fmt.Errorf("it has %s, which the first sample lacks", name)
		}
	}
	return nil
}

func (n numbers) String() string {
	if n.whole != nil {
		return fmt.Sprintf("%d whole numbers", len(n.whole))
	}
	return fmt.Sprintf("%d numbers", len(n.floats))
}

// done is the report.
func (c *conversion) done() Report {
	r := c.report
	r.Form, r.Episodes, r.Tasks = c.o.Form, len(c.seen), len(c.tasks)
	for _, name := range slices.Sorted(maps.Keys(c.first.pictures)) {
		p := c.first.pictures[name]
		r.Features = append(r.Features, fmt.Sprintf("%s %d×%d", name, p.w, p.h))
	}
	for _, name := range slices.Sorted(maps.Keys(c.first.numbers)) {
		r.Features = append(r.Features, fmt.Sprintf("%s [%d]", name, c.first.numbers[name].len()))
	}
	return r
}
